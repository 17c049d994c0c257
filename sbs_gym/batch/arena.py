"""Memory of many worlds: all arrays of one world in one row, so that a step stays in the cache.

Rows come from a template, a world at time 0 with as many request slots as an episode may need. What
differs from episode to episode is written over a copy of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.sim.rows import CACHE_LINE, blocks_of, write_block
from sbs_gym.sim.state import World

SHARED = ("timing", "table", "decode_timing", "decode_table")  # the same for all of a timing
_PER_REQUEST = ("requests", "keys", "heap", "log", "waiting", "decodes")
_BY_REQUEST = ("requests", "decodes")  # of them, those in the order of arrival
# What every step touches, in front; of events only those under way.
_FETCHED = (
    "setup",
    "clock",
    "buffer",
    "agent",
    "tally",
    "sight",
    "views",
    "instances",
    "leftovers",
    "shares",
    "ranks",
)
_HOT = (
    *_FETCHED,
    "starts",
    "rank_views",
    "signals",
    "signal_tokens",
    "scratch_tokens",
    "scratch_pairs",
    "room",
    "load",
)
_HOT_WITH_DECODE = (
    "rank_kv",
    "engines",
    "decode_ranks",
    "decode_views",
    "candidates",
)
_LINE = CACHE_LINE  # every array starts on a cache line of its own
_MOST_FRONT_LINES = 96


class Arena:
    """`count` worlds of the shape of a template.

    Attributes:
        worlds: Views on the rows, one World each.
        blocks: The same for compiled code; see sim/rows.py.
        front_lines: Cache lines at the beginning of a row that a step is sure to touch, or nearly;
            of a large cluster the first instances.
    """

    def __init__(self, template: World, count: int) -> None:
        self._places, self._small_bytes, size = _layout(template)
        memory = np.zeros(count * size + _LINE, dtype=np.uint8)
        start = -memory.ctypes.data % _LINE
        self._rows = memory[start : start + count * size].reshape(count, size)
        self._shared = {name: getattr(template, name) for name in SHARED}
        self.worlds = [self._view(e) for e in range(count)]
        for e in range(count):
            self._write(e, template)
        self.blocks = blocks_of(self.worlds)
        behind = self._places[_HOT[len(_FETCHED)]][0]
        self.front_lines = min(behind // _LINE, _MOST_FRONT_LINES)

    @property
    def num_slots(self) -> int:
        """Requests that an episode may have."""
        return len(self.worlds[0].requests)

    def column(self, name: str) -> NDArray[Any]:
        """Return the records of all worlds under `name`, shape (count,): a view."""
        offset, _, dtype = self._places[name]
        return np.ndarray(
            shape=(len(self._rows),),
            dtype=dtype,
            buffer=self._rows.data,
            offset=offset,
            strides=(self._rows.shape[1],),
        )

    def rows(self, name: str) -> NDArray[Any]:
        """Return the arrays of all worlds under `name`, shape (count, length): a view."""
        offset, length, dtype = self._places[name]
        return np.ndarray(
            shape=(len(self._rows), length),
            dtype=dtype,
            buffer=self._rows.data,
            offset=offset,
            strides=(self._rows.shape[1], dtype.itemsize),
        )

    def restore(self, e: int, blank: Blank) -> None:
        """Bring world `e` to time 0; its requests are still those of before."""
        self._rows[e, : self._small_bytes] = blank.small
        if any(blank.shared[name] is not getattr(self.worlds[e], name) for name in SHARED):
            self.worlds[e] = self.worlds[e]._replace(**blank.shared)
            write_block(self.blocks, e, self.worlds[e])

    def copy(self, origin: int, to: int, num_requests: int) -> None:
        """Let world `to` become as world `origin`, which has `num_requests` requests, is."""
        self._rows[to, : self._small_bytes] = self._rows[origin, : self._small_bytes]
        for name in _PER_REQUEST:
            offset, length, dtype = self._places[name]
            used = slice(offset, offset + min(length, num_requests) * dtype.itemsize)
            self._rows[to, used] = self._rows[origin, used]
        self.worlds[to] = self.worlds[to]._replace(
            **{name: getattr(self.worlds[origin], name) for name in SHARED}
        )
        write_block(self.blocks, to, self.worlds[to])

    def kept(self, e: int, first: int, end: int) -> list[tuple[slice, NDArray[np.uint8]]]:
        """Return world `e` for `put_back`, if of its requests at most [first, end) change.

        Slices of its row, and what stands there.
        """
        slices = [slice(0, self._small_bytes)]
        for name in _PER_REQUEST:
            offset, length, dtype = self._places[name]
            start = first if name in _BY_REQUEST else 0
            used = [offset + min(place, length) * dtype.itemsize for place in (start, end)]
            slices.append(slice(*used))
        return [(part, self._rows[e, part].copy()) for part in slices]

    def put_back(self, e: int, kept: list[tuple[slice, NDArray[np.uint8]]]) -> None:
        """Bring world `e` to where it was when this was kept."""
        for part, content in kept:
            self._rows[e, part] = content

    def moved_to(self, template: World) -> Arena:
        """Return the same worlds in rows as long as the longest of theirs and a template's."""
        moved = Arena(_longest([template, *self.worlds]), len(self.worlds))
        for e, world in enumerate(self.worlds):
            moved._write(e, world)
            moved.worlds[e] = moved.worlds[e]._replace(
                **{name: getattr(world, name) for name in SHARED}
            )
            write_block(moved.blocks, e, moved.worlds[e])
        return moved

    def _view(self, e: int) -> World:
        fields: dict[str, Any] = dict(self._shared)
        for name, (offset, length, dtype) in self._places.items():
            row = self._rows[e, offset : offset + max(length, 1) * dtype.itemsize].view(dtype)
            fields[name] = row[0] if length < 0 else row[:length]
        return World(**fields)

    def _write(self, e: int, world: World) -> None:
        """Copy every array of `world` to the beginning of its place in row `e`."""
        for name, (offset, _, _) in self._places.items():
            content = np.atleast_1d(np.asarray(getattr(world, name))).view(np.uint8)
            self._rows[e, offset : offset + len(content)] = content


class Blank:
    """A world at time 0 as bytes, to begin episodes from."""

    def __init__(self, template: World) -> None:
        arena = Arena(template, 1)
        self.small = arena._rows[0, : arena._small_bytes].copy()
        self.shared = arena._shared


def _longest(worlds: list[World]) -> World:
    """Return a world with the longest array of each name; its content does not matter."""
    arrays = {
        name: max((getattr(world, name) for world in worlds), key=np.size)
        for name in World._fields
        if name not in SHARED
    }
    return worlds[0]._replace(**arrays)


def _layout(template: World) -> tuple[dict[str, tuple[int, int, np.dtype[Any]]], int, int]:
    """Return (offset, length, dtype) of every array, the bytes before those per request, and all.

    The length of a single record is -1.
    """
    front = (*_HOT, *(_HOT_WITH_DECODE if template.setup.num_decode > 0 else ()), "events")
    rest = [name for name in World._fields if name not in (*front, *SHARED, *_PER_REQUEST)]
    names = [*front, *rest, *_PER_REQUEST]
    places: dict[str, tuple[int, int, np.dtype[Any]]] = {}
    offset, small_bytes = 0, 0
    for name in names:
        array = np.asarray(getattr(template, name))
        if name in _PER_REQUEST and not small_bytes:
            small_bytes = offset
        length = array.shape[0] if array.ndim else -1
        places[name] = (offset, length, array.dtype)
        offset += -(-array.nbytes // _LINE) * _LINE
    return places, small_bytes, offset
