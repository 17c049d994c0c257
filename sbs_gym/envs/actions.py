"""The forms of an action, and the index or number that the core takes."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from sbs_gym.batch.stepping import first_outside
from sbs_gym.envs.tasks import NUM_BUDGETS
from sbs_gym.errors import ConfigError
from sbs_gym.schedulers.questions import NUM_MULTIPLIERS
from sbs_gym.schedulers.seat import ActionLayout

_INDEX = np.dtype(np.int64)


class ActionCodec:
    """Turns actions of one form into what the core takes.

    Attributes:
        space: Of one environment.
    """

    def __init__(self, layout: ActionLayout, num_envs: int) -> None:
        self._form, self._num_envs = layout.form, num_envs
        self._num_actions = layout.num_actions
        self._width = 2 if layout.form == "multi" else 1
        self._no_values = np.zeros(num_envs)
        self._no_indices = np.zeros(num_envs, dtype=np.int64)
        self.space: gym.Space[Any]
        if layout.form == "box":
            self.space = gym.spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)
        elif layout.form == "multi":
            self.space = gym.spaces.MultiDiscrete([NUM_MULTIPLIERS, NUM_BUDGETS])
        else:
            self.space = gym.spaces.Discrete(layout.num_actions)

    def decode(self, actions: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return indices and values, each of shape (num_envs,); box values are clipped.

        Raises:
            ConfigError: If an action lies outside the action space, or their shape is wrong.
        """
        given = np.asarray(actions)
        if given.size != self._num_envs * self._width:
            raise ConfigError(
                f"actions of shape {given.shape}; expected {self._num_envs} x {self.space}"
            )
        if self._form == "box":
            values = given.astype(np.float64).reshape(self._num_envs)
            if not np.isfinite(values).all():
                raise ConfigError(f"action={values[~np.isfinite(values)][0]} is no finite number")
            return self._no_indices, np.clip(values, -1.0, 1.0)
        if given.dtype.kind not in "iu":
            raise ConfigError(f"actions of type {given.dtype}; expected whole numbers")
        # Compiled code knows writable arrays of this type only.
        is_plain = given.dtype == _INDEX and given.flags.carray
        indices = given if is_plain else given.astype(np.int64)
        if self._form == "multi":
            windows, budgets = indices.reshape(self._num_envs, 2).T
            self._require(windows, NUM_MULTIPLIERS, "action[0]")
            self._require(budgets, NUM_BUDGETS, "action[1]")
            return windows * NUM_BUDGETS + budgets, self._no_values
        indices = indices.reshape(self._num_envs)
        self._require(indices, self._num_actions)
        return indices, self._no_values

    def encode(self, index: int, value: float) -> Any:
        """Return the action of one environment that `decode` turns into these."""
        if self._form == "box":
            return np.array([value], dtype=np.float32)
        if self._form == "multi":
            return np.array(divmod(index, NUM_BUDGETS), dtype=np.int64)
        return np.int64(index)

    def masks(self, legal: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the masks that sb3-contrib takes; one after the other for two dimensions."""
        if self._form == "multi":  # a window is legal whenever it is asked for
            return np.ones((len(legal), NUM_MULTIPLIERS + NUM_BUDGETS), dtype=np.bool_)
        return legal.copy()

    @staticmethod
    def _require(indices: NDArray[np.int64], count: int, what: str = "action") -> None:
        wrong = first_outside(indices, count)
        if wrong >= 0:
            raise ConfigError(
                f"{what}={indices[wrong]} is out of range; expected a whole number in "
                f"[0, {count - 1}]"
            )
