"""Rows of a request table by index: columns, prefix blocks and links to parents move together."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from sbs_gym.jit import compiled
from sbs_gym.rng import hash64
from sbs_gym.types import FloatArray, IntArray, PrefixBlocks, RequestTable
from sbs_gym.workload.purposes import NAMESPACE, STREAM


def take_rows(table: RequestTable, index: IntArray, **changes: Any) -> RequestTable:
    """Return rows `index` of `table`; links to rows that are left out become -1.

    Args:
        table: Where rows are taken from.
        index: Row numbers in the wanted order, each at most once if there are links.
        changes: Columns of the result that replace the taken ones.
    """
    columns: dict[str, Any] = {}
    for field in fields(table):
        value = getattr(table, field.name)
        if isinstance(value, np.ndarray):
            columns[field.name] = value[index]
    if table.parent_id is not None:
        columns["parent_id"] = moved_links(table.parent_id, index)
    if table.blocks is not None:
        columns["blocks"] = take_blocks(table.blocks, index)
    return replace(table, **{**columns, **changes})


def moved_links(links: IntArray, index: IntArray) -> IntArray:
    """Return row links after rows were reordered or left out; -1 where there is none.

    A link that would point forward is dropped too: a parent comes before its child.
    """
    place = np.full(len(links) + 1, -1, dtype=np.int64)
    place[index] = np.arange(len(index))
    moved = place[links[index]]  # -1 reads the last entry, which is -1
    return np.where(moved < np.arange(len(index)), moved, -1)


def joined(
    table: RequestTable, rows: IntArray, copy: IntArray, arrived_at_s: FloatArray
) -> RequestTable:
    """Return rows of several copies of `table`; copy 0 keeps its names, others get their own.

    Args:
        table: What was copied.
        rows: Row of `table` of each result row.
        copy: Number of its copy.
        arrived_at_s: Its arrival, never falling.
    """
    changes: dict[str, Any] = {"arrived_at_s": arrived_at_s}
    if table.session_id is not None:
        session = table.session_id[rows]
        stride = int(table.session_id.max()) + 1
        changes["session_id"] = np.where(session >= 0, session + copy * stride, -1)
    if table.parent_id is not None:
        changes["parent_id"] = _links_within_copies(table.parent_id, rows, copy)
    if table.blocks is not None:
        scope = np.where(copy > 0, copy, -1)
        changes["blocks"] = scoped_blocks(take_blocks(table.blocks, rows), scope)
    plain = replace(table, parent_id=None, blocks=None)
    return take_rows(plain, rows, **changes)


def _links_within_copies(links: IntArray, rows: IntArray, copy: IntArray) -> IntArray:
    place = np.full((int(copy.max()) + 1, len(links) + 1), -1, dtype=np.int64)
    place[copy, rows] = np.arange(len(rows))
    moved = place[copy, links[rows]]
    return np.where(moved < np.arange(len(rows)), moved, -1)


def take_blocks(
    blocks: PrefixBlocks, index: IntArray, most: IntArray | None = None
) -> PrefixBlocks:
    """Return the prefix blocks of rows `index`, at most `most[i]` leading ones of result row i."""
    counts = np.diff(blocks.offsets)[index]
    if most is not None:
        counts = np.minimum(counts, most)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    hashes = _gather(blocks.hashes, blocks.offsets, index, offsets)
    return PrefixBlocks(hashes=hashes, offsets=offsets, block_tokens=blocks.block_tokens)


def scoped_blocks(blocks: PrefixBlocks, scope: IntArray) -> PrefixBlocks:
    """Return blocks whose hashes are equal only within rows of one scope, shape (num_requests,).

    Rows of scope -1 keep their hashes.
    """
    return replace(blocks, hashes=_rehash(blocks.hashes, blocks.offsets, scope))


@compiled
def _gather(hashes, offsets, index, new_offsets):  # type: ignore[no-untyped-def]
    taken = np.empty(new_offsets[-1], dtype=np.uint64)
    for row in range(len(index)):
        start = offsets[index[row]]
        for k in range(new_offsets[row + 1] - new_offsets[row]):
            taken[new_offsets[row] + k] = hashes[start + k]
    return taken


@compiled
def _rehash(hashes, offsets, scope):  # type: ignore[no-untyped-def]
    scoped = hashes.copy()
    for row in range(len(scope)):
        if scope[row] >= 0:
            for k in range(offsets[row], offsets[row + 1]):
                scoped[k] = hash64(0, STREAM, NAMESPACE, scope[row], hashes[k])
    return scoped
