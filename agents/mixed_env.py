"""Environments of several clusters as one: domain randomisation over the size of the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from agents.envs import TrainingEnv
from sbs_gym.errors import ConfigError


class MixedEnv(VecEnv):
    """Batches of environments behind each other, each with a cluster of its own.

    Observations and actions must have the same shapes: a window is chosen for any number of ranks,
    a rank is not.

    Attributes:
        parts: The batches.
        discounts, elapsed_s: float64, shape (num_envs,), of the last step.
    """

    def __init__(self, parts: Sequence[TrainingEnv]) -> None:
        first = parts[0]
        for part in parts:
            same = part.observation_space == first.observation_space
            if not same or part.action_space != first.action_space:
                raise ConfigError(
                    f"env.clusters: {part.observation_space}, {part.action_space} beside "
                    f"{first.observation_space}, {first.action_space}; expected clusters that look "
                    "alike to the agent"
                )
        self.parts, self.render_mode = list(parts), None
        ends = np.cumsum([part.num_envs for part in parts])
        self._slices = [
            slice(int(end) - part.num_envs, int(end)) for end, part in zip(ends, parts, strict=True)
        ]
        super().__init__(int(ends[-1]), first.observation_space, first.action_space)

    @property
    def core(self) -> Any:
        """The first batch: its task, action space and cluster."""
        return self.parts[0].core

    @property
    def config(self) -> Any:
        """The configuration of the first batch."""
        return self.parts[0].config

    @property
    def discounts(self) -> NDArray[np.float64]:
        """Weights of what follows the last step."""
        return np.concatenate([part.discounts for part in self.parts])

    @property
    def elapsed_s(self) -> NDArray[np.float64]:
        """Seconds of the last step."""
        return np.concatenate([part.elapsed_s for part in self.parts])

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Give environment i the seed `seed` + i, from the next reset on."""
        given: list[int | None] = []
        for part, rows in zip(self.parts, self._slices, strict=True):
            given += part.seed(None if seed is None else seed + rows.start)
        return given

    def reset(self) -> Any:
        """Begin an episode in every environment."""
        return _joined([part.reset() for part in self.parts])

    def step_async(self, actions: Any) -> None:
        """Take the actions of a step."""
        for part, rows in zip(self.parts, self._slices, strict=True):
            part.step_async(actions[rows])

    def step_wait(self) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Make the step."""
        found, rewards, dones, infos = zip(*[part.step_wait() for part in self.parts], strict=True)
        told = [info for part in infos for info in part]
        return _joined(found), np.concatenate(rewards), np.concatenate(dones), told

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the legal actions of every environment."""
        return np.concatenate([part.action_masks() for part in self.parts])

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        return {str(number): part.state() for number, part in enumerate(self.parts)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        for number, part in enumerate(self.parts):
            part.restore(state[str(number)])

    def has_attr(self, attr_name: str) -> bool:
        """Return whether the environments have an attribute."""
        return hasattr(self, attr_name)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute, once for every environment asked for."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: the environments of a batch share one configuration."""
        self.parts[0].set_attr(attr_name, value, indices)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Return what a method gives, one entry for every environment asked for."""
        found = [one for p in self.parts for one in p.env_method(method_name, *args, **kwargs)]
        return [found[e] for e in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return that no environment is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return no pictures."""
        return [None] * self.num_envs

    def close(self) -> None:
        """Stop the threads."""
        for part in self.parts:
            part.close()


def _joined(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)
