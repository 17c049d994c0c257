"""A baseline over the same time changes no best action: a toy by hand, and a tiny environment.

The toy: prompt A waits at 0 s; B comes at 1 s or never. A pass of one prompt takes 2 s, of both
2.2 s, times the luck of the instant at which it starts. The agent may serve A at once or hold; if
it has held, it finds at 1 s both prompts (to serve together or in turn) or A alone (to serve or to
hold for another second). Whether B comes, and the luck, do not depend on what anybody does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.env.payment import baseline_records, bill_of, step_payments
from tests.env.small import Walk, install, make, table_of

BETA, HORIZON_S = 0.2, 6.0
ACTIONS = {"start": ("serve", "hold"), "both": ("together", "turns"), "alone": ("serve", "hold")}
Policy = dict[str, str]
POLICIES = [
    dict(zip(ACTIONS, chosen, strict=True)) for chosen in itertools.product(*ACTIONS.values())
]


@dataclass(frozen=True)
class Luck:
    """What nobody can choose: whether B comes, and the factor on passes begun in each second."""

    has_b: bool
    first: float
    later: float

    def pass_s(self, prompts: int, start_s: float) -> float:
        """Return the seconds of a pass of one prompt or of both."""
        return (2.0 if prompts == 1 else 2.2) * (self.first if start_s < 1.0 else self.later)


LUCKS = [Luck(*one) for one in itertools.product((True, False), (0.6, 1.4), (0.8, 1.2))]


@dataclass(frozen=True)
class Run:
    """When each prompt came and had its first token; the questions as (state, instant)."""

    spans: tuple[tuple[float, float], ...]
    questions: tuple[tuple[str, float], ...]

    def num_waiting_changes(self) -> list[float]:
        return [instant_s for span in self.spans for instant_s in span]

    def num_waiting(self, instant_s: float) -> int:
        return sum(came_s <= instant_s < done_s for came_s, done_s in self.spans)

    @property
    def drained_at_s(self) -> float:
        return max(done_s for _, done_s in self.spans)


def in_turn(luck: Luck, start_s: float) -> tuple[tuple[float, float], ...]:
    """Serve A from `start_s` on, and B behind it as soon as it is there."""
    a_s = start_s + luck.pass_s(1, start_s)
    if not luck.has_b:
        return ((0.0, a_s),)
    b_starts_s = max(1.0, a_s)
    return (0.0, a_s), (1.0, b_starts_s + luck.pass_s(1, b_starts_s))


def agent_run(policy: Policy, luck: Luck) -> Run:
    if policy["start"] == "serve":
        return Run(in_turn(luck, 0.0), (("start", 0.0),))
    state = "both" if luck.has_b else "alone"
    questions = (("start", 0.0), (state, 1.0))
    if policy[state] == "together":
        done_s = 1.0 + luck.pass_s(2, 1.0)
        return Run(((0.0, done_s), (1.0, done_s)), questions)
    return Run(in_turn(luck, 2.0 if policy[state] == "hold" else 1.0), questions)


def baseline_run(luck: Luck) -> Run:
    """Wait until 3 s, whatever comes, then serve in turn."""
    return Run(in_turn(luck, 3.0), ())


def until_horizon(agent: Run) -> float:
    return HORIZON_S


def until_agent_has_drained(agent: Run) -> float:
    return min(HORIZON_S, agent.drained_at_s)


def discounted_return(
    agent: Run, less: Run | None, less_until: Callable[[Run], float] = until_horizon
) -> float:
    """Return the sum over steps of the discounts before a step times its reward.

    The reward of a step is minus the integral of e^(-beta u) (N - N of the baseline), u from the
    step's question on.
    """
    starts = [instant_s for _, instant_s in agent.questions]
    total, weight = 0.0, 1.0
    for start_s, end_s in itertools.pairwise([*starts, HORIZON_S]):
        reward = -integral(agent, start_s, end_s, start_s)
        if less is not None:
            reward += integral(less, start_s, min(end_s, less_until(agent)), start_s)
        total += weight * reward
        weight *= math.exp(-BETA * (end_s - start_s))
    return total


def integral(run: Run, since_s: float, until_s: float, origin_s: float) -> float:
    """Return the discounted integral of those that wait, piece by piece."""
    inside = {t for t in run.num_waiting_changes() if since_s < t < until_s}
    return sum(
        run.num_waiting(a)
        * (math.exp(-BETA * (a - origin_s)) - math.exp(-BETA * (b - origin_s)))
        / BETA
        for a, b in itertools.pairwise(sorted({since_s, max(since_s, until_s)} | inside))
    )


def values(less_until: Callable[[Run], float] | None) -> dict[str, dict[str, float]]:
    """Return the value of every action in every state, by trying all policies on all luck.

    Args:
        less_until: Until when the baseline's cost is subtracted; None: there is no baseline.
    """

    def value(policy: Policy, lucks: list[Luck]) -> float:
        returns = [
            discounted_return(agent_run(policy, luck), None)
            if less_until is None
            else discounted_return(agent_run(policy, luck), baseline_run(luck), less_until)
            for luck in lucks
        ]
        return math.fsum(returns) / len(lucks)

    found: dict[str, dict[str, float]] = {}
    for state, actions in ACTIONS.items():
        lucks = [luck for luck in LUCKS if state == "start" or luck.has_b == (state == "both")]
        found[state] = {
            action: max(
                value(policy, lucks)
                for policy in POLICIES
                if policy[state] == action and (state == "start" or policy["start"] == "hold")
            )
            for action in actions
        }
    return found


def best(found: dict[str, dict[str, float]]) -> Policy:
    return {state: max(of, key=of.__getitem__) for state, of in found.items()}


def test_toy_costs_are_those_of_a_calculation_by_hand() -> None:
    # Given that B comes, and that every pass takes 0.6 or 0.8 of its time,
    luck = Luck(True, 0.6, 0.8)
    # then served at once A takes 1.2 s, and B waits 0.2 s for a pass of 1.6 s.
    run = agent_run(POLICIES[0], luck)
    assert POLICIES[0]["start"] == "serve"
    assert run.spans == ((0.0, 1.2), (1.0, pytest.approx(2.8)))
    cost = (1 - math.exp(-0.2 * 1.2)) / 0.2 + (math.exp(-0.2) - math.exp(-0.2 * 2.8)) / 0.2
    assert discounted_return(run, None) == pytest.approx(-cost, rel=1e-12)


def test_baseline_over_the_same_time_changes_no_best_action() -> None:
    alone, beside = values(None), values(until_horizon)
    assert best(alone) == best(beside)
    for state, of in alone.items():  # all values of a state move by the same
        moved = {action: beside[state][action] - value for action, value in of.items()}
        first, second = moved.values()
        assert first == pytest.approx(second, rel=1e-12)
        assert first > 1.0
        assert abs(np.subtract(*of.values())) > 0.01  # the best action is no tie


def test_baseline_that_stops_with_the_agent_would_change_the_best_action() -> None:
    # Waiting would be paid: as long as the agent has work, the slow baseline's cost is credited.
    alone, stopped = best(values(None)), best(values(until_agent_has_drained))
    assert alone != stopped


# The same in a tiny environment

ARRIVED_S = [0.0, 0.05, 0.06, 0.4, 0.41, 0.8]
INPUTS, ANSWERS = [9, 14, 3, 10, 6, 12], [1, 16, 13, 19, 2, 14]
TINY = {
    "kind": "linear",
    "fixed_s": 0.1,
    "per_token_s": 0.01,
    "decode_per_request_s": 0.02,
    "decode_per_kv_token_s": 0.001,
    "jitter_cv": 0.4,
}
DEPTH, TINY_HORIZON_S = 4, 3.0
PREFILL = {"num_prefill": 1, "prefill_dp": 2, "chunk_tokens": 10, "signal_delay_s": 0.002}
DECODE = {
    "num_decode": 1,
    "decode_dp": 3,
    "max_requests_per_rank": 2,
    "prefill_kv_tokens": 100,
    "decode_kv_tokens": 200,
    "kv_block_tokens": 4,
    "decode_reserve_tokens": 4,
}
# Those of the action space that are tried: windows of 0, 1 and 2 intervals; all ranks.
CELLS = [
    ("SBS/Window-v0", PREFILL, (0, 4, 8)),
    ("SBS/WindowBudget-v0", PREFILL, (5, 26, 48)),
    ("SBS/PrefillAllocation-v0", PREFILL, (0, 1, 2)),
    ("SBS/DecodeAllocation-v0", PREFILL | DECODE, (0, 1, 2)),
]


WEIGHTS = {"ttft": 1.0, "tpot": 0.5, "slo_miss": 0.1}


def tiny_returns(
    id: str,
    cluster: Any,
    actions: tuple[int, ...],
    baseline: str | None,
    weights: dict[str, float] = WEIGHTS,
) -> Any:
    """Return the discounted return of every sequence of answers; the last one is repeated."""
    reward: dict[str, Any] = {"tau_s": 3.0, "weights": weights}
    if baseline is not None:
        reward["baseline"] = baseline
    env = make(
        id,
        cluster=cluster,
        timing=TINY,
        horizon_s=TINY_HORIZON_S,
        reward=reward,
        slo={"ttft_s": 0.25},
        invalid_action="remap",
        record=False,
    )
    found = []
    for sequence in itertools.product(actions, repeat=DEPTH):
        env.reset(seed=0)
        total, weight, over, answers = 0.0, 1.0, False, iter(sequence)
        while not over:
            action = env.actions.encode(next(answers, sequence[-1]), 0.0)
            _, reward_of_step, terminated, truncated, info = env.step(action)
            total += weight * reward_of_step
            weight *= info["discount"]
            over = terminated or truncated
        found.append(total)
    return np.array(found)


@pytest.mark.parametrize("exhausts", [False, True])
@pytest.mark.parametrize("baseline", ["sbs", "sbs:multiplier=2"])
@pytest.mark.parametrize("id, cluster, actions", CELLS)
def test_all_sequences_of_answers_rank_the_same_with_and_without_baseline(
    id: str,
    cluster: dict[str, Any],
    actions: tuple[int, ...],
    baseline: str,
    exhausts: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = table_of(ARRIVED_S, INPUTS, ANSWERS)
    install(monkeypatch, lambda seed: table, exhausts=exhausts, seed=5)
    alone = tiny_returns(id, cluster, actions, None)
    beside = tiny_returns(id, cluster, actions, baseline)
    moved = beside - alone
    assert len(np.unique(np.round(alone, 9))) >= 5  # the answers matter
    assert np.ptp(moved) < 1e-9
    assert moved.mean() > 0.1
    assert np.argmax(np.round(alone, 9)) == np.argmax(np.round(beside, 9))


def test_move_is_the_discounted_cost_of_the_baseline_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, lambda seed: table_of(ARRIVED_S, INPUTS, ANSWERS), seed=5)
    only = {"ttft": 1.0}
    alone = tiny_returns(*CELLS[0], None, only)
    beside = tiny_returns(*CELLS[0], "sbs:multiplier=2", only)
    # The baseline's own run, paid from 0 s, the first question, to the horizon as one step.
    reward = {"baseline": "sbs:multiplier=2", "tau_s": 3.0}
    env = make(
        "SBS/Window-v0", cluster=PREFILL, timing=TINY, horizon_s=TINY_HORIZON_S, reward=reward
    )
    env.reset(seed=0)
    whole = Walk(0.0, [0.0, TINY_HORIZON_S], [], [], [], [], [], False)
    bill = bill_of(baseline_records(env), env.config, 0.0, TINY_HORIZON_S)
    paid, _ = step_payments(bill, whole, only, 1.0 / 3.0)
    assert (beside - alone).mean() == pytest.approx(-paid[0], rel=1e-9)
