"""Learning when decisions are unevenly spaced, against numbers computed by hand."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecEnv

from agents.time_aware.advantages import time_aware_advantages, time_lambdas
from agents.time_aware.replay import TimeAwareReplayBuffer
from agents.time_aware.rollouts import TimeAwarePPO, TimeAwareRolloutBuffer

SPACE = gym.spaces.Box(-10.0, 10.0, shape=(1,), dtype=np.float32)
CHOICE = gym.spaces.Discrete(2)


class Clocked(VecEnv):
    """One environment whose steps take given seconds, with given rewards and ends.

    What it shows is the number of the step.
    """

    def __init__(self, elapsed_s, rewards, dones, tau_s):
        super().__init__(1, SPACE, CHOICE)
        self._script = list(zip(elapsed_s, rewards, dones, strict=True))
        self._tau_s, self._at = tau_s, 0
        self.elapsed_s, self.discounts = np.zeros(1), np.ones(1)

    def reset(self):
        return np.array([[0.0]], dtype=np.float32)

    def step_async(self, actions):
        del actions

    def step_wait(self):
        took_s, reward, done = self._script[self._at]
        self._at += 1
        self.elapsed_s = np.array([took_s])
        self.discounts = np.exp(-self.elapsed_s / self._tau_s)
        info = {"elapsed_s": took_s, "discount": float(self.discounts[0])}
        if done:
            info |= {
                "terminal_observation": np.array([9.0], dtype=np.float32),
                "TimeLimit.truncated": done == "truncated",
            }
        seen = np.array([[float(self._at)]], dtype=np.float32)
        return seen, np.array([reward], dtype=np.float32), np.array([bool(done)]), [info]

    def close(self):
        """Nothing is open."""

    def get_attr(self, attr_name, indices=None):
        return [getattr(self, attr_name, None)]

    def set_attr(self, attr_name, value, indices=None):
        raise NotImplementedError

    def env_method(self, method_name, *args, indices=None, **kwargs):
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False]


def rollout_of(env, steps, values, lambda_per_decision=1.0):
    """Return the buffer after a rollout in which V(seen) = values[seen]."""
    model = TimeAwarePPO(
        "MlpPolicy",
        env,
        n_steps=steps,
        batch_size=steps,
        device="cpu",
        rollout_buffer_class=TimeAwareRolloutBuffer,
        rollout_buffer_kwargs={"tau_lambda_s": 2.0, "lambda_per_decision": lambda_per_decision},
    )

    def told(observations):
        return torch.tensor([[values[int(o)]] for o in observations[:, 0]], dtype=torch.float32)

    policy_forward = model.policy.forward

    def forward(observations, deterministic=False):
        actions, _, log_probs = policy_forward(observations, deterministic)
        return actions, told(observations), log_probs

    model.policy.forward, model.policy.predict_values = forward, told
    _, callback = model._setup_learn(steps)
    model.collect_rollouts(env, callback, model.rollout_buffer, steps)
    return model.rollout_buffer


def test_lambda_is_one_over_a_step_that_takes_no_time():
    assert time_lambdas(np.array([0.0, 2.0, 4.0]), 2.0).tolist() == pytest.approx(
        [1.0, math.exp(-1), math.exp(-2)]
    )


def test_advantages_of_three_uneven_steps_are_those_computed_by_hand():
    # Discounts 1/2, 1, 1/4 and lambdas 1/2, 1, 1/2; nothing ends.
    rewards, values = np.array([[1.0], [2.0], [4.0]]), np.array([[10.0], [20.0], [40.0]])
    last = np.array([8.0])
    ends = np.zeros((3, 1), dtype=bool)
    discounts, lambdas = np.array([[0.5], [1.0], [0.25]]), np.array([[0.5], [1.0], [0.5]])
    # deltas: 1 + 10 - 10 = 1; 2 + 40 - 20 = 22; 4 + 2 - 40 = -34
    # advantages, from the end: -34; 22 - 34 = -12; 1 + 0.5 * 0.5 * -12 = -2
    found = time_aware_advantages(rewards, values, last, ends, discounts, lambdas)
    assert found[:, 0].tolist() == [-2.0, -12.0, -34.0]


def test_nothing_is_carried_over_the_end_of_an_episode():
    rewards, values = np.array([[1.0], [2.0]]), np.array([[10.0], [20.0]])
    ends = np.array([[True], [False]])
    ones = np.ones((2, 1))
    found = time_aware_advantages(rewards, values, np.array([5.0]), ends, ones, ones)
    assert found[:, 0].tolist() == [1.0 - 10.0, 2.0 + 5.0 - 20.0]


def test_a_release_of_many_placements_is_one_decision_in_time():
    # Fifty answers at one instant: the first is credited with the whole of what follows.
    count = 50
    rewards = np.zeros((count, 1))
    rewards[-1] = 3.0
    elapsed_s = np.zeros((count, 1))
    elapsed_s[-1] = 2.0
    zeros = np.zeros((count, 1))
    found = time_aware_advantages(
        rewards,
        zeros,
        np.zeros(1),
        np.zeros((count, 1), dtype=bool),
        np.exp(-elapsed_s / 20.0),
        time_lambdas(elapsed_s, 2.0),
    )
    assert found[0, 0] == 3.0


def test_a_rollout_weighs_by_the_seconds_of_every_step():
    tau_s = 1.0 / math.log(2.0)  # a second halves
    env = Clocked([1.0, 0.0, 2.0], [1.0, 2.0, 4.0], [None, None, None], tau_s)
    buffer = rollout_of(env, 3, {0: 10.0, 1: 20.0, 2: 40.0, 3: 8.0})
    lambdas = [math.exp(-0.5), 1.0, math.exp(-1.0)]
    deltas = [1 + 0.5 * 20 - 10, 2 + 40 - 20, 4 + 0.25 * 8 - 40]
    second = deltas[1] + 1.0 * 1.0 * deltas[2]
    expected = [deltas[0] + 0.5 * lambdas[0] * second, second, deltas[2]]
    assert buffer.advantages[:, 0].tolist() == pytest.approx(expected)
    assert buffer.returns[:, 0].tolist() == pytest.approx(
        [expected[0] + 10, expected[1] + 20, expected[2] + 40]
    )


def test_a_factor_of_lambda_counts_at_decisions_that_take_no_time_as_well():
    env = Clocked([1.0, 0.0, 2.0], [1.0, 2.0, 4.0], [None, None, None], 1.0 / math.log(2.0))
    buffer = rollout_of(env, 3, {0: 10.0, 1: 20.0, 2: 40.0, 3: 8.0}, lambda_per_decision=0.5)
    deltas = [1 + 0.5 * 20 - 10, 2 + 40 - 20, 4 + 0.25 * 8 - 40]
    second = deltas[1] + 1.0 * 0.5 * deltas[2]
    expected = [deltas[0] + 0.5 * 0.5 * math.exp(-0.5) * second, second, deltas[2]]
    assert buffer.advantages[:, 0].tolist() == pytest.approx(expected)


def test_a_truncated_episode_is_continued_by_the_value_of_its_own_last_observation():
    tau_s = 1.0 / math.log(2.0)
    env = Clocked([1.0, 1.0], [1.0, 2.0], ["truncated", None], tau_s)
    # The observation 9 ends the first episode; what is shown next belongs to another one.
    buffer = rollout_of(env, 2, {0: 10.0, 1: 20.0, 2: 40.0, 9: 6.0})
    assert buffer.rewards[0, 0] == pytest.approx(1.0 + 0.5 * 6.0)
    assert buffer.advantages[0, 0] == pytest.approx(1.0 + 0.5 * 6.0 - 10.0)


def test_a_terminated_episode_is_not_continued():
    env = Clocked([1.0, 1.0], [1.0, 2.0], ["terminated", None], 1.0)
    buffer = rollout_of(env, 2, {0: 10.0, 1: 20.0, 2: 40.0, 9: 6.0})
    assert buffer.advantages[0, 0] == pytest.approx(1.0 - 10.0)


def test_the_replay_hands_out_the_discount_of_the_step_that_is_drawn():
    buffer = TimeAwareReplayBuffer(8, SPACE, CHOICE, device="cpu", n_envs=2)
    for step in range(3):
        seen = np.full((2, 1), step, dtype=np.float32)
        discounts = [0.1 * step, 0.1 * step + 0.5]
        infos = [{"discount": d} for d in discounts]
        buffer.add(seen, seen + 1, np.zeros((2, 1)), np.array(discounts), np.zeros(2), infos)
    drawn = buffer.sample(64)
    assert torch.allclose(drawn.discounts, drawn.rewards)  # a step's reward was its discount
    assert len(drawn.discounts.unique()) > 3


def test_a_truncated_step_keeps_its_future_in_the_replay_and_a_terminated_one_does_not():
    buffer = TimeAwareReplayBuffer(4, SPACE, CHOICE, device="cpu", n_envs=2)
    seen = np.zeros((2, 1), dtype=np.float32)
    infos = [
        {"discount": 0.5, "TimeLimit.truncated": True},
        {"discount": 0.5, "TimeLimit.truncated": False},
    ]
    buffer.add(seen, seen, np.zeros((2, 1)), np.array([1.0, 2.0]), np.ones(2), infos)
    drawn = buffer.sample(32)
    assert set(drawn.dones[drawn.rewards == 1.0].tolist()) == {0.0}
    assert set(drawn.dones[drawn.rewards == 2.0].tolist()) == {1.0}
