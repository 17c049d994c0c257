"""What a cluster can do: the rate at which it drains a backlog, and the rate that a load means."""

from __future__ import annotations

import dataclasses
import functools
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
from sbs_gym.errors import SimulationError, require_number
from sbs_gym.schedulers import driver
from sbs_gym.timing.model import TimingModel, build_timing
from sbs_gym.types import RequestTable
from sbs_gym.workload.generate import backlog
from sbs_gym.workload.trace.load import load_trace

BACKLOG_REQUESTS = 20_000
_REFERENCE_PRESET = "work_conserving"
# Under the preset's own age_longest a backlog drains longest first: prompts of equal context meet
# in a pass, and it drains faster than the same scheduler works in overload, so that a load below 1
# could be overload. `sbs-gym drain` prints both orders.
_REFERENCE_ORDER = "arrival"
_SEED = 0  # capacity is one number per cluster, workload and timing, whatever the run's seed


def capacity_requests_per_s(
    cluster: ClusterConfig, workload: WorkloadConfig, timing: TimingConfig
) -> float:
    """Return the rate at which a backlog of 20,000 requests drains, requests per second.

    The scheduler is the preset `work_conserving` with order `arrival`, luck is at its mean, lengths
    are the workload's (a trace's own), and no signal is lost: what a cluster can do does not depend
    on how well it is told about itself, so a load is the same rate with and without signal loss.
    Computed once per process for equal arguments and unchanged files of trace and timing.
    """
    told = dataclasses.replace(cluster, signal_loss_frac=0.0)
    inputs = tuple(input_digests(workload, timing).items())
    return _capacity(told, workload, timing, inputs)


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
    numbers comparable with `capacity_requests_per_s`.

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
        cluster,
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
