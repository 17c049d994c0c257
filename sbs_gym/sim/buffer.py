"""The scheduler's buffer: who leaves first, without sorting the whole buffer at a release.

`age_longest`: requests that arrived between two releases form a bucket, a run of `keys` that is
sorted once, when it is first reached. `longest` and `shortest`: a binary heap. `arrival` needs no
index, ids are in order of arrival. An agent that may change the order has both indices. Requests
past the limit of waited releases come first, by arrival, whatever the order.
"""

from __future__ import annotations

import numpy as np

from sbs_gym.jit import inlined
from sbs_gym.sim.codes import Life, Order
from sbs_gym.sim.heap import sift_down, sift_up

_BUFFERED, _ASIDE = int(Life.BUFFERED), int(Life.ASIDE)
_AGE_LONGEST, _LONGEST = int(Order.AGE_LONGEST), int(Order.LONGEST)
_ARRIVAL, _SHORTEST = int(Order.ARRIVAL), int(Order.SHORTEST)
_ID_BITS = 32
_ID_MASK = (1 << _ID_BITS) - 1
_LONGEST_FIRST = (1 << 31) - 1
_FEW = 48  # up to here insertion beats a heap


@inlined
def add_to_buffer(w, r):  # type: ignore[no-untyped-def]
    """Put request `r` into the buffer; `waited_releases` keeps the release number until it goes."""
    request, buffer = w.requests[r], w.buffer
    request.life = _BUFFERED
    request.waited_releases = w.clock.release_number
    buffer.num += 1
    buffer.tokens += request.input_tokens
    buffer.chunk_tokens += min(request.input_tokens, w.setup.chunk_tokens)
    order = w.setup.order
    if order == _AGE_LONGEST or w.setup.any_order:
        w.keys[buffer.num_keys] = _key(w, r, True)
        buffer.num_keys += 1
    if order in (_LONGEST, _SHORTEST) or w.setup.any_order:
        _heap_push(w, _key(w, r, order == _LONGEST))


@inlined
def take_from_buffer(w, r):  # type: ignore[no-untyped-def]
    """Remove request `r`; its index entry is skipped when it is met."""
    request, buffer = w.requests[r], w.buffer
    buffer.num -= 1
    buffer.tokens -= request.input_tokens
    buffer.chunk_tokens -= min(request.input_tokens, w.setup.chunk_tokens)


@inlined
def oldest_in_buffer(w):  # type: ignore[no-untyped-def]
    """Return the buffered request that arrived first; the buffer must not be empty."""
    buffer = w.buffer
    while w.requests[buffer.oldest].life != _BUFFERED:
        buffer.oldest += 1
    return buffer.oldest


@inlined
def past_limit(w, r):  # type: ignore[no-untyped-def]
    """Return whether buffered request `r` has waited more than n_limit releases."""
    return w.clock.release_number - w.requests[r].waited_releases > w.setup.n_limit


@inlined
def first_in_buffer(w):  # type: ignore[no-untyped-def]
    """Return the request that goes first; the buffer must not be empty."""
    oldest = oldest_in_buffer(w)
    if w.setup.order == _ARRIVAL or past_limit(w, oldest):
        return oldest
    if w.setup.order == _AGE_LONGEST:
        return _front_of_buckets(w)
    while w.requests[w.heap[0] & _ID_MASK].life != _BUFFERED:
        _heap_pop(w)
    return w.heap[0] & _ID_MASK


@inlined
def put_aside(w, r):  # type: ignore[no-untyped-def]
    """Let request `r`, the first in the buffer, stay there: the release goes on without it."""
    agent, buffer = w.agent, w.buffer
    if agent.left < 0:
        agent.kept_front = buffer.front
        agent.kept_oldest = buffer.oldest
    take_from_buffer(w, r)
    if w.setup.order in (_LONGEST, _SHORTEST):
        _heap_pop(w)  # it stands on top
    w.requests[r].life = _ASIDE
    w.requests[r].next = agent.left
    agent.left = r


