"""Between the phases: KV room on prefill ranks, binding to a decode rank, transfer of the KV.

docs/semantics.md sections 11 and 12 are the specification.
"""

from __future__ import annotations

import math

from sbs_gym.jit import inlined
from sbs_gym.sim.codes import Kind, Life
from sbs_gym.sim.events import push_event
from sbs_gym.sim.reports import ask_for_sample, note_grant
from sbs_gym.sim.tally import tally_rejection

_TRANSFER_END, _STEP_START = int(Kind.TRANSFER_END), int(Kind.STEP_START)
_HANDED_OVER, _FINISHED, _REJECTED = int(Life.HANDED_OVER), int(Life.FINISHED), int(Life.REJECTED)


@inlined
def blocks_for(w, tokens):  # type: ignore[no-untyped-def]
    """Return the KV blocks that hold `tokens`."""
    return (tokens + w.setup.block_tokens - 1) // w.setup.block_tokens


@inlined
def can_never_fit(w, r):  # type: ignore[no-untyped-def]
    """Return whether no rank could ever hold the request: longer than the engines allow."""
    request, setup = w.requests[r], w.setup
    if request.input_tokens > setup.prefill_kv_tokens:
        return True
    longest = request.input_tokens + max(setup.reserve_tokens, int(request.output_tokens))
    return blocks_for(w, longest) > setup.decode_blocks


@inlined
def count_done(w, r):  # type: ignore[no-untyped-def]
    """Count request `r` as done: finished or rejected."""
    w.clock.num_done += 1
    if w.setup.first_measured <= r < w.setup.end_measured:
        w.clock.num_measured_left -= 1


@inlined
def reject(w, r):  # type: ignore[no-untyped-def]
    """Reject request `r` now."""
    w.requests[r].life = _REJECTED
    w.requests[r].rejected_at_s = w.clock.now_s
    count_done(w, r)
    tally_rejection(w, r)


@inlined
def finish_request(w, r):  # type: ignore[no-untyped-def]
    """Let request `r` end now."""
    w.requests[r].life = _FINISHED
    count_done(w, r)


@inlined
def may_begin(w, k, r):  # type: ignore[no-untyped-def]
    """Return whether request `r` may begin on prefill rank `k`: its KV fits, it is not held."""
    if w.requests[r].input_tokens > w.rank_kv[k].kv_free_tokens:
        return False
    return w.setup.bind_at_dispatch == 0 or w.decodes[r].decode_rank >= 0


@inlined
def note_blocked(w, k):  # type: ignore[no-untyped-def]
    """Keep the time in which prefill rank `k` has a head that does not fit its KV room."""
    if w.setup.num_decode == 0:
        return
    rank, room = w.ranks[k], w.rank_kv[k]
    blocked = False
    if rank.queued_tokens > 0 and rank.head_done == 0:  # else the head is still under way
        blocked = w.requests[rank.head].input_tokens > room.kv_free_tokens
    was_blocked = room.blocked_since_s < math.inf
    if blocked and not was_blocked:
        room.blocked_since_s = w.clock.now_s
    elif was_blocked and not blocked:
        room.blocked_s += w.clock.now_s - room.blocked_since_s
        room.blocked_since_s = math.inf


@inlined
def give_prefill_room_back(w, r):  # type: ignore[no-untyped-def]
    """Free the KV of request `r` on its prefill rank."""
    k = w.requests[r].instance * w.setup.dp + w.requests[r].rank
    w.rank_kv[k].kv_free_tokens += w.requests[r].input_tokens
    note_blocked(w, k)


@inlined
def hand_over(w, k, r, pass_tokens):  # type: ignore[no-untyped-def]
    """Let request `r`, whose prompt has just ended on prefill rank `k`, go on to decode.

    `pass_tokens` of its prompt were computed in the pass that ended.
    """
    request, decode = w.requests[r], w.decodes[r]
    if request.output_tokens <= 1:
        decode.finished_at_s = w.clock.now_s
        if decode.decode_rank >= 0:
            _unbind(w, r)
        give_prefill_room_back(w, r)
        finish_request(w, r)
        return
    request.life = _HANDED_OVER
    decode.pass_tokens = request.input_tokens if w.setup.send_all else pass_tokens
    if decode.decode_rank >= 0:
        _book_transfer(w, r)
    else:
        join_waiting(w, r)


