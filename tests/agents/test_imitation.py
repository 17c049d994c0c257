"""A rule's answers are learned before rewards are."""

from __future__ import annotations

import numpy as np
import pytest

from agents.config import ImitationConfig
from agents.imitation import imitate
from sbs_gym.envs.play import RulePlayer
from tests.agents.tiny import model_of, tiny

pytestmark = pytest.mark.usefixtures("few_observations")


def agreement(model, env, rule, masked):
    """Return how often model and rule answer alike where the rule has played."""
    env.seed(10_000)
    observation, player, equal = env.reset(), RulePlayer(env, rule), []
    for _ in range(100):
        masks = {"action_masks": env.action_masks()} if masked else {}
        mine, _ = model.predict(observation, deterministic=True, **masks)
        theirs = player.actions()
        equal.append((mine.reshape(len(mine), -1) == theirs.reshape(len(mine), -1)).all(axis=1))
        observation, *_ = env.step(theirs)
    return np.mean(equal)


@pytest.mark.parametrize(
    "experiment, rule, decisions",
    [("window_budget_mlp", "sbs_budget", 2_000), ("prefill_allocation_ppo", "least_tokens", 8_000)],
)
def test_the_rule_is_answered_on_episodes_that_were_not_imitated(
    tmp_path, experiment, rule, decisions
):
    model, env = model_of(tiny(tmp_path, experiment=experiment))
    masked = experiment.startswith("prefill")
    before = agreement(model, env, rule, masked)
    config = ImitationConfig(rule=rule, decisions=decisions, epochs=40, learning_rate=3e-3)
    share = imitate(model, env, config, seed=0)
    after = agreement(model, env, rule, masked)
    env.close()
    print(f"{rule}: {before:.3f} before, {share:.3f} of the imitated, {after:.3f} of others")
    assert before < 0.5
    assert share > 0.95
    assert after > 0.95
