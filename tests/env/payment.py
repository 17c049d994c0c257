"""What a run costs, recomputed from its records alone.

A cost is a flow (it accrues from one instant to another at rate 1) or a point (it falls due at an
instant). A step pays what lies after its decision, up to and including the next one's instant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sbs_gym.capacity import decode_timing_for, timing_for
from sbs_gym.schedulers.driver import Session, has_context, run
from sbs_gym.schedulers.rules import encode_rules
from sbs_gym.sim.records import RunRecords
from sbs_gym.sim.world import collect_records
from tests.env.small import Walk

TERMS = (
    "ttft",
    "tpot",
    "slo_miss",
    "rejection",
    "prefill_bubble",
    "decode_bubble",
    "input_tokens",
    "output_tokens",
)


@dataclass(slots=True)
class Bill:
    """The costs of a run: (term, from, to) and (term, instant, value, request)."""

    flows: list[tuple[str, float, float]] = field(default_factory=list)
    points: list[tuple[str, float, float, int]] = field(default_factory=list)

    def add(self, term: str, at_s: float, value: float, request: int = -1) -> None:
        """Add a cost that falls due at an instant."""
        self.points.append((term, float(at_s), float(value), request))


def bill_of(records: RunRecords, config: Any, start_s: float, end_s: float) -> Bill:
    """Return all costs of a run between two instants."""
    bill = Bill()
    for r in range(len(records.requests)):
        _add_request(bill, records, config, r, start_s, end_s)
    cluster = config.cluster
    for row in records.passes:
        bubble_s = cluster.prefill_dp * row["cost_max_s"] - row["cost_sum_s"]
        bill.add("prefill_bubble", row["ended_at_s"], -bubble_s)
        bill.add("input_tokens", row["ended_at_s"], row["tokens"])
    for row in records.steps:
        bubble_s = cluster.decode_dp * row["cost_max_s"] - row["cost_sum_s"]
        bill.add("decode_bubble", row["ended_at_s"], -bubble_s)
        tokens = row["batch_sum"] * cluster.tokens_per_step
        bill.add("output_tokens", row["ended_at_s"], tokens)
    bill.points = [
        p for p in bill.points if p[1] <= end_s and (p[1] > start_s or p[1] == start_s == 0.0)
    ]
    return bill


def _add_request(
    bill: Bill, records: RunRecords, config: Any, r: int, start_s: float, end_s: float
) -> None:
    request, slo = records.requests[r], config.slo
    arrived, first = float(request["arrived_at_s"]), float(request["first_token_at_s"])
    rejected, answer = float(request["rejected_at_s"]), int(request["output_tokens"])
    beyond = max(0, int(request["input_tokens"]) - slo.ttft_free_tokens)
    allowed_s = slo.ttft_s + slo.ttft_per_token_s * beyond
    if arrived > end_s:
        return
    stop = next(t for t in (first, rejected, end_s) if not math.isnan(t))
    bill.flows.append(("ttft", max(arrived, start_s), min(stop, end_s)))
    if not math.isnan(rejected):
        until_s = records_until_s(config, start_s)
        bill.add("rejection", rejected, -max(until_s - rejected, 4.0 * allowed_s), r)
        bill.add("slo_miss", rejected, -1.0, r)
    if math.isnan(first):
        return
    in_time = first - arrived <= allowed_s
    if not in_time:
        bill.add("slo_miss", first, -1.0)
    if records.decode is None or answer <= 1:
        return
    finished = float(records.decode[r]["finished_at_s"])
    last = end_s if math.isnan(finished) else finished
    bill.flows.append(("tpot", max(first, start_s), min(last, end_s)))
    if not math.isnan(finished):
        bill.add("tpot", finished, config.reward.tpot_target_s * (answer - 1))
        if in_time and (finished - first) / (answer - 1) > slo.tpot_s:
            bill.add("slo_miss", finished, -1.0)


def records_until_s(config: Any, start_s: float) -> float:
    """Return the horizon."""
    return float(start_s + config.horizon_s)


def totals(bill: Bill) -> dict[str, float]:
    """Return every term, undiscounted."""
    found = dict.fromkeys(TERMS, 0.0)
    for term, since_s, until_s in bill.flows:
        found[term] -= max(0.0, until_s - since_s)
    for term, _, value, _ in bill.points:
        found[term] += value
    return found


def step_payments(
    bill: Bill,
    walk: Walk,
    weights: dict[str, float],
    beta: float,
    rejected: Sequence[set[int]] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return reward of every step, discounted within it, and the sum of its absolute parts.

    Args:
        bill: The costs.
        walk: Whose decisions are the steps' bounds.
        weights: Per term; those not named weigh nothing.
        beta: Rate of the discount, 1/s.
        rejected: Ids that each step rejected, for a release may reject in a decision's instant;
            None: as the instants say.
    """
    bounds = walk.instants
    paid, size = np.zeros(len(bounds) - 1), np.zeros(len(bounds) - 1)
    for k in range(len(paid)):
        parts = _parts(
            bill, weights, bounds[k], bounds[k + 1], beta, None if rejected is None else rejected[k]
        )
        if k == 0:  # what came before the first decision is not discounted
            before = _parts(
                bill, weights, -1.0, bounds[0], 0.0, None if rejected is None else set()
            )
            parts += before
        paid[k], size[k] = math.fsum(parts), math.fsum(map(abs, parts))
    return paid, size


def _parts(
    bill: Bill,
    weights: dict[str, float],
    since_s: float,
    until_s: float,
    beta: float,
    rejected: set[int] | None,
) -> list[float]:
    parts = []
    for term, a, b in bill.flows:
        low, high = max(a, since_s), min(b, until_s)
        if high > low:
            parts.append(-weights.get(term, 0.0) * weight_of(low - since_s, high - since_s, beta))
    for term, at_s, value, r in bill.points:
        inside = since_s < at_s <= until_s
        if r >= 0 and rejected is not None:
            inside = r in rejected
        if inside:
            passed_s = max(0.0, at_s - since_s) if beta else 0.0
            parts.append(weights.get(term, 0.0) * value * math.exp(-beta * passed_s))
    return parts


def weight_of(u0: float, u1: float, beta: float) -> float:
    """Return the integral of exp(-beta u) over [u0, u1]."""
    if beta == 0.0:
        return u1 - u0
    return -math.exp(-beta * u0) * math.expm1(-beta * (u1 - u0)) / beta


def baseline_records(env: Any) -> RunRecords:
    """Return what the baseline's own run on the same table and luck leaves behind.

    The background plays the warm-up; the baseline's rules go on from there.
    """
    config, episode = env.config, env.core.episodes[0]
    cluster, baseline = config.cluster, config.reward.baseline
    timing = timing_for(cluster, config.timings[0])
    decode = decode_timing_for(cluster, config.timings[0]) if cluster.num_decode else None
    until_s = records_until_s(config, episode.warmup_s)
    luck = {"seed": episode.seed, "decode_timing": decode}
    if episode.warmup_s == 0.0 or baseline == config.scheduler:
        return run(episode.table, cluster, baseline, timing, stop_at_s=until_s, **luck)
    session = Session(episode.table, cluster, config.scheduler, timing, **luck)
    session.play_until(episode.warmup_s)
    session._rules = encode_rules(baseline, has_context=has_context(timing))
    session.play_until(until_s)
    return collect_records(session.world)
