"""Nothing hidden or future shows: what two episodes share looks the same to the last byte."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sbs_gym.sim.codes import Kind
from sbs_gym.types import RequestTable
from tests.env.small import (
    DECODING,
    IDS,
    LINEAR,
    PREFILL_IDS,
    Walk,
    cluster_for,
    install,
    make,
    random_table,
    table_of,
    walk,
)

EARLY = DECODING | {"decode_binding": "at_dispatch"}


def played(monkeypatch: pytest.MonkeyPatch, id: str, table: RequestTable, **options: Any) -> Walk:
    """Play a table with the same random answers as long as the masks are the same."""
    luck, warmup_s = options.pop("luck", None), options.pop("warmup_s", 0.0)
    install(monkeypatch, lambda seed: table, seed=luck, warmup_s=warmup_s)
    return walk(make(id, **options), seed=1)


def steps_before(found: Walk, instant_s: float) -> int:
    """Return how many questions came before an instant."""
    return int(np.searchsorted(found.instants[:-1], instant_s, side="left"))


def same_before(one: Walk, other: Walk, instant_s: float, *, rewards: bool = True) -> int:
    """Require that two episodes are the same before an instant; return the questions compared."""
    count = steps_before(one, instant_s)
    assert steps_before(other, instant_s) == count
    assert one.instants[:count] == other.instants[:count]
    assert one.seen[:count] == other.seen[:count]
    assert one.masks[:count] == other.masks[:count]
    paid = max(0, count - 1) if rewards else 0
    assert one.rewards[:paid] == other.rewards[:paid]
    return count


def with_answers(table: RequestTable, answers: Any) -> RequestTable:
    return table_of(table.arrived_at_s, table.input_tokens, answers)


@pytest.mark.parametrize("warmup_s", [0.0, 1.0])
@pytest.mark.parametrize("id", PREFILL_IDS)
def test_answers_never_show_where_decode_is_not_modelled(
    id: str, warmup_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = random_table(1, 80, 3.0)
    rng = np.random.default_rng(0)
    other = with_answers(table, rng.integers(1, 1000, len(table)))
    a = played(monkeypatch, id, table, warmup_s=warmup_s)
    b = played(monkeypatch, id, other, warmup_s=warmup_s)
    assert same_before(a, b, math.inf) > 20
    assert (a.seen, a.rewards) == (b.seen, b.rewards)


@pytest.mark.parametrize("cluster", [DECODING, EARLY], ids=["at_prefill_end", "at_dispatch"])
@pytest.mark.parametrize("id", IDS)
def test_answers_show_no_earlier_than_the_first_end_that_they_move(
    id: str, cluster: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given answers of 9 tokens, of which every fifth that comes after 1 s is another time 2 to 20,
    table = random_table(2, 70, 3.0)
    nine = np.full(len(table), 9)
    longer = nine.copy()
    changed = np.flatnonzero((table.arrived_at_s > 1.0) & (np.arange(len(table)) % 5 == 0))
    longer[changed] = np.random.default_rng(1).choice([2, 5, 14, 20], len(changed))
    finished: list[float] = []
    walks = []
    for answers in (nine, longer):
        install(monkeypatch, lambda seed, answers=answers: with_answers(table, answers))
        env = make(id, cluster=cluster)
        walks.append(walk(env, seed=1))
        ends = env.records().decode["finished_at_s"][changed]
        finished.append(float(np.nanmin(ends)))
    # then all is the same until the first of those could have its last token,
    count = same_before(*walks, min(finished))
    assert count >= 5
    # and later it is not.
    assert walks[0].seen != walks[1].seen


@pytest.mark.parametrize("num_later", [10, 400])
@pytest.mark.parametrize("warmup_s", [0.0, 1.0])
@pytest.mark.parametrize("id", IDS)
def test_arrivals_do_not_show_before_they_come(
    id: str, warmup_s: float, num_later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = random_table(3, 80, 3.5)
    one = played(monkeypatch, id, table, warmup_s=warmup_s)
    for cut_s in np.arange(1.5, 3.0, 0.1):
        # Given another table that is equal up to the cut, and many times as long or shorter,
        rng = np.random.default_rng(2)
        until = int(np.searchsorted(table.arrived_at_s, cut_s))
        other = table_of(
            [*table.arrived_at_s[:until], *np.sort(rng.uniform(cut_s, 3.5, num_later))],
            [*table.input_tokens[:until], *rng.integers(25, 60, num_later)],
            [*table.output_tokens[:until], *rng.integers(1, 30, num_later)],
        )
        first_s = float(min(table.arrived_at_s[until], other.arrived_at_s[until]))
        two = played(monkeypatch, id, other, warmup_s=warmup_s)
        # then nothing differs before the cut, and something does after.
        assert same_before(one, two, first_s) >= 5
        assert one.seen != two.seen


@pytest.mark.parametrize("baseline", [None, "sbs"])
@pytest.mark.parametrize("id", PREFILL_IDS)
def test_luck_of_a_pass_does_not_show_before_its_signal(
    id: str, baseline: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a jitter that differs between two episodes from the first pass on, and slow signals,
    cluster = cluster_for(id) | {"signal_delay_s": 0.08}
    reward = {} if baseline is None else {"baseline": baseline}
    table = random_table(4, 80, 3.0)
    walks, ends = [], []
    for luck in (11, 12):
        install(monkeypatch, lambda seed: table, seed=luck)
        env = make(id, cluster=cluster, timing=LINEAR | {"jitter_cv": 0.5}, reward=reward)
        walks.append(walk(env, seed=1))
        ends.append(float(env.records().passes["ended_at_s"].min()))
    assert abs(ends[0] - ends[1]) > 0.01
    # then agents see the same until the earlier signal, however the reward may differ,
    assert same_before(*walks, min(ends) + 0.08, rewards=False) >= 2
    # and not for ever.
    assert walks[0].seen != walks[1].seen


def walk_with_change(
    monkeypatch: pytest.MonkeyPatch, id: str, at_step: int, change: Any, kind: Kind
) -> tuple[Walk, float]:
    """Play an episode in which an event of a kind under way comes at another instant.

    Returns the episode, and when the first sign of the change can reach the scheduler: the link
    delay behind the earlier one of the event's old and new instants.
    """
    install(monkeypatch, lambda seed: random_table(6, 120, 3.0))
    cluster = cluster_for(id) | {"signal_delay_s": 0.02}
    env, signs, count = make(id, cluster=cluster), [math.inf], [0]

    def alter(action: Any) -> None:
        count[0] += 1
        if count[0] < at_step or signs[0] < math.inf:
            return
        world = env.core.world(0)
        events = world.events[: world.clock.num_events]
        now_s = float(world.clock.now_s)
        for n in np.flatnonzero(events["kind"] == int(kind)):
            old_s = float(events[n].time_s)
            if old_s <= now_s + 1e-3:
                continue
            new_s = change(now_s, old_s)
            events["time_s"][n] = new_s
            order = np.lexsort((events["seq"], events["kind"], events["time_s"]))
            events[:] = events[order].copy()  # a sorted array is a heap
            signs[0] = min(old_s, new_s) + (0.02 if kind is Kind.PASS_END else 0.0)
            return

    return walk(env, 1, alter), signs[0]


CHANGES = {
    "longer": lambda now_s, old_s: old_s + 0.1,
    "shorter": lambda now_s, old_s: now_s + 0.7 * (old_s - now_s),
}


@pytest.mark.parametrize("at_step", [3, 12])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("id", PREFILL_IDS)
def test_true_end_of_the_pass_under_way_does_not_show_before_its_signal(
    id: str, change: str, at_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = walk_with_change(monkeypatch, id, 10**9, None, Kind.PASS_END)
    altered, sign_s = walk_with_change(monkeypatch, id, at_step, CHANGES[change], Kind.PASS_END)
    assert same_before(plain, altered, sign_s, rewards=False) >= at_step
    assert plain.seen != altered.seen


@pytest.mark.parametrize("id", ["SBS/DecodeAllocation-v0", "SBS/Serving-v0"])
@pytest.mark.parametrize("change", CHANGES)
def test_true_end_of_the_decode_step_under_way_does_not_show_before_it_comes(
    id: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = walk_with_change(monkeypatch, id, 10**9, None, Kind.STEP_END)
    altered, sign_s = walk_with_change(monkeypatch, id, 20, CHANGES[change], Kind.STEP_END)
    assert same_before(plain, altered, sign_s, rewards=False) >= 20
    assert plain.rewards != altered.rewards


@pytest.mark.parametrize("id", PREFILL_IDS)
def test_baseline_changes_nothing_that_the_agent_sees(
    id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = random_table(7, 100, 3.0)
    alone = played(monkeypatch, id, table, warmup_s=0.5)
    beside = played(monkeypatch, id, table, warmup_s=0.5, reward={"baseline": "sbs:multiplier=0"})
    assert (alone.instants, alone.seen, alone.masks) == (beside.instants, beside.seen, beside.masks)
    assert alone.rewards != beside.rewards
