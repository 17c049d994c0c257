"""Routing rules: which instance takes an ungated release; which of two ready ones is first."""

from __future__ import annotations

import numpy as np

from sbs_gym.jit import inlined
from sbs_gym.rng import Stream, hash64
from sbs_gym.schedulers.rules import PolicyPurpose, Routing

_POLICY = int(Stream.POLICY)
_ROUTE, _ROUTE_SECOND = int(PolicyPurpose.ROUTE), int(PolicyPurpose.ROUTE_SECOND)
_ROUND_ROBIN, _RANDOM = int(Routing.ROUND_ROBIN), int(Routing.RANDOM)
_LEAST_REQUESTS, _POWER_OF_TWO = int(Routing.LEAST_REQUESTS), int(Routing.POWER_OF_TWO)


@inlined
def choose_instance(w, rules, r):  # type: ignore[no-untyped-def]
    """Return the instance for a release whose first request is `r`."""
    num = w.setup.num_prefill
    if rules.routing == _ROUND_ROBIN:
        return w.clock.release_number % num
    if rules.routing == _RANDOM:
        return draw(w, _ROUTE, r, num)
    if rules.routing == _POWER_OF_TWO:
        return _better_of_two(w, r, num)
    best, least = 0, -1
    for i in range(num):
        view = w.views[i]
        if rules.routing == _LEAST_REQUESTS:
            load = view.outstanding_requests
        else:
            load = view.outstanding_tokens
        if least < 0 or load < least:
            best, least = i, load
    return best


@inlined
def draw(w, purpose, r, count):  # type: ignore[no-untyped-def]
    """Return a whole number in [0, count), addressed by the request."""
    word = hash64(w.setup.seed, _POLICY, purpose, r, 0)
    return np.int64(word % np.uint64(count))


@inlined
def _better_of_two(w, r, num):  # type: ignore[no-untyped-def]
    if num == 1:
        return 0
    i = draw(w, _ROUTE, r, num)
    j = draw(w, _ROUTE_SECOND, r, num - 1)
    j = j + 1 if j >= i else j
    first, second = min(i, j), max(i, j)
    if w.views[second].outstanding_tokens < w.views[first].outstanding_tokens:
        return second
    return first


@inlined
def comes_earlier(w, i, j):  # type: ignore[no-untyped-def]
    """Return whether ready instance `i` stands before ready instance `j` in the ready order.

    Waiting instances by how long, then running ones by predicted end, then the lower index.
    """
    a, b = w.views[i], w.views[j]
    if a.running != b.running:
        return a.running < b.running
    if a.running:
        if a.run_end_s != b.run_end_s:
            return a.run_end_s < b.run_end_s
    elif a.idle_since_s != b.idle_since_s:
        return a.idle_since_s < b.idle_since_s
    return i < j
