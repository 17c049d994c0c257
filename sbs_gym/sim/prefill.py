"""The prefill engine: FIFOs per rank, lockstep passes, split chunks, budgets.

Forming a pass (what goes in) and finishing it (who has a first token) are separate steps, so that
an engine that delivers its results later changes only the second.
"""

from __future__ import annotations

import math

import numpy as np

from sbs_gym.jit import inlined
from sbs_gym.sim.codes import Kind, StartRule
from sbs_gym.sim.events import push_event
from sbs_gym.sim.handoff import finish_request, hand_over, may_begin, note_blocked
from sbs_gym.sim.skew import skew_now
from sbs_gym.sim.tally import tally_first_token, tally_pass
from sbs_gym.timing.luck import pass_jitter, signal_lost
from sbs_gym.timing.model import empty_pass_s, prefill_pass_s, rank_cost_s

_PASS_END, _SIGNAL = int(Kind.PASS_END), int(Kind.SIGNAL)
_ON_RELEASE, _FREE_RUNNING = int(StartRule.ON_RELEASE), int(StartRule.FREE_RUNNING)


@inlined
def deliver_release(w, i, first, end, budget):  # type: ignore[no-untyped-def]
    """Let the requests log[first:end] join their ranks' FIFOs on instance `i`."""
    now = w.clock.now_s
    instance = w.instances[i]
    for position in range(first, end):
        r = w.log[position]
        request = w.requests[r]
        request.delivered_at_s = now
        rank = w.ranks[i * w.setup.dp + request.rank]
        rank.queued_tokens += request.input_tokens
        if rank.head < 0:
            rank.head = r
        note_blocked(w, i * w.setup.dp + request.rank)
        instance.queued_tokens += request.input_tokens
    instance.budget_tokens = budget
    instance.released = 1
    if w.setup.start_rule != _FREE_RUNNING:
        consider_start(w, i)


@inlined
def consider_start(w, i):  # type: ignore[no-untyped-def]
    """Schedule a pass for this instant if the instance is idle and its start rule allows."""
    instance = w.instances[i]
    if instance.busy or instance.start_scheduled:
        return
    allowed = instance.queued_tokens > 0
    if w.setup.start_rule == _FREE_RUNNING:
        allowed = True
    elif w.setup.start_rule == _ON_RELEASE:
        if not allowed:
            instance.released = 0  # spent: it found nothing to start
        allowed = allowed and instance.released
    if allowed and w.setup.num_decode > 0:
        allowed = _any_rank_may_start(w, i)
    if allowed:
        instance.start_scheduled = 1
        if w.clock.first_start == w.clock.end_start:
            w.clock.first_start = w.clock.end_start = 0
        w.starts[w.clock.end_start] = i
        w.clock.end_start += 1


@inlined
def take_start(w):  # type: ignore[no-untyped-def]
    """Return the instance whose pass, scheduled for this instant, is the next to start."""
    w.clock.first_start += 1
    return w.starts[w.clock.first_start - 1]


@inlined
def _any_rank_may_start(w, i):  # type: ignore[no-untyped-def]
    for k in range(i * w.setup.dp, (i + 1) * w.setup.dp):
        rank = w.ranks[k]
        # A head without queued tokens has been sent and not delivered.
        if rank.queued_tokens > 0 and (rank.head_done > 0 or may_begin(w, k, rank.head)):
            return True
    return False


@inlined
def start_pass(w, i):  # type: ignore[no-untyped-def]
    """Form the next pass of instance `i` and schedule its end."""
    now = w.clock.now_s
    setup, instance = w.setup, w.instances[i]
    instance.start_scheduled = 0
    instance.released = 0
    instance.busy = 1
    instance.started_at_s = now
    dp, budget, taken = setup.dp, instance.budget_tokens, 0
    for d in range(dp):
        share = w.shares[i * dp + d]
        if w.ranks[i * dp + d].queued_tokens == 0:
            share.tokens = share.pairs = 0
            share.num_finishing = share.num_chunks = 0
        else:
            form_share(w, i * dp + d, budget)
            taken += share.tokens
        w.scratch_tokens[d] = share.tokens
        w.scratch_pairs[d] = share.pairs
    instance.queued_tokens -= taken
    instance.pass_budget = budget
    instance.pass_leftover = instance.queued_tokens
    push_event(w, now + _pass_duration(w, i), _PASS_END, i, 0, 0, 0)


