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


class Rollouts:
    """What an agent did in the last `ROLLOUT` steps; arrays begin with (steps, environments).

    Attributes:
        seen: Observations, one more than steps.
        after: What followed each step; where an episode ended, its final observation.
        actions, rewards, discounts, terminated: Of the steps.
        ended: Whether an episode was terminated or truncated.
        returns: Sums of the rewards of the last 20 episodes; a NaN alone before the first.
    """

    def __init__(self, envs: gym.vector.VectorEnv, num_dimensions: int, seed: int) -> None:
        shape = (ROLLOUT, envs.num_envs)
        size = envs.single_observation_space.shape[0]
        self.envs = envs
        self.seen = np.empty((ROLLOUT + 1, envs.num_envs, size), dtype=np.float32)
        self.after = np.empty((*shape, size), dtype=np.float32)
        self.actions = np.empty((*shape, num_dimensions), dtype=np.int64)
        self.rewards, self.discounts = np.empty((2, *shape))
        self.terminated, self.ended = np.empty((2, *shape), dtype=bool)
        self.total, self.returns = np.zeros(envs.num_envs), [np.nan]  # of running and last episodes
        self.seen[-1], _ = envs.reset(seed=seed)

    def play(self, agent: Agent) -> None:
        """Let the agent go on from where the last rollout ended."""
        self.seen[0] = self.seen[-1]
        for t in range(ROLLOUT):
            with torch.no_grad():
                heads = agent.heads(torch.from_numpy(self.seen[t]))
            self.actions[t] = torch.stack([head.sample() for head in heads], dim=-1).numpy()
            self._step(t)

    def _step(self, t: int) -> None:
        is_one = isinstance(self.envs.single_action_space, gym.spaces.Discrete)
        taken = self.actions[t, :, 0] if is_one else self.actions[t]
        seen, self.rewards[t], self.terminated[t], truncated, infos = self.envs.step(taken)
        self.ended[t] = self.terminated[t] | truncated
        self.seen[t + 1] = self.after[t] = seen
        self.discounts[t] = step_discounts(infos, self.ended[t])
        self.total += self.rewards[t]
        for e in np.flatnonzero(self.ended[t]):
            self.after[t, e] = infos["final_obs"][e]
            self.returns = [*self.returns[-19:], self.total[e]]
            self.total[e] = 0.0


def reward_scale(played: Rollouts) -> float:
    """Return the factor by which rewards of seconds become values of order one."""
    return max(1.0 - played.discounts.mean(), 1e-3) / max(np.abs(played.rewards).mean(), 1e-8)


def as_batch(agent: Agent, played: Rollouts, scale: float) -> tuple[torch.Tensor, ...]:
    """Return what `losses` takes of a rollout, every tensor (steps x envs, …)."""
    seen = torch.from_numpy(played.seen[:-1])
    actions = torch.from_numpy(played.actions).flatten(0, 1)
    with torch.no_grad():
        value, following = (agent.value(o)[..., 0] for o in (seen, torch.from_numpy(played.after)))
        old = agent.log_prob(seen.flatten(0, 1), actions)[0]
    gain = advantages(
        played.rewards * scale,
        value.numpy(),
        following.numpy(),
        played.discounts,
        played.terminated,
        played.ended,
    )
    gain = torch.from_numpy(gain.astype(np.float32)).flatten()
    return seen.flatten(0, 1), actions, old, gain, gain + value.flatten()


def losses(agent, seen, actions, old, gain, target):
    """Return what PPO minimises, and of it the loss of the value and the entropy."""
    new, entropy = agent.log_prob(seen, actions)
    ratio, weight = (new - old).exp(), (gain - gain.mean()) / (gain.std() + 1e-8)
    clipped = ratio.clamp(1.0 - CLIP, 1.0 + CLIP) * weight
    policy_loss = -torch.min(ratio * weight, clipped).mean()
    value_loss = (agent.value(seen)[:, 0] - target).square().mean()
    entropy = entropy.mean()
    return policy_loss + 0.5 * value_loss - ENTROPY * entropy, value_loss, entropy


def train(envs: gym.vector.VectorEnv, steps: int, seed: int, *, quiet: bool = False) -> Agent:
    """Return an agent that has learned for about `steps` steps of `envs`."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    space, size = envs.single_action_space, ROLLOUT * envs.num_envs
    choices = [int(space.n)] if isinstance(space, gym.spaces.Discrete) else space.nvec.tolist()
    agent, scale = Agent(envs.single_observation_space.shape[0], choices), 0.0
    optimiser = torch.optim.Adam(agent.parameters(), lr=RATE, eps=1e-5)
    played = Rollouts(envs, len(choices), seed)
    for update in range(-(-steps // size)):
        played.play(agent)
        scale = scale or reward_scale(played)  # constant, of the first rollout
        batch = as_batch(agent, played, scale)
        for _ in range(EPOCHS):
            for i in torch.randperm(size).split(BATCH):
                loss, value_loss, entropy = losses(agent, *(part[i] for part in batch))
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"loss {loss.item()} in update {update}")
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimiser.step()
        if not quiet:
            mean = f"{np.nanmean(played.returns):.1f}" if len(played.returns) > 1 else "none ended"
            print(
                f"{(update + 1) * size:>9,} steps   reward {played.rewards.mean():9.4f}   "
                f"of episodes {mean:>10}   value loss {value_loss.item():8.4f}   "
                f"entropy {entropy.item():.3f}"
            )
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
