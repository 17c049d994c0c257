"""Binary heaps of int64 keys in a part of an array, smallest on top; no two keys are equal."""

from __future__ import annotations

from sbs_gym.jit import inlined


@inlined
def sift_up(keys, first, slot, key):  # type: ignore[no-untyped-def]
    """Put `key` into the free slot, or above it, in the heap that begins at `keys[first]`."""
    while slot > 0:
        parent = (slot - 1) >> 1
        if keys[first + parent] <= key:
            break
        keys[first + slot] = keys[first + parent]
        slot = parent
    keys[first + slot] = key


@inlined
def sift_down(keys, first, slot, count, key):  # type: ignore[no-untyped-def]
    """Put `key` into the free slot, or below it, in the heap keys[first:first + count]."""
    while True:
        child = 2 * slot + 1
        if child >= count:
            break
        if child + 1 < count and keys[first + child + 1] < keys[first + child]:
            child += 1
        if keys[first + child] >= key:
            break
        keys[first + slot] = keys[first + child]
        slot = child
    keys[first + slot] = key
