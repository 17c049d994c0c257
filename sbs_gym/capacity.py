"""What a cluster can do: the rate at which it drains a backlog, and the rate that a load means."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from sbs_gym.artifacts import input_digests
from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.groups import read_group
from sbs_gym.config.run import RunConfig
from sbs_gym.config.scheduler import SchedulerConfig, scheduler_from_mapping
from sbs_gym.config.timing import TimingConfig
from sbs_gym.config.workload import WorkloadConfig
from sbs_gym.decode_capacity import (
    DecodeCapacity,
    decode_capacity,
    decode_demand,
    fill_frac,
    steps_needed,
    which_decode,
)
from sbs_gym.errors import ConfigError, SimulationError, require_number
from sbs_gym.schedulers import driver
from sbs_gym.timing.decode import DecodeTiming, build_decode_timing
from sbs_gym.timing.model import TimingModel, build_timing
from sbs_gym.types import FloatArray, RequestTable
from sbs_gym.workload.generate import backlog
from sbs_gym.workload.trace.load import load_trace

BACKLOG_REQUESTS = 20_000
WARM_UP_FRAC = 0.1  # of the requests asked for, or of their time: run and not measured
_FILLED_FRAC = 0.95  # of its steady state: what decode is at when measuring begins
_WARM_UP_PRECISION = 0.001
_REFERENCE_PRESET = "work_conserving"
# Under the preset's own age_longest a backlog drains longest first: prompts of equal context meet
# in a pass, and it drains faster than the same scheduler works in overload, so that a load below 1
# could be overload. `sbs-gym drain` prints both orders.
_REFERENCE_ORDER = "arrival"
_SEED = 0  # capacity is one number per cluster, workload and timing, whatever the run's seed


def capacity_requests_per_s(
    cluster: ClusterConfig, workload: WorkloadConfig, timing: TimingConfig
) -> float:
    """Return the rate at which prefill drains a backlog of 20,000 requests, requests per second.

    The scheduler is the preset `work_conserving` with order `arrival`, luck is at its mean, lengths
    are the workload's (a trace's own), and no signal is lost: what a cluster can do does not depend
    on how well it is told about itself, so a load is the same rate with and without signal loss.
    The drain is prefill only: KV room and hand-off are left out, so it is the same number with and
    without decode. Computed once per process for equal arguments and unchanged files of trace and
    timing.
    """
    alone = dataclasses.replace(cluster, signal_loss_frac=0.0, num_decode=0)
    inputs = tuple(input_digests(workload, timing).items())
    return _capacity(alone, workload, timing, inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacities:
    """What both sides of a cluster can do with one length mix.

    Attributes:
        prefill_requests_per_s: As `capacity_requests_per_s`.
        decode: Of the decode instances; None without them, or if no request decodes.
        load_side: Which of the two a load is of: prefill, decode or bottleneck.
    """

    prefill_requests_per_s: float
    decode: DecodeCapacity | None
    load_side: str

    @property
    def decode_requests_per_s(self) -> float:
        """Capacity of decode, requests per second; NaN where there is none."""
        return math.nan if self.decode is None else self.decode.requests_per_s

    @property
    def bottleneck(self) -> str:
        """The side with the smaller capacity: prefill or decode."""
        # A comparison with NaN is False: without decode it is prefill.
        return "decode" if self.decode_requests_per_s < self.prefill_requests_per_s else "prefill"

    @property
    def requests_per_s(self) -> float:
        """The capacity that a load is a share of, requests per second."""
        side = self.bottleneck if self.load_side == "bottleneck" else self.load_side
        return self.prefill_requests_per_s if side == "prefill" else self.decode_requests_per_s


def capacities(config: RunConfig) -> Capacities:
    """Return what both sides of the cluster can do with the workload of `config`.

    Arrivals, scheduler, load and seed do not matter. Where no rate meets slo.tpot_s, decode counts
    with what memory and batch allow (`DecodeCapacity.meets_slo` is False then).

    Raises:
        ConfigError: If load_side is decode and no request of the workload decodes, or the timing
            knows no decode step.
    """
    cluster, workload, timing = config.cluster, config.workload, config.timing
    inputs = tuple(input_digests(workload, timing).items())
    decode = _decode(cluster, workload, timing, config.slo.tpot_s, inputs)
    if decode is None and config.load_side == "decode":
        raise ConfigError(
            f"load_side='decode': no request of {workload.name!r} decodes on this cluster; "
            "expected prefill or bottleneck"
        )
    return Capacities(
        prefill_requests_per_s=capacity_requests_per_s(cluster, workload, timing),
        decode=decode,
        load_side=config.load_side,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """How fast a backlog drains.

    Attributes:
        requests_per_s: Finished requests over the time until the last one finished.
        input_tokens_per_s: Their prompt tokens over the same time.
    """

    requests_per_s: float
    input_tokens_per_s: float


def drain_rate(config: RunConfig, num_requests: int = BACKLOG_REQUESTS) -> float:
    """Return the rate at which a backlog drains under the scheduler of `config`, requests/s.

    As `drain`, which gives prompt tokens per second too.
    """
    return drain(config, num_requests).requests_per_s


def drain(config: RunConfig, num_requests: int = BACKLOG_REQUESTS) -> Drain:
    """Return the rates at which a backlog drains under the scheduler of `config`, at mean luck.

    The whole backlog arrives at 0, so `age_longest` takes it longest first. That packs prompts of
    equal context together and flatters timings with attention; `scheduler.order=arrival` gives
    numbers comparable with `capacity_requests_per_s`. Prefill only, as there.

    Args:
        config: Cluster, workload, timing, scheduler and seed; load and arrivals do not matter.
        num_requests: Requests that all arrive at 0, 1 to 200 million.
    """
    require_number("num_requests", num_requests, 1, 200_000_000, integer=True)
    table = _backlog(config.workload, num_requests, config.seed)
    return _drain(table, config.cluster, config.scheduler, config.timing, config.seed)


def timing_for(cluster: ClusterConfig, timing: TimingConfig) -> TimingModel:
    """Return the timing model of one prefill instance of the cluster."""
    return build_timing(
        timing,
        dp=cluster.prefill_dp,
        ep=cluster.prefill_expert_span,
        chunk_tokens=cluster.chunk_tokens,
    )


def decode_timing_for(cluster: ClusterConfig, timing: TimingConfig) -> DecodeTiming:
    """Return the timing model of one decode instance of the cluster."""
    return build_decode_timing(
        timing,
        dp=cluster.decode_dp,
        ep=cluster.decode_expert_span,
        q_tokens=cluster.mtp_tokens,
        max_requests=cluster.max_running,
    )


def decode_fill_frac(config: RunConfig, rate_per_s: float, num_requests: int) -> float:
    """Return how full decode is in the measured window of `measured_run`, of its steady state.

    Below 1 the window is too early: fewer requests run than would in the long run, steps are too
    short, and TPOT looks better than it is. Steps take as long as at the fluid capacity here.

    Args:
        config: Cluster, workload, timing and SLO.
        rate_per_s: Arrivals per second.
        num_requests: As in the configuration: warm-up and measured part.

    Returns:
        The share, in (0, 1]; NaN without decode.
    """
    residence_s = _residence_s(config)
    if residence_s is None:
        return math.nan
    asked_s = num_requests / rate_per_s
    since_s = WARM_UP_FRAC * asked_s
    if config.workload.kind != "trace":
        since_s = max(since_s, decode_warm_up_s(config))
    return fill_frac(residence_s, since_s, since_s + (1.0 - WARM_UP_FRAC) * asked_s)


def decode_warm_up_s(config: RunConfig) -> float:
    """Return the seconds of arrivals after which decode is 95 % full; 0 without decode.

    Steps take as long as at the fluid capacity here.
    """
    residence_s = _residence_s(config)
    if residence_s is None:
        return 0.0
    low, high = 0.0, float(residence_s.max())
    while high - low > _WARM_UP_PRECISION * high:
        middle = 0.5 * (low + high)
        filled = np.minimum(residence_s, middle).mean() >= _FILLED_FRAC * residence_s.mean()
        low, high = (low, middle) if filled else (middle, high)
    return high


def _residence_s(config: RunConfig) -> FloatArray | None:
    """Return the seconds in decode of the requests that capacities are computed from."""
    found = capacities(config).decode
    if found is None:
        return None
    table = _backlog(config.workload, BACKLOG_REQUESTS, _SEED)
    answers = table.output_tokens[which_decode(table, config.cluster)].astype(np.int64)
    steps = steps_needed(answers - 1, config.cluster.tokens_per_step)
    return steps.astype(np.float64) * found.step_s


def mean_lengths(workload: WorkloadConfig) -> tuple[float, float]:
    """Return the mean prompt and answer of the requests that capacities are computed from."""
    table = _backlog(workload, BACKLOG_REQUESTS, _SEED)
    return float(table.input_tokens.mean()), float(table.output_tokens.mean())


@functools.lru_cache(maxsize=256)
def _decode(
    cluster: ClusterConfig,
    workload: WorkloadConfig,
    timing: TimingConfig,
    tpot_slo_s: float,
    inputs: Hashable,
) -> DecodeCapacity | None:
    del inputs  # as in _capacity
    if cluster.num_decode == 0:
        return None
    demand = decode_demand(_backlog(workload, BACKLOG_REQUESTS, _SEED), cluster)
    if demand is None:
        return None
    return decode_capacity(demand, cluster, decode_timing_for(cluster, timing), tpot_slo_s)


@functools.lru_cache(maxsize=256)
def _capacity(
    cluster: ClusterConfig,
    workload: WorkloadConfig,
    timing: TimingConfig,
    inputs: Hashable,
) -> float:
    del inputs  # only there so that other content of the files is another entry
    preset = read_group("scheduler", _REFERENCE_PRESET)
    scheduler = scheduler_from_mapping(preset | {"order": _REFERENCE_ORDER})
    table = _backlog(workload, BACKLOG_REQUESTS, _SEED)
    return _drain(table, cluster, scheduler, timing, _SEED).requests_per_s


def _drain(
    table: RequestTable,
    cluster: ClusterConfig,
    scheduler: SchedulerConfig,
    timing: TimingConfig,
    seed: int,
) -> Drain:
    records = driver.run(
        table,
        dataclasses.replace(cluster, num_decode=0),
        scheduler,
        timing_for(cluster, timing),
        seed=seed,
        mean_luck=True,
        record_ranks=False,
    )
    first = records.requests["first_token_at_s"]
    done = ~np.isnan(first)
    if not done.any():
        raise SimulationError(f"scheduler {scheduler.name!r} finished no request of a backlog")
    took_s = float(first[done].max())
    tokens = int(records.requests["input_tokens"][done].sum(dtype=np.int64))
    return Drain(requests_per_s=float(done.sum()) / took_s, input_tokens_per_s=tokens / took_s)


def _backlog(workload: WorkloadConfig, num_requests: int, seed: int) -> RequestTable:
    if workload.kind != "trace":
        return backlog(workload, num_requests, seed)
    trace, _ = load_trace(workload, seed=seed)
    # Evenly over the whole trace, so that a short one repeats and a long one is thinned.
    rows = np.arange(num_requests) * len(trace) // num_requests
    return RequestTable(
        arrived_at_s=np.zeros(num_requests),
        input_tokens=trace.input_tokens[rows],
        output_tokens=trace.output_tokens[rows],
        name=trace.name,
    )