@inlined
def form_share(w, k, budget):  # type: ignore[no-untyped-def]
    """Take rank `k`'s share of a pass from the front of its FIFO: at most `budget` tokens."""
    rank, share = w.ranks[k], w.shares[k]
    left = min(budget, rank.queued_tokens)
    limit = cost_limit(w, budget)
    used = 0.0
    rank.pass_head = rank.head
    rank.pass_head_done = rank.head_done
    share.num_finishing = 0
    share.num_chunks = 0
    tokens, pairs = 0, 0
    while left > 0:
        request = w.requests[rank.head]
        if rank.head_done == 0 and w.setup.num_decode > 0 and not may_begin(w, k, rank.head):
            break
        need = request.input_tokens - rank.head_done
        q = min(need, left)
        if limit < math.inf:
            q = affordable(w, q, rank.head_done, used, limit, share.num_chunks == 0)
            if q == 0:
                break
            used += chunk_cost(w, q, rank.head_done)
        if rank.head_done == 0:
            request.prefill_started_at_s = w.clock.now_s
            if w.setup.num_decode > 0:
                w.rank_kv[k].kv_free_tokens -= request.input_tokens
        pairs += q * (2 * rank.head_done + q)
        tokens += q
        left -= q
        share.num_chunks += 1
        if q < need:
            rank.head_done += q
            break
        rank.head = request.next
        rank.head_done = 0
        share.num_finishing += 1
    share.tokens = tokens
    share.pairs = pairs
    rank.queued_tokens -= tokens
    note_blocked(w, k)


@inlined
def cost_limit(w, budget):  # type: ignore[no-untyped-def]
    """Return the cost that a rank's share may reach; inf where budgets count tokens."""
    if w.setup.cost_budget == 0 or w.timing.pair_cost_s == 0.0:
        return math.inf
    return fresh_cost(w, budget)


@inlined
def fresh_cost(w, tokens):  # type: ignore[no-untyped-def]
    """Return the cost of `tokens` without context before them."""
    return w.timing.token_cost_s * tokens + 0.5 * w.timing.pair_cost_s * tokens * tokens


@inlined
def chunk_cost(w, q, context):  # type: ignore[no-untyped-def]
    """Return the cost of a chunk of `q` tokens behind `context` tokens of the same prompt."""
    return w.timing.token_cost_s * q + w.timing.pair_cost_s * q * (context + 0.5 * q)


@inlined
def affordable(w, q, context, used, limit, is_first):  # type: ignore[no-untyped-def]
    """Return the most tokens, at most `q`, that keep the share's cost within its limit."""
    if used + chunk_cost(w, q, context) <= limit:
        return q
    low, high = 0, q  # low is affordable, high is not
    while high - low > 1:
        middle = (low + high) >> 1
        if used + chunk_cost(w, middle, context) <= limit:
            low = middle
        else:
            high = middle
    return max(low, 1) if is_first else low


@inlined
def _pass_duration(w, i):  # type: ignore[no-untyped-def]
    skew = w.timing.skew_mean
    if not w.setup.mean_luck:
        skew = skew_now(w, w.timing, w.instances[i], i)
    duration = prefill_pass_s(w.timing, w.table, w.scratch_tokens, w.scratch_pairs, skew)
    if i == 0 and w.setup.slow_rank_factor > 1.0:
        duration = max(duration, w.setup.slow_rank_factor * _pass_like_first_rank_s(w, skew))
    if duration == 0.0:
        duration = empty_pass_s(w.timing)  # only free-running engines start empty passes
    if w.setup.mean_luck:
        return duration
    return duration * pass_jitter(w.timing, w.setup.seed, i, w.clock.now_s)


@inlined
def _pass_like_first_rank_s(w, skew):  # type: ignore[no-untyped-def]
    """Return the seconds of the pass if every rank had the share of the first."""
    for d in range(1, w.setup.dp):
        w.scratch_tokens[d] = w.scratch_tokens[0]
        w.scratch_pairs[d] = w.scratch_pairs[0]
    return prefill_pass_s(w.timing, w.table, w.scratch_tokens, w.scratch_pairs, skew)


