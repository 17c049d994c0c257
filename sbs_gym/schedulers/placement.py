"""Decode placement: which decode rank a prompt is bound to (Algorithm 3 and its rivals).

docs/semantics.md section 15 is the specification of every rule. Rules read the scheduler's records
only (sim/reports.py); the true rank grants or refuses.
"""

from __future__ import annotations

import math

import numpy as np

from sbs_gym.jit import compiled, inlined
from sbs_gym.schedulers.placement_ahead import best_fit, best_response, draw_by_weight
from sbs_gym.schedulers.questions import take_answer
from sbs_gym.schedulers.routing import draw
from sbs_gym.schedulers.rules import Placement, PolicyPurpose
from sbs_gym.sim.agent_state import Pause, Question
from sbs_gym.sim.handoff import bind, blocks_for, is_passed_over, pass_over_those_behind
from sbs_gym.sim.prefill import consider_start
from sbs_gym.sim.reports import (
    known_blocks,
    known_kv_load,
    known_kv_tokens,
    known_requests,
    known_waiting,
)

_ROUND_ROBIN, _RANDOM = int(Placement.ROUND_ROBIN), int(Placement.RANDOM)
_JSQ, _POWER_OF_TWO = int(Placement.JSQ), int(Placement.POWER_OF_TWO)
_LEAST_KV, _VLLM_COUNT = int(Placement.LEAST_KV), int(Placement.VLLM_COUNT)
_VLLM_KV, _TOTAL_TOKENS = int(Placement.VLLM_KV), int(Placement.TOTAL_TOKENS)
_IQR_LEX, _BF_IO, _BR_0 = int(Placement.IQR_LEX), int(Placement.BF_IO), int(Placement.BR_0)
_BY_AGENT = int(Question.DECODE)
_NOWHERE, _IN_PLACEMENT = int(Pause.NOWHERE), int(Pause.PLACEMENT)
_PLACE, _PLACE_SECOND = int(PolicyPurpose.PLACE), int(PolicyPurpose.PLACE_SECOND)
_MIN_FOR_QUARTILES = 4


@compiled
def run_placement(w, rules):  # type: ignore[no-untyped-def]
    """Try to bind every request that waits for a decode rank; forget those that were granted.

    Returns whether the round is over; if not, an agent has to choose a rank first.
    """
    at_dispatch = w.setup.bind_at_dispatch
    agent, num = w.agent, w.clock.num_waiting
    position, kept, has_ranks = np.int64(0), np.int64(0), True
    if agent.paused == _IN_PLACEMENT:
        position, kept = agent.position, agent.kept
        agent.paused = _NOWHERE
    else:
        if rules.longest_first and not at_dispatch:
            _sort_longest_first(w)
        w.clock.num_placements += 1
    while position < num:
        r = np.int64(w.waiting[position])
        granted = False
        if has_ranks and not (at_dispatch and is_passed_over(w, r)):
            if asks_for_decode_rank(w, r):
                agent.position, agent.kept = position, kept
                return False
            k = take_answer(w) if agent.answer >= 0 else choose_decode_rank(w, rules, r)
            has_ranks = k >= 0
            granted = has_ranks and bind(w, r, k)
        if not granted:
            w.waiting[kept] = r
            kept += 1
            if at_dispatch:
                pass_over_those_behind(w, r)
        position += 1
    w.clock.num_waiting = kept
    if at_dispatch and kept < num:
        for i in range(w.setup.num_prefill):
            consider_start(w, i)
    return True


@inlined
def asks_for_decode_rank(w, r):  # type: ignore[no-untyped-def]
    """Return whether the agent has to choose a decode rank for request `r`.

    It may choose from the ranks with room by the records; where there are none, from all that have
    not refused; nobody is asked where there are none of those either.
    """
    agent = w.agent
    if agent.answer >= 0 or not agent.kinds & _BY_AGENT:
        return False
    agent.has_ranks = _find_candidates(w, r, True) > 0
    if not agent.has_ranks and _find_candidates(w, r, False) == 0:
        return False
    agent.asked = _BY_AGENT
    agent.paused = _IN_PLACEMENT
    agent.request = r
    return True


