"""The decode engine: lockstep steps; requests leave, are evicted and are admitted between them.

A step costs O(ranks): what changes at a step (an end, one more KV block) stands in a heap per rank,
keyed by the step of the instance at which it is due; context grows in closed form.
docs/semantics.md section 13 is the specification.
"""

from __future__ import annotations

import math

import numpy as np

from sbs_gym.jit import compiled, inlined
from sbs_gym.sim.codes import Kind
from sbs_gym.sim.events import push_event
from sbs_gym.sim.handoff import (
    blocks_for,
    decode_rank_of,
    finish_request,
    leave_decode_rank,
    schedule_step,
)
from sbs_gym.sim.heap import sift_down, sift_up
from sbs_gym.sim.skew import skew_now
from sbs_gym.sim.tally import tally_finish, tally_step
from sbs_gym.timing.decode import decode_rank_cost_s, decode_step_s
from sbs_gym.timing.luck import pass_jitter

_STEP_END, _TRANSFER_END = int(Kind.STEP_END), int(Kind.TRANSFER_END)
_ID_BITS = 32
_ID_MASK = (1 << _ID_BITS) - 1


@inlined
def tokens_after(w, steps):  # type: ignore[no-untyped-def]
    """Return the tokens that a request has after `steps` steps of its own."""
    return 1 + math.floor(steps * w.setup.tokens_per_step)


@inlined
def steps_until(w, tokens):  # type: ignore[no-untyped-def]
    """Return the least number of steps after which a request has `tokens` tokens."""
    steps = math.ceil((tokens - 1) / w.setup.tokens_per_step)
    while tokens_after(w, steps) < tokens:
        steps += 1
    while steps > 0 and tokens_after(w, steps - 1) >= tokens:
        steps -= 1
    return steps


