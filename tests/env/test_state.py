"""Environments that were stored go on exactly, in a fresh batch and in another process."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from sbs_gym.errors import ConfigError
from sbs_gym.sim.state import World
from tests.env.setups import (
    BUDGET,
    DECODE,
    FORMS,
    PREFILL,
    SERVING,
    TINY_ROOM,
    WINDOW,
    choose,
    make,
)
from tests.env.storing import AFTER, BEFORE, EVERYTHING, kept, play, sb3, told, vector


def same_from(env: Any, twin: Any) -> None:
    """Both go on alike, and come to hold the same."""
    assert play(env, AFTER, seed=1) == play(twin, AFTER, seed=1)
    assert told(env.state()) == told(twin.state())


@pytest.mark.parametrize(("id", "action"), FORMS)
@pytest.mark.parametrize("changes", [EVERYTHING, {"warmup_s": 0.0, "observation": "dict"}])
def test_restored_environments_go_on_as_those_that_were_never_stored(
    id: str, action: str, changes: dict[str, Any]
) -> None:
    env = sb3(id, action=action, **changes)
    env.seed(5)
    env.reset()
    play(env, BEFORE)
    twin = sb3(id, action=action, **changes)
    seen = twin.restore(kept(env.state()))
    assert told(seen) == told(env._observer.look())
    assert told([twin.elapsed_s, twin.discounts]) == told([env.elapsed_s, env.discounts])
    same_from(env, twin)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_a_vector_of_two_threads_goes_on_as_one_of_one_thread(mode: AutoresetMode) -> None:
    env = vector(SERVING, mode, **EVERYTHING)
    env.reset(seed=3)
    play(env, BEFORE)
    twin = vector(SERVING, mode, num_threads=2, **EVERYTHING)
    seen, infos = twin.restore(kept(env.state()))
    assert told([seen, infos]) == told([env._observer.look(), env._infos()])
    same_from(env, twin)
    twin.close()


def test_an_ended_environment_is_reset_by_the_step_after_it_was_restored() -> None:
    env = vector(WINDOW, AutoresetMode.NEXT_STEP, **EVERYTHING)
    env.reset(seed=3)
    while not env._ended.any():
        play(env, 1)
    twin = vector(WINDOW, AutoresetMode.NEXT_STEP, **EVERYTHING)
    twin.restore(kept(env.state()))
    numbers = twin.core.numbers.copy()
    assert play(env, 1) == play(twin, 1)
    assert (twin.core.numbers - numbers == env._ended + (numbers < env.core.numbers)).all()


@pytest.mark.parametrize("before", [1, 10])
def test_arrays_that_have_grown_are_restored_and_grow_on(before: int) -> None:
    changes = EVERYTHING | {"cluster": TINY_ROOM, "load": (0.8, 2.0), "record": True}
    env, twin = sb3(DECODE, **changes), sb3(DECODE, **changes)
    env.seed(1)
    env.reset()
    play(env, before)
    grown = list(env.core.worlds._grown)
    assert len(set(grown)) >= 2
    twin.restore(kept(env.state()))
    same_from(env, twin)
    assert len(env.core.worlds._grown) > len(grown)


@pytest.mark.parametrize("id", [BUDGET, SERVING])
def test_every_request_of_a_restored_world_is_as_it_was(id: str) -> None:
    env, twin = sb3(id, **EVERYTHING), sb3(id, **EVERYTHING)
    env.reset()
    play(env, BEFORE)
    twin.restore(env.state())
    worlds = zip(env.core.worlds.arena.worlds, twin.core.worlds.arena.worlds, strict=True)
    for ours, theirs in worlds:
        assert _requests(ours) == _requests(theirs)


def _requests(world: World) -> list[bytes]:
    count = int(world.setup.num_requests)
    arrays = [world.requests[:count], world.decodes[:count]]
    return [array[name].tobytes() for array in arrays for name in array.dtype.names]


def test_records_kept_before_and_after_make_one_run() -> None:
    env, twin = make(PREFILL, record=True), make(PREFILL, record=True)
    env.reset(seed=2)
    rng = np.random.default_rng(0)
    for _ in range(40):
        env.step(choose(rng, env.action_space, env.core.legal[0]))
    observation, info = twin.restore(kept(env.state()))
    assert told([observation, info]) == told([env._observer.look_at(0), env._info()])
    over = False
    while not over:
        action = choose(rng, env.action_space, env.core.legal[0])
        result = env.step(action)
        assert told(twin.step(action)) == told(result)
        over = result[2] or result[3]
    for name in ("requests", "passes", "rank_tokens"):
        assert told(getattr(env.records(), name)) == told(getattr(twin.records(), name))
    with pytest.raises(ConfigError, match="without a running episode"):
        twin.step(0)


def test_drawn_parts_and_options_of_the_running_episodes_are_restored(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    lines = ['{"timestamp": %d, "input_length": %d, "output_length": 3}']
    rng = np.random.default_rng(0)
    trace.write_text("\n".join(lines[0] % (40 * n, rng.integers(50, 3000)) for n in range(2000)))
    changes: dict[str, Any] = {
        "workload": ["sbs_short", {"preset": "trace", "path": str(trace)}],
        "timing": ["linear", "constant"],
        "load": (0.4, 0.9),
    }
    env, twin = sb3(WINDOW, **EVERYTHING | changes), sb3(WINDOW, **EVERYTHING | changes)
    env.seed(0)
    env.set_options({"load": 0.55})
    env.reset()
    play(env, 5)
    episodes = [episode for episode in env.core.episodes if episode is not None]
    assert {episode.load for episode in episodes} == {0.55}
    assert len({(episode.workload, episode.timing) for episode in episodes}) > 1
    state = kept(env.state())
    twin.restore(state)
    same_from(env, twin)
    trace.write_text(trace.read_text().replace(": 40,", ": 41,"))
    with pytest.raises(ConfigError, match=r"content of .*trace\.jsonl"):
        twin.restore(state)


def test_a_state_does_not_change_with_the_steps_that_follow() -> None:
    env = sb3(SERVING, **EVERYTHING)
    env.reset()
    state = env.state()
    before = told(state)
    story = play(env, BEFORE)
    assert told(state) == before
    env.restore(state)  # also where something else was played in between
    assert play(env, BEFORE) == story


def test_a_vector_of_which_some_have_begun_is_restored() -> None:
    changes = EVERYTHING | {"warmup_s": 0.0}
    envs = [vector(WINDOW, AutoresetMode.DISABLED, **changes) for _ in range(2)]
    mask = np.array([False, True, False])
    envs[0].reset(seed=4, options={"reset_mask": mask})
    envs[1].restore(kept(envs[0].state()))
    rest = [env.reset(options={"reset_mask": ~mask}) for env in envs]
    assert told(rest[0]) == told(rest[1])
    assert play(envs[0], 5) == play(envs[1], 5)


CHILD = """
import hashlib, sys
import numpy as np
from gymnasium.vector import AutoresetMode
from tests.env.storing import AFTER, EVERYTHING, play, vector
env = vector("SBS/Serving-v0", AutoresetMode.SAME_STEP, **EVERYTHING)
env.restore(np.load(sys.argv[1], allow_pickle=False))
print(hashlib.sha256(b"".join(play(env, AFTER, seed=1))).hexdigest())
"""


def test_another_process_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    env = vector(SERVING, AutoresetMode.SAME_STEP, **EVERYTHING)
    env.reset(seed=8)
    play(env, BEFORE)
    np.savez(tmp_path / "state.npz", **env.state())
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "state.npz")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    ours = hashlib.sha256(b"".join(play(env, AFTER, seed=1))).hexdigest()
    assert done.stdout.strip() == ours


def test_seeds_that_wait_for_a_reset_are_stored() -> None:
    env, twin = sb3(WINDOW, **EVERYTHING), sb3(WINDOW, **EVERYTHING)
    for one in (env, twin):
        one.reset()
    env.seed(77)
    twin.restore(kept(env.state()))
    assert told(env.reset()) == told(twin.reset())
