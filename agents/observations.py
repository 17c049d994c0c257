"""Mean and spread of what an agent sees, measured once before training and constant from then on.

A running normalisation would change what the same observation means during training, and would be
one more state to store; here it is part of the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.envs.play import RulePlayer
from sbs_gym.envs.sb3 import SB3SchedulingEnv

NUM_SEEN = 20_000  # observations of a batch, at least
RANDOM_FRAC = 0.3  # of the actions; the others are the background's, so that both are seen
_LEAST_STD = 1e-3  # a feature that varies less is a constant,
CONSTANT_STD = 1e9  # and stays at 0: no weight has learned what another value would mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Mean and standard deviation per feature, by part of the observation.

    Attributes:
        mean, std: float32 by part: "flat" for a flat observation; for one by groups "global",
            "instances", …, over rows and time. CONSTANT_STD where nothing varied, so that the
            feature stays at 0: in the truncated last observation of an episode, or under another
            timing than that of the training.
        spread: float32 by group of rows: standard deviation from the mean of the rows that are
            seen together.
    """

    mean: dict[str, NDArray[np.float32]]
    std: dict[str, NDArray[np.float32]]
    spread: dict[str, NDArray[np.float32]]


def measure(envs: Sequence[SB3SchedulingEnv], *, seed: int) -> Statistics:
    """Return the statistics of what `envs` show under their background and some random actions."""
    sums: dict[str, _Sum] = {}
    for number, env in enumerate(envs):
        _measure(env, seed + number * env.num_envs, sums)
    return Statistics(
        mean={name: one.mean() for name, one in sums.items()},
        std={name: one.std() for name, one in sums.items()},
        spread={name: one.spread() for name, one in sums.items() if one.has_rows},
    )


def _measure(env: SB3SchedulingEnv, seed: int, sums: dict[str, _Sum]) -> None:
    env.seed(seed)
    observation = env.reset()
    player = RulePlayer(env, env.config.scheduler)
    rng = np.random.default_rng(seed)
    for _ in range(-(-NUM_SEEN // env.num_envs)):
        for name, part in parts(observation).items():
            sums.setdefault(name, _Sum(part)).add(part)
        actions = player.actions()
        random = rng.random(env.num_envs) < RANDOM_FRAC
        actions[random] = random_actions(env, rng)[random]
        observation, *_ = env.step(actions)


def parts(observation: Any) -> dict[str, NDArray[np.float32]]:
    """Return an observation by groups; a flat one under "flat"."""
    return observation if isinstance(observation, dict) else {"flat": observation}


def random_actions(env: SB3SchedulingEnv, rng: np.random.Generator) -> NDArray[Any]:
    """Return legal actions drawn uniformly, shape (num_envs, …)."""
    space = env.action_space
    if hasattr(space, "low"):
        return rng.uniform(space.low, space.high, (env.num_envs, *space.shape))
    if hasattr(space, "nvec"):
        return rng.integers(space.nvec, size=(env.num_envs, len(space.nvec)))
    masks = env.action_masks()
    return np.argmax(masks * rng.uniform(0.5, 1.0, masks.shape), axis=1)


class _Sum:
    """Sums of the numbers of a part, per feature."""

    def __init__(self, part: NDArray[np.float32]) -> None:
        self.has_rows = part.ndim == 3
        self._count = 0
        self._total = np.zeros(part.shape[-1])
        self._squares = np.zeros(part.shape[-1])
        self._apart = np.zeros(part.shape[-1])

    def add(self, part: NDArray[np.float32]) -> None:
        values = part.astype(np.float64)
        rows = values.reshape(-1, part.shape[-1])
        self._count += len(rows)
        self._total += rows.sum(axis=0)
        self._squares += np.square(rows).sum(axis=0)
        if self.has_rows:
            self._apart += np.square(values - values.mean(axis=1, keepdims=True)).sum(axis=(0, 1))

    def mean(self) -> NDArray[np.float32]:
        return (self._total / self._count).astype(np.float32)

    def std(self) -> NDArray[np.float32]:
        return _root(self._squares / self._count - np.square(self._total / self._count))

    def spread(self) -> NDArray[np.float32]:
        return _root(self._apart / self._count)


def _root(variance: NDArray[np.float64]) -> NDArray[np.float32]:
    root = np.sqrt(np.maximum(variance, 0.0))
    return np.where(root < _LEAST_STD, CONSTANT_STD, root).astype(np.float32)
