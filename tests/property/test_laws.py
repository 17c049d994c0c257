"""Laws and symmetries of the compiled core on random runs; nothing here knows a right answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sbs_gym.sim.records import RunRecords
from sbs_gym.timing.coefficients import Kind
from tests.parity.core import (
    DECODE_INSTANTS,
    DECODE_PLACES,
    INSTANTS,
    PLACES,
    cluster_config,
    must_drain,
    run_core,
)
from tests.parity.scenarios import draw_scenario
from tests.property.laws import check_everything_ended, check_laws
from tests.reference.scenario import Scenario

NUMBERS = st.integers(min_value=0, max_value=2**40)
DURATIONS = (
    "dispatch_delay_s",
    "signal_delay_s",
    "window_s",
    "min_interval_s",
    "timeout_s",
    "stop_at_s",
    "transfer_latency_s",
    "report_period_s",
)
# Prices of tokens are doubled with the durations: only their ratio counts.
TIMES_OF_TIMING = (
    "pass_s",
    "fixed_s",
    "per_token_s",
    "jitter_grid_s",
    "skew_grid_s",
    "token_cost_s",
    "pair_cost_s",
)
TIMES_OF_DECODE_TIMING = (
    "step_s",
    "fixed_s",
    "per_request_s",
    "per_kv_token_s",
    "jitter_grid_s",
    "skew_grid_s",
)


@given(NUMBERS)
@settings(max_examples=150)
def test_every_run_keeps_the_laws(number: int) -> None:
    given = draw_scenario(number)
    records = run_core(given)
    check_laws(records, cluster_config(given))
    if must_drain(given):
        check_everything_ended(records)


@given(NUMBERS)
@settings(max_examples=30)
def test_same_seed_gives_the_same_bytes(number: int) -> None:
    given = draw_scenario(number)
    first, second = run_core(given), run_core(given)
    tables = [(first.requests, second.requests), (first.passes, second.passes)]
    tables.append((first.steps, second.steps))
    if first.decode is not None:
        tables.append((first.decode, second.decode))
    for rows, again in tables:
        for name in rows.dtype.names:  # between the columns lies padding
            assert rows[name].tobytes() == again[name].tobytes(), name
    assert first.ended_at_s == second.ended_at_s


@given(NUMBERS)
@settings(max_examples=100)
def test_twice_the_durations_give_exactly_twice_the_latencies(number: int) -> None:
    given = draw_scenario(number)
    timings = [given.timing] + [given.decode_timing] * (given.num_decode > 0)
    assume(all(t.coefficients[0]["kind"] in (Kind.CONSTANT, Kind.LINEAR) for t in timings))
    fast, slow = run_core(given), run_core(doubled(given))
    for name in ("arrived_at_s", *INSTANTS):
        assert np.array_equal(slow.requests[name], 2.0 * fast.requests[name], equal_nan=True), name
    for name in PLACES:
        assert (slow.requests[name] == fast.requests[name]).all(), name
    for name in ("started_at_s", "ended_at_s"):
        assert (slow.passes[name] == 2.0 * fast.passes[name]).all(), name
    assert np.array_equal(slow.rank_tokens, fast.rank_tokens)
    assert np.array_equal(slow.rank_pairs, fast.rank_pairs)
    if given.num_decode > 0:
        check_decode_is_doubled(fast, slow)


def check_decode_is_doubled(fast: RunRecords, slow: RunRecords) -> None:
    assert fast.decode is not None
    assert slow.decode is not None
    for name in DECODE_INSTANTS:
        assert np.array_equal(slow.decode[name], 2.0 * fast.decode[name], equal_nan=True), name
    for name in DECODE_PLACES:
        assert (slow.decode[name] == fast.decode[name]).all(), name
    for name in ("started_at_s", "ended_at_s"):
        assert (slow.steps[name] == 2.0 * fast.steps[name]).all(), name
    assert np.array_equal(slow.step_batch, fast.step_batch)
    assert np.array_equal(slow.step_kv_tokens, fast.step_kv_tokens)
    assert slow.num_refusals == fast.num_refusals


def doubled(given: Scenario) -> Scenario:
    """Return the scenario with every duration doubled, which halves every rate."""
    changes: dict[str, Any] = {name: 2.0 * getattr(given, name) for name in DURATIONS}
    if given.max_interval_s is not None:
        changes["max_interval_s"] = 2.0 * given.max_interval_s
    changes["arrived_at_s"] = [2.0 * at for at in given.arrived_at_s]
    changes["timing"] = doubled_timing(given.timing, TIMES_OF_TIMING)
    if given.num_decode > 0:
        changes["kv_bytes_per_token"] = 2 * given.kv_bytes_per_token  # over links and to the host
        changes["recompute_tokens_per_s"] = 0.5 * given.recompute_tokens_per_s
        changes["decode_timing"] = doubled_timing(given.decode_timing, TIMES_OF_DECODE_TIMING)
    return replace(given, **changes)


def doubled_timing(timing: Any, names: tuple[str, ...]) -> Any:
    coefficients = timing.coefficients.copy()
    for name in names:
        coefficients[name] *= 2.0
    return replace(timing, coefficients=coefficients)
