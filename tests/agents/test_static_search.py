"""Constants chosen from a table that a reader can check, and what a candidate is."""

from __future__ import annotations

import math

import gymnasium as gym
import pytest

import sbs_gym  # noqa: F401 - registers the environments
from agents.suite.reading import load_suite
from agents.suite.static_search import candidates, choose
from sbs_gym.envs.play import RulePlayer
from sbs_gym.envs.tasks import NUM_BUDGETS
from sbs_gym.errors import ConfigError
from sbs_gym.schedulers.questions import NUM_MULTIPLIERS

TABLE = {
    "train_a": {"x": [1.0, 4.0], "y": [3.0, 3.0], "z": [9.0, 9.0]},
    "train_b": {"x": [8.0, 8.0], "y": [3.0, 3.0], "z": [1.0, 1.0]},
    "test_c": {"x": [5.0, 5.0], "y": [5.0, 5.0], "z": [0.1, math.nan]},
}


def test_the_pair_for_all_has_the_smallest_geometric_mean_and_each_cell_its_own_best():
    chosen = choose(TABLE, ["train_a", "train_b"], range(2))
    # Geometric means over both cells: x 4, y 3, z 3; y is named before z.
    assert chosen.overall == "y"
    # In a the geometric means over seeds are 2, 3 and 9; a seed without any TTFT loses.
    assert chosen.per_cell == {"train_a": "x", "train_b": "z", "test_c": "x"}


def test_test_cells_do_not_tune_the_pair_for_all():
    assert choose(TABLE, ["train_a"], range(2)).overall == "x"
    with pytest.raises(ConfigError, match="train part"):
        choose(TABLE, [], range(2))


def test_the_candidates_are_the_actions_of_the_environment_each_once():
    words = candidates(load_suite("v1").static)
    env = gym.make("SBS/WindowBudget-v0", horizon_s=5.0, warmup_s=0.0, load=0.5)
    actions = [RulePlayer(env, word)._window for word in words]
    env.close()
    assert sorted(actions) == list(range(NUM_MULTIPLIERS * NUM_BUDGETS))
