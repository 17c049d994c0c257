"""The compiled core on a scenario of the reference, and every difference between the two."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.schedulers.driver import run
from sbs_gym.sim.records import RunRecords
from sbs_gym.types import RequestTable
from tests.reference.scenario import (
    FIXED_WINDOW,
    ON_RELEASE,
    SIZE_OR_TIMEOUT,
    ReferenceResult,
    Scenario,
)

INSTANTS = (
    "dispatched_at_s",
    "delivered_at_s",
    "prefill_started_at_s",
    "first_token_at_s",
    "rejected_at_s",
)
PLACES = ("instance", "rank", "waited_releases")
COUNTS = ("num_releases", "num_signals_lost", "num_watchdogs")


def run_core(given: Scenario) -> RunRecords:
    """Run the compiled core on `given`."""
    return run(
        request_table(given),
        cluster_config(given),
        scheduler_config(given),
        given.timing,
        seed=given.seed,
        stop_at_s=given.stop_at_s,
        measured=given.measured,
        record_ranks=True,
    )


def request_table(given: Scenario) -> RequestTable:
    return RequestTable(
        arrived_at_s=np.array(given.arrived_at_s, dtype=np.float64),
        input_tokens=np.array(given.input_tokens, dtype=np.int32),
        output_tokens=np.ones(given.num_requests, dtype=np.int32),
        name="scenario",
    )


def cluster_config(given: Scenario) -> ClusterConfig:
    return ClusterConfig(
        num_prefill=given.num_prefill,
        prefill_dp=given.dp,
        prefill_ep=given.dp,
        chunk_tokens=given.chunk_tokens,
        start_rule=given.start_rule,
        dispatch_delay_s=given.dispatch_delay_s,
        signal_delay_s=given.signal_delay_s,
        signal_loss_frac=given.signal_loss_frac,
    )


def scheduler_config(given: Scenario) -> SchedulerConfig:
    """Return the configuration; numbers that the rules do not read keep their defaults."""
    read: dict[str, Any] = {}
    if given.release == FIXED_WINDOW:
        read["window_s"] = given.window_s
    if given.release == SIZE_OR_TIMEOUT:
        read |= {"size": given.size, "timeout_s": given.timeout_s}
    if given.budget == "fixed":
        read["budget_tokens"] = given.budget_tokens
    return SchedulerConfig(
        release=given.release,
        routing=given.routing,
        order=given.order,
        allocation=given.allocation,
        budget=given.budget,
        multiplier=given.multiplier,
        min_interval_s=given.min_interval_s,
        max_interval_s=given.max_interval_s,
        leftovers=given.leftovers,
        full_batch_bypass=given.full_batch_bypass,
        full_batch_frac=given.full_batch_frac,
        watchdog_factor=given.watchdog_factor,
        alpha=given.alpha,
        floor_tokens=given.floor_tokens,
        budget_unit=given.budget_unit,
        charge=given.charge,
        n_limit=given.n_limit,
        n_limit_action=given.n_limit_action,
        **read,
    )


def differences(reference: ReferenceResult, core: RunRecords) -> list[str]:
    """Return one line per column that differs anywhere, with its first difference."""
    assert core.rank_tokens is not None
    assert core.rank_pairs is not None
    found = [_first(name, getattr(reference, name), getattr(core, name)) for name in COUNTS]
    for name in (*INSTANTS, *PLACES):
        found.append(_first(name, getattr(reference, name), core.requests[name]))
    passes = reference.passes
    columns = {
        "instance": [p.instance for p in passes],
        "pass_index": [p.index for p in passes],
        "started_at_s": [p.started_at_s for p in passes],
        "ended_at_s": [p.ended_at_s for p in passes],
        "budget_tokens": [p.budget for p in passes],
    }
    for name, values in columns.items():
        found.append(_first(f"passes.{name}", values, core.passes[name]))
    found.append(_first("passes.tokens", [p.tokens for p in passes], core.rank_tokens))
    found.append(_first("passes.pairs", [p.pairs for p in passes], core.rank_pairs))
    return [line for line in found if line is not None]


def _first(name: str, reference: Any, core: Any) -> str | None:
    """Return where two columns first differ; NaN equals NaN, nothing else is forgiven."""
    expected, actual = _rows(reference), _rows(core)
    for i, (ours, theirs) in enumerate(zip(expected, actual, strict=False)):
        both_nan = ours != ours and theirs != theirs
        if ours != theirs and not both_nan:
            return f"{name}[{i}]: reference {ours!r}, core {theirs!r}"
    if len(expected) != len(actual):
        return f"{name}: reference has {len(expected)} rows, core {len(actual)}"
    return None


def _rows(column: Any) -> list[Any]:
    return list(
        np.atleast_1d(column).tolist() if np.ndim(column) < 2 else np.asarray(column).tolist()
    )


def must_drain(given: Scenario) -> bool:
    """Return whether every request has to end.

    An `on_release` engine may be left with work that the scheduler assumes done: watchdogs declared
    several passes ended while one long pass ran, and nothing is released that would start another.
    """
    may_be_forgotten = given.start_rule == ON_RELEASE and given.signal_loss_frac > 0.0
    return given.measured is None and math.isinf(given.stop_at_s) and not may_be_forgotten
