"""Prefix-cache hits of one shared cache: unbounded, or least recently used with a capacity."""

from __future__ import annotations

import numpy as np

from sbs_gym.jit import compiled
from sbs_gym.types import IntArray, PrefixBlocks, RequestTable


def number_blocks(blocks: PrefixBlocks) -> tuple[IntArray, int]:
    """Return each reference's block as a number from 0, and how many different blocks there are."""
    unique, numbers = np.unique(blocks.hashes, return_inverse=True)
    return numbers.astype(np.int64), len(unique)


def hit_ratio(
    table: RequestTable, numbers: IntArray, num_blocks: int, capacity_tokens: float | None
) -> float:
    """Return reused prompt tokens / all prompt tokens with one cache shared by all requests.

    A request reuses its leading run of cached blocks, at most its prompt. Then all its blocks are
    touched from the last to the first, so that of one prompt the tail is evicted first.

    Args:
        table: Requests with prefix blocks, in order.
        numbers: Block of each reference, from `number_blocks`.
        num_blocks: Number of different blocks.
        capacity_tokens: Size of the cache, rounded down to whole blocks; None for unbounded.
    """
    if table.blocks is None:
        return float("nan")
    block_tokens = table.blocks.block_tokens
    capacity = num_blocks if capacity_tokens is None else int(capacity_tokens // block_tokens)
    inputs = table.input_tokens.astype(np.int64)
    hits = _hit_tokens(numbers, table.blocks.offsets, inputs, block_tokens, num_blocks, capacity)
    return float(hits / inputs.sum())


def most_shared(numbers: IntArray, offsets: IntArray, num_blocks: int) -> int:
    """Return in how many requests the block occurs that occurs in most."""
    return int(_requests_per_block(numbers, offsets, num_blocks).max())


@compiled
def _requests_per_block(numbers, offsets, num_blocks):  # type: ignore[no-untyped-def]
    requests = np.zeros(num_blocks, dtype=np.int64)
    last_row = np.full(num_blocks, -1, dtype=np.int64)
    for row in range(len(offsets) - 1):
        for k in range(offsets[row], offsets[row + 1]):
            if last_row[numbers[k]] != row:
                requests[numbers[k]] += 1
                last_row[numbers[k]] = row
    return requests


@compiled
def _hit_tokens(numbers, offsets, inputs, block_tokens, num_blocks, capacity):  # type: ignore[no-untyped-def]
    # A doubly linked list over block numbers; entry num_blocks is its head (newer: most recent).
    older = np.full(num_blocks + 1, -1, dtype=np.int64)
    newer = np.full(num_blocks + 1, -1, dtype=np.int64)
    head = num_blocks
    older[head] = newer[head] = head
    cached = 0
    hits = 0
    for row in range(len(inputs)):
        run = 0
        for k in range(offsets[row], offsets[row + 1]):
            if older[numbers[k]] < 0:
                break
            run += 1
        hits += min(run * block_tokens, inputs[row])
        for k in range(offsets[row + 1] - 1, offsets[row] - 1, -1):
            block = numbers[k]
            if older[block] >= 0:
                _unlink(older, newer, block)
            else:
                cached += 1
            _link(older, newer, head, block)
            if cached > capacity:
                _unlink(older, newer, newer[head])
                cached -= 1
    return hits


@compiled
def _unlink(older, newer, block):  # type: ignore[no-untyped-def]
    newer[older[block]] = newer[block]
    older[newer[block]] = older[block]
    older[block] = newer[block] = -1


@compiled
def _link(older, newer, head, block):  # type: ignore[no-untyped-def]
    # older[head] is the most recent block, newer[head] the least recent one.
    recent = older[head]
    older[block], newer[block] = recent, head
    newer[recent] = block
    older[head] = block
