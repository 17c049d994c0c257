"""Random scenarios, each a function of its number alone."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from random import Random
from typing import Any

from sbs_gym.config.groups import conf_directory, group_names, read_group
from sbs_gym.config.scheduler import SchedulerConfig, scheduler_from_mapping
from sbs_gym.config.timing import (
    ConstantTiming,
    LinearTiming,
    TableTiming,
    TimingConfig,
    timing_from_mapping,
)
from sbs_gym.timing.model import TimingModel, build_timing
from tests.parity.decode_scenarios import with_decode
from tests.reference.scenario import EAGER, FREE_RUNNING, ON_RELEASE, Scenario
from tests.reference.toy import timing_model

PRESETS = group_names("scheduler")
EXAMPLE_PASSES = str(conf_directory().parent / "sbs_gym" / "timing" / "example_passes.csv")

_GATED_ROUTING = "staggered"
_ROUTINGS = ("round_robin", "random", "least_requests", "least_tokens", "power_of_two")
_ORDERS = ("age_longest", "longest", "arrival", "shortest")
_ALLOCATIONS = ("pbaa", "lpt", "least_tokens", "least_requests", "round_robin", "random")
_CLUSTERS = ((1, 1), (1, 1), (2, 1), (1, 3), (2, 2), (3, 2), (2, 5), (4, 1), (5, 16))
_PAIR_COST_FRAC = (0.0, 0.0, 0.1, 1.0)  # cost of a pair, over that of a token, times the chunk


def draw_scenario(number: int) -> Scenario:
    """Return scenario `number`; the odd ones go on to decode."""
    given = _with_slow_rank(_draw_prefill(Random(number)), Random(f"slow rank {number}"))
    given = _with_reserved(given, Random(f"reserved {number}"))
    return with_decode(given, Random(f"decode {number}")) if number % 2 else given


def _draw_prefill(draw: Random) -> Scenario:
    """Return cluster, luck, rules and requests."""
    num_prefill, dp = draw.choice(_CLUSTERS)
    rules = _draw_preset(draw) if draw.random() < 0.3 else None
    chunk = draw.choice((512, 3072) if rules else (1, 4, 10, 10, 64, 500))
    gated = rules["release"] in ("sbs", "fixed_window") if rules else draw.random() < 0.75
    start_rule = _draw_start_rule(draw, gated)
    timing = _draw_timing(draw, dp, chunk, only_constant=start_rule == FREE_RUNNING)
    full_s = timing.full_chunk_pass_s()
    link = _draw_link(draw, full_s) if start_rule != FREE_RUNNING else {}
    rules = rules or _draw_rules(draw, gated, chunk, full_s)
    at_s, tokens = _draw_requests(draw, num_prefill * dp * chunk / full_s, chunk, full_s)
    until: dict[str, Any] = {}
    if draw.random() < 0.15:
        first = draw.randrange(len(at_s))
        until["measured"] = (first, draw.randint(first + 1, len(at_s)))
    return Scenario(
        num_prefill=num_prefill,
        dp=dp,
        chunk_tokens=chunk,
        start_rule=start_rule,
        seed=draw.randrange(1 << 40),
        arrived_at_s=at_s,
        input_tokens=tokens,
        timing=timing,
        stop_at_s=_draw_stop(draw, at_s[-1], full_s),
        **link,
        **rules,
        **until,
    )


def _with_slow_rank(given: Scenario, draw: Random) -> Scenario:
    if given.start_rule == FREE_RUNNING or draw.random() < 0.8:
        return given
    return dataclasses.replace(given, slow_rank_factor=draw.choice((1.15, 2.0, 7.0)))


def _with_reserved(given: Scenario, draw: Random) -> Scenario:
    if not given.gated or draw.random() < 0.6:
        return given
    chunk = given.chunk_tokens
    return dataclasses.replace(
        given,
        reserved=draw.choice((1, 1, 2, 9)),
        long_tokens=draw.choice((None, None, max(1, chunk // 2), 2 * chunk)),
    )


def _draw_start_rule(draw: Random, gated: bool) -> str:
    if not gated:
        return draw.choice((EAGER, EAGER, EAGER, FREE_RUNNING))
    return draw.choice((EAGER, EAGER, ON_RELEASE, FREE_RUNNING))


def _draw_link(draw: Random, full_s: float) -> dict[str, float]:
    delays = (0.0, 0.001, 0.125 * full_s, 0.3 * full_s, full_s, 2.5 * full_s, 10.0 * full_s)
    weights = (6, 2, 3, 2, 3, 2, 1)
    lost_frac = draw.choice((0.0, 0.0, 0.0, 0.1, 0.5, 1.0))
    if draw.random() < 0.3:
        return {"signal_loss_frac": lost_frac}
    return {
        "dispatch_delay_s": draw.choices(delays, weights)[0],
        "signal_delay_s": draw.choices(delays, weights)[0],
        "signal_loss_frac": lost_frac,
    }


def _draw_timing(draw: Random, dp: int, chunk: int, *, only_constant: bool) -> TimingModel:
    luck: dict[str, Any] = {}
    if draw.random() < 0.4:
        luck = {
            "jitter_cv": draw.choice((0.02, 0.3, 1.0)),
            "jitter_grid_s": draw.choice((0.01, 0.25, 2.0)),
            "skew_mean": draw.choice((1.0, 1.5)),
            "skew_sigma": draw.choice((0.0, 0.3)),
            "skew_rho": draw.choice((0.0, 0.9)),
            "skew_grid_s": draw.choice((0.25, 1.0)),
        }
    kind = draw.choice(("constant", "constant", "linear", "linear", "roofline", "table"))
    pair_frac = draw.choice(_PAIR_COST_FRAC)
    if kind == "constant" or only_constant:
        config = ConstantTiming(pass_s=draw.choice((1.0, 0.5, 0.3)), **luck)
        return _with_pairs(config, dp, chunk, pair_frac / chunk)
    if kind == "linear":
        fixed_s, rise_s = draw.choice(((0.5, 0.5), (0.06, 0.3), (0.0, 1.0)))
        token_s = rise_s / chunk
        weight = draw.choice((0.0, 0.5, 0.7, 1.0))
        linear = LinearTiming(fixed_s=fixed_s, per_token_s=token_s, max_weight=weight, **luck)
        return _with_pairs(linear, dp, chunk, pair_frac * token_s / chunk)
    if kind == "table":
        return _with_own_pairs(TableTiming(path=EXAMPLE_PASSES, **luck), dp, chunk)
    mapping = read_group("timing", "roofline") | luck
    return _with_own_pairs(timing_from_mapping(mapping), dp, chunk)


@cache
def _with_pairs(config: TimingConfig, dp: int, chunk: int, pair_cost_s: float) -> TimingModel:
    return timing_model(config, dp, chunk, pair_cost_s)


@cache
def _with_own_pairs(config: TimingConfig, dp: int, chunk: int) -> TimingModel:
    return build_timing(config, dp=dp, ep=dp, chunk_tokens=chunk)


def _draw_preset(draw: Random) -> dict[str, Any]:
    return rules_of(scheduler_from_mapping(read_group("scheduler", draw.choice(PRESETS))))


def rules_of(config: SchedulerConfig) -> dict[str, Any]:
    """Return a scheduler's rules as arguments of `Scenario`."""
    own = ("name", "custom", "learned")
    return {name: getattr(config, name) for name in SchedulerConfig.__slots__ if name not in own}


