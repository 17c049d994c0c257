"""The smallest learner: unchanged on ours and on Gymnasium's environments."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agents.minimal_ppo import LAMBDA_POWER, Agent, advantages, make, step_discounts, train  # noqa: E402

CASES = {
    "SBS/Window-v0": {"horizon_s": 10.0, "warmup_s": 0.0},
    "SBS/WindowBudget-v0": {"horizon_s": 10.0, "warmup_s": 0.0},
    "CartPole-v1": {},
}


def weights_after(id, seed, steps=2000):
    envs = make(id, 4, **CASES[id])
    agent = train(envs, steps, seed, quiet=True)
    envs.close()
    return [parameter.detach().numpy().copy() for parameter in agent.parameters()]


@pytest.mark.parametrize("id", CASES)
def test_it_learns_without_a_special_case_and_alike_from_one_seed(id):
    first, again = weights_after(id, seed=3), weights_after(id, seed=3)
    torch.manual_seed(3)
    envs = make(id, 1, **CASES[id])
    space = envs.single_action_space
    choices = space.nvec.tolist() if hasattr(space, "nvec") else [int(space.n)]
    start = [
        p.detach().numpy()
        for p in Agent(envs.single_observation_space.shape[0], choices).parameters()
    ]
    envs.close()
    for begun, learned, repeated in zip(start, first, again, strict=True):
        assert np.isfinite(learned).all()
        assert (begun != learned).any()
        assert learned.tobytes() == repeated.tobytes()


def test_advantages_discount_every_step_by_its_own_time():
    discounts = np.array([[1.0], [0.5], [0.5]])  # the first step takes no time
    rewards = np.array([[0.0], [2.0], [3.0]])
    values = np.array([[1.0], [4.0], [6.0]])
    next_values = np.array([[4.0], [6.0], [8.0]])
    no, cut = np.zeros((3, 1), dtype=bool), np.array([[False], [True], [False]])
    found = advantages(rewards, values, next_values, discounts, no, no)[:, 0]
    last = 3.0 + 0.5 * 8.0 - 6.0
    middle = 2.0 + 0.5 * 6.0 - 4.0 + 0.5 * 0.5**LAMBDA_POWER * last
    assert found.tolist() == [0.0 + 4.0 - 1.0 + middle, middle, last]
    # An episode cut off at the second step: its final value counts, what follows does not.
    assert advantages(rewards, values, next_values, discounts, no, cut)[1, 0] == 1.0
    # One that ends there has no final value.
    assert advantages(rewards, values, next_values, discounts, cut, cut)[1, 0] == -2.0


def test_the_discount_is_that_of_the_step_also_where_an_episode_ends():
    ended = np.array([False, True])
    assert step_discounts({}, ended).tolist() == [0.99, 0.99]
    infos = {"discount": np.array([0.9, 1.0]), "final_info": {"discount": np.array([0.0, 0.8])}}
    assert step_discounts(infos, ended).tolist() == [0.9, 0.8]
    envs = make("SBS/Window-v0", 2, **CASES["SBS/Window-v0"])
    envs.reset(seed=0)
    over = False
    while not over:
        *_, truncated, infos = envs.step(np.zeros(2, dtype=np.int64))
        over = truncated.any()
    found = step_discounts(infos, truncated)
    elapsed_s = np.where(truncated, infos["final_info"]["elapsed_s"], infos["elapsed_s"])
    assert found.tolist() == [math.exp(-s / 20.0) for s in elapsed_s]
    assert (elapsed_s > 0.0).all()
    envs.close()
