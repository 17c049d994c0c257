"""How full and how even the decode ranks were, from the records of their steps."""

from __future__ import annotations

import numpy as np

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.metrics.latency import Records, mean_or_nan
from sbs_gym.metrics.utilisation import Window, bubble_frac, span_idle_frac
from sbs_gym.timing.memory import decode_kv_blocks
from sbs_gym.types import FloatArray

_NAN = float("nan")
STEP_KEYS = (
    "decode_bubble_frac",
    "decode_idle_frac",
    "kv_load_std_tokens",
    "kv_load_max_over_mean",
    "kv_use_frac",
    "batch_mean",
    "batch_drift_frac",
    "num_steps",
    "step_mean_s",
)


def step_numbers(steps: Records, window: Window, cluster: ClusterConfig) -> dict[str, float]:
    """Return STEP_KEYS over the steps that ended inside the window; NaN without decode.

    Means over steps are weighted by the duration of the step, so that what lasts counts more.

    Args:
        steps: STEP_RECORD, all steps of the run.
        window: The measured window.
        cluster: Decode instances, ranks and KV blocks.
    """
    if not cluster.num_decode:
        return dict.fromkeys(STEP_KEYS, _NAN) | {"num_steps": 0}
    inside = steps[window.holds(steps["ended_at_s"])]
    dp, duration_s = cluster.decode_dp, inside["ended_at_s"] - inside["started_at_s"]
    room = dp * decode_kv_blocks(cluster)
    mean_tokens = inside["kv_sum_tokens"] / dp
    return {
        "decode_bubble_frac": bubble_frac(inside, dp=dp),
        "decode_idle_frac": span_idle_frac(steps, window, num_instances=cluster.num_decode),
        "kv_load_std_tokens": _weighted_mean(kv_std_tokens(inside, dp=dp), duration_s),
        "kv_load_max_over_mean": _weighted_mean(inside["kv_max_tokens"] / mean_tokens, duration_s),
        "kv_use_frac": _weighted_mean(inside["blocks"] / room, duration_s),
        "batch_mean": _weighted_mean(inside["batch_sum"] / dp, duration_s),
        "batch_drift_frac": _drift_frac(inside, window),
        "num_steps": len(inside),
        "step_mean_s": mean_or_nan(duration_s),
    }


def kv_std_tokens(steps: Records, *, dp: int) -> FloatArray:
    """Return the standard deviation of the context tokens over an instance's ranks, per step."""
    mean = steps["kv_sum_tokens"] / dp
    # Rounding may leave equal ranks a hair below zero.
    return np.sqrt(np.maximum(0.0, steps["kv_square_sum"] / dp - mean * mean))


def _drift_frac(inside: Records, window: Window) -> float:
    late = inside["ended_at_s"] > window.start_at_s + window.length_s / 2
    duration_s = inside["ended_at_s"] - inside["started_at_s"]
    early, later = (
        _weighted_mean(inside["batch_sum"][half], duration_s[half]) for half in (~late, late)
    )
    return later / early - 1.0


def _weighted_mean(values: FloatArray, weights: FloatArray) -> float:
    total = float(weights.sum())
    return float((values * weights).sum()) / total if total > 0 else _NAN