@inlined
def finish_pass(w, i):  # type: ignore[no-untyped-def]
    """Deliver the results of the running pass: first tokens, record, signal; then start anew."""
    setup, instance = w.setup, w.instances[i]
    instance.busy = 0
    signal = _open_signal(w, i)
    dp, tokens, num_finishing = setup.dp, 0, 0
    cost_sum, cost_max = 0.0, 0.0
    for k in range(i * dp, (i + 1) * dp):  # which ranks are empty makes no difference: no branch
        share = w.shares[k]
        share.done_tokens += share.tokens
        tokens += share.tokens
        num_finishing += share.num_finishing
        cost = rank_cost_s(w.timing, share.tokens, share.pairs)
        cost_sum += cost
        cost_max = max(cost_max, cost)
    if w.agent.keeps_records:
        _record_pass(w, i, cost_sum, cost_max)
    if num_finishing > 0:
        _give_first_tokens(w, i)
    tally_pass(w, tokens, dp * cost_max - cost_sum)
    if signal >= 0:
        for d in range(dp):
            w.signal_tokens[signal * dp + d] = w.shares[i * dp + d].done_tokens
        w.signals[signal].tokens = tokens
        push_event(w, w.clock.now_s + setup.signal_delay_s, _SIGNAL, i, signal, 0, 0)
    instance.pass_index += 1
    consider_start(w, i)


@inlined
def _record_pass(w, i, cost_sum, cost_max):  # type: ignore[no-untyped-def]
    """Write the row of the pass that ends now."""
    dp, number, instance = w.setup.dp, w.clock.num_passes, w.instances[i]
    tokens, pairs, most, chunks, num_finished = 0, 0, 0, 0, 0
    for d in range(dp):
        share = w.shares[i * dp + d]
        tokens += share.tokens
        pairs += share.pairs
        most = max(most, share.tokens)
        chunks += share.num_chunks
        num_finished += share.num_finishing
        if w.setup.record_ranks:
            w.pass_tokens[number * dp + d] = share.tokens
            w.pass_pairs[number * dp + d] = share.pairs
    row = w.passes[number]
    row.started_at_s = instance.started_at_s
    row.ended_at_s = w.clock.now_s
    row.instance = i
    row.pass_index = instance.pass_index
    row.budget_tokens = instance.pass_budget
    row.leftover_tokens = instance.pass_leftover
    row.num_finished = num_finished
    row.tokens = tokens
    row.pairs = pairs
    row.max_rank_tokens = most
    row.num_requests = chunks
    row.cost_sum_s = cost_sum
    row.cost_max_s = cost_max
    w.clock.num_passes = number + 1


@inlined
def _give_first_tokens(w, i):  # type: ignore[no-untyped-def]
    """Give first tokens to the prompts that end in the running pass of instance `i`."""
    for k in range(i * w.setup.dp, (i + 1) * w.setup.dp):
        if w.shares[k].num_finishing > 0:
            _finish_share(w, k)


@inlined
def _finish_share(w, k):  # type: ignore[no-untyped-def]
    rank = w.ranks[k]
    r = rank.pass_head
    done_before = rank.pass_head_done
    for _ in range(w.shares[k].num_finishing):
        request = w.requests[r]
        request.first_token_at_s = w.clock.now_s
        tally_first_token(w, r, w.setup.num_decode > 0 and request.output_tokens > 1)
        if w.setup.num_decode == 0:
            finish_request(w, r)
        else:
            hand_over(w, k, r, request.input_tokens - done_before)
            done_before = 0
        r = request.next


@inlined
def _open_signal(w, i):  # type: ignore[no-untyped-def]
    """Return the ring slot of the EndForward signal that ends this pass; -1 if it gets lost."""
    setup, clock, instance = w.setup, w.clock, w.instances[i]
    if setup.signal_loss_frac > 0.0 and signal_lost(
        setup.seed, i, instance.pass_index, setup.signal_loss_frac
    ):
        clock.num_signals_lost += 1
        return np.int64(-1)
    if clock.first_signal == clock.next_signal:
        clock.first_signal = clock.next_signal = 0  # the same few rows again
    slot = clock.next_signal & (clock.signal_capacity - 1)
    clock.next_signal += 1
    signal = w.signals[slot]
    signal.started_at_s = instance.started_at_s
    signal.ended_at_s = clock.now_s
    signal.pass_index = instance.pass_index
    return slot
