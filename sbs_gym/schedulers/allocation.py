"""Prefill allocation: fill the ranks of the released instance, PBAA above all (Algorithm 2)."""

from __future__ import annotations

import math

from sbs_gym.jit import inlined
from sbs_gym.schedulers.questions import asks_for_rank, take_answer
from sbs_gym.schedulers.routing import draw
from sbs_gym.schedulers.rules import Allocation, LimitAction, PolicyPurpose
from sbs_gym.sim.agent_state import Pause, Question
from sbs_gym.sim.buffer import (
    bring_back,
    first_in_buffer,
    oldest_in_buffer,
    past_limit,
    put_aside,
    take_from_buffer,
)
from sbs_gym.sim.handoff import reject
from sbs_gym.sim.prefill import fresh_cost
from sbs_gym.sim.view import begin_release, leftover_cost, note_dispatch

_PBAA, _LPT = int(Allocation.PBAA), int(Allocation.LPT)
_LEAST_TOKENS, _LEAST_REQUESTS = int(Allocation.LEAST_TOKENS), int(Allocation.LEAST_REQUESTS)
_ROUND_ROBIN = int(Allocation.ROUND_ROBIN)
_ALLOCATE = int(PolicyPurpose.ALLOCATE)
_FORCE = int(LimitAction.FORCE)
_BY_AGENT = int(Question.PREFILL)
_NOWHERE, _IN_ALLOCATION = int(Pause.NOWHERE), int(Pause.ALLOCATION)


@inlined
def allocate(w, rules, i, budget, most):  # type: ignore[no-untyped-def]
    """Place up to `most` buffered requests on the ranks of instance `i`.

    Returns how many; -1 if an agent has to choose a rank first, who then finds the release here.
    """
    agent = w.agent
    by_agent = agent.kinds & _BY_AGENT
    placed = 0
    if agent.paused == _IN_ALLOCATION:
        agent.paused = _NOWHERE
        placed = agent.placed
    else:
        measure_room(w, rules, i, budget)
    while placed < most and w.buffer.num > 0:
        best = roomiest(w)
        has_room = w.room[best] > 0.0 or not w.setup.gated
        forced = rules.limit_action == _FORCE and past_limit(w, oldest_in_buffer(w))
        if not has_room and not forced:
            break
        r = first_in_buffer(w)  # asked only for a release: it closes the youngest age
        if is_kept_out(w, rules, i, r):
            put_aside(w, r)
            continue
        if by_agent and has_room:
            if asks_for_rank(w, i, r, placed):
                return -1
            d = take_answer(w)
            if d == w.setup.dp:
                agent.stopped = 1
                put_aside(w, r)
                continue
        if placed == 0:
            begin_release(w, i)
        if not by_agent or not has_room:
            d = best if forced or rules.allocation == _PBAA else choose_rank(w, rules, i, r)
        place(w, rules, i, r, d)
        placed += 1
    if placed > 0:
        agent.stopped = 0
    bring_back(w)
    return placed


@inlined
def is_kept_out(w, rules, i, r):  # type: ignore[no-untyped-def]
    """Return whether long request `r` has to wait for an instance that holds long ones already.

    One with such a request is known to have work, so that its signal brings the next round.
    """
    reserved = reserved_now(w, rules)
    if reserved == 0 or w.requests[r].input_tokens <= w.setup.long_tokens:
        return False
    if w.views[i].outstanding_long > 0 or past_limit(w, r):
        return False
    holders = 0
    for j in range(w.setup.num_prefill):
        if w.views[j].outstanding_long > 0:
            holders += 1
    return holders >= max(w.setup.num_prefill - reserved, 1)


@inlined
def reserved_now(w, rules):  # type: ignore[no-untyped-def]
    """Return how many instances are kept free of long prompts: as the agent or the rules say."""
    agent = w.agent
    return agent.reserved if agent.num_reserved > 1 and agent.kinds else rules.reserved


@inlined
def measure_room(w, rules, i, budget):  # type: ignore[no-untyped-def]
    """Write each rank's load (its leftover) and room (budget less leftover) into the scratch."""
    full = float(budget)
    if rules.charge_cost:
        full = fresh_cost(w, budget)
    for d in range(w.setup.dp):
        k = i * w.setup.dp + d
        load = float(w.leftovers[k])
        if rules.charge_cost:
            load = leftover_cost(w, k, 0)
        w.load[d] = load
        w.room[d] = full - load


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
def roomiest(w):  # type: ignore[no-untyped-def]
    """Return the rank with the most room, ties to the lowest index."""
    best, most = 0, w.room[0]
    for d in range(1, w.setup.dp):
        room = w.room[d]
        if room > most:
            best, most = d, room
    return best


@inlined
def choose_rank(w, rules, i, r):  # type: ignore[no-untyped-def]
    """Return the rank of instance `i` for request `r`; at least one rank is eligible.

    Eligible are the ranks with room, or all under a rule that does not wait for readiness.
    """
    rule = rules.allocation
    if rule == _PBAA:
        return roomiest(w)  # the roomiest is eligible if any rank is
    if rule in (_LPT, _LEAST_TOKENS, _LEAST_REQUESTS):
        return _least_loaded(w, rule, i)
    if rule == _ROUND_ROBIN:
        return _next_in_turn(w, i)
    return _random_rank(w, r)


@inlined
def _is_eligible(w, d):  # type: ignore[no-untyped-def]
    return w.room[d] > 0.0 or not w.setup.gated


@inlined
def _least_loaded(w, rule, i):  # type: ignore[no-untyped-def]
    best, least = -1, math.inf
    for d in range(w.setup.dp):
        k = i * w.setup.dp + d
        load = w.load[d]
        if rule == _LEAST_REQUESTS:
            load = float(w.rank_views[k].num_unacked)
        elif rule == _LEAST_TOKENS:
            load = float(w.leftovers[k] + w.rank_views[k].last_tokens)
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
def _random_rank(w, r):  # type: ignore[no-untyped-def]
    num_eligible = 0
    for d in range(w.setup.dp):
        if _is_eligible(w, d):
            num_eligible += 1
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