@inlined
def _sort_longest_first(w):  # type: ignore[no-untyped-def]
    """Sort those that wait, longest first, ties as they stand; what was sorted before still is."""
    for position in range(1, w.clock.num_waiting):
        r = w.waiting[position]
        tokens = w.requests[r].input_tokens
        j = position
        while j > 0 and w.requests[w.waiting[j - 1]].input_tokens < tokens:
            w.waiting[j] = w.waiting[j - 1]
            j -= 1
        w.waiting[j] = r


@inlined
def choose_decode_rank(w, rules, r):  # type: ignore[no-untyped-def]
    """Return the decode rank to ask for request `r`; -1 if every rank has refused lately."""
    count = _find_candidates(w, r, True)
    if count == 0:
        count = _find_candidates(w, r, False)
        return _shortest(w, _VLLM_COUNT, count) if count > 0 else -1
    rule = rules.placement
    if rule == _IQR_LEX:
        return _least_lexicographic(w, rules, count)
    if rule == _ROUND_ROBIN:
        return _next_in_turn(w, count)
    if rule == _RANDOM:
        return np.int64(w.candidates[draw(w, _PLACE, r, count)])
    if rule == _POWER_OF_TWO:
        return _better_of_two(w, r, count)
    if rule == _VLLM_KV:
        return _least_score_in_turn(w, count)
    if rule == _BF_IO:
        return best_fit(w, rules, r, count)
    if rule == _BR_0:
        return best_response(w, r, count)
    if rule in (_JSQ, _VLLM_COUNT):
        return _shortest(w, rule, count)
    if rule in (_LEAST_KV, _TOTAL_TOKENS):
        return _lightest(w, rules, count)
    return draw_by_weight(w, rules, r, count)


@inlined
def _find_candidates(w, r, with_room):  # type: ignore[no-untyped-def]
    """Write the ranks that may be asked for request `r` to `w.candidates`; return how many."""
    setup = w.setup
    need = blocks_for(w, w.requests[r].input_tokens + setup.reserve_tokens)
    count = 0
    for k in range(setup.num_decode_ranks):
        if w.decode_views[k].refused:
            continue
        if with_room and setup.decode_blocks - known_blocks(w, k) < need:
            continue
        w.candidates[count] = k
        count += 1
    return count


@inlined
def _next_in_turn(w, count):  # type: ignore[no-untyped-def]
    k = np.int64(w.candidates[0])
    for c in range(count):
        if w.candidates[c] >= w.clock.next_place:
            k = np.int64(w.candidates[c])
            break
    w.clock.next_place = (k + 1) % w.setup.num_decode_ranks
    return k


@inlined
def _shortest(w, rule, count):  # type: ignore[no-untyped-def]
    best, least = np.int64(-1), np.int64(0)
    for c in range(count):
        k = np.int64(w.candidates[c])
        load = known_requests(w, k)
        if rule == _VLLM_COUNT:
            load += 3 * known_waiting(w, k)  # 4 * waiting + running
        if best < 0 or load < least:
            best, least = k, load
    return best


@inlined
def _lightest(w, rules, count):  # type: ignore[no-untyped-def]
    """Return the candidate with the least KV; by tokens, with ties to the fewest requests."""
    in_turn = rules.placement == _TOTAL_TOKENS
    best, least, fewest = np.int64(-1), 0.0, np.int64(0)
    for c in range(count):
        k = np.int64(w.candidates[c])
        load = known_kv_tokens(w, k) if in_turn else known_kv_load(w, k, rules.kv_in_tokens)
        requests = known_requests(w, k) if in_turn else np.int64(0)
        if best < 0 or load < least or (load == least and requests < fewest):
            best, least, fewest = k, load, requests
    return best


