"""The running episodes in a stored state: what they are drawn from, and a checksum of what came."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.envs.config import EnvConfig
from sbs_gym.envs.episodes import Episode, draw_again
from sbs_gym.errors import ConfigError
from sbs_gym.types import RequestTable

_NUMBERS = ("episode_seeds", "episode_loads", "episode_offsets_s")
EPISODE_ENTRIES = ("has_episode", *_NUMBERS, "table_sums")


def kept_episodes(episodes: Sequence[Episode | None]) -> dict[str, NDArray[Any]]:
    """Return arrays, one entry per environment that has an episode."""
    running = [episode for episode in episodes if episode is not None]
    return {
        "has_episode": np.array([episode is not None for episode in episodes]),
        "episode_seeds": np.array([episode.seed for episode in running]),
        "episode_loads": np.array([episode.load for episode in running]),
        "episode_offsets_s": np.array([episode.offset_s for episode in running]),
        "table_sums": np.array([_sum_of(episode.table) for episode in running]),
    }


def drawn_again(
    config: EnvConfig,
    state: Mapping[str, Any],
    capacities_per_s: dict[tuple[int, int], float],
) -> list[Episode | None]:
    """Return the episodes that ran, one per environment; None for one without.

    Raises:
        ConfigError: If other requests are drawn now than then.
    """
    episodes: list[Episode | None] = [None] * len(state["has_episode"])
    columns = [np.flatnonzero(state["has_episode"]), *(state[name] for name in _NUMBERS)]
    rows = zip(*(column.tolist() for column in columns), state["table_sums"].tolist(), strict=True)
    for e, seed, load, offset_s, given in rows:
        episode = draw_again(config, seed, load, offset_s, capacities_per_s)
        if _sum_of(episode.table) != given:
            raise ConfigError(
                f"requests of environment {e} (workload {episode.workload!r}, seed {seed}) are "
                "others than those of the state; expected the same version"
            )
        episodes[e] = episode
    return episodes


def _sum_of(table: RequestTable) -> int:
    arrays = (table.arrived_at_s, table.input_tokens, table.output_tokens)
    return zlib.crc32(b"".join(array.tobytes() for array in arrays))
