"""PPO and MaskablePPO whose discount and lambda follow from the seconds between decisions.

Stable-Baselines3 weighs what follows by one constant gamma, in the buffer's GAE and in the
bootstrap of truncated episodes; both are replaced here. The environment says what a step took
(`elapsed_s`, `discounts`, see sbs_gym/envs/sb3.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from agents.time_aware.advantages import time_aware_advantages, time_lambdas


class _TimeAwareBuffer:
    """What the three rollout buffers below add: the time of every step.

    Attributes:
        tau_lambda_s: Time constant of lambda, seconds; None: `gae_lambda` per decision.
        lambda_per_decision: What every decision takes from it besides.
        discounts, elapsed_s: float64, shape (steps, envs), written by `note_times`.
    """

    def __init__(
        self,
        *args: Any,
        tau_lambda_s: float | None = 2.0,
        lambda_per_decision: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.tau_lambda_s, self.lambda_per_decision = tau_lambda_s, lambda_per_decision
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Forget the rollout."""
        super().reset()  # type: ignore[misc]
        self.discounts = np.ones((self.buffer_size, self.n_envs))
        self.elapsed_s = np.zeros((self.buffer_size, self.n_envs))

    def note_times(self, discounts: NDArray[np.float64], elapsed_s: NDArray[np.float64]) -> None:
        """Keep what the step that is added next took, shape (envs,) each."""
        self.discounts[self.pos] = discounts
        self.elapsed_s[self.pos] = elapsed_s

    def compute_returns_and_advantage(
        self, last_values: torch.Tensor, dones: NDArray[np.bool_]
    ) -> None:
        """Fill advantages and returns; see `time_aware_advantages`."""
        ends = np.concatenate([self.episode_starts[1:], dones[None]]).astype(bool)
        if self.tau_lambda_s is None:
            lambdas = np.full_like(self.elapsed_s, self.gae_lambda)
        else:
            lambdas = self.lambda_per_decision * time_lambdas(self.elapsed_s, self.tau_lambda_s)
        advantages = time_aware_advantages(
            self.rewards,
            self.values,
            last_values.clone().cpu().numpy().flatten(),
            ends,
            self.discounts,
            lambdas,
        )
        self.advantages = advantages.astype(np.float32)
        self.returns = self.advantages + self.values


class TimeAwareRolloutBuffer(_TimeAwareBuffer, RolloutBuffer):
    """Of flat observations."""


class TimeAwareMaskableRolloutBuffer(_TimeAwareBuffer, MaskableRolloutBuffer):
    """Of flat observations with masks."""


class TimeAwareMaskableDictRolloutBuffer(_TimeAwareBuffer, MaskableDictRolloutBuffer):
    """Of observations by groups with masks."""


class _TimeAwareRollouts:
    """Collects rollouts with the discount of every step; in front of PPO or MaskablePPO.

    `discount_by_time=False` puts the constant `gamma` in its place, the ablation.
    """

    masked = False

    def __init__(self, *args: Any, discount_by_time: bool = True, **kwargs: Any) -> None:
        self.discount_by_time = discount_by_time
        super().__init__(*args, **kwargs)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: Any,
        n_rollout_steps: int,
        use_masking: bool = True,
    ) -> bool:
        """Fill the buffer with steps of the current policy; False if the callback stops it."""
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        for _ in range(n_rollout_steps):
            masks = {"action_masks": env.action_masks()} if self.masked and use_masking else {}
            with torch.no_grad():
                seen = obs_as_tensor(self._last_obs, self.device)
                actions, values, log_probs = self.policy(seen, **masks)
            actions = actions.cpu().numpy()
            found, rewards, dones, infos = env.step(self._within_bounds(actions))
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            discounts = self._discounts(env)
            rewards = rewards + discounts * self._values_at_truncation(dones, infos)
            rollout_buffer.note_times(discounts, env.elapsed_s)
            actions = actions.reshape(env.num_envs, -1)
            rollout_buffer.add(
                self._last_obs,
                actions,
                rewards,
                self._last_episode_starts,
                values,
                log_probs,
                **masks,
            )
            self._last_obs, self._last_episode_starts = found, dones
        with torch.no_grad():
            values = self.policy.predict_values(obs_as_tensor(self._last_obs, self.device))
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _discounts(self, env: VecEnv) -> NDArray[np.float64]:
        return env.discounts if self.discount_by_time else np.full(env.num_envs, self.gamma)

    def _within_bounds(self, actions: NDArray[Any]) -> NDArray[Any]:
        if hasattr(self.action_space, "low"):
            return np.clip(actions, self.action_space.low, self.action_space.high)
        return actions

    def _values_at_truncation(
        self, dones: NDArray[np.bool_], infos: list[dict[str, Any]]
    ) -> NDArray[np.float64]:
        """Return the value of the last observation of truncated episodes, 0 elsewhere."""
        values = np.zeros(len(dones))
        which = [e for e in np.flatnonzero(dones) if infos[e]["TimeLimit.truncated"]]
        if which:
            last = [infos[e]["terminal_observation"] for e in which]
            stacked = (
                {name: np.stack([one[name] for one in last]) for name in last[0]}
                if isinstance(last[0], dict)
                else np.stack(last)
            )
            with torch.no_grad():
                found = self.policy.predict_values(obs_as_tensor(stacked, self.device))
            values[which] = found.cpu().numpy().flatten()
        return values


class TimeAwarePPO(_TimeAwareRollouts, PPO):
    """PPO of Stable-Baselines3 with rollouts of unevenly spaced decisions."""


class TimeAwareMaskablePPO(_TimeAwareRollouts, MaskablePPO):
    """MaskablePPO of sb3-contrib with rollouts of unevenly spaced decisions."""

    masked = True
