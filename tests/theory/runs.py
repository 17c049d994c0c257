"""Small runs for the theory tests: constant or linear timing, no link, no jitter."""

from __future__ import annotations

import numpy as np

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.groups import read_group
from sbs_gym.config.scheduler import SchedulerConfig, scheduler_from_mapping
from sbs_gym.config.timing import ConstantTiming, LinearTiming
from sbs_gym.schedulers.driver import run
from sbs_gym.sim.records import RunRecords
from sbs_gym.timing.model import build_timing
from sbs_gym.types import RequestTable

UNLIMITED = 1_000_000


def poisson_table(rate_per_s: float, count: int, seed: int, tokens: int = 1) -> RequestTable:
    """Poisson arrivals of equal prompts."""
    gaps = np.random.default_rng(seed).exponential(1.0 / rate_per_s, count)
    return table(np.cumsum(gaps), np.full(count, tokens))


def table(arrived_at_s, input_tokens) -> RequestTable:
    """Requests at given instants with given prompts."""
    lengths = np.asarray(input_tokens, dtype=np.int32)
    return RequestTable(
        arrived_at_s=np.asarray(arrived_at_s, dtype=np.float64),
        input_tokens=lengths,
        output_tokens=np.ones_like(lengths),
        name="theory",
    )


def preset(name: str, **changes) -> SchedulerConfig:
    """A scheduler preset with changes."""
    return scheduler_from_mapping(read_group("scheduler", name) | changes)


def simulate(
    requests: RequestTable,
    scheduler: SchedulerConfig,
    *,
    pass_s: float | None = None,
    linear: LinearTiming | None = None,
    num_prefill: int = 1,
    dp: int = 1,
    chunk: int = UNLIMITED,
    start_rule: str = "eager",
    seed: int = 0,
) -> RunRecords:
    """Run on a cluster without link delays."""
    cluster = ClusterConfig(
        num_prefill=num_prefill,
        prefill_dp=dp,
        prefill_ep=dp,
        chunk_tokens=chunk,
        start_rule=start_rule,
        dispatch_delay_s=0.0,
        signal_delay_s=0.0,
    )
    config = linear if linear is not None else ConstantTiming(pass_s=pass_s)
    timing = build_timing(config, dp=dp, ep=dp, chunk_tokens=chunk)
    return run(requests, cluster, scheduler, timing, seed=seed)


def waits_s(records: RunRecords, skip: float = 0.1) -> np.ndarray:
    """Seconds from arrival to the first pass, without the first tenth of the requests."""
    rows = records.requests[int(skip * len(records.requests)) :]
    return rows["prefill_started_at_s"] - rows["arrived_at_s"]


def ttfts_s(records: RunRecords, skip: float = 0.1) -> np.ndarray:
    """Seconds from arrival to the first token, without the first tenth of the requests."""
    rows = records.requests[int(skip * len(records.requests)) :]
    return rows["first_token_at_s"] - rows["arrived_at_s"]


def assert_mean_is(values: list[float], theory: float) -> None:
    """The mean of independent replications lies within four standard errors of the theory."""
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values) - theory) < 4.0 * error, (np.mean(values), theory, error)
    assert error < 0.02 * theory, "too few requests to tell anything"
