"""The encoder of observations: the scheduler's knowledge as numbers, as features.py lists them.

Compiled, so that a learned rule can run inside the loop. Nothing here reads true state, the length
of an answer, or a request that has not arrived.
"""

from __future__ import annotations

import numpy as np

from sbs_gym.jit import compiled, inlined
from sbs_gym.sim.agent_state import NUM_BINS, NUM_LENGTHS, SHORT_BINS, Question
from sbs_gym.sim.buffer import oldest_in_buffer
from sbs_gym.sim.codes import Life
from sbs_gym.sim.features import Group
from sbs_gym.sim.reports import known_blocks, known_kv_tokens, known_requests, known_waiting
from sbs_gym.sim.sight import dispersion, tokens_per_s, watch_arrivals
from sbs_gym.sim.view import leftover_cost

_BUFFERED = int(Life.BUFFERED)
_RELEASE, _PREFILL = int(Question.RELEASE), int(Question.PREFILL)
_DECODE = int(Question.DECODE)
_INSTANCES, _RANKS = int(Group.INSTANCES), int(Group.RANKS)
_DECODE_RANKS, _REQUEST = int(Group.DECODE_RANKS), int(Group.REQUEST)


@inlined
def _put(out, e, n, value, low, high):  # type: ignore[no-untyped-def]
    """Write one number, clipped, and return the place of the next."""
    out[e, n] = min(max(value, low), high)
    return n + 1


@inlined
def _put_flag(out, e, n, holds):  # type: ignore[no-untyped-def]
    out[e, n] = 1.0 if holds else 0.0
    return n + 1


@compiled
def observe(w, out, e):  # type: ignore[no-untyped-def]
    """Write what the agent sees into out[e, :], float32."""
    sees = w.agent.sees
    watch_arrivals(w)
    n = _put_question(w, out, e)
    n = _put_buffer(w, out, e, n)
    n = _put_clock(w, out, e, n)
    n = _put_arrivals(w, out, e, n)
    n = _put_links(w, out, e, n)
    if sees & _INSTANCES:
        for i in range(w.setup.num_prefill):
            n = _put_instance(w, out, e, n, i)
    if sees & _RANKS:
        for d in range(w.setup.dp):
            n = _put_rank(w, out, e, n, d)
    if sees & _DECODE_RANKS:
        for k in range(w.setup.num_decode_ranks):
            n = _put_decode_rank(w, out, e, n, k)
    if sees & _REQUEST:
        _put_request(w, out, e, n)


@inlined
def _put_question(w, out, e):  # type: ignore[no-untyped-def]
    agent = w.agent
    n = _put_flag(out, e, 0, agent.asked == _RELEASE)
    n = _put_flag(out, e, n, agent.asked == _PREFILL)
    n = _put_flag(out, e, n, agent.asked == _DECODE)
    return _put(out, e, n, w.clock.now_s - agent.asked_at_s, 0.0, 10.0)


