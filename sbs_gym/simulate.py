"""From a configuration to a result: build the workload table, run it, measure it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sbs_gym.capacity import (
    WARM_UP_FRAC,
    capacities,
    capacity_requests_per_s,
    decode_timing_for,
    decode_warm_up_s,
    drain_rate,
    timing_for,
)
from sbs_gym.config.run import DEFAULT_LOAD, DEFAULT_NUM_REQUESTS, RunConfig
from sbs_gym.errors import ConfigError
from sbs_gym.metrics.summary import Demand
from sbs_gym.result import Result, check_output_dir, column_docs, result_from_records
from sbs_gym.schedulers import driver
from sbs_gym.timing.decode import DecodeTiming
from sbs_gym.types import RequestTable
from sbs_gym.workload.generate import generate, with_arrivals
from sbs_gym.workload.trace.load import load_trace
from sbs_gym.workload.trace.scale import native_rate_per_s, scale_trace
from sbs_gym.workload.trace.select import take_rows

__all__ = [
    "Result",
    "capacity_requests_per_s",
    "check_output_dir",
    "column_docs",
    "drain_rate",
    "measured_run",
    "simulate",
]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What is run and which part of it counts: request ids [first, last)."""

    table: RequestTable
    measured: tuple[int, int]
    demand: Demand


def simulate(
    config: RunConfig, *, record_ranks: bool = True, progress: Progress | None = None
) -> Result:
    """Return the result of one run in which every request is measured, drain included.

    Args:
        config: What to run; equal configurations give equal results.
        record_ranks: Keep the tokens of every rank and pass, `passes["tokens_per_rank"]`.
        progress: Called now and then with (requests done, requests in all).

    Raises:
        ConfigError: If the configuration asks for something that does not exist, such as more
            requests than its trace has.
        TraceError: If the trace cannot be used.
    """
    return _run(config, plan_all(config), record_ranks, progress)


def measured_run(
    config: RunConfig, *, record_ranks: bool = False, progress: Progress | None = None
) -> Result:
    """Return the result of a run that is measured without its start and its drain.

    The first part is what the configuration asks for. Its first 10 % are a warm-up and are not
    measured; where a synthetic workload meets decode the warm-up is longer if it takes longer until
    decode is full (`capacity.decode_warm_up_s`), and the measured part is as long as without.
    Behind it the workload goes on for as long again as the measured part (for a trace: as far as
    its own rest goes), so that the last measured requests meet the same traffic as the others. The
    run stops when the last measured request has finished.

    Args:
        config: What to run; num_requests and horizon_s count the first part only. For a trace
            without either, the first part is chosen so that part and tail make up the trace.
        record_ranks: Keep the tokens of every rank and pass.
        progress: Called now and then with (requests done, requests in all).

    Raises:
        ConfigError, TraceError: As `simulate`.
    """
    return _run(config, _plan_measured(config), record_ranks, progress)


def _run(config: RunConfig, plan: Plan, record_ranks: bool, progress: Progress | None) -> Result:
    records = driver.run(
        plan.table,
        config.cluster,
        config.scheduler,
        timing_for(config.cluster, config.timing),
        seed=config.seed,
        measured=plan.measured,
        record_ranks=record_ranks,
        progress=progress,
        decode_timing=_decode_timing(config),
    )
    return result_from_records(
        records, config, plan.table, measured=plan.measured, demand=plan.demand
    )


def _decode_timing(config: RunConfig) -> DecodeTiming | None:
    if config.cluster.num_decode == 0:
        return None
    return decode_timing_for(config.cluster, config.timing)


def plan_all(config: RunConfig) -> Plan:
    """Return the plan of a run in which every request is measured."""
    demand = _demand(config)
    if config.workload.kind == "trace":
        table, demand = _trace(config, demand)
        last = len(table) if config.num_requests is None else config.num_requests
        if config.horizon_s is not None:
            last = _num_before(table, config.horizon_s)
        table = _first_rows(table, last)
    else:
        table = _synthetic(config, demand, _asked_num_requests(config), config.horizon_s)
        last = len(table)
    return _checked(config, Plan(table=table, measured=(0, last), demand=demand))


