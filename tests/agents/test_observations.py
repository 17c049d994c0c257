"""What observations are standardised by, and what a policy makes of what never varied."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import obs_as_tensor

from agents.building import build_env, measure_statistics
from agents.observations import CONSTANT_STD, random_actions
from tests.agents.tiny import model_of, tiny

pytestmark = pytest.mark.usefixtures("few_observations")

EXPERIMENTS = ("window_budget_mlp", "window_budget_ppo")  # flat, and by groups
ASKS_RELEASE = 0  # the first feature: 1 at every question of a window


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_what_is_seen_varies_by_about_one_once_it_is_standardised(tmp_path, experiment):
    words = ("++env.action=flat", "policy.critic_sees_baseline=false")
    config = tiny(tmp_path, *words, experiment=experiment)
    statistics = measure_statistics(config)
    env = build_env(config)
    try:
        env.seed(1)
        found, rng = [env.reset()], np.random.default_rng(0)
        for _ in range(100):
            found.append(env.step(random_actions(env, rng))[0])
    finally:
        env.close()
    for name, std in statistics.std.items():
        values = [one[name] if isinstance(one, dict) else one for one in found]
        rows = np.concatenate(values).reshape(-1, len(std))
        varied = std < CONSTANT_STD
        spread = rows[:, varied].std(axis=0) / std[varied]
        assert varied.mean() > 0.4
        assert 0.3 < np.median(spread) < 2.0


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_what_never_varied_in_training_says_nothing_later(tmp_path, experiment):
    model, env = model_of(tiny(tmp_path, "++env.action=flat", experiment=experiment))
    try:
        seen = env.reset()
        constant = model.policy.features_extractor
        part = "global" if isinstance(seen, dict) else "flat"
        std = (constant.global_std if isinstance(seen, dict) else constant.std).numpy()
        places = np.flatnonzero(std == np.float32(CONSTANT_STD))
        assert ASKS_RELEASE in places
        other = {name: values.copy() for name, values in seen.items()} if part == "global" else None
        changed = other[part] if other else seen.copy()
        changed[:, places] += 5.0
        first, second = (_told(model, one) for one in (seen, other or changed))
        for one, another in zip(first, second, strict=True):
            torch.testing.assert_close(one, another, rtol=0.0, atol=1e-6)
        changed[:, [p for p in range(changed.shape[1]) if p not in places]] += 5.0
        logits, values = _told(model, other or changed)
        assert (logits - first[0]).abs().max() > 1e-3
        assert (values - first[1]).abs().max() > 1e-3
    finally:
        env.close()


def _told(model, seen):
    """Return logits and values."""
    shown = obs_as_tensor(seen, model.device)
    with torch.no_grad():
        logits = model.policy.get_distribution(shown).distribution.logits
        return logits, model.policy.predict_values(shown)
