"""The checkers of Gymnasium and Stable-Baselines3 find nothing to complain of."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from sbs_gym.envs.registration import IDS
from sbs_gym.envs.vector import VectorSchedulingEnv
from sbs_gym.errors import ConfigError
from tests.env.setups import FORMS, PREFILL, WINDOW, choose, make, options_for

SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"observation": "dict"},
    {"history": 3},
    {"observation": "dict", "history": 3},
)
EVERY_ENVIRONMENT = [
    pytest.param(id, {"action": action, **shape}, id=" ".join([id, action, *map(str, shape)]))
    for id, action in FORMS
    for shape in SHAPES
]
MODES = tuple(AutoresetMode)
# SB3's policies flatten such a box, which is what a set policy wants to avoid by itself.
NOTE_ON_TWO_DIMENSIONS = "Your observation .* has an unconventional shape"


@pytest.mark.parametrize("id, options", EVERY_ENVIRONMENT)
def test_gymnasiums_checker_accepts_every_environment(id: str, options: dict[str, Any]) -> None:
    check_env(make(id, **options), skip_render_check=True)


@pytest.mark.parametrize("render_mode", ["ansi", "rgb_array"])
@pytest.mark.parametrize("id", IDS)
def test_gymnasiums_checker_accepts_what_is_rendered(id: str, render_mode: str) -> None:
    env = gym.make(id, render_mode=render_mode, **options_for(id, horizon_s=3.0))
    check_env(env.unwrapped)


@pytest.mark.parametrize("id, options", EVERY_ENVIRONMENT)
def test_sb3s_checker_accepts_every_environment(id: str, options: dict[str, Any]) -> None:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if options.get("observation") == "dict":
            warnings.filterwarnings("ignore", message=NOTE_ON_TWO_DIMENSIONS)
        sb3_check_env(make(id, **options), warn=True)


@pytest.mark.parametrize("id, action", FORMS)
def test_gymnasiums_wrappers_let_a_random_episode_pass(id: str, action: str) -> None:
    """`gym.make` puts a passive checker and one of the order of calls around it."""
    env = gym.make(id, **options_for(id, action=action))
    rng = np.random.default_rng(0)
    observation, info = env.reset(seed=1)
    over = False
    while not over:
        mask = info.get("action_mask", np.zeros(0, dtype=np.bool_))
        observation, reward, terminated, truncated, info = env.step(
            choose(rng, env.action_space, mask)
        )
        assert observation in env.observation_space
        assert type(reward) is float
        over = terminated or truncated


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("id", IDS)
def test_make_vec_gives_batches_of_what_the_spaces_say(id: str, mode: AutoresetMode) -> None:
    envs = gym.make_vec(id, 4, autoreset_mode=mode, **options_for(id))
    assert isinstance(envs, VectorSchedulingEnv)
    assert envs.metadata["autoreset_mode"] is mode
    assert envs.num_envs == 4
    observation, infos = envs.reset(seed=3)
    assert observation in envs.observation_space
    envs.action_space.seed(0)
    for _ in range(10):
        observation, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
        assert observation in envs.observation_space
        assert (rewards.dtype, rewards.shape) == (np.float64, (4,))
        assert (terminated.dtype, truncated.dtype) == (np.bool_, np.bool_)
        many = isinstance(envs.single_action_space, gym.spaces.MultiDiscrete)
        choices = 9 + 6 if many else envs.core.layout.num_actions
        assert infos["action_mask"].shape == (4, choices)
    envs.close()


@pytest.mark.parametrize("id", IDS)
def test_the_old_choices_of_make_vec_step_single_environments(id: str) -> None:
    envs = gym.make_vec(id, 2, vectorization_mode="sync", **options_for(id))
    assert isinstance(envs, SyncVectorEnv)
    observation, _ = envs.reset(seed=3)
    assert observation in envs.observation_space
    envs.action_space.seed(0)
    for _ in range(10):
        observation, *_ = envs.step(envs.action_space.sample())
        assert observation in envs.observation_space
    envs.close()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_sync_vector_env_gives_what_the_vector_environment_gives(mode: str) -> None:
    given = options_for(WINDOW)
    ours = gym.make_vec(WINDOW, 3, autoreset_mode=mode, **given)
    theirs = SyncVectorEnv(
        [lambda: gym.make(WINDOW, **given)] * 3, autoreset_mode=AutoresetMode(mode)
    )
    mine, _ = ours.reset(seed=5)
    other, _ = theirs.reset(seed=5)
    assert mine.tobytes() == other.tobytes()
    rng = np.random.default_rng(0)
    num_ended = 0
    while num_ended < 4:
        actions = rng.integers(9, size=3)
        a, b = ours.step(actions), theirs.step(actions)
        for ours_is, theirs_is in zip(a[:4], b[:4], strict=True):
            assert ours_is.tobytes() == theirs_is.tobytes()
        for e in np.flatnonzero(a[3]):
            info, other_info = a[4], b[4]
            if mode == "SameStep":
                assert info["final_obs"][e].tobytes() == other_info["final_obs"][e].tobytes()
                info, other_info = info["final_info"], other_info["final_info"]
            assert info["elapsed_s"][e] == other_info["elapsed_s"][e]
            assert info["reward_terms"]["ttft"][e] == other_info["reward_terms"]["ttft"][e]
        num_ended += int(a[3].sum())


@pytest.mark.parametrize("key", ["privileged", "num_invalid_actions", "elapsed_s", "discount"])
def test_infos_beside_the_first_observation_of_an_episode_are_of_that_episode(key: str) -> None:
    """As SyncVectorEnv has it: what belongs to the end stands in `final_info`."""
    options = options_for(PREFILL, reward={"baseline": "sbs"})
    at_once = gym.make_vec(PREFILL, 1, autoreset_mode="SameStep", **options)
    single = gym.make(PREFILL, **options)
    at_once.reset(seed=5)
    single.reset(seed=5)
    over = False
    rng = np.random.default_rng(0)
    while not over:
        action = int(rng.integers(4))
        _, _, _, truncated, infos = at_once.step(np.array([action]))
        _, _, _, over, _ = single.step(action)
    assert truncated[0]
    _, info = single.reset()
    assert np.array_equal(infos[key][0], info[key])


def test_a_vector_environment_refuses_to_render() -> None:
    with pytest.raises(ConfigError, match="renders nothing; expected render_mode=None"):
        gym.make_vec(WINDOW, 2, render_mode="ansi", **options_for(WINDOW))


@pytest.mark.parametrize("count", [0, -1, 2.0])
def test_a_number_of_environments_below_one_is_refused(count: Any) -> None:
    with pytest.raises(ConfigError, match=r"num_envs=.* expected a whole number in \[1, "):
        VectorSchedulingEnv("SBS/Window", count, **options_for(WINDOW))
