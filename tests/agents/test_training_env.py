"""Rewards in a unit of their episode, and what only the critic sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.critic_sight import KEY, NAMES
from agents.envs import TrainingEnv
from agents.observations import random_actions
from sbs_gym.config.run import RunConfig
from sbs_gym.envs.play import RulePlayer
from sbs_gym.envs.sb3 import SB3SchedulingEnv
from sbs_gym.simulate import measured_run
from tests.agents.tiny import model_of, tiny
from tests.env.setups import BUDGET, options_for

pytestmark = pytest.mark.usefixtures("few_observations")

OPTIONS = options_for(
    BUDGET,
    workload=["sbs_short", "sbs_long"],
    load=(0.5, 0.9),
    reward={"baseline": "sbs", "tau_s": 20.0},
)


def factors_of(reward_unit, steps=500):
    """Return by seed of the episode: the episode, and how much larger its plain rewards are."""
    env = TrainingEnv(BUDGET, 4, reward_unit=reward_unit, reward_scale=2.0, **OPTIONS)
    plain = SB3SchedulingEnv(BUDGET, 4, **OPTIONS)
    rng = np.random.default_rng(0)
    found = {}
    for one in (env, plain):
        one.seed(0)
        one.reset()
    for _ in range(steps):
        actions = random_actions(plain, rng)
        episodes = list(env.core.episodes)
        _, scaled, _, _ = env.step(actions)
        _, rewards, _, _ = plain.step(actions)
        for e in np.flatnonzero(rewards):
            _, ratios = found.setdefault(episodes[e].seed, (episodes[e], []))
            ratios.append(rewards[e] / (scaled[e] / 2.0))
    env.close()
    plain.close()
    return env.config, list(found.values())


def cost_of(config, episode):
    """Return the background's mean TTFT at the load nearest to the episode's."""
    (workload,) = (one for one in config.workloads if one.name == episode.workload)
    run = RunConfig(
        cluster=config.cluster,
        workload=workload,
        arrivals=config.arrivals[0],
        timing=config.timings[episode.timing],
        scheduler=config.scheduler,
        slo=config.slo,
        load=round(episode.load * 20) / 20,
        num_requests=4000,
        seed=9999,
    )
    return measured_run(run).summary["ttft_mean_s"]


def test_a_reward_is_divided_by_what_its_episode_costs_under_the_background():
    config, episodes = factors_of("baseline")
    assert len(episodes) >= 8
    assert {episode.workload for episode, _ in episodes} == {"sbs_short", "sbs_long"}
    for episode, ratios in episodes:
        np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)
        assert ratios[0] == pytest.approx(cost_of(config, episode) * episode.rate_per_s, rel=1e-4)


def test_a_reward_per_request_is_divided_by_the_rate_alone():
    _, episodes = factors_of("request", steps=100)
    for episode, ratios in episodes:
        np.testing.assert_allclose(ratios, episode.rate_per_s, rtol=1e-4)


def test_the_rule_of_the_baseline_has_never_more_waiting_than_the_baseline():
    env = TrainingEnv(BUDGET, 4, sees_baseline=True, **OPTIONS)
    env.seed(0)
    seen = env.reset()
    player = RulePlayer(env, "sbs")
    waiting, ends = NAMES.index("waiting_beyond"), 0
    other = []
    for _ in range(400):
        sight = seen[:, -len(NAMES) :]
        assert (sight[:, waiting] == 0.0).all()
        other.append(sight[:, NAMES.index("waiting_baseline")])
        seen, _, dones, _ = env.step(player.actions())
        ends += dones.sum()
    env.close()
    assert ends >= 4
    assert np.max(other) > 0.0


def test_holding_requests_back_shows_in_what_the_critic_sees():
    env = TrainingEnv(BUDGET, 4, sees_baseline=True, **OPTIONS | {"load": 0.5})
    env.seed(0)
    env.reset()
    longest = np.array([[8, 5]] * 4)  # twice the window, full budget
    sight = np.array([env.step(longest)[0][:, -len(NAMES) :] for _ in range(30)])
    env.close()
    assert sight[..., NAMES.index("waiting_beyond")].mean() > 0.0
    assert sight[..., NAMES.index("work_beyond")].mean() > 0.0


@pytest.mark.parametrize("experiment", ["window_budget_mlp", "serving_ppo"])
def test_only_the_critic_sees_the_baseline(tmp_path, experiment):
    model, env = model_of(tiny(tmp_path, experiment=experiment))
    seen = env.reset()
    env.close()
    by_groups = isinstance(seen, dict)
    other = {name: part.copy() for name, part in seen.items()} if by_groups else seen.copy()
    sight = other[KEY] if by_groups else other[:, -len(NAMES) :]
    sight += 5.0
    policy = model.policy

    def answers(observation):
        tensors, _ = policy.obs_to_tensor(observation)
        with torch.no_grad():
            features = policy.extract_features(tensors)
            logits = policy.action_net(policy.mlp_extractor.forward_actor(features))
            return logits, policy.predict_values(tensors)

    (mine, value), (theirs, another) = answers(seen), answers(other)
    assert torch.equal(mine, theirs)
    assert (value - another).abs().max() > 1e-3


def test_a_state_taken_half_way_goes_on_with_the_same_rewards():
    env = TrainingEnv(BUDGET, 2, sees_baseline=True, **OPTIONS)
    env.seed(0)
    env.reset()
    player = RulePlayer(env, "sbs_budget")
    for _ in range(20):
        env.step(player.actions())
    state = env.state()

    def onwards(one):
        rule = RulePlayer(one, "sbs_budget")
        steps = [one.step(rule.actions()) for _ in range(50)]
        return np.array([seen for seen, *_ in steps]), np.array([r for _, r, *_ in steps])

    fresh = TrainingEnv(BUDGET, 2, sees_baseline=True, **OPTIONS)
    fresh.restore(state)
    for one, other in zip(onwards(env), onwards(fresh), strict=True):
        assert one.tobytes() == other.tobytes()
    env.close()
    fresh.close()
