"""The reference simulator against scenarios worked out by hand, and a few laws."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from sbs_gym.config.timing import LinearTiming
from tests.reference.forming import Price, form_rank, largest_within
from tests.reference.scenario import ReferenceResult, Scenario
from tests.reference.simulator import run_reference
from tests.reference.toy import scenario
from tests.reference.toys import TOYS


def observed(result: ReferenceResult, name: str) -> Any:
    """Return a field as the toys write it: passes without pairs, pairs apart."""
    if name == "pairs":
        return [p.pairs for p in result.passes]
    if name == "passes":
        return [
            (p.instance, p.index, p.started_at_s, p.ended_at_s, p.budget, p.tokens)
            for p in result.passes
        ]
    if name == "steps":
        return [
            (s.instance, s.index, s.started_at_s, s.ended_at_s, s.batch, s.kv_tokens, s.blocks)
            for s in result.steps
        ]
    return getattr(result, name)


def nan_as_none(values: list[Any]) -> list[Any]:
    return [None if isinstance(v, float) and math.isnan(v) else v for v in values]


@pytest.mark.parametrize(
    ("given", "expected"), [toy[1:] for toy in TOYS], ids=[toy[0] for toy in TOYS]
)
def test_toy_ends_as_worked_out_by_hand(given: Scenario, expected: dict[str, Any]) -> None:
    result = run_reference(given)
    for name, values in expected.items():
        seen = observed(result, name)
        if isinstance(values, list):
            seen, values = nan_as_none(seen), nan_as_none(values)
        assert seen == values, name


def test_first_chunk_takes_one_token_even_above_its_cost() -> None:
    # Limit 60; behind 60 tokens one token costs 1 + 60.5.
    assert form_rank([(0, 60, 5)], 10, Price(1.0, 1.0)) == [(0, 60, 1)]


def test_rank_stops_at_the_first_chunk_cut_short_by_cost() -> None:
    # 4 behind 10 cost 52 of 60, so nothing of the next prompt, though one token costs 1.5.
    assert form_rank([(0, 10, 5), (1, 0, 1)], 10, Price(1.0, 1.0)) == [(0, 10, 4)]


def test_largest_share_is_the_last_one_within_the_cost() -> None:
    price = Price(0.3, 0.07)
    for limit in (0.0, 1.0, 7.7, 100.0):
        fits = [q for q in range(51) if 0.5 + price.of_chunk(q, 13) <= limit]
        assert largest_within(price, 50, 13, 0.5, limit) == max(fits, default=0)


REFUSED: list[dict[str, Any]] = [
    {"start_rule": "free_running", "timing": LinearTiming()},
    {"start_rule": "free_running", "dispatch_delay_s": 0.1},
    {"start_rule": "free_running", "signal_delay_s": 0.1},
    {"start_rule": "free_running", "signal_loss_frac": 0.1},
    {"start_rule": "on_release", "release": "immediate", "routing": "random"},
    {"release": "immediate"},
    {"release": "sbs", "routing": "random"},
]


@pytest.mark.parametrize("rules", REFUSED, ids=[str(list(r.values())) for r in REFUSED])
def test_what_the_page_refuses_is_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        scenario([(0.0, 1)], **rules)


GATED = {"release": "sbs"}
RULES = [
    GATED,
    GATED | {"full_batch_bypass": True, "budget": "backlog", "floor_tokens": 4},
    GATED | {"multiplier": 0.0, "allocation": "lpt", "charge": "cost"},
    GATED | {"start_rule": "on_release", "budget_unit": "cost", "order": "shortest"},
    {"release": "fixed_window", "window_s": 0.3, "allocation": "random", "order": "longest"},
    {"release": "immediate", "routing": "power_of_two", "allocation": "least_requests"},
    {"release": "immediate", "routing": "random", "allocation": "round_robin"},
    {"release": "size_or_timeout", "size": 3, "timeout_s": 0.4, "routing": "least_requests"},
]


@pytest.mark.parametrize("rules", RULES, ids=[str(i) for i in range(len(RULES))])
@pytest.mark.parametrize("delay_s", [0.0, 0.03])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_request_ends_and_no_token_is_lost(
    rules: dict[str, Any], delay_s: float, seed: int
) -> None:
    draw = random.Random(seed)
    at_s = sorted(draw.uniform(0.0, 12.0) for _ in range(60))
    given = scenario(
        [(at, draw.randint(1, 45)) for at in at_s],
        num_prefill=3,
        dp=2,
        timing=LinearTiming(fixed_s=0.3, per_token_s=0.05, max_weight=0.7, jitter_cv=0.2),
        pair_cost_s=0.01,
        dispatch_delay_s=delay_s,
        signal_delay_s=delay_s,
        seed=seed,
        **rules,
    )
    result = run_reference(given)
    assert sum(sum(p.tokens) for p in result.passes) == sum(given.input_tokens)
    for r in range(given.num_requests):
        life = (
            given.arrived_at_s[r],
            result.dispatched_at_s[r],
            result.delivered_at_s[r],
            result.prefill_started_at_s[r],
            result.first_token_at_s[r],
        )
        assert not any(math.isnan(instant) for instant in life), (r, life)
        assert list(life) == sorted(life), (r, life)
