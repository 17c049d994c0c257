"""DQN's replay of decisions that are unevenly spaced in time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize


class TimeAwareReplayBuffer(ReplayBuffer):
    """A replay buffer that hands out the discount of every step, which DQN then uses.

    Attributes:
        discounts: float32, shape (size, envs), from `infos["discount"]`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.discounts = np.ones((self.buffer_size, self.n_envs), dtype=np.float32)

    def add(
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Keep a step of every environment."""
        self.discounts[self.pos] = [info["discount"] for info in infos]
        super().add(obs, next_obs, action, reward, done, infos)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Return steps drawn uniformly, of any environment."""
        filled = self.buffer_size if self.full else self.pos
        # From the global generator, as Stable-Baselines3 draws: it is seeded and stored.
        steps = np.random.randint(0, filled, size=batch_size)  # noqa: NPY002
        envs = np.random.randint(0, self.n_envs, size=batch_size)  # noqa: NPY002
        return self._samples_of(steps, envs, env)

    def _samples_of(
        self, steps: NDArray[np.int64], envs: NDArray[np.int64], env: VecNormalize | None
    ) -> ReplayBufferSamples:
        ended = self.dones[steps, envs] * (1 - self.timeouts[steps, envs])
        columns = (
            self._normalize_obs(self.observations[steps, envs], env),
            self.actions[steps, envs],
            self._normalize_obs(self.next_observations[steps, envs], env),
            ended.reshape(-1, 1),
            self._normalize_reward(self.rewards[steps, envs].reshape(-1, 1), env),
            self.discounts[steps, envs].reshape(-1, 1),
        )
        return ReplayBufferSamples(*map(self.to_torch, columns))