@inlined
def _put_buffer(w, out, e, n):  # type: ignore[no-untyped-def]
    setup, num = w.setup, w.buffer.num
    ranks, chunk = float(setup.num_prefill * setup.dp), float(setup.chunk_tokens)
    n = _put(out, e, n, num / ranks, 0.0, 50.0)
    n = _put(out, e, n, w.buffer.tokens / (ranks * chunk), 0.0, 50.0)
    if num == 0:
        for _ in range(6):
            n = _put(out, e, n, 0.0, 0.0, 0.0)
        return n
    now, oldest = w.clock.now_s, oldest_in_buffer(w)
    longest, count, kept, middle_at_s = np.int64(0), 0, 0, 0.0
    for r in range(oldest, w.clock.next_arrival):
        request = w.requests[r]
        if request.life != _BUFFERED:
            continue
        tokens = np.int64(request.input_tokens)
        longest = max(longest, tokens)
        if count == (num - 1) // 2:
            middle_at_s = request.arrived_at_s
        count += 1
        if kept < NUM_LENGTHS:
            _insert(w.lengths, kept, tokens)
            kept += 1
        if count == num:
            break
    n = _put(out, e, n, longest / chunk, 0.0, 50.0)
    n = _put(out, e, n, now - w.requests[oldest].arrived_at_s, 0.0, 60.0)
    n = _put(out, e, n, now - middle_at_s, 0.0, 60.0)
    for quarter in range(1, 4):
        n = _put(out, e, n, w.lengths[(quarter * (kept - 1)) // 4] / chunk, 0.0, 50.0)
    return n


@inlined
def _insert(lengths, count, tokens):  # type: ignore[no-untyped-def]
    """Insert a length into the sorted lengths[:count]."""
    j = count
    while j > 0 and lengths[j - 1] > tokens:
        lengths[j] = lengths[j - 1]
        j -= 1
    lengths[j] = tokens


@inlined
def _put_clock(w, out, e, n):  # type: ignore[no-untyped-def]
    clock, setup, agent = w.clock, w.setup, w.agent
    link = setup.dispatch_delay_s + setup.signal_delay_s
    interval = (clock.pass_avg_s + link) / setup.num_prefill
    since = clock.now_s - clock.last_release_at_s
    n = _put(out, e, n, clock.pass_avg_s, 0.0, 10.0)
    n = _put(out, e, n, interval, 0.0, 10.0)
    n = _put(out, e, n, since, 0.0, 60.0)
    left = 0.0
    if agent.stands:
        window = max(agent.multiplier * interval, agent.least_interval_s)
        left = min(window, agent.most_interval_s) - since
    return _put(out, e, n, left, 0.0, 10.0)


@inlined
def _put_arrivals(w, out, e, n):  # type: ignore[no-untyped-def]
    setup, sight, now = w.setup, w.sight, w.clock.now_s
    full = float(setup.num_prefill * setup.dp * setup.chunk_tokens)
    share = sight.pass_chunk_s / full
    n = _put(out, e, n, sight.tokens * share, 0.0, 10.0)
    rate = tokens_per_s(sight, now, sight.short_tokens, SHORT_BINS)
    n = _put(out, e, n, rate * share, 0.0, 10.0)
    rate = tokens_per_s(sight, now, sight.bins_tokens, NUM_BINS)
    n = _put(out, e, n, rate * share, 0.0, 10.0)
    return _put(out, e, n, dispersion(sight), 0.0, 50.0)


@inlined
def _put_links(w, out, e, n):  # type: ignore[no-untyped-def]
    setup, sight = w.setup, w.sight
    n = _put(out, e, n, sight.pass_256_s, 0.0, 10.0)
    n = _put(out, e, n, sight.pass_1024_s, 0.0, 10.0)
    n = _put(out, e, n, sight.pass_chunk_s, 0.0, 10.0)
    n = _put(out, e, n, setup.dispatch_delay_s, 0.0, 1.0)
    n = _put(out, e, n, setup.signal_delay_s, 0.0, 1.0)
    n = _put(out, e, n, w.clock.now_s - sight.report_sample_at_s, 0.0, 10.0)
    ranks = setup.num_decode_ranks
    if ranks == 0:
        for _ in range(3):
            n = _put(out, e, n, 0.0, 0.0, 0.0)
        return n
    requests, blocks = np.int64(0), np.int64(0)
    for k in range(ranks):
        requests += known_requests(w, k)
        blocks += known_blocks(w, k)
    waiting = w.clock.num_waiting
    if w.agent.asked == _DECODE:  # the round's own count lags behind
        waiting -= w.agent.position - w.agent.kept
    n = _put(out, e, n, waiting / float(ranks), 0.0, 50.0)
    n = _put(out, e, n, requests / float(ranks * setup.max_running), 0.0, 2.0)
    return _put(out, e, n, blocks / float(ranks * setup.decode_blocks), 0.0, 2.0)


@inlined
def _put_instance(w, out, e, n, i):  # type: ignore[no-untyped-def]
    view, setup, now = w.views[i], w.setup, w.clock.now_s
    chunk = float(setup.chunk_tokens)
    full = setup.dp * chunk
    cost_s, fullest = 0.0, np.int64(0)
    if view.leftover_tokens > 0:
        cost_s, fullest = _leftovers(w, i)
    running = view.running != 0
    n = _put_flag(out, e, n, running)
    n = _put_flag(out, e, n, view.pending)
    n = _put(out, e, n, view.run_end_s - now if running else 0.0, -10.0, 10.0)
    n = _put(out, e, n, 0.0 if running else now - view.idle_since_s, 0.0, 10.0)
    n = _put(out, e, n, view.error_s, 0.0, 1.0)
    n = _put(out, e, n, view.outstanding_tokens / full, 0.0, 50.0)
    n = _put(out, e, n, view.leftover_tokens / full, 0.0, 50.0)
    n = _put(out, e, n, cost_s / setup.dp, 0.0, 10.0)
    n = _put(out, e, n, fullest / chunk, 0.0, 50.0)
    n = _put(out, e, n, view.last_budget / chunk, 0.0, 1.0)
    chosen = w.agent.asked == _PREFILL and w.agent.instance == i
    return _put_flag(out, e, n, chosen)


@inlined
def _leftovers(w, i):  # type: ignore[no-untyped-def]
    """Return the cost of what is left on instance `i`, and the tokens left on its fullest rank."""
    cost_s, fullest = 0.0, np.int64(0)
    by_tokens = w.timing.pair_cost_s == 0.0
    agent = w.agent
    in_release = agent.asked == _PREFILL and agent.instance == i and agent.placed > 0
    for k in range(i * w.setup.dp, (i + 1) * w.setup.dp):
        left = w.leftovers[k]
        fullest = max(fullest, left)
        if by_tokens:
            cost_s += w.timing.token_cost_s * left
        else:
            behind = w.rank_views[k].last_tokens if in_release else 0
            cost_s += leftover_cost(w, k, behind)
    return cost_s, fullest


@inlined
def _put_rank(w, out, e, n, d):  # type: ignore[no-untyped-def]
    asked = w.agent.asked == _PREFILL
    k = w.agent.instance * w.setup.dp + d
    room, load = 0.0, 0.0
    if asked:
        budget = max(w.room[d] + w.load[d], 1e-12)  # in the unit of both
        room, load = w.room[d] / budget, w.load[d] / budget
    chunk = float(w.setup.chunk_tokens)
    n = _put(out, e, n, room, -50.0, 1.0)
    n = _put(out, e, n, load, 0.0, 50.0)
    n = _put(out, e, n, w.leftovers[k] / chunk if asked else 0.0, 0.0, 50.0)
    return _put(out, e, n, float(w.rank_views[k].num_unacked) if asked else 0.0, 0.0, 50.0)


@inlined
def _put_decode_rank(w, out, e, n, k):  # type: ignore[no-untyped-def]
    setup = w.setup
    limit, room = float(setup.max_running), float(setup.decode_blocks)
    n = _put(out, e, n, known_requests(w, k) / limit, 0.0, 2.0)
    n = _put(out, e, n, known_waiting(w, k) / limit, 0.0, 2.0)
    n = _put(out, e, n, known_kv_tokens(w, k) / (room * setup.block_tokens), 0.0, 2.0)
    n = _put(out, e, n, known_blocks(w, k) / room, 0.0, 2.0)
    return _put_flag(out, e, n, w.decode_views[k].refused)


@inlined
def _put_request(w, out, e, n):  # type: ignore[no-untyped-def]
    agent, setup = w.agent, w.setup
    if agent.asked != _PREFILL and agent.asked != _DECODE:
        for _ in range(6):
            n = _put(out, e, n, 0.0, 0.0, 0.0)
        return
    request, chunk = w.requests[agent.request], float(setup.chunk_tokens)
    n = _put(out, e, n, request.input_tokens / chunk, 0.0, 50.0)
    n = _put(out, e, n, w.clock.now_s - request.arrived_at_s, 0.0, 60.0)
    if agent.asked == _PREFILL:
        waited = w.clock.release_number - request.waited_releases
        n = _put(out, e, n, waited / float(max(setup.n_limit, 1)), 0.0, 2.0)
        n = _put(out, e, n, agent.placed / float(setup.dp), 0.0, 50.0)
        n = _put(out, e, n, w.buffer.num / float(setup.dp), 0.0, 50.0)
        _put(out, e, n, agent.budget / chunk, 0.0, 1.0)
        return
    ranks = float(setup.num_decode_ranks)
    n = _put(out, e, n, 0.0, 0.0, 2.0)
    n = _put(out, e, n, agent.position / ranks, 0.0, 50.0)
    n = _put(out, e, n, (w.clock.num_waiting - agent.position) / ranks, 0.0, 50.0)
    _put(out, e, n, 0.0, 0.0, 1.0)