@inlined
def queue_on_rank(w, r, has_returned):  # type: ignore[no-untyped-def]
    """Let request `r`, whose KV has arrived or may come back, wait for admission."""
    k = decode_rank_of(w, r)
    rank = w.decode_ranks[k]
    w.decodes[r].next = -1
    tail = rank.returned_tail if has_returned else rank.arrived_tail
    if tail >= 0:
        w.decodes[tail].next = r
    if has_returned:
        rank.returned_tail = r
        if rank.returned < 0:
            rank.returned = r
    else:
        w.decodes[r].transferred_at_s = w.clock.now_s
        rank.arrived_tail = r
        if rank.arrived < 0:
            rank.arrived = r
    schedule_step(w, k // w.setup.decode_dp)


@compiled
def start_step(w, j):  # type: ignore[no-untyped-def]
    """Admit on every rank of instance `j` and start its next step, if anything runs."""
    setup, clock, engine = w.setup, w.clock, w.engines[j]
    engine.start_scheduled = 0
    num_admitted, num_running = 0, 0
    for d in range(setup.decode_dp):
        k = j * setup.decode_dp + d
        rank = w.decode_ranks[k]
        if rank.returned >= 0:
            num_admitted += _readmit(w, j, k)
        if rank.arrived >= 0:
            num_admitted += _admit(w, j, k)
        steps = rank.num_running * engine.steps_done - rank.start_sum
        w.scratch_batch[d] = rank.num_running
        w.scratch_kv[d] = float(rank.base_tokens) + setup.tokens_per_step * float(steps)
        num_running += rank.num_running
    if num_running == 0:
        return
    engine.busy = 1
    engine.row = clock.num_steps
    clock.num_steps += 1
    _open_record(w, j, num_admitted)
    push_event(w, clock.now_s + _step_duration(w, j), _STEP_END, j, 0, 0, 0)


@inlined
def _readmit(w, j, k):  # type: ignore[no-untyped-def]
    """Let evicted requests come back to rank `k` as far as there is room; return how many."""
    rank, count = w.decode_ranks[k], 0
    while rank.returned >= 0 and rank.num_running < w.setup.max_running:
        r = rank.returned
        decode = w.decodes[r]
        answer = max(w.setup.reserve_tokens, tokens_after(w, decode.start_step))
        need = blocks_for(w, w.requests[r].input_tokens + answer)
        if need > rank.free_blocks:
            break
        rank.free_blocks -= need
        decode.blocks = need
        rank.num_evicted -= 1
        rank.returned = decode.next
        if rank.returned < 0:
            rank.returned_tail = -1
        _run(w, j, k, r, decode.start_step)
        count += 1
    return count


@inlined
def _admit(w, j, k):  # type: ignore[no-untyped-def]
    """Let arrived requests run on rank `k` as far as its batch allows; return how many."""
    rank, engine, count = w.decode_ranks[k], w.engines[j], 0
    while rank.arrived >= 0 and rank.num_running < w.setup.max_running:
        r = rank.arrived
        decode = w.decodes[r]
        rank.arrived = decode.next
        if rank.arrived < 0:
            rank.arrived_tail = -1
        rank.coming_tokens -= w.requests[r].input_tokens + 1
        decode.admitted_at_s = w.clock.now_s
        decode.next = engine.newcomers
        engine.newcomers = r
        _run(w, j, k, r, 0)
        count += 1
    return count


@inlined
def _run(w, j, k, r, steps):  # type: ignore[no-untyped-def]
    """Add request `r`, which has done `steps` steps, to those that run on rank `k`."""
    rank, decode, request = w.decode_ranks[k], w.decodes[r], w.requests[r]
    start = w.engines[j].steps_done - steps
    decode.start_step = start
    decode.finish_step = start + steps_until(w, np.int64(request.output_tokens))
    rank.base_tokens += request.input_tokens + 1
    rank.start_sum += start
    first = k * w.setup.max_running
    slot = rank.num_running
    rank.num_running += 1
    sift_up(w.running, first, slot, _due_key(w, r))


@inlined
def _due_key(w, r):  # type: ignore[no-untyped-def]
    """Return the heap key of request `r`: when it ends, or needs one more block before that."""
    decode = w.decodes[r]
    full = np.int64(decode.blocks) * w.setup.block_tokens - w.requests[r].input_tokens
    due = np.int64(decode.finish_step)
    if full + 1 < w.requests[r].output_tokens:
        steps = max(1, steps_until(w, full + 1))  # at the earliest after its first step
        due = min(due, np.int64(decode.start_step) + steps)
    return (due << _ID_BITS) | np.int64(r)


@inlined
def _open_record(w, j, num_admitted):  # type: ignore[no-untyped-def]
    setup, n = w.setup, w.engines[j].row
    row = w.steps[n]
    batch, most, blocks = 0, 0, 0
    kv, kv_square, kv_most, cost_sum, cost_most = 0.0, 0.0, 0.0, 0.0, 0.0
    for d in range(setup.decode_dp):
        requests, tokens = w.scratch_batch[d], w.scratch_kv[d]
        held = setup.decode_blocks - w.decode_ranks[j * setup.decode_dp + d].free_blocks
        cost = decode_rank_cost_s(w.decode_timing, requests, tokens)
        batch += requests
        most = max(most, requests)
        blocks += held
        kv += tokens
        kv_square += tokens * tokens
        kv_most = max(kv_most, tokens)
        cost_sum += cost
        cost_most = max(cost_most, cost)
        if setup.record_ranks:
            w.step_batch[n * setup.decode_dp + d] = requests
            w.step_kv[n * setup.decode_dp + d] = tokens
            w.step_blocks[n * setup.decode_dp + d] = held
    row.started_at_s = w.clock.now_s
    row.ended_at_s = math.nan
    row.instance = j
    row.step_index = w.engines[j].steps_done
    row.batch_sum = batch
    row.batch_max = most
    row.blocks = blocks
    row.kv_sum_tokens = kv
    row.kv_square_sum = kv_square
    row.kv_max_tokens = kv_most
    row.cost_sum_s = cost_sum
    row.cost_max_s = cost_most
    row.num_admitted = num_admitted


@inlined
def _step_duration(w, j):  # type: ignore[no-untyped-def]
    timing, setup = w.decode_timing, w.setup
    skew = timing.skew_mean
    if not setup.mean_luck:
        skew = skew_now(w, timing, w.engines[j], setup.num_prefill + j)
    duration = decode_step_s(timing, w.decode_table, w.scratch_batch, w.scratch_kv, skew)
    if setup.mean_luck:
        return duration
    return duration * pass_jitter(timing, setup.seed, setup.num_prefill + j, w.clock.now_s)


@compiled
def finish_step(w, j):  # type: ignore[no-untyped-def]
    """End the running step of instance `j`: tokens, ends, growth of KV, evictions; then go on."""
    setup, engine = w.setup, w.engines[j]
    engine.busy = 0
    engine.steps_done += 1
    w.clock.placement_asked = 1
    r = engine.newcomers
    while r >= 0:
        w.decodes[r].second_token_at_s = w.clock.now_s
        r = w.decodes[r].next
    engine.newcomers = -1
    num_finished, num_preempted, goes_on = 0, 0, False
    for k in range(j * setup.decode_dp, (j + 1) * setup.decode_dp):
        rank = w.decode_ranks[k]
        num_finished += _leave_and_grow(w, j, k)
        while rank.free_blocks < 0:
            _evict(w, j, k)
            num_preempted += 1
        goes_on = goes_on or rank.num_running > 0 or rank.arrived >= 0 or rank.returned >= 0
    row = w.steps[engine.row]
    row.ended_at_s = w.clock.now_s
    row.num_finished = num_finished
    row.num_preempted = num_preempted
    tokens = row.batch_sum * setup.tokens_per_step
    tally_step(w, tokens, setup.decode_dp * row.cost_max_s - row.cost_sum_s)
    if goes_on:
        schedule_step(w, j)


@inlined
def _leave_and_grow(w, j, k):  # type: ignore[no-untyped-def]
    """Handle everything on rank `k` that is due at this step; return how many requests ended."""
    rank, now_step, count = w.decode_ranks[k], w.engines[j].steps_done, 0
    first = k * w.setup.max_running
    while rank.num_running > 0 and (w.running[first] >> _ID_BITS) == now_step:
        r = w.running[first] & _ID_MASK
        decode = w.decodes[r]
        if decode.finish_step == now_step:
            decode.finished_at_s = w.clock.now_s
            _stop_running(w, k, r, 0)
            leave_decode_rank(w, r)
            finish_request(w, r)
            tally_finish(w, r)
            count += 1
        else:
            tokens = w.requests[r].input_tokens + tokens_after(w, now_step - decode.start_step)
            need = blocks_for(w, tokens)
            rank.free_blocks -= need - decode.blocks
            decode.blocks = need
            sift_down(w.running, first, 0, rank.num_running, _due_key(w, r))
    return count


@inlined
def _stop_running(w, k, r, slot):  # type: ignore[no-untyped-def]
    """Take request `r`, which stands in heap slot `slot`, from those that run on rank `k`."""
    rank, first = w.decode_ranks[k], k * w.setup.max_running
    rank.base_tokens -= w.requests[r].input_tokens + 1
    rank.start_sum -= w.decodes[r].start_step
    rank.num_running -= 1
    last = rank.num_running
    if slot == last:
        return
    key = w.running[first + last]
    if slot > 0 and w.running[first + ((slot - 1) >> 1)] > key:
        sift_up(w.running, first, slot, key)
    else:
        sift_down(w.running, first, slot, last, key)


@inlined
def _evict(w, j, k):  # type: ignore[no-untyped-def]
    """Evict the request of rank `k` with the fewest tokens, then longest prompt, lowest id."""
    setup, rank, first = w.setup, w.decode_ranks[k], k * w.setup.max_running
    best, best_start, best_input, best_r = -1, np.int64(0), np.int64(0), 0
    for slot in range(rank.num_running):
        r = w.running[first + slot] & _ID_MASK
        start, tokens = np.int64(w.decodes[r].start_step), np.int64(w.requests[r].input_tokens)
        better = best < 0 or start > best_start
        if start == best_start and not better:
            better = tokens > best_input or (tokens == best_input and r < best_r)
        if better:
            best, best_start, best_input, best_r = slot, start, tokens, r
    _stop_running(w, k, best_r, best)
    decode = w.decodes[best_r]
    rank.free_blocks += decode.blocks
    rank.num_evicted += 1
    decode.blocks = 0
    decode.num_preempted += 1
    decode.start_step = w.engines[j].steps_done - best_start
    tokens = best_input + tokens_after(w, decode.start_step)
    if setup.recompute:
        away_s = float(tokens) / setup.recompute_tokens_per_s
    else:
        away_s = float(2 * tokens * setup.kv_bytes) / setup.host_bytes_per_s
    push_event(w, w.clock.now_s + away_s, _TRANSFER_END, 1, best_r, 0, 0)


@inlined
def most_evictions(w, j):  # type: ignore[no-untyped-def]
    """Return a bound on the requests that the end of this step may evict from instance `j`."""
    count = 0
    for k in range(j * w.setup.decode_dp, (j + 1) * w.setup.decode_dp):
        rank = w.decode_ranks[k]
        if rank.free_blocks < 9 * rank.num_running:  # each takes at most nine more blocks
            count += rank.num_running
    return count
