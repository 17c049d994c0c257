"""Decode for a random scenario: instances, KV room, links, reports, answers and placement."""

from __future__ import annotations

import dataclasses
import math
from random import Random
from typing import Any

from sbs_gym.config.groups import read_group
from sbs_gym.config.scheduler import PLACEMENTS
from sbs_gym.config.timing import ConstantTiming, LinearTiming, TimingConfig, timing_from_mapping
from tests.reference.decode import tokens_after
from tests.reference.scenario import AT_DISPATCH, AT_PREFILL_END, EAGER, FREE_RUNNING, Scenario
from tests.reference.toy import with_decode_timing

_KV_BYTES = 1 << 20
_LEAST_BYTES_PER_S = 1e6
_STEP_TOKENS = ((1, 1.0), (2, 1.7), (2, 1.5), (4, 2.3))  # mtp_tokens, tokens_per_step
_AMPLE = 1_000_000


def with_decode(given: Scenario, draw: Random) -> Scenario:
    """Return the scenario with drawn decode instances behind its prefill instances."""
    full_s = given.timing.full_chunk_pass_s()
    mtp_tokens, tokens_per_step = draw.choice(_STEP_TOKENS)
    answered = dataclasses.replace(
        given,
        start_rule=EAGER if given.start_rule == FREE_RUNNING else given.start_rule,
        output_tokens=_draw_answers(draw, given.num_requests),
        mtp_tokens=mtp_tokens,
        tokens_per_step=tokens_per_step,
        kv_block_tokens=draw.choice((1, 4, 16, 64)),
        decode_reserve_tokens=draw.choice((0, 0, 1, 1, 8, 8, 64, 512)),
        max_requests_per_rank=draw.choice((1, 3, 256, 256, 256)),
        max_step_tokens=draw.choice((1, 8, 256, 256, 256, 256)),
        **_draw_instances(draw),
        **_draw_placement(draw),
    )
    step_s = _draw_step_s(draw, answered, full_s)
    changes = _draw_links(draw, answered, full_s) | _draw_rooms(draw, answered)
    changes["report_period_s"] = _draw_period(draw, step_s, full_s)
    changes["stop_at_s"] = draw.choice((given.stop_at_s, math.inf))
    complete = dataclasses.replace(answered, **changes)
    return with_decode_timing(complete, _draw_timing(draw, complete, step_s))


def _draw_instances(draw: Random) -> dict[str, Any]:
    many = draw.random() < 0.05
    return {
        "num_decode": 1 if many else draw.choice((1, 1, 1, 2, 3)),
        "decode_dp": 33 if many else draw.choice((1, 1, 2, 3, 4, 6)),
        "decode_binding": draw.choice((AT_PREFILL_END, AT_PREFILL_END, AT_DISPATCH)),
        "preempt": draw.choice(("swap", "recompute")),
        "transfer_overlap": draw.choice(("chunked", "none")),
    }


def _draw_placement(draw: Random) -> dict[str, Any]:
    return {
        "placement": draw.choice((*PLACEMENTS, "iqr_lex", "iqr_lex", "bf_io")),
        "placement_kv": draw.choice(("blocks", "tokens")),
        "placement_iqr_k": draw.choice((0.0, 0.5, 1.5)),
        "placement_min_safe_ranks": draw.choice((1, 1, 2, 5)),
        "placement_horizon_steps": draw.choice((0, 1, 8)),
        "placement_decay": draw.choice((0.0, 0.001, 0.1)),
    }


def _draw_answers(draw: Random, count: int) -> list[int]:
    shape = draw.randrange(6)
    if shape == 0:
        return [draw.randint(1, 8) for _ in range(count)]
    if shape == 1:
        return [draw.choice((1, 2, 20, 60))] * count
    if shape == 2:
        return [draw.choice((1, 1, 2, 30)) for _ in range(count)]
    if shape == 3:
        return [draw.randint(20, 60) for _ in range(count)]
    return [min(300, int(3.0 * draw.paretovariate(1.1))) for _ in range(count)]


def _draw_step_s(draw: Random, given: Scenario, full_s: float) -> float:
    """Return a step that keeps a drawn number of requests on every decode rank."""
    count = given.num_requests
    steps = sum(_steps_needed(given, r) for r in range(count)) / count
    rate = count / max(given.arrived_at_s[-1], full_s)
    per_rank = draw.choice((0.3, 3.0, 10.0, 30.0))
    wish_s = per_rank * given.num_decode * given.decode_dp / (rate * max(steps, 1.0))
    return min(max(full_s / 256, 2.0 ** round(math.log2(wish_s / full_s)) * full_s), full_s)


def _steps_needed(given: Scenario, request: int) -> int:
    k = 0
    while tokens_after(given, request, k) < given.output_tokens[request]:
        k += 1
    return k


def _draw_links(draw: Random, given: Scenario, full_s: float) -> dict[str, Any]:
    tokens = sum(given.input_tokens) / given.num_requests
    send_s = draw.choice((0.001, 0.1, 0.25, 1.0)) * full_s
    away_s = draw.choice((0.01, 0.5, 1.0, 4.0)) * full_s
    return {
        "kv_bytes_per_token": _KV_BYTES,
        "nic_bytes_per_s": max(_LEAST_BYTES_PER_S, tokens * _KV_BYTES / send_s),
        "transfer_latency_s": draw.choice((0.0, 0.0, 0.001, 0.25 * full_s)),
        "host_bytes_per_s": max(_LEAST_BYTES_PER_S, 2 * tokens * _KV_BYTES / away_s),
        "recompute_tokens_per_s": max(2.0, tokens / away_s),
    }


def _draw_rooms(draw: Random, given: Scenario) -> dict[str, Any]:
    """Return rooms that hold one or a few of the longest requests, seldom not all of them."""
    pairs = zip(given.input_tokens, given.output_tokens, strict=True)
    blocks = [given.blocks(i + max(given.decode_reserve_tokens, o)) for i, o in pairs]
    prefill = _draw_room(draw, given.input_tokens, (1.0, 1.0, 1.5, 3.0))
    decode = _draw_room(draw, blocks, (1.0, 1.3, 1.3, 2.0, 3.0))
    return {"prefill_kv_tokens": prefill, "decode_kv_blocks": decode}


def _draw_room(draw: Random, sizes: list[int], factors: tuple[float, ...]) -> int:
    ranked = sorted(sizes)
    if draw.random() < 0.15:
        return _AMPLE
    if draw.random() < 0.3:
        return ranked[4 * len(ranked) // 5]  # what is longer is rejected
    return min(_AMPLE, int(draw.choice(factors) * ranked[-1]))


def _draw_period(draw: Random, step_s: float, full_s: float) -> float:
    periods_s = (0.3 * step_s, step_s, 2.5 * step_s, full_s, 0.7 * full_s, 20.0 * full_s, 1800.0)
    return max(0.001, draw.choices(periods_s, (2, 2, 3, 3, 2, 2, 1))[0])


def _draw_timing(draw: Random, given: Scenario, step_s: float) -> TimingConfig:
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
    kind = draw.choice(("constant", "constant", "linear", "linear", "roofline"))
    if kind == "constant":
        return ConstantTiming(step_s=step_s, **luck)
    if kind == "linear":
        tokens = sum(given.input_tokens) / given.num_requests
        return LinearTiming(
            decode_fixed_s=draw.choice((0.1, 0.7)) * step_s,
            decode_per_request_s=0.1 * step_s,
            decode_per_kv_token_s=min(1.0, 0.2 * step_s / tokens),
            **luck,
        )
    return timing_from_mapping(read_group("timing", "roofline") | luck)
