"""The compiled core on a scenario of the reference, and every difference between the two."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
DECODE_INSTANTS = (
    "bound_at_s",
    "transferred_at_s",
    "admitted_at_s",
    "second_token_at_s",
    "finished_at_s",
)
DECODE_PLACES = ("decode_instance", "decode_rank", "num_preempted")
COUNTS = ("num_releases", "num_signals_lost", "num_watchdogs", "num_refusals", "ended_at_s")
# Fields that a scenario shares with the configuration of what follows prefill.
_DECODE_CLUSTER = (
    "num_decode",
    "decode_dp",
    "decode_binding",
    "transfer_overlap",
    "kv_bytes_per_token",
    "nic_bytes_per_s",
    "transfer_latency_s",
    "decode_reserve_tokens",
    "kv_block_tokens",
    "prefill_kv_tokens",
    "max_requests_per_rank",
    "max_step_tokens",
    "mtp_tokens",
    "tokens_per_step",
    "preempt",
    "host_bytes_per_s",
    "recompute_tokens_per_s",
    "report_period_s",
)


def run_core(given: Scenario) -> RunRecords:
    """Run the compiled core on `given`."""
    return run(
        request_table(given),
        cluster_config(given),
        scheduler_config(given),
        given.timing,
        decode_timing=given.decode_timing,
        seed=given.seed,
        stop_at_s=given.stop_at_s,
        measured=given.measured,
        record_ranks=True,
    )


def request_table(given: Scenario) -> RequestTable:
    answers = given.output_tokens or [1] * given.num_requests
    return RequestTable(
        arrived_at_s=np.array(given.arrived_at_s, dtype=np.float64),
        input_tokens=np.array(given.input_tokens, dtype=np.int32),
        output_tokens=np.array(answers, dtype=np.int32),
        name="scenario",
    )


def cluster_config(given: Scenario) -> ClusterConfig:
    decode: dict[str, Any] = {}
    if given.num_decode > 0:
        decode = {name: getattr(given, name) for name in _DECODE_CLUSTER}
        decode["decode_ep"] = given.decode_dp
        decode["decode_kv_tokens"] = given.decode_kv_blocks * given.kv_block_tokens
    return ClusterConfig(
        num_prefill=given.num_prefill,
        prefill_dp=given.dp,
        prefill_ep=given.dp,
        chunk_tokens=given.chunk_tokens,
        start_rule=given.start_rule,
        dispatch_delay_s=given.dispatch_delay_s,
        signal_delay_s=given.signal_delay_s,
        signal_loss_frac=given.signal_loss_frac,
        slow_rank_factor=given.slow_rank_factor,
        **decode,
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
        reserved=given.reserved,
        long_tokens=given.long_tokens,
        placement=given.placement,
        placement_kv=given.placement_kv,
        placement_iqr_k=given.placement_iqr_k,
        placement_min_safe_ranks=given.placement_min_safe_ranks,
        placement_horizon_steps=given.placement_horizon_steps,
        placement_decay=given.placement_decay,
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
    if core.decode is not None:
        found += _differences_behind_prefill(reference, core)
    return [line for line in found if line is not None]


def _differences_behind_prefill(
    reference: ReferenceResult, core: RunRecords
) -> Iterator[str | None]:
    assert core.decode is not None
    for name in (*DECODE_INSTANTS, *DECODE_PLACES):
        yield _first(name, getattr(reference, name), core.decode[name])
    steps = reference.steps
    columns = {
        "instance": [s.instance for s in steps],
        "step_index": [s.index for s in steps],
        "started_at_s": [s.started_at_s for s in steps],
        "ended_at_s": [s.ended_at_s for s in steps],
        "num_admitted": [s.num_admitted for s in steps],
        "num_finished": [s.num_finished for s in steps],
        "num_preempted": [s.num_preempted for s in steps],
    }
    for name, values in columns.items():
        yield _first(f"steps.{name}", values, core.steps[name])
    yield _first("steps.batch", [s.batch for s in steps], core.step_batch)
    yield _first("steps.kv_tokens", [s.kv_tokens for s in steps], core.step_kv_tokens)
    yield _first("steps.blocks", [s.blocks for s in steps], core.step_blocks)
    # A sum of differences, which the two add up in their own order.
    blocked_s = (reference.prefill_kv_blocked_s, core.prefill_kv_blocked_s)
    if not math.isclose(*blocked_s, rel_tol=1e-12):
        yield "prefill_kv_blocked_s: reference {!r}, core {!r}".format(*blocked_s)


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
