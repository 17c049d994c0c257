"""Rewards against the records of the run: every term and every step, recomputed."""

from __future__ import annotations

import itertools
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from tests.env.payment import TERMS, baseline_records, bill_of, step_payments, totals
from tests.env.small import (
    DECODING,
    IDS,
    LINEAR,
    PREFILL,
    Walk,
    cluster_for,
    install,
    make,
    random_table,
    table_of,
    walk,
)

WEIGHTS = {
    "ttft": 1.0,
    "tpot": 0.7,
    "slo_miss": 0.3,
    "rejection": 0.2,
    "prefill_bubble": 0.15,
    "decode_bubble": 0.05,
    "input_tokens": 0.001,
    "output_tokens": 0.002,
}
# A promise that about half of the requests get.
SLO = {"ttft_s": 0.3, "ttft_per_token_s": 0.02, "ttft_free_tokens": 12, "tpot_s": 0.025}
REJECTING = "sbs:n_limit=1:n_limit_action=reject"
NOT_REJECTING = "sbs"
LENGTH_S = 4.0
# (requests, longest prompt, background): calm; overload; overload with rejections, where prompts
# above the prefill room of 60 tokens never fit.
CALM, OVERLOAD, REJECTIONS = (40, 24, NOT_REJECTING), (160, 24, NOT_REJECTING), (120, 70, REJECTING)
SCENARIOS = {"calm": CALM, "overload": OVERLOAD, "rejections": REJECTIONS}
WARM_UPS = (0.0, 1.3)


def paid_env(
    monkeypatch: pytest.MonkeyPatch,
    id: str,
    scenario: str,
    warmup_s: float,
    baseline: str | None,
    tau_s: float | None = 20.0,
    **options: Any,
) -> Any:
    count, longest, scheduler = SCENARIOS[scenario]
    install(
        monkeypatch,
        lambda seed: random_table(seed % 1000, count, warmup_s + 0.8 * LENGTH_S, longest),
        warmup_s=warmup_s,
    )
    reward = {"weights": WEIGHTS, "tau_s": tau_s, "tpot_target_s": 0.02}
    if baseline is not None:
        reward["baseline"] = scheduler + baseline
    return make(id, scheduler=scheduler, slo=SLO, reward=reward, horizon_s=LENGTH_S, **options)


def bills(env: Any, found: Walk) -> list[Any]:
    """Return what the agent's run cost and, where there is a baseline, what its run did."""
    records = [env.records()]
    if env.config.reward.baseline is not None:
        records.append(baseline_records(env))
    return [bill_of(one, env.config, found.start_s, found.end_s) for one in records]


def summed(found: Walk) -> dict[str, float]:
    return {name: math.fsum(info["reward_terms"][name] for info in found.infos) for name in TERMS}


CELLS = [
    (id, scenario, warmup_s, baseline)
    for id, scenario, warmup_s in itertools.product(IDS, SCENARIOS, WARM_UPS)
    for baseline in (None, "", ":multiplier=0")
]


