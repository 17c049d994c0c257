"""Worlds as bytes, small enough to keep with every checkpoint of a training.

What an episode draws is left out, and so are slots that no request has come to. The rest is
compressed: requests that were served together have their times in common.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.batch.arena import SHARED, Arena
from sbs_gym.errors import ConfigError
from sbs_gym.sim.state import World

_DRAWN = ("arrived_at_s", "input_tokens", "output_tokens")  # of a request: in its table
_FAST = 1  # level of compression; higher ones take three times as long


def packed_rows(worlds: Sequence[World]) -> dict[str, NDArray[Any]]:
    """Return worlds as `rows`, bytes one behind the other, and `row_ends`, where each ends."""
    packed = [_packed(world) for world in worlds]
    return {
        "rows": np.frombuffer(b"".join(packed), dtype=np.uint8),
        "row_ends": np.cumsum([len(row) for row in packed]),
    }


def _packed(world: World) -> bytes:
    parts = [_content(np.asarray(getattr(world, name))) for name in _kept_whole(world)]
    for name, count in _rows_in_use(world).items():
        rows = getattr(world, name)[:count]
        parts.append(_content(rows, _DRAWN if name == "requests" else ()))
    return zlib.compress(b"".join(parts), _FAST)


def _content(field: NDArray[Any], without: Sequence[str] = ()) -> bytes:
    """Return the bytes of a field, zeros for columns `without`, and between columns."""
    if field.dtype.names is None:
        return field.tobytes()
    rows = np.zeros(field.shape, dtype=field.dtype)  # zeros_like leaves gaps as they are
    for name in field.dtype.names:
        if name not in without:
            rows[name] = field[name]
    return rows.tobytes()


def unpack_row(arena: Arena, row: int, packed: NDArray[np.uint8]) -> None:
    """Bring world `row`, which has the requests of its episode, to where it was packed.

    Raises:
        ConfigError: If the bytes are damaged.
    """
    world = arena.worlds[row]
    try:
        content = np.frombuffer(zlib.decompress(packed.tobytes()), dtype=np.uint8)
    except zlib.error as error:
        raise ConfigError(f"rows of the state: world {row} is damaged ({error})") from error
    start = 0
    for name in _kept_whole(world):
        field = np.asarray(getattr(world, name))
        part = content[start : start + field.nbytes]
        if field.ndim == 0:
            arena.column(name)[row] = part.copy().view(field.dtype)[0]
        else:
            field.view(np.uint8)[:] = part
        start += field.nbytes
    for name, count in _rows_in_use(world).items():
        field = getattr(world, name)[:count]
        drawn = [field[column].copy() for column in _DRAWN] if name == "requests" else []
        field.view(np.uint8)[:] = content[start : start + field.nbytes]
        for column, values in zip(_DRAWN, drawn, strict=False):
            field[column] = values
        start += field.nbytes


def _kept_whole(world: World) -> list[str]:
    """Return the fields that are kept with all their rows; some belong to the timing."""
    elsewhere = (*SHARED, *_rows_in_use(world))
    return [name for name in world._fields if name not in elsewhere]


def _rows_in_use(world: World) -> dict[str, int]:
    """Return how many rows of the arrays per request count.

    Behind them requests are as drawn, and everything else is written before it is read.
    """
    clock, buffer = world.clock, world.buffer
    wanted = {
        "requests": clock.next_arrival,
        "decodes": clock.next_arrival,
        "keys": buffer.num_keys,
        "heap": buffer.heap_size,
        "log": clock.num_dispatched,
        "waiting": clock.num_waiting,
    }
    return {name: min(int(count), len(getattr(world, name))) for name, count in wanted.items()}
