"""PPO in one file, with a discount that depends on time: `python -m agents.minimal_ppo`.

For reading and for a first check of an environment; in the manner of CleanRL. Takes any vector
environment of Gymnasium with SAME_STEP autoreset, flat observations and (Multi)Discrete actions.
What differs from a textbook PPO: the weight of what follows is `infos["discount"]` of every single
step (`GAMMA` where an environment has none), lambda is a power of it, so that both are 1 over steps
that take no time, and at a truncation the value of the final observation takes the place of the
next one's.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import nn
from torch.distributions import Categorical

import sbs_gym  # noqa: F401  registers the environments

GAMMA = 0.99  # of environments without infos["discount"]
LAMBDA_POWER = 10.0  # lambda = discount**10: with tau_s=20 it decays within 2 s
ROLLOUT, EPOCHS, BATCH, CLIP, ENTROPY, RATE = 128, 4, 256, 0.2, 0.01, 5e-4


class Agent(nn.Module):
    """A policy with one head per dimension of the action, and a value."""

    def __init__(self, observations: int, choices: list[int]) -> None:
        super().__init__()
        self.choices = choices
        self.policy, self.value = (
            nn.Sequential(nn.Linear(observations, 64), nn.Tanh(), nn.Linear(64, size))
            for size in (sum(choices), 1)
        )

    def heads(self, seen: torch.Tensor) -> list[Categorical]:
        """Return the distribution of every dimension."""
        return [Categorical(logits=part) for part in self.policy(seen).split(self.choices, dim=-1)]

    def log_prob(self, seen: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return log probability and entropy."""
        heads = self.heads(seen)
        pairs = zip(heads, actions.unbind(-1), strict=True)
        return sum(h.log_prob(a) for h, a in pairs), sum(h.entropy() for h in heads)


def advantages(rewards, values, next_values, discounts, terminated, ended):
    """Return GAE with a discount and lambda of its own for every step; all (steps, envs)."""
    deltas = rewards + discounts * next_values * ~terminated - values
    carried = discounts ** (1.0 + LAMBDA_POWER) * ~ended  # discount x lambda
    for t in range(len(deltas) - 2, -1, -1):
        deltas[t] += carried[t] * deltas[t + 1]
    return deltas


def step_discounts(infos: dict, ended: np.ndarray) -> np.ndarray:
    """Return the weight of what follows a step; of ended ones it may stand in final_info."""
    now = np.asarray(infos.get("discount", GAMMA))
    return np.where(ended, infos.get("final_info", {}).get("discount", now), now)


def train(envs: gym.vector.VectorEnv, steps: int, seed: int, *, quiet: bool = False) -> Agent:
    """Return an agent that has learned for about `steps` steps of `envs`."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    space, count = envs.single_action_space, envs.num_envs
    is_one = isinstance(space, gym.spaces.Discrete)
    choices = [int(space.n)] if is_one else space.nvec.tolist()
    size = envs.single_observation_space.shape[0]
    agent, scale = Agent(size, choices), 0.0
    optimiser = torch.optim.Adam(agent.parameters(), lr=RATE, eps=1e-5)
    seen = np.empty((ROLLOUT + 1, count, size), dtype=np.float32)
    after = np.empty((ROLLOUT, count, size), dtype=np.float32)
    actions = np.empty((ROLLOUT, count, len(choices)), dtype=np.int64)
    rewards, discounts = np.empty((2, ROLLOUT, count))
    terminated, ended = np.empty((2, ROLLOUT, count), dtype=bool)
    total, returns = np.zeros(count), [np.nan]  # of the running and of the last episodes
    seen[0], _ = envs.reset(seed=seed)
    for update in range(-(-steps // (ROLLOUT * count))):
        for t in range(ROLLOUT):
            with torch.no_grad():
                heads = agent.heads(torch.from_numpy(seen[t]))
            actions[t] = torch.stack([head.sample() for head in heads], dim=-1).numpy()
            taken = actions[t, :, 0] if is_one else actions[t]
            seen[t + 1], rewards[t], terminated[t], truncated, infos = envs.step(taken)
            ended[t] = terminated[t] | truncated
            after[t], discounts[t] = seen[t + 1], step_discounts(infos, ended[t])
            total += rewards[t]
            for e in np.flatnonzero(ended[t]):
                after[t, e] = infos["final_obs"][e]
                returns = [*returns[-19:], total[e]]
                total[e] = 0.0
        # One constant scale, of the first rollout: rewards of seconds become values of order one.
        scale = scale or max(1.0 - discounts.mean(), 1e-3) / max(np.abs(rewards).mean(), 1e-8)
        x, a = torch.from_numpy(seen[:-1]).flatten(0, 1), torch.from_numpy(actions).flatten(0, 1)
        with torch.no_grad():
            value, following = (
                agent.value(torch.from_numpy(o))[..., 0] for o in (seen[:-1], after)
            )
            old = agent.log_prob(x, a)[0]
        gain = advantages(
            rewards * scale, value.numpy(), following.numpy(), discounts, terminated, ended
        )
        gain = torch.from_numpy(gain.astype(np.float32)).flatten()
        target = gain + value.flatten()
        for _ in range(EPOCHS):
            for i in torch.randperm(len(gain)).split(BATCH):
                new, entropy = agent.log_prob(x[i], a[i])
                ratio, weight = (
                    (new - old[i]).exp(),
                    (gain[i] - gain[i].mean()) / (gain[i].std() + 1e-8),
                )
                clipped = ratio.clamp(1.0 - CLIP, 1.0 + CLIP) * weight
                policy_loss = -torch.min(ratio * weight, clipped).mean()
                value_loss = (agent.value(x[i])[:, 0] - target[i]).square().mean()
                loss = policy_loss + 0.5 * value_loss - ENTROPY * entropy.mean()
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"loss {loss.item()} in update {update}")
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimiser.step()
        if not quiet:
            done = (update + 1) * ROLLOUT * count
            print(
                f"{done:>9,} steps   reward {rewards.mean():9.4f}   of episodes "
                f"{f'{np.nanmean(returns):.1f}' if len(returns) > 1 else 'none ended':>10}   "
                f"value loss {value_loss.item():8.4f}   entropy {entropy.mean().item():.3f}"
            )
        seen[0] = seen[-1]
    return agent


def make(id: str, num_envs: int, **options: Any) -> gym.vector.VectorEnv:
    """Return a vector environment that resets at once, ours or any of Gymnasium's."""
    if id.startswith("SBS/"):
        return gym.make_vec(id, num_envs, autoreset_mode="SameStep", **options)
    mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
    return gym.make_vec(id, num_envs, vectorization_mode="sync", vector_kwargs=mode, **options)


def main() -> None:
    """Train on the command line's environment."""
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--env", default="SBS/WindowBudget-v0")
    words.add_argument("--steps", type=int, default=20_000)
    words.add_argument("--num-envs", type=int, default=8)
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    train(make(given.env, given.num_envs), given.steps, given.seed)


if __name__ == "__main__":
    main()
