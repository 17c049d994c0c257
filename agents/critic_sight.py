"""What only the critic sees: how much more waits here than in the baseline's run.

The reward is the baseline's cost less the agent's. From the agent's own state nobody can tell
whether a long queue came from arrivals, which the baseline has too, or from its own choices, which
alone count: a critic that does not see the baseline blames the arrivals, and the policy learns to
be short-sighted. The policy never sees these numbers.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from sbs_gym.envs.core import EnvBatch

NAMES = (
    "waiting_beyond",  # requests without first token, beyond the baseline's, in reward units
    "waiting_baseline",
    "work_beyond",  # tokens buffered or sent and not done, in full passes of all instances
    "work_baseline",
    "busy_beyond",  # share of instances
)
LIMIT = 10.0
KEY = "critic"  # the group in an observation by groups


def critic_space() -> gym.spaces.Box:
    """Return the space of these numbers."""
    return gym.spaces.Box(-LIMIT, LIMIT, shape=(len(NAMES),), dtype=np.float32)


def critic_sight(core: EnvBatch, units: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the numbers of `NAMES`, float32, shape (num_envs, 5).

    Args:
        core: With a baseline.
        units: What a reward is divided by, shape (num_envs,): requests times seconds per second.
    """
    arena, cluster = core.worlds.arena, core.config.cluster
    mine, theirs = slice(0, core.num_envs), slice(core.worlds.shadows, None)
    waiting = arena.column("tally")["num_waiting"].astype(np.float64)
    chunks = cluster.num_prefill * cluster.prefill_dp * cluster.chunk_tokens
    sent = arena.rows("views")["outstanding_tokens"].sum(axis=1)
    work = (arena.column("buffer")["tokens"] + sent) / chunks
    busy = arena.rows("instances")["busy"].mean(axis=1)
    found = np.stack(
        [
            (waiting[mine] - waiting[theirs]) / units,
            waiting[theirs] / units,
            work[mine] - work[theirs],
            work[theirs],
            busy[mine] - busy[theirs],
        ],
        axis=1,
    )
    return np.clip(found, -LIMIT, LIMIT).astype(np.float32)


class WithCriticSight:
    """An observer that adds these numbers: behind a flat observation, or as a group of its own.

    Args:
        observer: Of the environments.
        sight: Returns the numbers of all environments as they are now.
    """

    def __init__(self, observer: Any, sight: Any) -> None:
        self._observer, self._sight = observer, sight
        space = observer.space
        self.space: gym.Space[Any]
        if isinstance(space, gym.spaces.Dict):
            self.space = gym.spaces.Dict({**space.spaces, KEY: critic_space()})
        else:
            more = critic_space()
            low, high = (
                np.concatenate([getattr(s, n) for s in (space, more)]) for n in ("low", "high")
            )
            self.space = gym.spaces.Box(low, high, dtype=np.float32)

    def look(self) -> Any:
        """Return the observations of all environments, copied."""
        return _with(self._observer.look(), self._sight())

    def look_at(self, e: int) -> Any:
        """Return the observation of environment `e`, copied."""
        return _with(self._observer.look_at(e), self._sight()[e])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._observer, name)  # state and restore are the observer's own


def _with(observation: Any, more: NDArray[np.float32]) -> Any:
    if isinstance(observation, dict):
        return {**observation, KEY: more}
    return np.concatenate([observation, more], axis=-1)
