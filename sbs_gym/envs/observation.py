"""The shape of what an agent sees: flat or by groups, with history or without."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.envs.core import EnvBatch
from sbs_gym.sim.features import Feature, Group, sizes

GROUP_NAMES = {
    Group.GLOBAL: "global",
    Group.INSTANCES: "instances",
    Group.RANKS: "ranks",
    Group.DECODE_RANKS: "decode_ranks",
    Group.REQUEST: "request",
}
_SINGLE = (Group.GLOBAL, Group.REQUEST)  # one row, shown without its axis


class Observer:
    """Turns the core's rows of numbers into observations.

    Args:
        seen: What all environments see now, shape (num_envs, num_features), written by the core.
        sees: Groups of features in it.
        cluster: How many rows a group has.
        form: flat, or dict by groups.
        history: How many instants an observation has.

    Attributes:
        space: Of one environment.
        stack: float32, shape (num_envs, history, num_features): what was seen, the newest last;
            without history that is `seen` itself.
    """

    def __init__(
        self,
        seen: NDArray[np.float32],
        sees: Group,
        cluster: ClusterConfig,
        *,
        form: str,
        history: int,
    ) -> None:
        self._seen, self._form, self._history = seen, form, history
        self._parts = {
            GROUP_NAMES[group]: (rows, columns, group in _SINGLE)
            for group, (rows, columns) in sizes(cluster).items()
            if group & sees
        }
        features = [
            feature for rows, columns, _ in self._parts.values() for feature in columns * rows
        ]
        self.stack = seen[:, None, :]
        if history > 1:
            self.stack = np.zeros((len(seen), history, len(features)), dtype=np.float32)
        self._flat = self.stack.reshape(len(seen), -1)  # a view
        self.space = self._flat_space(features) if form == "flat" else self._dict_space()

    def start(self, e: int) -> None:
        """Begin the history of environment `e` with what it sees."""
        if self._history > 1:
            self.stack[e] = self._seen[e]

    def push(self) -> None:
        """Add what all environments see to their history."""
        if self._history > 1:
            self.stack[:, :-1] = self.stack[:, 1:]
            self.stack[:, -1] = self._seen

    def look(self) -> Any:
        """Return the observations of all environments, copied."""
        if self._form == "flat":
            return self._flat.copy()
        return self._by_group(self.stack)

    def look_at(self, e: int) -> Any:
        """Return the observation of environment `e`, copied."""
        if self._form == "flat":
            return self._flat[e].copy()
        return {name: part[0] for name, part in self._by_group(self.stack[e : e + 1]).items()}

    def _by_group(self, stack: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return one array per group; a row's numbers at successive times follow each other."""
        found, start, count = {}, 0, len(stack)
        for name, (rows, columns, single) in self._parts.items():
            end = start + rows * len(columns)
            part = stack[:, :, start:end].reshape(count, self._history, rows, len(columns))
            shape = (count, -1) if single else (count, rows, -1)
            found[name] = np.ascontiguousarray(part.swapaxes(1, 2)).reshape(shape).copy()
            start = end
        return found

    def _flat_space(self, features: list[Feature]) -> gym.spaces.Box:
        low, high = _bounds(features * self._history)
        return gym.spaces.Box(low, high, dtype=np.float32)

    def _dict_space(self) -> gym.spaces.Dict:
        spaces: dict[str, gym.Space[Any]] = {}
        for name, (rows, columns, single) in self._parts.items():
            low, high = _bounds(list(columns) * self._history)
            if not single:
                low, high = np.tile(low, (rows, 1)), np.tile(high, (rows, 1))
            spaces[name] = gym.spaces.Box(low, high, dtype=np.float32)
        return gym.spaces.Dict(spaces)


def observer_of(core: EnvBatch) -> Observer:
    """Return the observer of a batch of environments."""
    config = core.config
    return Observer(
        core.seen,
        core.task.sees,
        config.cluster,
        form=config.observation,
        history=config.history,
    )


def _bounds(features: list[Feature]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    low = np.array([feature.low for feature in features], dtype=np.float32)
    high = np.array([feature.high for feature in features], dtype=np.float32)
    return low, high
