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
from sbs_gym.metrics.cost import gpu_numbers
from sbs_gym.metrics.overload import ttft_growth
from sbs_gym.metrics.slo import meets_slo, meets_tpot, meets_ttft
from sbs_gym.metrics.steps import step_numbers
from sbs_gym.metrics.utilisation import Window
from sbs_gym.sim.records import RunRecords

Summary = dict[str, float | int | str | bool | None]
_NAN = float("nan")
_ATTAINMENTS = ("slo_attainment_frac", "ttft_attainment_frac", "tpot_attainment_frac")
_OF_THE_RUN = (
    "num_releases",
    "num_signals_lost",
    "num_watchdogs",
    "num_refusals",
    "prefill_kv_blocked_s",
)


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


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Requests with what followed their first token.

    Attributes:
        requests: REQUEST_RECORD.
        decode: DECODE_RECORD of the same requests; None where no decode is modelled.
    """

    requests: NDArray[Any]
    decode: NDArray[Any] | None

    def where(self, which: Any) -> Served:
        """Return the requests that a slice or a mask picks."""
        return Served(self.requests[which], None if self.decode is None else self.decode[which])


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
    everyone = Served(records.requests, records.decode)
    counted = measured_requests(records, measured)
    rates = _rates(everyone, counted, window, slo)
    found: Summary = {
        **_counts(counted),
        **_latencies(counted),
        **rates,
        **_attainment(counted, slo),
        **_engines(records.passes, window, cluster),
        **step_numbers(records.steps, window, cluster),
        **gpu_numbers(
            cluster,
            input_tokens_per_s=rates["input_tokens_per_s"],
            output_tokens_per_s=rates["output_tokens_per_s"],
        ),
        **_load(demand),
        **_growth(counted),
        **{name: getattr(records, name) for name in _OF_THE_RUN},
        "window_start_at_s": window.start_at_s,
        "window_end_at_s": window.end_at_s,
    }
    return {key: found[key] for key in SUMMARY_KEYS}


def measured_requests(records: RunRecords, measured: tuple[int, int]) -> Served:
    """Return the requests with ids [first, last) that arrived before the run stopped."""
    part = Served(records.requests, records.decode).where(slice(*measured))
    return part.where(part.requests["arrived_at_s"] <= records.ended_at_s)


def _counts(counted: Served) -> Summary:
    requests, decode = counted.requests, counted.decode
    finished = latency.finished_at_s(requests, decode)
    preempted = 0 if decode is None else int(decode["num_preempted"].sum(dtype=np.int64))
    return {
        "num_arrived": len(requests),
        "num_finished": int((~np.isnan(finished)).sum()),
        "num_rejected": int((~np.isnan(requests["rejected_at_s"])).sum()),
        "num_preempted": preempted,
    }


def _latencies(counted: Served) -> Summary:
    requests, decode = counted.requests, counted.decode
    of_prefill = {
        "buffer_wait_mean_s": latency.buffer_wait_s,
        "engine_wait_mean_s": latency.engine_wait_s,
        "prefill_mean_s": latency.prefill_s,
    }
    of_both = {
        "handoff_wait_mean_s": latency.handoff_wait_s,
        "transfer_mean_s": latency.transfer_s,
        "decode_wait_mean_s": latency.decode_wait_s,
        "decode_mean_s": latency.decode_s,
        "e2e_mean_s": latency.e2e_s,
    }
    return {
        **latency.spread("ttft", latency.ttft_s(requests)),
        **latency.spread("ttft_client", latency.ttft_client_s(requests, decode)),
        **latency.spread("tpot", latency.tpot_s(requests, decode)),
        **{key: latency.mean_or_nan(of(requests)) for key, of in of_prefill.items()},
        **{key: latency.mean_or_nan(of(requests, decode)) for key, of in of_both.items()},
    }


def _rates(everyone: Served, counted: Served, window: Window, slo: SloConfig) -> dict[str, float]:
    # Whoever gets a first or last token inside the window counts, whenever it came: this is what
    # the cluster did in that time, also under overload.
    begun = everyone.where(window.holds(everyone.requests["first_token_at_s"])).requests
    finished = latency.finished_at_s(everyone.requests, everyone.decode)
    done = everyone.where(window.holds(finished))
    generated = _generated_tokens(everyone, window)
    met = meets_slo(done.requests, done.decode, slo)
    return {
        "arrivals_per_s": _arrivals_per_s(counted.requests, window),
        "first_tokens_per_s": window.per_second(len(begun)),
        "requests_per_s": window.per_second(len(done.requests)),
        "input_tokens_per_s": window.per_second(_tokens(begun, "input_tokens")),
        "output_tokens_per_s": window.per_second(generated),
        "goodput_per_s": window.per_second(float(met.sum())),
    }


def _tokens(requests: NDArray[Any], column: str) -> float:
    return float(requests[column].sum(dtype=np.int64))


def _generated_tokens(everyone: Served, window: Window) -> float:
    """Return the tokens generated inside the window; NaN without decode.

    First tokens at their instants; the others of an answer evenly over its time in decode. Counting
    the answers that end in the window would miss what long answers, still running at its end, got
    in it: the batch takes longer to fill than the warm-up lasts.
    """
    requests, decode = everyone.requests, everyone.decode
    if decode is None:
        return _NAN
    first = int(window.holds(requests["first_token_at_s"]).sum())
    start, end = decode["admitted_at_s"], decode["finished_at_s"]
    inside_s = np.minimum(end, window.end_at_s) - np.maximum(start, window.start_at_s)
    # NaN is what was not admitted or has not ended: nansum leaves it out.
    share = np.maximum(0.0, inside_s) / (end - start)
    return first + float(np.nansum(share * (requests["output_tokens"] - 1.0)))


def _attainment(counted: Served, slo: SloConfig) -> Summary:
    requests, decode = counted.requests, counted.decode
    if not len(requests):
        return dict.fromkeys(_ATTAINMENTS, _NAN)
    shares = (
        meets_slo(requests, decode, slo).mean(),
        meets_ttft(requests, slo).mean(),
        _NAN if decode is None else meets_tpot(requests, decode, slo).mean(),
    )
    return {key: float(share) for key, share in zip(_ATTAINMENTS, shares, strict=True)}


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


def _growth(counted: Served) -> Summary:
    requests = counted.requests
    arrived = requests["arrived_at_s"]
    ttft = ttft_growth(arrived, latency.ttft_s(requests))
    client = ttft_growth(arrived, latency.ttft_client_s(requests, counted.decode))
    return {
        "ttft_growth_s_per_s": ttft.slope_s_per_s,
        "ttft_client_growth_s_per_s": client.slope_s_per_s,
        "overloaded": client.overloaded,
    }
