"""The same seed gives the same bytes, alone, in a batch, in every shell and in every process."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from sbs_gym.envs.vector import VectorSchedulingEnv
from tests.env.setups import (
    DECODE,
    FORMS,
    PREFILL,
    SERVING,
    WINDOW,
    Step,
    Story,
    as_bytes,
    choose,
    make,
    options_for,
    story_of,
)

CARELESS = 0.1  # share of actions drawn without a look at the mask
NUM_EPISODES = 2
SHORT: dict[str, Any] = {"horizon_s": 3.0, "warmup_s": (0.0, 1.0)}
CIRCUMSTANCES: dict[str, dict[str, Any]] = {
    "plain": {},
    "with a shadow": {"reward": {"baseline": "sbs"}, "warmup_s": (0.5, 1.5)},
    "no warm-up": {"warmup_s": 0.0},
    "history and groups": {"history": 3, "observation": "dict"},
}
TOLD = [
    pytest.param(id, {"action": action, **changes}, id=f"{id} {action} {name}")
    for id, action in FORMS
    for name, changes in CIRCUMSTANCES.items()
]


def mask_of(info: dict[str, Any], row: int | None = None) -> Any:
    if "action_mask" not in info:
        return np.zeros(0, dtype=np.bool_)
    return info["action_mask"] if row is None else info["action_mask"][row]


def tell_alone(id: str, options: dict[str, Any], seed: int) -> list[Step]:
    """Return two episodes of the single environment."""
    env = make(id, **SHORT | options)
    story = story_of(seed)
    for number in range(NUM_EPISODES):
        observation, info = env.reset(seed=seed if number == 0 else None)
        story.steps.append(Step(as_bytes(observation), mask_of(info).tobytes()))
        while not story.steps[-1].ends:
            action = choose(story.rng, env.action_space, mask_of(info), CARELESS)
            observation, reward, terminated, truncated, info = env.step(action)
            mask = b"" if terminated or truncated else mask_of(info).tobytes()
            times = (info["elapsed_s"], info["discount"])
            seen = as_bytes(observation)
            story.steps.append(Step(seen, mask, reward, terminated, truncated, *times))
    return story.steps


def open_stories(seed: int, observation: Any, masks: Any, count: int) -> list[Story]:
    stories = [story_of(seed + e) for e in range(count)]
    for e, story in enumerate(stories):
        story.steps.append(Step(as_bytes(observation, e), masks[e].tobytes()))
    return stories


def chosen(stories: list[Story], space: gym.Space[Any], masks: Any, waits: Any) -> Any:
    """Return the actions; nobody chooses for an environment that is about to be reset."""
    unused = [choose(np.random.default_rng(0), space, masks[e]) for e in range(len(stories))]
    actions = [
        unused[e] if waits[e] else choose(story.rng, space, masks[e], CARELESS)
        for e, story in enumerate(stories)
    ]
    return np.array(actions)


def all_told(stories: list[Story]) -> bool:
    return all(story.num_episodes >= NUM_EPISODES for story in stories)


def tell_vector(
    id: str, options: dict[str, Any], seed: int, count: int, mode: AutoresetMode, threads: int = 1
) -> list[list[Step]]:
    """Return two episodes of each environment of a vector."""
    envs: VectorSchedulingEnv = gym.make_vec(  # type: ignore[assignment]
        id, count, autoreset_mode=mode, num_threads=threads, **options_for(id, **SHORT | options)
    )
    observation, infos = envs.reset(seed=seed)
    masks = infos.get("action_mask", np.zeros((count, 0), dtype=np.bool_))
    stories = open_stories(seed, observation, masks, count)
    ended = np.zeros(count, dtype=np.bool_)
    next_step = mode is AutoresetMode.NEXT_STEP
    while not all_told(stories):
        actions = chosen(stories, envs.single_action_space, masks, ended & next_step)
        was_reset = ended & next_step
        observation, rewards, terminated, truncated, infos = envs.step(actions)
        ended = terminated | truncated
        masks = infos.get("action_mask", masks)
        for e, story in enumerate(stories):
            mask = b"" if ended[e] else masks[e].tobytes()
            seen = as_bytes(observation, e)
            if ended[e] and not next_step:
                seen = as_bytes(infos["final_obs"][e])
            result = (float(rewards[e]), bool(terminated[e]), bool(truncated[e]))
            told = infos["final_info"] if ended[e] and not next_step else infos
            times = (float(told["elapsed_s"][e]), float(told["discount"][e]))
            story.steps.append(Step(seen, mask, *result, *times))
            if was_reset[e]:
                assert story.steps[-1] == Step(seen, mask)  # no reward, no time
            if ended[e] and not next_step:
                story.steps.append(Step(as_bytes(observation, e), masks[e].tobytes()))
    envs.close()
    return [story.first(NUM_EPISODES) for story in stories]


def tell_sb3(
    id: str, options: dict[str, Any], seed: int, count: int, threads: int = 1
) -> list[list[Step]]:
    """Return two episodes of each environment of a VecEnv."""
    from sbs_gym.envs.sb3 import SB3SchedulingEnv

    options = options_for(id, **SHORT | options)
    envs = SB3SchedulingEnv(id, count, num_threads=threads, time_in_infos=True, **options)
    envs.seed(seed)
    observation = envs.reset()
    has_mask = envs.core.layout.form != "box"

    def masks_now() -> Any:
        return envs.action_masks() if has_mask else np.zeros((count, 0), dtype=np.bool_)

    masks = masks_now()
    stories = open_stories(seed, observation, masks, count)
    nobody = np.zeros(count, dtype=np.bool_)
    while not all_told(stories):
        observation, rewards, done, infos = envs.step(
            chosen(stories, envs.action_space, masks, nobody)
        )
        assert rewards.dtype == np.float32
        masks = masks_now()
        for e, story in enumerate(stories):
            info = infos[e]
            truncated = bool(info.get("TimeLimit.truncated", False))
            end = done[e]
            seen = as_bytes(info["terminal_observation"]) if end else as_bytes(observation, e)
            mask = b"" if end else masks[e].tobytes()
            result = (float(rewards[e]), bool(end) and not truncated, truncated)
            story.steps.append(Step(seen, mask, *result, info["elapsed_s"], info["discount"]))
            if end:
                story.steps.append(Step(as_bytes(observation, e), masks[e].tobytes()))
    envs.close()
    return [story.first(NUM_EPISODES) for story in stories]


def rounded(steps: list[Step]) -> list[Step]:
    """Return the steps with rewards as SB3 keeps them, float32."""
    return [
        Step(
            step.observation,
            step.mask,
            float(np.float32(step.reward)),
            step.terminated,
            step.truncated,
            step.elapsed_s,
            step.discount,
        )
        for step in steps
    ]


def assert_same(ours: list[Step], theirs: list[Step]) -> None:
    """Fail with the first step that differs, not with megabytes."""
    for n, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        assert a == b, f"step {n} of {len(ours)}"
    assert len(ours) == len(theirs)


@pytest.mark.parametrize("id, options", TOLD)
def test_a_seed_gives_the_same_bytes_alone_and_in_every_shell(
    id: str, options: dict[str, Any]
) -> None:
    """Environment i of seed s is the single environment of seed s + i."""
    alone = [tell_alone(id, options, seed) for seed in (11, 12, 13)]
    assert alone[0][0] != alone[1][0]
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        for mine, other in zip(tell_vector(id, options, 11, 3, mode), alone, strict=True):
            assert_same(mine, other)
    assert_same(tell_vector(id, options, 13, 1, AutoresetMode.NEXT_STEP)[0], alone[2])


@pytest.mark.parametrize("id, options", TOLD)
def test_sb3s_shell_gives_the_bytes_of_the_single_environment(
    id: str, options: dict[str, Any]
) -> None:
    pytest.importorskip("stable_baselines3")
    alone = [tell_alone(id, options, seed) for seed in (11, 12, 13)]
    for mine, other in zip(tell_sb3(id, options, 11, 3), alone, strict=True):
        assert_same(mine, rounded(other))


@pytest.mark.parametrize("id", [WINDOW, PREFILL, SERVING])
@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_and_of_environments_changes_nothing(id: str, threads: int) -> None:
    options = CIRCUMSTANCES["with a shadow"]
    mode = AutoresetMode.SAME_STEP
    three = tell_vector(id, options, 20, 3, mode)
    eight = tell_vector(id, options, 20, 8, mode, threads)
    for mine, other in zip(three, eight, strict=False):
        assert_same(mine, other)


def test_threads_change_nothing_in_sb3s_shell() -> None:
    pytest.importorskip("stable_baselines3")
    one, three = (tell_sb3(SERVING, {}, 20, 5, threads) for threads in (1, 3))
    for mine, other in zip(one, three, strict=True):
        assert_same(mine, other)


@pytest.mark.parametrize("id", [WINDOW, SERVING])
def test_threads_change_nothing_while_the_memory_grows(id: str) -> None:
    """A trickle first: events, signals and slots are few when the crowd comes."""
    options = {"load": (0.1, 1.5), "reward": {"baseline": "sbs"}, "horizon_s": 4.0}
    for mine, other in zip(
        tell_vector(id, options, 3, 6, AutoresetMode.NEXT_STEP, 1),
        tell_vector(id, options, 3, 6, AutoresetMode.NEXT_STEP, 3),
        strict=True,
    ):
        assert_same(mine, other)


def tell_loads(
    id: str, loads: tuple[float, ...], options: dict[str, Any], *, start_at: int = 0
) -> list[list[Step]]:
    """Return one story per load, all of the same seed, played in a single environment."""
    env = make(id, **options)
    told = []
    for n, load in enumerate(loads):
        story = story_of(7)
        observation, info = env.reset(seed=7, options={"load": load})
        story.steps.append(Step(as_bytes(observation), mask_of(info).tobytes()))
        while not story.steps[-1].ends:
            action = choose(story.rng, env.action_space, mask_of(info))
            observation, reward, terminated, truncated, info = env.step(action)
            seen = as_bytes(observation)
            story.steps.append(Step(seen, mask_of(info).tobytes(), reward, terminated, truncated))
        if n >= start_at:
            told.append(story.steps)
    return told


@pytest.mark.parametrize("id, action", FORMS)
@pytest.mark.parametrize("baseline", [None, "sbs"])
def test_an_arena_that_grows_between_episodes_changes_nothing(
    id: str, action: str, baseline: str | None
) -> None:
    """Loads that rise tenfold ask for more slots, events and signals than the first episode."""
    options = {"action": action, "warmup_s": 0.0, "reward": {"baseline": baseline}}
    grown = tell_loads(id, (0.05, 2.0, 0.3), options)
    for load, mine in zip((0.05, 2.0, 0.3), grown, strict=True):
        assert_same(mine, tell_loads(id, (load,), options)[0])


def test_the_arena_does_grow_in_the_test_above() -> None:
    env = make(SERVING, warmup_s=0.0)
    env.reset(seed=7, options={"load": 0.05})
    small = env.core.worlds.arena.num_slots
    events = len(env.core.world(0).events)
    env.reset(seed=7, options={"load": 2.0})
    rng = np.random.default_rng(0)
    while not env.step(choose(rng, env.action_space, env.core.legal[0]))[3]:
        pass
    assert env.core.worlds.arena.num_slots > 2 * small
    assert len(env.core.world(0).events) > events


@pytest.mark.parametrize("id", [WINDOW, PREFILL, DECODE, SERVING])
def test_memory_that_grows_in_the_middle_of_an_episode_changes_nothing(
    id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"load": 1.5, "reward": {"baseline": "sbs"}, "warmup_s": (2.0, 2.0), "horizon_s": 6.0}
    roomy = tell_alone(id, options, 5)
    monkeypatch.setattr("sbs_gym.envs.worlds._CAPACITY", 1)
    assert_same(tell_alone(id, options, 5), roomy)
    for mine in tell_vector(id, options, 5, 2, AutoresetMode.SAME_STEP)[:1]:
        assert_same(mine, roomy)


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize("id", [WINDOW, SERVING])
def test_keeping_records_changes_nothing(id: str, record: bool) -> None:
    options = {"reward": {"baseline": "sbs"}, "load": 1.0}
    assert_same(tell_alone(id, options, 8), tell_alone(id, options | {"record": record}, 8))


@pytest.mark.parametrize("id", [WINDOW, SERVING])
def test_a_batch_where_only_one_is_reset_by_mask_is_as_if_alone(id: str) -> None:
    envs = gym.make_vec(id, 3, autoreset_mode="Disabled", **options_for(id))
    observation, _ = envs.reset(seed=4)
    before = as_bytes(observation, 0), as_bytes(observation, 2)
    mask = np.array([False, True, False])
    observation, _ = envs.reset(options={"reset_mask": mask})
    assert (as_bytes(observation, 0), as_bytes(observation, 2)) == before
    single = make(id)
    single.reset(seed=5)
    assert as_bytes(single.reset()[0]) == as_bytes(observation, 1)
    envs.close()


@pytest.mark.parametrize("id, action", FORMS)
def test_the_same_seed_twice_gives_the_same_and_another_seed_another(id: str, action: str) -> None:
    env = make(id, action=action)
    stories: list[list[bytes]] = []
    for seed in (3, 3, 4):
        rng = np.random.default_rng(0)
        told = [as_bytes(env.reset(seed=seed)[0])]
        for _ in range(30):
            observation, reward, *_, over, _ = env.step(
                choose(rng, env.action_space, env.core.legal[0])
            )
            told.append(as_bytes(observation) + np.float64(reward).tobytes())
            if over:
                break
        stories.append(told)
    assert stories[0] == stories[1]
    assert stories[0] != stories[2]


def digest(id: str) -> str:
    """Return a checksum of two episodes, for other processes to compute too."""
    steps = tell_alone(id, CIRCUMSTANCES["with a shadow"], 9)
    return hashlib.sha256(repr(steps).encode()).hexdigest()


def test_two_processes_give_the_same_bytes() -> None:
    program = f"from tests.env.test_same_bytes import digest; print(digest({SERVING!r}))"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    assert told.stdout.strip() == digest(SERVING)


def test_what_is_returned_is_not_written_to_again() -> None:
    """Observations, masks and terms of before are copies."""
    check: list[Callable[[], bytes]] = []
    env = make(SERVING, history=2)
    observation, info = env.reset(seed=1)
    envs = gym.make_vec(SERVING, 2, **options_for(SERVING, history=2))
    many, infos = envs.reset(seed=1)
    check.append(lambda: observation.tobytes() + info["action_mask"].tobytes())
    check.append(lambda: many.tobytes() + infos["action_mask"].tobytes())
    check.append(lambda: b"".join(v.tobytes() for v in infos["reward_terms"].values()))
    before = [one() for one in check]
    for _ in range(5):
        env.step(int(env.core.legal[0].argmax()))
        envs.step(envs.core.legal.argmax(axis=1))
    assert [one() for one in check] == before
    envs.close()
