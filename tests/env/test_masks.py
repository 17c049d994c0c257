"""At every question something is legal, and what is not legal does no harm."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from sbs_gym.envs.core import InvalidActionError
from sbs_gym.envs.single import SchedulingEnv
from sbs_gym.errors import ConfigError
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.codes import Life
from tests.env.setups import (
    BUDGET,
    DECODE,
    FORMS,
    PREFILL,
    PREFILL_ONLY,
    SERVING,
    TINY_ROOM,
    WHOLE_PATH,
    WINDOW,
    as_bytes,
    choose,
    make,
    options_for,
    steps_of,
)

DISCRETE = [(id, action) for id, action in FORMS if action in ("discrete", "flat")]
_IMPATIENT = {"preset": "sbs", "n_limit": 0}
# Circumstances in which ranks have no room, requests may not wait, or nothing would happen.
HARD: dict[str, dict[str, Any]] = {
    "tiny KV room": {"cluster": TINY_ROOM, "scheduler": "sbs", "load": None, "rate_per_s": 24.0},
    "bound at dispatch": {
        "cluster": TINY_ROOM | {"decode_binding": "at_dispatch"},
        "load": None,
        "rate_per_s": 24.0,
    },
    "nobody may wait": {"scheduler": _IMPATIENT, "load": 1.2},
    "late ones are rejected": {"scheduler": _IMPATIENT | {"n_limit_action": "reject"}, "load": 1.2},
    "late ones are forced": {"scheduler": _IMPATIENT | {"n_limit_action": "force"}, "load": 1.2},
    "engines wait for releases": {"cluster": WHOLE_PATH | {"start_rule": "on_release"}},
    "overload": {"load": 2.0},
    "signals get lost": {"cluster": WHOLE_PATH | {"signal_loss_frac": 0.5}, "load": 1.0},
    "no delays": {"cluster": WHOLE_PATH | {"dispatch_delay_s": 0.0, "signal_delay_s": 0.0}},
    "leftovers alone": {"scheduler": {"preset": "sbs", "leftovers": "alone"}, "load": 1.0},
    "reasked": {"reask": "arrival"},
}
UNGATED = {"least_tokens": "immediate", "round_robin": "immediate", "size_or_timeout": "batches"}


def leave_all(env: SchedulingEnv) -> int:
    """Return the action that leaves a request in the buffer if that is legal, else the first."""
    layout, legal = env.core.layout, env.core.legal[0]
    leave = layout.num_windows + layout.num_prefill - 1
    return leave if legal[leave] else int(np.flatnonzero(legal)[0])


@pytest.mark.parametrize("circumstances", HARD)
@pytest.mark.parametrize("id, action", DISCRETE)
def test_something_is_legal_at_every_step(id: str, action: str, circumstances: str) -> None:
    env = make(id, action=action, record=True, **HARD[circumstances])
    for seed in (1, 2):
        env.reset(seed=seed)
        assert env.core.legal[0].any()
        for _, _, _, _, info in steps_of(env, np.random.default_rng(seed)):
            assert info["action_mask"].any()
        assert info["num_invalid_actions"] == 0


def test_decode_ranks_do_refuse_and_evict_in_a_tiny_room() -> None:
    """Else the tests above would not meet what they are for."""
    env = make(DECODE, record=True, **HARD["tiny KV room"])
    env.reset(seed=1)
    for _ in steps_of(env, np.random.default_rng(1)):
        pass
    records = env.records()
    assert records.decode is not None
    assert records.num_refusals > 0
    assert records.decode["num_preempted"].sum() > 0


@pytest.mark.parametrize("background", UNGATED)
def test_every_rank_is_legal_where_requests_are_sent_at_once(background: str) -> None:
    env = make(PREFILL, scheduler=background)
    env.reset(seed=1)
    assert env.core.legal[0, :4].all()
    for *_, info in steps_of(env, np.random.default_rng(1)):
        assert info["action_mask"][:4].all()


@pytest.mark.parametrize("id", [PREFILL, SERVING])
def test_time_passes_when_everything_is_left_while_an_instance_is_idle(id: str) -> None:
    env = make(id)
    env.reset(seed=4)
    before = [-1.0]
    for _ in range(400):
        env.step(leave_all(env))
        before.append(float(env.core.world(0).clock.now_s))
    assert len(set(before)) > 10


def test_no_pass_is_expected_of_an_instance_to_which_nothing_was_sent() -> None:
    """With timing=constant a pass without tokens takes 0.5 s, so that the ghost is seen."""
    env = make(PREFILL, timing="constant", load=None, rate_per_s=20.0)
    env.reset(seed=4)
    for _ in range(200):
        for view in env.core.world(0).views:
            assert not view["running"] or view["outstanding_tokens"] > 0
        _, _, _, truncated, _ = env.step(leave_all(env))
        if truncated:
            break


@pytest.mark.parametrize("id", [PREFILL, SERVING])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scheduler": {"preset": "sbs", "n_limit": 2}},
        {"scheduler": {"preset": "sbs", "n_limit": 2, "n_limit_action": "force"}},
        {"scheduler": {"preset": "sbs", "n_limit": 2, "n_limit_action": "reject"}},
        {"cluster": WHOLE_PATH | {"start_rule": "on_release"}},
        {"load": 1.5},
    ],
    ids=str,
)
def test_requests_that_are_always_left_stay_until_they_must_go(
    id: str, changes: dict[str, Any]
) -> None:
    env = make(id, **{"load": 0.5, "horizon_s": 2.0, "warmup_s": 0.0} | changes)
    env.reset(seed=4)
    over, num_left, num_steps = False, 0, 0
    while not over:
        num_steps += 1
        assert num_steps < 60_000, "time stands still"
        world = env.core.world(0)
        asked = world.agent.asked == Question.PREFILL
        request = int(world.agent.request)
        dp = int(world.setup.dp)
        action = leave_all(env)
        leaves = asked and action == env.core.layout.num_windows + dp
        if asked and not leaves and env.core.legal[0].sum() > 1:
            # Nobody else would move it: it is past the limit, or nothing else is to come.
            late = world.clock.release_number - world.requests[request]["waited_releases"]
            first_and_alone = world.agent.placed == 0 and not any(
                view["running"] or view["outstanding_tokens"] for view in world.views
            )
            assert late > world.setup.n_limit or first_and_alone
        _, _, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
        num_left += leaves
    assert num_left > 20
    world = env.core.world(0)
    arrived = world.requests["arrived_at_s"][: world.clock.next_arrival]
    lives = world.requests["life"][: len(arrived)]
    assert Life.ASIDE not in lives  # all that were left are in the buffer
    assert (lives == Life.BUFFERED).sum() == world.buffer.num


@pytest.mark.parametrize(
    "background",
    [
        "sbs",
        "least_tokens",
        "size_or_timeout",
    ],
)
def test_a_request_past_the_limit_cannot_be_left(background: str) -> None:
    env = make(PREFILL, scheduler={"preset": background, "n_limit": 1}, load=0.5, horizon_s=2.0)
    env.reset(seed=2)
    over, num_late, num_steps = False, 0, 0
    while not over:
        num_steps += 1
        assert num_steps < 60_000, "time stands still"
        world = env.core.world(0)
        waited = world.clock.release_number - world.requests[world.agent.request]["waited_releases"]
        if waited > 1:
            num_late += 1
            assert not env.core.legal[0, 4]
        _, _, terminated, truncated, _ = env.step(leave_all(env))
        over = terminated or truncated
    assert num_late > 0


@pytest.mark.parametrize("id", [PREFILL, DECODE, SERVING])
def test_an_illegal_action_becomes_the_kth_legal_one(
    id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """k is its index modulo the number of legal ones: 5 of {0, 1, 3} is 3."""
    monkeypatch.setattr("sbs_gym.envs.worlds._CAPACITY", 4096)  # see the next test
    circumstances = HARD["tiny KV room" if id == DECODE else "overload"]
    env, twin = make(id, **circumstances), make(id, **circumstances)
    env.reset(seed=6)
    twin.reset(seed=6)
    rng = np.random.default_rng(0)
    num_illegal = 0
    for _ in range(400):
        legal = np.flatnonzero(env.core.legal[0])
        action = int(rng.integers(env.core.layout.num_actions))
        is_illegal = action not in legal
        num_illegal += is_illegal
        meant = int(legal[action % len(legal)]) if is_illegal else action
        a, b = env.step(action), twin.step(meant)
        assert as_bytes(a[0]) == as_bytes(b[0])
        assert a[1:4] == b[1:4]
        assert a[4]["num_invalid_actions"] == num_illegal
        assert b[4]["num_invalid_actions"] == 0
        if a[2] or a[3]:
            break
    assert num_illegal > 0
    _, info = env.reset()
    assert info["num_invalid_actions"] == 0  # counted per episode


def test_an_illegal_action_is_counted_also_if_the_memory_grows_in_its_step() -> None:
    env = make(SERVING, **HARD["overload"])
    counts = []
    for _ in range(2):  # the second time the memory is large enough
        env.reset(seed=6)
        counts.append(0)
        rng = np.random.default_rng(0)
        for *_, info in steps_of(env, rng, careless=1.0):
            counts[-1] = info["num_invalid_actions"]
    assert counts[0] == counts[1]


def first_illegal(env: SchedulingEnv) -> int:
    """Play on until something is illegal, and return it."""
    rng = np.random.default_rng(1)
    while env.core.legal[0].all():
        env.step(choose(rng, env.action_space, env.core.legal[0]))
    return int(np.flatnonzero(~env.core.legal[0])[0])


@pytest.mark.parametrize("id", [PREFILL, DECODE, SERVING])
def test_an_illegal_action_is_refused_where_that_is_wanted_and_nothing_changes(id: str) -> None:
    circumstances = options_for(id, load=1.5) | {"invalid_action": "error"}
    if id == DECODE:
        circumstances |= HARD["tiny KV room"]
    env, twin = make(id, **circumstances), make(id, **circumstances)
    env.reset(seed=6)
    twin.reset(seed=6)
    wrong = first_illegal(env)
    assert first_illegal(twin) == wrong
    allowed = np.flatnonzero(env.core.legal[0])
    with pytest.raises(InvalidActionError) as refused:
        env.step(wrong)
    assert f"action={wrong} of environment 0 is illegal" in str(refused.value)
    assert str(refused.value).endswith(f"one of: {', '.join(map(str, allowed))}")
    rng, other = np.random.default_rng(2), np.random.default_rng(2)
    for a, b in itertools.islice(zip(steps_of(env, rng), steps_of(twin, other), strict=True), 50):
        assert as_bytes(a[0]) == as_bytes(b[0])
        assert a[1:4] == b[1:4]
        assert a[4]["num_invalid_actions"] == 0


def test_in_a_batch_the_error_names_the_environment_and_none_is_stepped() -> None:
    import gymnasium as gym

    given = options_for(SERVING, invalid_action="error")
    envs, twins = gym.make_vec(SERVING, 3, **given), gym.make_vec(SERVING, 3, **given)
    _, infos = envs.reset(seed=1)
    twins.reset(seed=1)
    legal = infos["action_mask"].argmax(axis=1)
    wrong = legal.copy()
    wrong[1] = np.flatnonzero(~infos["action_mask"][1])[0]
    with pytest.raises(InvalidActionError, match=f"action={wrong[1]} of environment 1 is illegal"):
        envs.step(wrong)
    a, b = envs.step(legal), twins.step(legal)
    assert as_bytes(a[0]) == as_bytes(b[0])
    assert a[1].tobytes() == b[1].tobytes()


@pytest.mark.parametrize("id, action", DISCRETE)
def test_every_action_is_legal_after_the_end(id: str, action: str) -> None:
    env = make(id, action=action)
    env.reset(seed=1)
    for *_, truncated, info in steps_of(env, np.random.default_rng(0)):
        assert truncated == bool(info["action_mask"].all() and env.core.world(0).agent.asked == 0)
    assert truncated
    assert info["action_mask"].all()
    assert env.action_masks().all()


def test_a_vector_takes_any_action_in_the_step_that_resets() -> None:
    import gymnasium as gym

    envs = gym.make_vec(DECODE, 2, **options_for(DECODE, invalid_action="error"))
    _, infos = envs.reset(seed=1)
    num_resets, ended = 0, np.zeros(2, dtype=np.bool_)
    while num_resets < 2:
        actions = infos["action_mask"].argmax(axis=1)
        actions[ended] = envs.core.layout.num_actions - 1
        before = ended
        _, rewards, terminated, truncated, infos = envs.step(actions)
        ended = terminated | truncated
        num_resets += int(before.sum())
        assert not rewards[before].any()
        assert not infos["elapsed_s"][before].any()
        assert not infos["num_invalid_actions"][before].any()


def test_masks_of_two_dimensions_stand_one_after_the_other() -> None:
    env = make(BUDGET, action="multi")
    env.reset(seed=1)
    assert env.action_masks().tolist() == [True] * (9 + 6)


@pytest.mark.parametrize(
    "id, action, wrong, message",
    [
        (WINDOW, "discrete", 9, r"action=9 is out of range; expected a whole number in \[0, 8\]"),
        (WINDOW, "discrete", -1, r"action=-1 is out of range; expected a whole number in \[0, 8\]"),
        (WINDOW, "discrete", 0.5, "actions of type float64; expected whole numbers"),
        (WINDOW, "box", [np.nan], "action=nan is no finite number"),
        (WINDOW, "box", [np.inf], "action=inf is no finite number"),
        (
            BUDGET,
            "multi",
            [0, 6],
            r"action\[1\]=6 is out of range; expected a whole number in \[0, 5\]",
        ),
        (
            BUDGET,
            "multi",
            [9, 0],
            r"action\[0\]=9 is out of range; expected a whole number in \[0, 8\]",
        ),
        (BUDGET, "flat", 54, r"action=54 is out of range; expected a whole number in \[0, 53\]"),
        (PREFILL, "discrete", 5, r"action=5 is out of range; expected a whole number in \[0, 4\]"),
        (DECODE, "discrete", 4, r"action=4 is out of range; expected a whole number in \[0, 3\]"),
        (
            SERVING,
            "discrete",
            171,
            r"action=171 is out of range; expected a whole number in \[0, 170\]",
        ),
    ],
)
def test_an_action_outside_the_space_is_refused_and_nothing_changes(
    id: str, action: str, wrong: Any, message: str
) -> None:
    env, twin = make(id, action=action), make(id, action=action)
    env.reset(seed=1)
    twin.reset(seed=1)
    with pytest.raises(ConfigError, match=message):
        env.step(wrong)
    good = choose(np.random.default_rng(0), env.action_space, env.core.legal[0])
    a, b = env.step(good), twin.step(good)
    assert as_bytes(a[0]) == as_bytes(b[0])
    assert a[1] == b[1]


@pytest.mark.parametrize(
    "id, action, wrong",
    [
        (WINDOW, "discrete", [1, 2]),
        (WINDOW, "box", [0.1, 0.2]),
        (BUDGET, "multi", 3),
        (BUDGET, "multi", [1, 2, 3]),
    ],
)
def test_an_action_of_another_shape_is_refused_with_the_shape_that_was_expected(
    id: str, action: str, wrong: Any
) -> None:
    env = make(id, action=action)
    env.reset(seed=1)
    with pytest.raises(ConfigError, match="expected"):
        env.step(wrong)


def test_a_box_is_clipped_to_its_bounds() -> None:
    env, twin = make(WINDOW, action="box"), make(WINDOW, action="box")
    env.reset(seed=1)
    twin.reset(seed=1)
    a = env.step(np.array([5.0], dtype=np.float32))
    b = twin.step(np.array([1.0], dtype=np.float32))
    assert as_bytes(a[0]) == as_bytes(b[0])


def test_a_step_before_the_first_reset_and_after_the_end_is_refused() -> None:
    env = make(WINDOW)
    with pytest.raises(ConfigError, match=r"expected reset\(\) first"):
        env.step(0)
    env.reset(seed=1)
    for _ in steps_of(env, np.random.default_rng(0)):
        pass
    with pytest.raises(ConfigError, match=r"expected reset\(\) first"):
        env.step(0)


def test_the_bypass_of_one_instance_leaves_the_others_legal() -> None:
    """Ranks of the instance in question that are full are masked, the others are not."""
    env = make(PREFILL, cluster=PREFILL_ONLY | {"chunk_tokens": 512}, load=1.5)
    env.reset(seed=3)
    num_full = 0
    over = False
    while not over:
        world, legal = env.core.world(0), env.core.legal[0]
        room = world.room[:4]
        assert (legal[:4] == (room > 0.0)).all()
        num_full += int((room <= 0.0).sum())
        _, _, terminated, truncated, _ = env.step(
            choose(np.random.default_rng(num_full), env.action_space, legal)
        )
        over = terminated or truncated
    assert num_full > 10