@inlined
def join_waiting(w, r):  # type: ignore[no-untyped-def]
    """Put request `r` at the end of those that wait for a decode rank."""
    w.waiting[w.clock.num_waiting] = r
    w.clock.num_waiting += 1
    w.clock.placement_asked = 1


@inlined
def join_waiting_from_log(w, first):  # type: ignore[no-untyped-def]
    """Let the requests log[first:] wait for a decode rank, if ranks are bound at dispatch."""
    if w.setup.bind_at_dispatch:
        for position in range(first, w.clock.num_dispatched):
            join_waiting(w, w.log[position])


@inlined
def decode_rank_of(w, r):  # type: ignore[no-untyped-def]
    """Return the row of the decode rank that request `r` is bound to."""
    return w.decodes[r].decode_instance * w.setup.decode_dp + w.decodes[r].decode_rank


@inlined
def bind(w, r, k):  # type: ignore[no-untyped-def]
    """Ask decode rank `k` for room for request `r`; return whether it is granted."""
    setup, rank, decode = w.setup, w.decode_ranks[k], w.decodes[r]
    input_tokens = w.requests[r].input_tokens
    need = blocks_for(w, input_tokens + setup.reserve_tokens)
    if rank.num_evicted > 0 or need > rank.free_blocks:
        w.clock.num_refusals += 1
        w.decode_views[k].refused = 1
        return False
    j = k // setup.decode_dp
    rank.free_blocks -= need
    rank.num_bound += 1
    rank.coming_tokens += input_tokens + 1
    w.engines[j].num_bound += 1
    decode.blocks = need
    decode.decode_instance = j
    decode.decode_rank = k - j * setup.decode_dp
    decode.bound_at_s = w.clock.now_s
    note_grant(w, k, need, input_tokens + 1)
    ask_for_sample(w, j)
    if setup.bind_at_dispatch == 0:
        _book_transfer(w, r)
    return True


@inlined
def leave_decode_rank(w, r):  # type: ignore[no-untyped-def]
    """Give the blocks of request `r` back and forget it."""
    k = decode_rank_of(w, r)
    w.decode_ranks[k].free_blocks += w.decodes[r].blocks
    w.decode_ranks[k].num_bound -= 1
    w.engines[k // w.setup.decode_dp].num_bound -= 1
    w.decodes[r].blocks = 0


@inlined
def _unbind(w, r):  # type: ignore[no-untyped-def]
    k = decode_rank_of(w, r)
    w.decode_ranks[k].coming_tokens -= w.requests[r].input_tokens + 1
    leave_decode_rank(w, r)
    if w.decode_ranks[k].returned >= 0:  # it may have waited for just these blocks
        schedule_step(w, k // w.setup.decode_dp)


@inlined
def schedule_step(w, j):  # type: ignore[no-untyped-def]
    """Schedule a step of decode instance `j` for this instant, if it is idle and none is."""
    if not w.engines[j].busy and not w.engines[j].start_scheduled:
        w.engines[j].start_scheduled = 1
        push_event(w, w.clock.now_s, _STEP_START, j, 0, 0, 0)


@inlined
def _book_transfer(w, r):  # type: ignore[no-untyped-def]
    """Send what is left of the KV of request `r`, behind what both network cards have to send."""
    setup, request = w.setup, w.requests[r]
    source = w.rank_kv[request.instance * setup.dp + request.rank]
    destination = w.decode_ranks[decode_rank_of(w, r)]
    start_s = max(w.clock.now_s, max(source.nic_free_at_s, destination.nic_free_at_s))
    end_s = start_s + float(w.decodes[r].pass_tokens * setup.kv_bytes) / setup.nic_bytes_per_s
    source.nic_free_at_s = end_s
    destination.nic_free_at_s = end_s
    push_event(w, end_s + setup.transfer_latency_s, _TRANSFER_END, 0, r, 0, 0)


@inlined
def is_passed_over(w, r):  # type: ignore[no-untyped-def]
    """Return whether an earlier prompt of the same prefill rank was left waiting in this round."""
    k = w.requests[r].instance * w.setup.dp + w.requests[r].rank
    return w.rank_kv[k].passed_over == w.clock.num_placements


@inlined
def pass_over_those_behind(w, r):  # type: ignore[no-untyped-def]
    """Let the prompts behind `r` on its prefill rank wait too."""
    k = w.requests[r].instance * w.setup.dp + w.requests[r].rank
    w.rank_kv[k].passed_over = w.clock.num_placements
