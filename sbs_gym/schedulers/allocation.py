"""Prefill allocation: fill the ranks of the released instance, PBAA above all (Algorithm 2)."""

from __future__ import annotations

import math

import numpy as np

from sbs_gym.jit import inlined
from sbs_gym.schedulers.routing import draw
from sbs_gym.schedulers.rules import Allocation, LimitAction, PolicyPurpose
from sbs_gym.sim.buffer import first_in_buffer, oldest_in_buffer, past_limit, take_from_buffer
from sbs_gym.sim.handoff import reject
from sbs_gym.sim.prefill import chunk_cost, fresh_cost
from sbs_gym.sim.view import begin_release, note_dispatch, skip_tokens

_PBAA, _LPT = int(Allocation.PBAA), int(Allocation.LPT)
_LEAST_TOKENS, _LEAST_REQUESTS = int(Allocation.LEAST_TOKENS), int(Allocation.LEAST_REQUESTS)
_ROUND_ROBIN = int(Allocation.ROUND_ROBIN)
_ALLOCATE = int(PolicyPurpose.ALLOCATE)
_FORCE = int(LimitAction.FORCE)


@inlined
def allocate(w, rules, i, budget, most):  # type: ignore[no-untyped-def]
    """Place up to `most` buffered requests on the ranks of instance `i`; return how many."""
    measure_room(w, rules, i, budget)
    placed = 0
    while placed < most and w.buffer.num > 0:
        num_eligible = _count_eligible(w)
        forced = rules.limit_action == _FORCE and past_limit(w, oldest_in_buffer(w))
        if num_eligible == 0 and not forced:
            break
        if placed == 0:
            begin_release(w, i)
        r = first_in_buffer(w)  # asked only for a release: it closes the youngest age
        d = roomiest(w) if forced else choose_rank(w, rules, i, r, num_eligible)
        place(w, rules, i, r, d)
        placed += 1
    return placed


@inlined
def measure_room(w, rules, i, budget):  # type: ignore[no-untyped-def]
    """Write each rank's load (its leftover) and room (budget less leftover) into the scratch."""
    full = float(budget)
    if rules.charge_cost:
        full = fresh_cost(w, budget)
    for d in range(w.setup.dp):
        k = i * w.setup.dp + d
        load = float(w.rank_views[k].leftover_tokens)
        if rules.charge_cost:
            load = _leftover_cost(w, k)
        w.load[d] = load
        w.room[d] = full - load


@inlined
def _leftover_cost(w, k):  # type: ignore[no-untyped-def]
    """Return the cost of rank `k`'s leftover: each prompt's rest as one chunk with context."""
    known = w.rank_views[k]
    left = known.leftover_tokens
    if left == 0:
        return 0.0
    ahead = known.sent_tokens - known.acked_tokens - left
    r, done = skip_tokens(w, known.head, known.head_done, ahead)
    cost = 0.0
    while left > 0:
        q = np.int64(w.requests[r].input_tokens) - done
        cost += chunk_cost(w, q, done)
        left -= q
        r = w.requests[r].next
        done = 0
    return cost


@inlined
def place(w, rules, i, r, d):  # type: ignore[no-untyped-def]
    """Take request `r` out of the buffer and charge it to rank `d` of instance `i`."""
    tokens = w.requests[r].input_tokens
    charge = fresh_cost(w, tokens) if rules.charge_cost else float(tokens)
    w.room[d] -= charge
    w.load[d] += charge
    take_from_buffer(w, r)
    note_dispatch(w, r, i, d)


@inlined
def _count_eligible(w):  # type: ignore[no-untyped-def]
    """Return the number of ranks that may take a request: those with room, or all if ungated."""
    if not w.setup.gated:
        return w.setup.dp
    count = 0
    for d in range(w.setup.dp):
        if w.room[d] > 0.0:
            count += 1
    return count


@inlined
def roomiest(w):  # type: ignore[no-untyped-def]
    """Return the rank with the most room, ties to the lowest index."""
    best = 0
    for d in range(1, w.setup.dp):
        if w.room[d] > w.room[best]:
            best = d
    return best


@inlined
def choose_rank(w, rules, i, r, num_eligible):  # type: ignore[no-untyped-def]
    """Return the rank of instance `i` for request `r`; at least one rank is eligible."""
    rule = rules.allocation
    if rule == _PBAA:
        return roomiest(w)  # the roomiest is eligible if any rank is
    if rule in (_LPT, _LEAST_TOKENS, _LEAST_REQUESTS):
        return _least_loaded(w, rule, i)
    if rule == _ROUND_ROBIN:
        return _next_in_turn(w, i)
    return _random_rank(w, r, num_eligible)


@inlined
def _is_eligible(w, d):  # type: ignore[no-untyped-def]
    return w.room[d] > 0.0 or not w.setup.gated


@inlined
def _least_loaded(w, rule, i):  # type: ignore[no-untyped-def]
    best, least = -1, math.inf
    for d in range(w.setup.dp):
        known = w.rank_views[i * w.setup.dp + d]
        load = w.load[d]
        if rule == _LEAST_REQUESTS:
            load = float(known.num_unacked)
        elif rule == _LEAST_TOKENS:
            load = float(known.leftover_tokens + known.last_tokens)
        if load < least and _is_eligible(w, d):
            best, least = d, load
    return best


@inlined
def _next_in_turn(w, i):  # type: ignore[no-untyped-def]
    view, dp = w.views[i], w.setup.dp
    for step in range(dp):
        d = (view.next_rank + step) % dp
        if _is_eligible(w, d):
            view.next_rank = (d + 1) % dp
            return d
    return 0


@inlined
def _random_rank(w, r, num_eligible):  # type: ignore[no-untyped-def]
    left = draw(w, _ALLOCATE, r, num_eligible)
    for d in range(w.setup.dp):
        if _is_eligible(w, d):
            if left == 0:
                return d
            left -= 1
    return 0


@inlined
def reject_past_limit(w):  # type: ignore[no-untyped-def]
    """Reject every buffered request that has waited more than n_limit releases."""
    while w.buffer.num > 0:
        r = oldest_in_buffer(w)
        if not past_limit(w, r):
            return
        take_from_buffer(w, r)
        reject(w, r)