@inlined
def _better_of_two(w, r, count):  # type: ignore[no-untyped-def]
    first = draw(w, _PLACE, r, count)
    if count == 1:
        return np.int64(w.candidates[first])
    second = draw(w, _PLACE_SECOND, r, count - 1)
    if second >= first:
        second += 1
    low = np.int64(w.candidates[min(first, second)])
    high = np.int64(w.candidates[max(first, second)])
    return high if known_requests(w, high) < known_requests(w, low) else low


@inlined
def _least_score_in_turn(w, count):  # type: ignore[no-untyped-def]
    """Return vLLM's choice: requests, and a penalty for queues on ranks more than half full."""
    start, ranks = w.clock.next_scan, w.setup.num_decode_ranks
    w.clock.next_scan = (start + 1) % ranks
    best, best_turn, least = np.int64(-1), np.int64(0), 0.0
    for c in range(count):
        k = np.int64(w.candidates[c])
        waiting = known_waiting(w, k)
        score = float(known_requests(w, k))
        if waiting > 0:
            use = float(known_blocks(w, k)) / float(w.setup.decode_blocks)
            score += float(6 * waiting) * max(0.0, use - 0.5)
        turn = (k - start + ranks) % ranks
        if best < 0 or score < least or (score == least and turn < best_turn):
            best, best_turn, least = k, turn, score
    return best


@inlined
def _least_lexicographic(w, rules, count):  # type: ignore[no-untyped-def]
    """Return Algorithm 3's choice: mask outliers of KV load, then fewest requests, least KV."""
    limit = math.inf
    if count >= _MIN_FOR_QUARTILES:
        limit = _outlier_limit(w, rules, count)
        safe = 0
        for c in range(count):
            if known_kv_load(w, np.int64(w.candidates[c]), rules.kv_in_tokens) <= limit:
                safe += 1
        if safe < rules.min_safe_ranks:
            limit = math.inf
    best, fewest, least = np.int64(-1), np.int64(0), 0.0
    for c in range(count):
        k = np.int64(w.candidates[c])
        load, requests = known_kv_load(w, k, rules.kv_in_tokens), known_requests(w, k)
        if load > limit:
            continue
        if best < 0 or requests < fewest or (requests == fewest and load < least):
            best, fewest, least = k, requests, load
    return best


@inlined
def _outlier_limit(w, rules, count):  # type: ignore[no-untyped-def]
    """Return Q3 + k * (Q3 - Q1) of the candidates' KV load."""
    _sort_by_load(w, rules)
    found = 0
    for position in range(w.setup.num_decode_ranks):
        k = np.int64(w.by_load[position])
        if _is_candidate(w, k, count):
            w.look_ahead[found] = known_kv_load(w, k, rules.kv_in_tokens)
            found += 1
    low = _quantile(w, 0.25, count)
    high = _quantile(w, 0.75, count)
    return high + rules.iqr_k * (high - low)


@inlined
def _is_candidate(w, k, count):  # type: ignore[no-untyped-def]
    if count == w.setup.num_decode_ranks:
        return True
    low, high = 0, count  # candidates stand in rising order
    while low < high:
        middle = (low + high) >> 1
        if w.candidates[middle] < k:
            low = middle + 1
        else:
            high = middle
    return low < count and w.candidates[low] == k


@inlined
def _sort_by_load(w, rules):  # type: ignore[no-untyped-def]
    """Bring `w.by_load` into rising order of KV load; it nearly is since the last time."""
    for position in range(1, w.setup.num_decode_ranks):
        k = w.by_load[position]
        load = known_kv_load(w, np.int64(k), rules.kv_in_tokens)
        j = position
        while j > 0 and known_kv_load(w, np.int64(w.by_load[j - 1]), rules.kv_in_tokens) > load:
            w.by_load[j] = w.by_load[j - 1]
            j -= 1
        w.by_load[j] = k


@inlined
def _quantile(w, q, count):  # type: ignore[no-untyped-def]
    """Return a quantile of the sorted `w.look_ahead[:count]`, linear between neighbours."""
    x = q * (count - 1)
    low = math.floor(x)
    a = w.look_ahead[low]
    if low == count - 1:
        return a
    return a + (w.look_ahead[low + 1] - a) * (x - low)