def _draw_rules(draw: Random, gated: bool, chunk: int, full_s: float) -> dict[str, Any]:
    some = max(1, chunk // 4)
    low_s = draw.choice((0.0, 0.0, 0.0, 0.3 * full_s))
    return {
        "release": draw.choice(
            ("sbs", "sbs", "sbs", "fixed_window") if gated else ("immediate", "size_or_timeout")
        ),
        "routing": _GATED_ROUTING if gated else draw.choice(_ROUTINGS),
        "order": draw.choice(_ORDERS),
        "allocation": draw.choice(_ALLOCATIONS),
        "budget": draw.choice(("full", "full", "fixed", "backlog", "backlog")),
        "multiplier": draw.choice((0.0, 0.5, 1.0, 1.0, 1.5, 3.0)),
        "window_s": draw.choice((0.0, 0.25, 0.7, 1.0, 2.5)) * full_s,
        "min_interval_s": low_s,
        "max_interval_s": draw.choice((None, None, None, 0.5 * full_s, full_s)),
        "leftovers": draw.choice(("join", "join", "join", "alone")),
        "full_batch_bypass": draw.random() < 0.5,
        "full_batch_frac": draw.choice((0.3, 0.9, 1.0)),
        "watchdog_factor": draw.choice((1.01, 1.5, 3.0, 3.0, 10.0)),
        "size": draw.choice((1, 2, 3, 8)),
        "timeout_s": draw.choice((0.1, 0.5, 1.0, 3.0)) * full_s,
        "budget_tokens": draw.choice((some, chunk, 2 * chunk)),
        "alpha": draw.choice((0.1, 0.25, 0.7, 0.8, 1.0, 1.1)),
        "floor_tokens": draw.choice((some, some, chunk, 2 * chunk)),
        "budget_unit": draw.choice(("tokens", "cost")),
        "charge": draw.choice(("tokens", "cost")),
        "n_limit": draw.choice((0, 1, 2, 5, 32)),
        "n_limit_action": draw.choice(("keep", "reject", "force")),
    }


def _draw_requests(
    draw: Random, tokens_per_s: float, chunk: int, full_s: float
) -> tuple[list[float], list[int]]:
    """Return arrivals and prompt lengths for a cluster that serves `tokens_per_s` at best."""
    count = draw.choice((1, 3, 10, 20, 40, 40, 40, 80, 80, 250))
    tokens = [_draw_length(draw, chunk, shape) for shape in [draw.randrange(4)] * count]
    load = draw.choice((0.1, 0.5, 0.9, 1.3, 4.0))
    gap_s = sum(tokens) / count / (load * tokens_per_s)
    at_s, now = [], 0.0
    for _ in range(count):
        now += draw.expovariate(1.0 / gap_s)
        at_s.append(now)
    style = draw.randrange(5)
    if style == 0:
        return at_s, tokens
    if style == 1:  # one burst
        return [draw.choice((0.0, 0.25))] * count, tokens
    grid_s = (0.25, 0.5, 1.0)[style - 2] * full_s  # many ties, many of them with ends of passes
    return [math.floor(at / grid_s) * grid_s for at in at_s], tokens


def _draw_length(draw: Random, chunk: int, shape: int) -> int:
    if shape == 0:
        return draw.randint(1, 3 * chunk)
    if shape == 1:
        return draw.choice((chunk, max(1, chunk // 2)))
    if shape == 2:
        return draw.randint(1, max(1, chunk // 4))
    return draw.choice((1, max(1, chunk // 5), chunk, 4 * chunk + 1))


def _draw_stop(draw: Random, last_arrival_s: float, full_s: float) -> float:
    if draw.random() < 0.8:
        return math.inf
    if draw.random() < 0.5:
        return draw.randint(0, 12) * full_s
    return draw.uniform(0.0, 1.5) * last_arrival_s