def _plan_measured(config: RunConfig) -> Plan:
    demand = _demand(config)
    if config.workload.kind == "trace":
        table, demand = _trace(config, demand)
        first, last = _measured_of_trace(config, table)
        table = _first_rows(table, min(len(table), last + (last - first)))
    elif config.horizon_s is not None:
        measured_s = (1.0 - WARM_UP_FRAC) * config.horizon_s
        warm_s = max(WARM_UP_FRAC * config.horizon_s, decode_warm_up_s(config))
        table = _synthetic(config, demand, None, warm_s + 2.0 * measured_s)
        first, last = _num_before(table, warm_s), _num_before(table, warm_s + measured_s)
    else:
        asked = _asked_num_requests(config) or 0
        few = int(WARM_UP_FRAC * asked)
        first = max(few, math.ceil(decode_warm_up_s(config) * demand.rate_per_s))
        last = first + asked - few
        table = _synthetic(config, demand, last + (last - first), None)
    return _checked(config, Plan(table=table, measured=(first, last), demand=demand))


def _measured_of_trace(config: RunConfig, table: RequestTable) -> tuple[int, int]:
    if config.horizon_s is not None:
        warm_s = WARM_UP_FRAC * config.horizon_s
        return _num_before(table, warm_s), _num_before(table, config.horizon_s)
    last = config.num_requests
    if last is None:  # warm-up + measured + a tail as long as the measured part = the trace
        last = max(1, int(len(table) / (2.0 - WARM_UP_FRAC)))
    return int(WARM_UP_FRAC * last), last


def _checked(config: RunConfig, plan: Plan) -> Plan:
    first, last = plan.measured
    if last > len(plan.table):
        raise ConfigError(
            f"num_requests={config.num_requests!r} is out of range; expected at most "
            f"{len(plan.table)}, the requests of {plan.table.name!r}"
        )
    if first >= last:
        asked = f"horizon_s={config.horizon_s!r}" if config.horizon_s else "the workload"
        raise ConfigError(f"{asked} leaves no request to measure; expected more requests")
    return plan


def _demand(config: RunConfig) -> Demand:
    """Return capacities and rate; the rate is NaN where it is the trace's own."""
    found = capacities(config)
    capacity = found.requests_per_s
    if config.rate_per_s is not None:
        rate = config.rate_per_s
    elif config.load is not None:
        rate = config.load * capacity
    else:
        rate = float("nan") if config.workload.kind == "trace" else DEFAULT_LOAD * capacity
    return Demand(
        rate_per_s=rate,
        capacity_requests_per_s=capacity,
        prefill_capacity_requests_per_s=found.prefill_requests_per_s,
        decode_capacity_requests_per_s=found.decode_requests_per_s,
    )


def _asked_num_requests(config: RunConfig) -> int | None:
    if config.horizon_s is not None:
        return None
    return DEFAULT_NUM_REQUESTS if config.num_requests is None else config.num_requests


def _synthetic(
    config: RunConfig, demand: Demand, num_requests: int | None, horizon_s: float | None
) -> RequestTable:
    return generate(
        config.workload,
        config.arrivals,
        rate_per_s=demand.rate_per_s,
        seed=config.seed,
        num_requests=num_requests,
        horizon_s=horizon_s,
    )


def _trace(config: RunConfig, demand: Demand) -> tuple[RequestTable, Demand]:
    """Return the trace at the rate asked for, and the demand with the rate it then has."""
    rate_per_s, seed = demand.rate_per_s, config.seed
    table, report = load_trace(config.workload, seed=seed)
    if not report.has_arrivals:
        if np.isnan(rate_per_s):
            rate_per_s = DEFAULT_LOAD * demand.capacity_requests_per_s
        table = with_arrivals(table, config.arrivals, rate_per_s=rate_per_s, seed=seed)
    elif np.isnan(rate_per_s):
        rate_per_s = native_rate_per_s(table)
    else:
        scaling = config.workload.scaling
        table = scale_trace(table, rate_per_s=rate_per_s, scaling=scaling, seed=seed)
    return table, dataclasses.replace(demand, rate_per_s=rate_per_s)


def _num_before(table: RequestTable, instant_s: float) -> int:
    return int(np.searchsorted(table.arrived_at_s, instant_s, side="left"))


def _first_rows(table: RequestTable, count: int) -> RequestTable:
    """Return the first `count` requests of a table; the whole table if it has no more."""
    return table if count >= len(table) else take_rows(table, np.arange(count))
