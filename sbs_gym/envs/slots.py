"""The arrays of a world that are longer than an episode needs: cut and stretched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sbs_gym.sim.decode_world import longer
from sbs_gym.sim.state import World


def lengths_of(world: World) -> dict[str, int]:
    """Return the lengths of the arrays of a world, without the tables of its timing."""
    fields = world._asdict().items()
    return {name: len(field) for name, field in fields if np.ndim(field) == 1}


def stretched(world: World, lengths: Mapping[str, int]) -> World:
    """Return a world with its arrays at least as long as `lengths` says, by name."""
    grown: dict[str, Any] = {}
    for name, length in lengths.items():
        array = getattr(world, name)
        if len(array) < length:
            grown[name] = longer(array, length)
    return world._replace(**grown)


def without_empty_slots(world: World) -> World:
    """Return the world with the arrays per request cut to the episode's requests."""
    count = int(world.setup.num_requests)
    cut = {"requests": world.requests[:count]}
    if world.setup.num_decode > 0:
        cut["decodes"] = world.decodes[:count]
    return world._replace(**cut)