@pytest.mark.parametrize("id, scenario, warmup_s, baseline", CELLS)
def test_terms_of_an_episode_sum_to_what_its_records_say(
    id: str, scenario: str, warmup_s: float, baseline: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = paid_env(monkeypatch, id, scenario, warmup_s, baseline)
    found = walk(env)
    wanted = [totals(bill) for bill in bills(env, found)]
    assert found.end_s == warmup_s + LENGTH_S
    for name, value in summed(found).items():
        less = wanted[1][name] if baseline is not None else 0.0
        scale = abs(wanted[0][name]) + abs(less)
        assert value == pytest.approx(wanted[0][name] - less, rel=0.0, abs=1e-9 * scale), name


@pytest.mark.parametrize("tau_s", [20.0, 3.0, None])
@pytest.mark.parametrize("id, scenario, warmup_s, baseline", CELLS)
def test_reward_of_a_step_is_the_discounted_integral_of_its_records(
    id: str,
    scenario: str,
    warmup_s: float,
    baseline: str | None,
    tau_s: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = paid_env(monkeypatch, id, scenario, warmup_s, baseline, tau_s)
    found = walk(env)
    beta = 0.0 if tau_s is None else 1.0 / tau_s
    bill, *less = bills(env, found)
    paid, size = step_payments(bill, found, WEIGHTS, beta, found.rejected)
    for other in less:  # the decisions are the agent's
        other_paid, other_size = step_payments(other, found, WEIGHTS, beta)
        paid, size = paid - other_paid, size + other_size
    elapsed_s = np.diff(found.instants)
    np.testing.assert_allclose([info["elapsed_s"] for info in found.infos], elapsed_s, atol=1e-12)
    np.testing.assert_allclose(
        [info["discount"] for info in found.infos], np.exp(-beta * elapsed_s), rtol=1e-12
    )
    assert (np.abs(found.rewards - paid) <= 1e-9 * size + 1e-12).all()


EARLY = DECODING | {"decode_binding": "at_dispatch", "preempt": "recompute"}
VARIANTS = [
    ("SBS/Window-v0", {"reask": "signal"}),
    ("SBS/Window-v0", {"reask": "arrival", "action": "box"}),
    ("SBS/WindowBudget-v0", {"cluster": PREFILL | {"start_rule": "on_release"}}),
    ("SBS/WindowBudget-v0", {"cluster": PREFILL | {"signal_loss_frac": 0.3}}),
    ("SBS/PrefillAllocation-v0", {"cluster": PREFILL | {"start_rule": "on_release"}}),
    ("SBS/PrefillAllocation-v0", {"cluster": DECODING | {"signal_loss_frac": 0.3}}),
    ("SBS/DecodeAllocation-v0", {"cluster": EARLY}),
    ("SBS/Serving-v0", {"cluster": EARLY, "reask": "arrival"}),
    ("SBS/Serving-v0", {"cluster": DECODING | {"dispatch_delay_s": 0.0, "signal_delay_s": 0.0}}),
]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("id, options", VARIANTS)
def test_rewards_hold_for_other_engines_links_and_questions(
    id: str, options: dict[str, Any], scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = paid_env(monkeypatch, id, scenario, 1.3, ":multiplier=0", **options)
    found = walk(env)
    bill, less = bills(env, found)
    for name, value in summed(found).items():
        mine, theirs = totals(bill)[name], totals(less)[name]
        assert value == pytest.approx(mine - theirs, rel=0.0, abs=1e-9 * (abs(mine) + abs(theirs)))
    paid, size = step_payments(bill, found, WEIGHTS, 0.05, found.rejected)
    less_paid, less_size = step_payments(less, found, WEIGHTS, 0.05)
    near = np.abs(found.rewards - (paid - less_paid)) <= 1e-9 * (size + less_size) + 1e-12
    assert near.all()


def test_first_reward_has_what_fell_due_before_the_first_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given that the first question is a decode rank, behind the first pass,
    env = paid_env(monkeypatch, "SBS/DecodeAllocation-v0", "calm", 0.0, None, None)
    found = walk(env)
    (bill,) = bills(env, found)
    assert any(at_s <= found.instants[0] for _, at_s, *_ in bill.points)
    # then its tokens and its bubble are paid with the first step, as in the terms.
    terms = found.infos[0]["reward_terms"]
    wanted = sum(weight * terms[name] for name, weight in WEIGHTS.items())
    assert found.rewards[0] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("tau_s", [20.0, 3.0])
@pytest.mark.parametrize("id", IDS)
def test_discounted_rewards_sum_to_the_integral_from_the_first_decision_on(
    id: str, tau_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = paid_env(monkeypatch, id, "overload", 0.0, None, tau_s)
    found = walk(env)
    discounts = np.cumprod([1.0] + [info["discount"] for info in found.infos[:-1]])
    # One step from the first decision to the end is the integral over all of them.
    whole = Walk(0.0, [found.instants[0], found.end_s], [], [], [], [], [], False)
    (bill,) = bills(env, found)
    wanted, size = step_payments(bill, whole, WEIGHTS, 1.0 / tau_s)
    assert float(discounts @ found.rewards) == pytest.approx(wanted[0], abs=1e-9 * size[0])


def test_walks_meet_rejections_evictions_misses_and_several_steps_in_an_instant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = paid_env(monkeypatch, "SBS/Serving-v0", "rejections", 1.3, None)
    found = walk(env)
    records = env.records()
    at_arrival = records.requests["rejected_at_s"] == records.requests["arrived_at_s"]
    later = records.requests["rejected_at_s"] > records.requests["arrived_at_s"]
    assert at_arrival.any()
    assert later.any()
    assert any(len(one) for one in found.rejected[1:])
    assert (np.diff(found.instants) == 0.0).any()
    env = paid_env(monkeypatch, "SBS/DecodeAllocation-v0", "overload", 0.0, None)
    found = walk(env)
    assert env.records().decode["num_preempted"].sum() > 0
    finished = ~np.isnan(env.records().decode["finished_at_s"])
    assert -summed(found)["slo_miss"] not in (0, finished.sum())


def test_one_request_costs_its_waiting_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given one prompt at 0.5 s, and the window over at once,
    install(monkeypatch, lambda seed: table_of([0.5], [10], [1]))
    timing = {"kind": "constant", "pass_s": 0.25}
    env = make("SBS/Window-v0", timing=timing, reward={"tau_s": 2.0})
    env.reset(seed=0)
    # when it is sent at once: 0.001 s of link, 0.25 s of pass,
    _, reward, _, truncated, info = env.step(0)
    # then its TTFT is the cost, discounted from its arrival, which is the decision.
    assert truncated
    assert info["reward_terms"]["ttft"] == pytest.approx(-0.251, rel=1e-12)
    assert reward == pytest.approx(-2.0 * (1.0 - math.exp(-0.251 / 2.0)), rel=1e-12)
    assert info["elapsed_s"] == 3.5


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("baseline", [None, "", ":multiplier=2"])
def test_trace_that_ends_terminates_when_both_runs_have_drained(
    id: str, baseline: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = paid_env(monkeypatch, id, "calm", 0.0, baseline)
    table = random_table(5, 12, 0.5, 12)
    install(monkeypatch, lambda seed: table, exhausts=True)
    found = walk(env)
    records = [env.records()] + ([baseline_records(env)] if baseline is not None else [])
    ends = [
        np.nanmax(
            one.requests["first_token_at_s"] if one.decode is None else one.decode["finished_at_s"]
        )
        for one in records
    ]
    assert found.terminated
    assert found.end_s == max(ends) < LENGTH_S
    wanted = [totals(bill) for bill in bills(env, found)]
    for name, value in summed(found).items():
        less = wanted[1][name] if baseline is not None else 0.0
        assert value == pytest.approx(wanted[0][name] - less, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("warmup_s", WARM_UPS)
def test_privileged_numbers_are_the_baseline_run_at_that_instant(
    id: str, warmup_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = paid_env(monkeypatch, id, "overload", warmup_s, ":multiplier=0")
    found = walk(env)
    records = baseline_records(env)
    requests, passes = records.requests, records.passes
    for instant_s, info in zip(found.instants[1:-1], found.infos, strict=False):
        waits = requests["arrived_at_s"] <= instant_s
        for name in ("first_token_at_s", "rejected_at_s"):
            waits &= ~(requests[name] <= instant_s)
        ends = passes["ended_at_s"] > instant_s
        busy = (passes["started_at_s"] <= instant_s) & ends
        sent = requests["dispatched_at_s"] <= instant_s
        known = passes["ended_at_s"] + env.config.cluster.signal_delay_s <= instant_s
        outstanding = requests["input_tokens"][sent].sum() - passes["tokens"][known].sum()
        last = [passes["ended_at_s"][passes["instance"] == i].max(initial=0.0) for i in (0, 1)]
        if min(last) <= instant_s:
            continue  # a pass that had not ended at the horizon is not recorded
        assert tuple(info["privileged"]) == (waits.sum(), outstanding, busy.sum())


def test_reset_has_no_terms_for_they_belong_to_the_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Two passes' worth of prompts wait for a rank when the first question, a decode rank, comes.
    install(monkeypatch, lambda seed: random_table(1, 20, 1.0))
    env = make("SBS/DecodeAllocation-v0")
    _, info = env.reset(seed=0)
    assert set(info["reward_terms"].values()) == {0.0}


def growing_walk(
    monkeypatch: pytest.MonkeyPatch, id: str, capacity: int, **options: Any
) -> tuple[Walk, list[Any]]:
    """Return an episode whose arrays begin with this room, and what had to grow."""
    monkeypatch.setattr("sbs_gym.envs.worlds._CAPACITY", capacity)
    env = paid_env(monkeypatch, id, "overload", 1.3, ":multiplier=0", **options)
    return walk(env), list(env.core.worlds._grown)


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("id", IDS)
def test_rewards_do_not_change_when_arrays_grow_in_the_middle(
    id: str, record: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, grown = growing_walk(monkeypatch, id, 16, record=record)
    long, not_grown = growing_walk(monkeypatch, id, 4096, record=record)
    assert grown or not record
    assert not_grown == []
    assert short.rewards == long.rewards
    assert short.infos[-1]["reward_terms"] == long.infos[-1]["reward_terms"]
    assert short.seen == long.seen


def vector_rewards(id: str, num_threads: int) -> np.ndarray:
    """Return the rewards of 60 steps of 4 environments under actions that do not depend on it."""
    envs = gym.make_vec(
        id,
        num_envs=4,
        num_threads=num_threads,
        cluster=cluster_for(id),
        timing=LINEAR,
        horizon_s=2.0,
        warmup_s=0.0,
        reward={"baseline": "sbs", "weights": WEIGHTS},
    )
    _, infos = envs.reset(seed=7)
    rng, rows = np.random.default_rng(0), []
    for _ in range(60):
        legal = [np.flatnonzero(mask) for mask in infos["action_mask"]]
        actions = [envs.unwrapped.actions.encode(int(rng.choice(one)), 0.0) for one in legal]
        _, rewards, _, _, infos = envs.step(np.array(actions))
        rows.append(rewards)
    envs.close()
    return np.array(rows)


@pytest.mark.parametrize("id", IDS)
def test_rewards_are_the_same_with_one_thread_and_with_two(
    id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, lambda seed: random_table(seed % 1000, 60, 2.0))
    one, two = vector_rewards(id, 1), vector_rewards(id, 2)
    assert one.tobytes() == two.tobytes()
    assert np.abs(one).sum() > 0
    assert len({column.tobytes() for column in one.T}) == 4
