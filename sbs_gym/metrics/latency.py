"""Latencies of requests from their records; NaN where an instant was never reached."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sbs_gym.config.run import SloConfig
from sbs_gym.metrics.columns import LENGTH_COLUMNS
from sbs_gym.types import FloatArray

Records = NDArray[Any]

# Powers of two, so that every bucket but the first holds prompts within a factor of two.
LENGTH_EDGES = (0, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_PERCENTILES = (50, 90, 99)


def ttft_s(requests: Records) -> FloatArray:
    """Return first token - arrival per request, seconds."""
    return requests["first_token_at_s"] - requests["arrived_at_s"]  # type: ignore[no-any-return]


def buffer_wait_s(requests: Records) -> FloatArray:
    """Return dispatch - arrival per request, seconds."""
    return requests["dispatched_at_s"] - requests["arrived_at_s"]  # type: ignore[no-any-return]


def engine_wait_s(requests: Records) -> FloatArray:
    """Return first pass - dispatch per request, seconds; the link is part of it."""
    return requests["prefill_started_at_s"] - requests["dispatched_at_s"]  # type: ignore[no-any-return]


def prefill_s(requests: Records) -> FloatArray:
    """Return first token - first pass per request, seconds."""
    return requests["first_token_at_s"] - requests["prefill_started_at_s"]  # type: ignore[no-any-return]


def slo_ttft_s(input_tokens: NDArray[Any], slo: SloConfig) -> FloatArray:
    """Return the TTFT that the SLO allows each prompt length, seconds."""
    beyond = np.maximum(0, input_tokens.astype(np.int64) - slo.ttft_free_tokens)
    return slo.ttft_s + slo.ttft_per_token_s * beyond


def meets_slo(requests: Records, slo: SloConfig) -> NDArray[np.bool_]:
    """Return whether each request has met its SLO; unfinished and rejected ones have not."""
    # A comparison with NaN is False, which is what an unfinished request deserves.
    return ttft_s(requests) <= slo_ttft_s(requests["input_tokens"], slo)


def mean_or_nan(values: FloatArray) -> float:
    """Return the mean of the numbers that are there; NaN if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def percentile_or_nan(values: FloatArray, percent: float) -> float:
    """Return a percentile (linear between ranks) of the numbers that are there; NaN if none is."""
    known = values[~np.isnan(values)]
    return float(np.percentile(known, percent)) if len(known) else float("nan")


def spread(name: str, values: FloatArray) -> dict[str, float]:
    """Return `<name>_mean_s` and `<name>_p50_s`, `_p90_s`, `_p99_s`."""
    found = {f"{name}_mean_s": mean_or_nan(values)}
    return found | {f"{name}_p{p}_s": percentile_or_nan(values, p) for p in _PERCENTILES}


def length_bucket_names() -> list[str]:
    """Return the names of the prompt-length buckets, shortest first: 0-512 … 32K+."""
    names = [_in_thousands(edge) for edge in LENGTH_EDGES]
    pairs = itertools.pairwise(names)
    return [f"{low}-{high}" for low, high in pairs] + [f"{names[-1]}+"]


def by_length(requests: Records, slo: SloConfig) -> pd.DataFrame:
    """Return one row per prompt-length bucket that holds requests; columns as LENGTH_COLUMNS.

    Args:
        requests: Records of the measured requests that arrived.
        slo: For the share that met it.
    """
    bucket = np.searchsorted(LENGTH_EDGES, requests["input_tokens"], side="right") - 1
    names = length_bucket_names()
    rows = [_length_row(names[b], requests[bucket == b], slo) for b in np.unique(bucket)]
    return pd.DataFrame(rows, columns=list(LENGTH_COLUMNS))


def _length_row(name: str, requests: Records, slo: SloConfig) -> dict[str, Any]:
    ttft = ttft_s(requests)
    return {
        "input_tokens": name,
        "num_requests": len(requests),
        "num_finished": int((~np.isnan(ttft)).sum()),
        "ttft_mean_s": mean_or_nan(ttft),
        "ttft_p50_s": percentile_or_nan(ttft, 50),
        "ttft_p99_s": percentile_or_nan(ttft, 99),
        "buffer_wait_mean_s": mean_or_nan(buffer_wait_s(requests)),
        "engine_wait_mean_s": mean_or_nan(engine_wait_s(requests)),
        "prefill_mean_s": mean_or_nan(prefill_s(requests)),
        "slo_attainment_frac": float(meets_slo(requests, slo).mean()),
    }


def _in_thousands(tokens: int) -> str:
    return f"{tokens // 1024}K" if tokens >= 1024 else str(tokens)
