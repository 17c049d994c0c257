"""The flat summary of a run; every key is documented in `metrics/columns.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.run import SloConfig
from sbs_gym.metrics import latency, utilisation
from sbs_gym.metrics.columns import SUMMARY_KEYS
from sbs_gym.metrics.overload import ttft_growth
from sbs_gym.metrics.utilisation import Window
from sbs_gym.sim.records import RunRecords

Summary = dict[str, float | int | str | bool | None]
_NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What was asked of the cluster, and what it can do.

    Attributes:
        rate_per_s: Arrival rate asked for, of the peak state where arrivals vary.
        capacity_requests_per_s: Of the side that `load` refers to.
        prefill_capacity_requests_per_s: Drain rate of a backlog of the same length mix; None: the
            same as `capacity_requests_per_s`.
        decode_capacity_requests_per_s: Rate that the decode instances keep up with; NaN without
            decode.
    """

    rate_per_s: float
    capacity_requests_per_s: float
    prefill_capacity_requests_per_s: float | None = None
    decode_capacity_requests_per_s: float = _NAN

    @property
    def prefill_capacity(self) -> float:
        """Return the capacity of the prefill side, requests per second."""
        given = self.prefill_capacity_requests_per_s
        return self.capacity_requests_per_s if given is None else given


def measured_window(requests: NDArray[Any], measured: tuple[int, int], ended_at_s: float) -> Window:
    """Return the window of the request ids [first, last).

    It runs from the first measured arrival to the arrival of the next request after the measured
    ones; to the end of the run where there is none, so that a backlog has a window too.
    """
    first, last = measured
    arrived = requests["arrived_at_s"]
    start = float(arrived[first])
    end = float(arrived[last]) if last < len(requests) else ended_at_s
    return Window(start, min(end, ended_at_s))


def summarise(
    records: RunRecords,
    *,
    cluster: ClusterConfig,
    slo: SloConfig,
    measured: tuple[int, int],
    demand: Demand,
) -> Summary:
    """Return the summary of a run.

    Args:
        records: What the run left behind.
        cluster: Ranks, chunk and instances.
        slo: The latency promised to each request.
        measured: Request ids [first, last) that count, at least one.
        demand: Rate and capacity.
    """
    window = measured_window(records.requests, measured, records.ended_at_s)
    requests = records.requests[slice(*measured)]
    requests = requests[requests["arrived_at_s"] <= records.ended_at_s]
    found: Summary = {
        **_counts(requests),
        **_latencies(requests),
        **_rates(records.requests, requests, window, slo),
        **_engines(records.passes, window, cluster),
        **_load(demand),
        **_growth(requests),
        "num_releases": records.num_releases,
        "num_signals_lost": records.num_signals_lost,
        "num_watchdogs": records.num_watchdogs,
        "window_start_at_s": window.start_at_s,
        "window_end_at_s": window.end_at_s,
    }
    return {key: found[key] for key in SUMMARY_KEYS}


def _counts(requests: NDArray[Any]) -> Summary:
    return {
        "num_arrived": len(requests),
        "num_finished": int((~np.isnan(requests["first_token_at_s"])).sum()),
        "num_rejected": int((~np.isnan(requests["rejected_at_s"])).sum()),
        "num_preempted": 0,
    }


def _latencies(requests: NDArray[Any]) -> Summary:
    ttft = latency.ttft_s(requests)
    return {
        **latency.spread("ttft", ttft),
        **latency.spread("ttft_client", ttft),
        "buffer_wait_mean_s": latency.mean_or_nan(latency.buffer_wait_s(requests)),
        "engine_wait_mean_s": latency.mean_or_nan(latency.engine_wait_s(requests)),
        "prefill_mean_s": latency.mean_or_nan(latency.prefill_s(requests)),
        "tpot_mean_s": _NAN,
        "tpot_p99_s": _NAN,
        "e2e_mean_s": latency.mean_or_nan(ttft),
    }


def _rates(
    everyone: NDArray[Any], measured: NDArray[Any], window: Window, slo: SloConfig
) -> Summary:
    # Whoever gets a first token inside the window counts, whenever it came: this is what the
    # cluster did in that time, also under overload.
    done = everyone[window.holds(everyone["first_token_at_s"])]
    return {
        "arrivals_per_s": _arrivals_per_s(measured, window),
        "requests_per_s": window.per_second(len(done)),
        "input_tokens_per_s": window.per_second(float(done["input_tokens"].sum(dtype=np.int64))),
        "output_tokens_per_s": _NAN,
        "goodput_per_s": window.per_second(float(latency.meets_slo(done, slo).sum())),
        "slo_attainment_frac": float(latency.meets_slo(measured, slo).mean())
        if len(measured)
        else _NAN,
    }


def _arrivals_per_s(measured: NDArray[Any], window: Window) -> float:
    """Gaps over their time, so that the drain after the last arrival does not dilute the rate."""
    if len(measured) < 2:
        return _NAN
    return Window(window.start_at_s, float(measured["arrived_at_s"][-1])).per_second(
        len(measured) - 1
    )


def _engines(passes: NDArray[Any], window: Window, cluster: ClusterConfig) -> Summary:
    dp = cluster.prefill_dp
    inside = passes[window.holds(passes["ended_at_s"])]
    worked = inside[inside["tokens"] > 0]
    return {
        "chunk_utilisation_frac": utilisation.chunk_utilisation_frac(
            inside, dp=dp, chunk_tokens=cluster.chunk_tokens
        ),
        "prefill_bubble_frac": utilisation.bubble_frac(inside, dp=dp),
        "prefill_idle_frac": utilisation.idle_frac(
            passes, window, num_instances=cluster.num_prefill
        ),
        "decode_bubble_frac": _NAN,
        "kv_load_std_tokens": _NAN,
        "kv_load_max_over_mean": _NAN,
        "num_passes": len(worked),
        "pass_mean_s": latency.mean_or_nan(worked["ended_at_s"] - worked["started_at_s"]),
        "tokens_per_pass_mean": latency.mean_or_nan(worked["tokens"].astype(np.float64)),
    }


def _load(demand: Demand) -> Summary:
    prefill = demand.rate_per_s / demand.prefill_capacity
    decode = demand.rate_per_s / demand.decode_capacity_requests_per_s
    return {
        "rate_per_s": demand.rate_per_s,
        "capacity_requests_per_s": demand.capacity_requests_per_s,
        "capacity_prefill_requests_per_s": demand.prefill_capacity,
        "capacity_decode_requests_per_s": demand.decode_capacity_requests_per_s,
        "load_prefill_frac": prefill,
        "load_decode_frac": decode,
        # A comparison with NaN is False: without decode it is prefill.
        "bottleneck": "decode" if decode > prefill else "prefill",
    }


def _growth(requests: NDArray[Any]) -> Summary:
    growth = ttft_growth(requests["arrived_at_s"], latency.ttft_s(requests))
    return {"ttft_growth_s_per_s": growth.slope_s_per_s, "overloaded": growth.overloaded}
