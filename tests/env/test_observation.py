"""What agents see against an encoder in plain Python, at every question of random episodes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from sbs_gym.sim.features import GLOBAL
from tests.env.oracle import RELEASE, History, Oracle
from tests.env.small import DECODING, IDS, install, make, random_table, table_of, walk

ROOFLINE = "roofline"
CHUNK = {"chunk_tokens": 1200}
SLOW_LINKS = {"dispatch_delay_s": 0.004, "signal_delay_s": 0.03, "report_period_s": 0.04}
BOUND_EARLY = {"decode_binding": "at_dispatch"}


class Witness:
    """Compares what is seen after every step, and notes what was met on the way."""

    def __init__(self, env: Any) -> None:
        self.env, self.history = env, History()
        self.question = self.number = self.count = 0
        self.differences: dict[str, tuple[int, float, float]] = {}
        self.met: dict[str, set[float]] = {}

    def __call__(self, action: Any) -> None:
        world = self.env.core.world(0)
        if action is not None and self.question == RELEASE:
            self.history.multiplier = _multiplier(self.env, action)
            released = self.number
        else:
            released = self.number
        self.number = int(world.clock.release_number)
        if self.number != released or action is None:
            self.history.multiplier = None
        oracle = Oracle(self.env, self.history)
        self._compare(oracle)
        self.history.asked_at_s, self.question = oracle.now, oracle.question
        self.count += 1

    def _compare(self, oracle: Oracle) -> None:
        wanted, seen = oracle.numbers(), self.env.core.seen[0].astype(np.float64)
        names = oracle.names()
        assert len(wanted) == len(seen) == len(names)
        near = np.abs(seen - wanted) <= 1e-6 * np.maximum(1.0, np.abs(wanted))
        for name, value in zip(names, seen, strict=True):
            self.met.setdefault(name, set()).add(float(value))
        for n in np.flatnonzero(~near):
            self.differences.setdefault(names[n], (self.count, float(seen[n]), float(wanted[n])))


def _multiplier(env: Any, action: Any) -> float:
    index, value = env.actions.decode(np.asarray(action)[None])
    if env.core.layout.form == "box":
        return 1.0 + float(value[0])
    task = env.core.task
    return int(index[0]) // (task.num_budgets * task.num_orders) / 4.0


def witnessed(env: Any, seed: int = 0) -> Witness:
    """Play an episode under a witness."""
    witness = Witness(env)
    walk(env, seed, witness)
    return witness


def some_table(seed: int, count: int = 60, longest: int = 24) -> Any:
    """Return requests up to the end of an episode: something is always under way."""
    table = random_table(seed % 1000, count, 3.5, longest)
    return table_of(
        [*table.arrived_at_s, 3.999], [*table.input_tokens, 7], [*table.output_tokens, 3]
    )


CELLS = [
    *[(id, {}, 60, 24) for id in IDS],
    *[(id, {}, 110, 24) for id in IDS],
    *[(id, {"warmup_s": 1.0}, 90, 70) for id in IDS],
    *[(id, {"cluster": DECODING}, 120, 24) for id in IDS[:3]],
    *[(id, {"cluster": DECODING | BOUND_EARLY}, 120, 24) for id in IDS],
    *[(id, {"cluster": DECODING | SLOW_LINKS}, 120, 24) for id in IDS],
    ("SBS/Window-v0", {"action": "box"}, 60, 24),
    ("SBS/WindowBudget-v0", {"action": "flat", "scheduler": "sbs_budget"}, 60, 24),
    ("SBS/WindowBudget-v0", {"timing": ROOFLINE, "more": CHUNK}, 60, 4000),
    ("SBS/Window-v0", {"timing": ROOFLINE, "more": CHUNK}, 150, 4000),
    ("SBS/PrefillAllocation-v0", {"scheduler": "least_tokens"}, 60, 24),
    ("SBS/PrefillAllocation-v0", {"scheduler": "sbs_budget:floor_tokens=3"}, 90, 24),
]


def witnessed_cell(
    monkeypatch: pytest.MonkeyPatch, id: str, options: dict[str, Any], count: int, longest: int
) -> Witness:
    given = dict(options)
    warmup_s, more = given.pop("warmup_s", 0.0), given.pop("more", None)
    install(monkeypatch, lambda seed: some_table(seed, count, longest), warmup_s=warmup_s)
    if more is not None:
        given["cluster"] = {"num_prefill": 2, "prefill_dp": 2, "signal_delay_s": 0.002, **more}
    return witnessed(make(id, horizon_s=4.0 - warmup_s, **given))


# Known, and each witnessed by a test of its own below.
EXCUSED = {"waiting_for_decode"}


@functools.cache
def witness_of(number: int) -> Witness:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return witnessed_cell(monkeypatch, *CELLS[number])


@pytest.mark.parametrize("number", range(len(CELLS)))
def test_every_number_is_what_its_meaning_says(number: int) -> None:
    witness = witness_of(number)
    found = {k: v for k, v in witness.differences.items() if k not in EXCUSED}
    assert found == {}
    assert witness.count > 10


def test_cells_move_every_number() -> None:
    met: dict[str, set[float]] = {}
    for number in range(len(CELLS)):
        for name, values in witness_of(number).met.items():
            met.setdefault(name, set()).update(values)
    still = {name for name, values in met.items() if len(values) == 1}
    assert still == set()


def test_arrival_windows_and_dispersion_hold_over_more_than_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given bursts on whole seconds, quiet spells longer than every window, and single arrivals,
    rng = np.random.default_rng(3)
    bursts = np.repeat([0.0, 5.0, 17.0, 100.0, 161.0], [3, 8, 2, 5, 4])
    arrived = np.concatenate([bursts, rng.uniform(0, 30, 20), rng.uniform(95, 170, 60)])
    arrived = np.append(arrived, 171.999)
    count = len(arrived)
    table = table_of(arrived, rng.integers(1, 25, count), np.ones(count))
    install(monkeypatch, lambda seed: table)
    # when an episode of nearly three minutes is played,
    witness = witnessed(make("SBS/Window-v0", horizon_s=172.0))
    # then the windows are those of the table from scratch.
    assert witness.differences == {}
    assert witness.count > 40
    assert len(witness.met["load_60s"]) > 30
    assert len(witness.met["dispersion"]) > 20


def test_last_observation_has_the_signals_that_came_after_the_last_request_was_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given one prompt, done at about 0.6 s, and a horizon of 4 s,
    install(monkeypatch, lambda seed: table_of([0.5], [10], [1]))
    # when the episode is truncated, then the engine is known to be idle for 3.4 s.
    assert witnessed(make("SBS/Window-v0")).differences == {}


def test_window_left_is_the_clipped_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an interval of at least 0.6 s whatever the agent says, and a cluster with decode,
    install(monkeypatch, some_table)
    env = make("SBS/Serving-v0", scheduler="sbs:min_interval_s=0.6:full_batch_bypass=false")
    # then what is left of a window is what is left of 0.6 s.
    differences = witnessed(env).differences
    differences.pop("waiting_for_decode", None)
    assert differences == {}


def test_leftover_cost_is_that_of_the_leftover_also_within_a_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = ("SBS/PrefillAllocation-v0", {"timing": ROOFLINE, "more": CHUNK}, 60, 4000)
    assert witnessed_cell(monkeypatch, *cell).differences == {}


def test_prompts_bound_in_this_round_no_longer_wait_for_decode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given two prompts that end in one pass,
    install(monkeypatch, lambda seed: table_of([0.5, 0.5], [4, 4], [5, 5]))
    env = make("SBS/DecodeAllocation-v0")
    witness = Witness(env)
    walk(env, 0, witness)
    # when the second is asked for, then one of them waits: a quarter per rank.
    assert witness.count == 3
    assert witness.met["waiting_for_decode"] == {0.5, 0.25, 0.0}


def test_reask_shows_what_is_left_of_the_window_that_may_be_revised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a release at 0, a window of 2 intervals, and an arrival 0.01 s later,
    install(monkeypatch, lambda seed: table_of([0.0, 0.02, 0.03], [30, 4, 4], [1, 1, 1]))
    env = make("SBS/Window-v0", reask="arrival", scheduler="sbs:full_batch_bypass=false")
    env.reset(seed=0)
    env.step(0)
    env.step(8)
    # when it is asked again, then it sees that a window stands.
    place = [feature.name for feature in GLOBAL].index("window_left_s")
    assert env.core.world(0).clock.now_s == 0.03
    assert env.core.seen[0][place] > 0.0


def test_history_stacks_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, some_table)
    env = make("SBS/Window-v0", history=3)
    first, _ = env.reset(seed=0)
    seen = [env.core.seen[0].copy()] * 3
    np.testing.assert_array_equal(first, np.concatenate(seen))
    for _ in range(5):
        observation, *_ = env.step(4)
        seen = [*seen[1:], env.core.seen[0].copy()]
        np.testing.assert_array_equal(observation, np.concatenate(seen))