@inlined
def bring_back(w):  # type: ignore[no-untyped-def]
    """Return those put aside to the buffer, where they were."""
    agent, buffer = w.agent, w.buffer
    if agent.left < 0:
        return
    buffer.oldest = agent.kept_oldest
    # Their buckets are opened anew: requests of the same age may join the youngest one.
    buffer.front = buffer.front_end = agent.kept_front
    while agent.left >= 0:
        r = agent.left
        request = w.requests[r]
        agent.left = request.next
        request.next = -1
        request.life = _BUFFERED
        buffer.num += 1
        buffer.tokens += request.input_tokens
        buffer.chunk_tokens += min(request.input_tokens, w.setup.chunk_tokens)
        if w.setup.order in (_LONGEST, _SHORTEST):
            _heap_push(w, _key(w, r, w.setup.order == _LONGEST))


@inlined
def _key(w, r, longest_first):  # type: ignore[no-untyped-def]
    length = np.int64(w.requests[r].input_tokens)
    rank = _LONGEST_FIRST - length if longest_first else length
    return (rank << _ID_BITS) | r


@inlined
def _front_of_buckets(w):  # type: ignore[no-untyped-def]
    buffer = w.buffer
    while True:
        if buffer.front == buffer.front_end:
            _open_bucket(w)
        r = w.keys[buffer.front] & _ID_MASK
        if w.requests[r].life == _BUFFERED:
            return r
        buffer.front += 1


@inlined
def _open_bucket(w):  # type: ignore[no-untyped-def]
    buffer = w.buffer
    number = w.requests[oldest_in_buffer(w)].waited_releases
    start = buffer.front_end
    while w.requests[w.keys[start] & _ID_MASK].life != _BUFFERED:
        start += 1  # left by another way: past the limit, or rejected
    end = start + 1
    while end < buffer.num_keys and _bucket_number(w, end, number) == number:
        end += 1
    _sort(w.keys, start, end)
    buffer.front, buffer.front_end = start, end


@inlined
def _bucket_number(w, position, fallback):  # type: ignore[no-untyped-def]
    request = w.requests[w.keys[position] & _ID_MASK]
    return request.waited_releases if request.life == _BUFFERED else fallback


@inlined
def _sort(keys, start, end):  # type: ignore[no-untyped-def]
    """Sort keys[start:end]; all keys differ, so any sorting gives the same result."""
    if end - start > _FEW:
        _heap_sort(keys, start, end - start)
        return
    for i in range(start + 1, end):
        key = keys[i]
        j = i
        while j > start and keys[j - 1] > key:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = key


@inlined
def _heap_sort(keys, start, count):  # type: ignore[no-untyped-def]
    for root in range(count // 2 - 1, -1, -1):
        _sink(keys, start, root, count)
    for last in range(count - 1, 0, -1):
        keys[start], keys[start + last] = keys[start + last], keys[start]
        _sink(keys, start, 0, last)


@inlined
def _sink(keys, start, root, count):  # type: ignore[no-untyped-def]
    """Restore the largest-on-top heap of keys[start:start + count] below `root`."""
    key = keys[start + root]
    slot = root
    while True:
        child = 2 * slot + 1
        if child >= count:
            break
        if child + 1 < count and keys[start + child + 1] > keys[start + child]:
            child += 1
        if keys[start + child] <= key:
            break
        keys[start + slot] = keys[start + child]
        slot = child
    keys[start + slot] = key


@inlined
def _heap_push(w, key):  # type: ignore[no-untyped-def]
    w.buffer.heap_size += 1
    sift_up(w.heap, 0, w.buffer.heap_size - 1, key)


@inlined
def _heap_pop(w):  # type: ignore[no-untyped-def]
    last = w.buffer.heap_size - 1
    w.buffer.heap_size = last
    sift_down(w.heap, 0, 0, last, w.heap[last])
