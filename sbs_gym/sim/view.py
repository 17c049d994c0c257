"""What the scheduler knows: its own records, corrected by signals as they arrive.

Nothing here reads an instance's or a rank's true state. A request's links and lengths are the
scheduler's own, it sent them. docs/semantics.md section 5 is the specification.
"""

from __future__ import annotations

import math

import numpy as np

from sbs_gym.jit import inlined
from sbs_gym.sim.codes import Life, StartRule
from sbs_gym.sim.prefill import affordable, chunk_cost, cost_limit
from sbs_gym.timing.model import empty_pass_s, prefill_pass_s

_DISPATCHED = int(Life.DISPATCHED)
_ON_RELEASE, _FREE_RUNNING = int(StartRule.ON_RELEASE), int(StartRule.FREE_RUNNING)
_EMA = 0.2


@inlined
def ema(old, new):  # type: ignore[no-untyped-def]
    """Return the exponential moving average after one more value."""
    return old + _EMA * (new - old)


@inlined
def note_dispatch(w, r, i, d):  # type: ignore[no-untyped-def]
    """Record that request `r` goes to rank `d` of instance `i` in the release being made."""
    request, clock, view = w.requests[r], w.clock, w.views[i]
    k = i * w.setup.dp + d
    known = w.rank_views[k]
    request.dispatched_at_s = clock.now_s
    request.waited_releases = clock.release_number - request.waited_releases
    request.instance = i
    request.rank = d
    request.life = _DISPATCHED
    request.next = -1
    if known.tail >= 0:
        w.requests[known.tail].next = r
    known.tail = r
    if known.head < 0:
        known.head = r
    w.log[clock.num_dispatched] = r
    clock.num_dispatched += 1
    known.sent_tokens += request.input_tokens
    known.last_tokens += request.input_tokens
    known.num_unacked += 1
    view.outstanding_tokens += request.input_tokens
    view.outstanding_requests += 1
    if request.input_tokens > w.setup.long_tokens:
        view.outstanding_long += 1


@inlined
def begin_release(w, i):  # type: ignore[no-untyped-def]
    """Forget the tokens of the instance's previous release."""
    for k in range(i * w.setup.dp, (i + 1) * w.setup.dp):
        w.rank_views[k].last_tokens = 0


@inlined
def note_release(w, i, delivered_at_s, budget):  # type: ignore[no-untyped-def]
    """Record a release to instance `i`, and what it leads the scheduler to expect."""
    view = w.views[i]
    view.budget_before = view.last_budget
    view.last_budget = budget
    view.last_at_s = delivered_at_s
    view.to_begin = 0
    if w.setup.gated and not view.running:
        _expect_pass(w, i, delivered_at_s, False, budget)
        return
    if w.setup.gated:
        view.pending = 1
    refresh_leftovers(w, i)


@inlined
def note_signal(w, i, slot):  # type: ignore[no-untyped-def]
    """Take in the EndForward signal of instance `i` that stands in ring slot `slot`."""
    signal, view, clock, dp = w.signals[slot], w.views[i], w.clock, w.setup.dp
    for d in range(dp):
        known, done_tokens = w.rank_views[i * dp + d], w.signal_tokens[slot * dp + d]
        known.assumed_tokens = 0
        known.run_tokens = 0
        if done_tokens != known.acked_tokens:
            _acknowledge(w, i, i * dp + d, done_tokens)
    if signal.tokens > 0:
        clock.pass_avg_s = ema(clock.pass_avg_s, signal.ended_at_s - signal.started_at_s)
    if w.setup.gated:
        if view.running and signal.pass_index == view.known_index + 1:
            view.error_s = ema(view.error_s, abs(signal.ended_at_s - view.run_end_s))
        view.known_index = signal.pass_index
        _stop_expecting(w, i)
        _expect_after_signal(w, i, signal.started_at_s, signal.ended_at_s)
        if not view.running:
            _set_earliest_watchdog(w)
    if not view.running:
        refresh_leftovers(w, i)


@inlined
def _acknowledge(w, i, k, done_tokens):  # type: ignore[no-untyped-def]
    known, view = w.rank_views[k], w.views[i]
    news = done_tokens - known.acked_tokens
    known.acked_tokens = done_tokens
    view.outstanding_tokens -= news
    while news > 0:
        request = w.requests[known.head]
        need = request.input_tokens - known.head_done
        if news < need:
            known.head_done += news
            return
        news -= need
        known.head = request.next
        known.head_done = 0
        known.num_unacked -= 1
        view.outstanding_requests -= 1
        if request.input_tokens > w.setup.long_tokens:
            view.outstanding_long -= 1


@inlined
def _stop_expecting(w, i):  # type: ignore[no-untyped-def]
    view = w.views[i]
    view.running = 0
    view.watchdog_at_s = math.inf


@inlined
def _set_earliest_watchdog(w):  # type: ignore[no-untyped-def]
    earliest = math.inf
    for i in range(w.setup.num_prefill):
        earliest = min(earliest, w.views[i].watchdog_at_s)
    w.clock.watchdog_at_s = earliest


@inlined
def _expect_after_signal(w, i, started_at_s, ended_at_s):  # type: ignore[no-untyped-def]
    """Say what the instance does now, given that a pass of it ended at `ended_at_s`."""
    view, rule = w.views[i], w.setup.start_rule
    coming = view.last_at_s > ended_at_s  # the last release had not been delivered by then
    view.pending = 0
    view.idle_since_s = ended_at_s
    if rule == _ON_RELEASE:
        if view.outstanding_tokens > 0 and view.last_at_s > started_at_s:
            _expect_pass(w, i, max(view.last_at_s, ended_at_s), False, view.last_budget)
    elif rule == _FREE_RUNNING or _delivered_tokens(w, i, coming) > 0:
        if view.last_at_s <= started_at_s and _release_makes_pass_of(w, ended_at_s):
            view.to_begin = 1
            return
        budget = view.budget_before if coming else view.last_budget
        _expect_pass(w, i, ended_at_s, coming, budget)
        view.pending = 1 if coming else 0
    elif coming:
        _expect_pass(w, i, view.last_at_s, False, view.last_budget)


@inlined
def _release_makes_pass_of(w, instant_s):  # type: ignore[no-untyped-def]
    if w.setup.leftovers_alone and w.setup.start_rule != _FREE_RUNNING:
        return False
    return w.setup.dispatch_delay_s == 0.0 and w.clock.now_s == instant_s


@inlined
def begin_pass(w, i):  # type: ignore[no-untyped-def]
    """Believe that instance `i` starts a pass of its leftovers now."""
    w.views[i].to_begin = 0
    _expect_pass(w, i, w.clock.now_s, False, w.views[i].last_budget)


@inlined
def _delivered_tokens(w, i, without_last):  # type: ignore[no-untyped-def]
    tokens = w.views[i].outstanding_tokens
    if without_last:
        for k in range(i * w.setup.dp, (i + 1) * w.setup.dp):
            tokens -= w.rank_views[k].last_tokens
    return tokens


@inlined
def _expect_pass(w, i, start_s, without_last, budget):  # type: ignore[no-untyped-def]
    """Believe in a pass from `start_s` on, formed as the engine would from what was sent.

    Only under rules that wait for readiness; what will be left behind the pass is known then.
    """
    view, dp, has_context = w.views[i], w.setup.dp, w.timing.pair_cost_s > 0.0
    chunk, total, in_chunks = w.setup.chunk_tokens, 0, 0
    for d in range(dp):
        known = w.rank_views[i * dp + d]
        work = known.sent_tokens - known.acked_tokens - known.assumed_tokens
        own = work - known.last_tokens if without_last else work
        tokens = capped(max(own, 0), budget)
        w.scratch_tokens[d] = tokens
        w.scratch_pairs[d] = 0
        if has_context and tokens > 0:
            _expect_share(w, i * dp + d, d, tokens, budget)
            tokens = w.scratch_tokens[d]
        known.run_tokens = tokens
        left = max(0, work - tokens)
        w.leftovers[i * dp + d] = left
        total += left
        in_chunks += capped(left, chunk)
    view.leftover_tokens = total
    view.leftover_chunk_tokens = in_chunks
    view.running = 1
    view.run_start_s = start_s
    view.run_pred_s = mean_luck_pass_s(w)
    view.run_end_s = start_s + view.run_pred_s
    view.watchdog_at_s = start_s + w.setup.watchdog_factor * view.run_pred_s
    _set_earliest_watchdog(w)


@inlined
def capped(tokens, most):  # type: ignore[no-untyped-def]
    """Return the smaller number without a branch: which ranks are full cannot be foreseen."""
    return tokens - max(tokens - most, 0)


@inlined
def mean_luck_pass_s(w):  # type: ignore[no-untyped-def]
    """Return the duration at mean luck of the pass in the scratch arrays."""
    timing = w.timing
    predicted = prefill_pass_s(timing, w.table, w.scratch_tokens, w.scratch_pairs, timing.skew_mean)
    return predicted if predicted > 0.0 else empty_pass_s(timing)


@inlined
def _expect_share(w, k, d, left, budget):  # type: ignore[no-untyped-def]
    """Write rank `k`'s expected tokens and pairs into place `d` of the scratch arrays.

    `left` are the tokens that its budget lets it take.
    """
    known = w.rank_views[k]
    limit = cost_limit(w, budget)
    r, done = skip_tokens(w, known.head, known.head_done, known.assumed_tokens)
    tokens, pairs, used = 0, 0, 0.0
    while left > 0:
        need = np.int64(w.requests[r].input_tokens) - done
        q = min(need, left)
        if limit < math.inf:
            q = affordable(w, q, done, used, limit, tokens == 0)
            if q == 0:
                break
            used += chunk_cost(w, q, done)
        pairs += q * (2 * done + q)
        tokens += q
        left -= q
        if q < need:
            break
        r = w.requests[r].next
        done = 0
    w.scratch_tokens[d] = tokens
    w.scratch_pairs[d] = pairs


@inlined
def skip_tokens(w, r, done, skipped):  # type: ignore[no-untyped-def]
    """Return (request, tokens of it done) after `skipped` more tokens of a rank's FIFO."""
    while skipped > 0:
        need = w.requests[r].input_tokens - done
        if skipped < need:
            return r, done + skipped
        skipped -= need
        r = w.requests[r].next
        done = 0
    return r, done


@inlined
def refresh_leftovers(w, i):  # type: ignore[no-untyped-def]
    """Recompute what will be left on the ranks of instance `i` after the believed pass."""
    view, setup = w.views[i], w.setup
    chunk, gated, total, in_chunks = setup.chunk_tokens, setup.gated, 0, 0
    for k in range(i * setup.dp, (i + 1) * setup.dp):
        known = w.rank_views[k]
        left = known.sent_tokens - known.acked_tokens
        if gated:
            left = max(0, left - known.run_tokens - known.assumed_tokens)
        w.leftovers[k] = left
        total += left
        in_chunks += capped(left, chunk)
    view.leftover_tokens = total
    view.leftover_chunk_tokens = in_chunks


@inlined
def leftover_cost(w, k, behind):  # type: ignore[no-untyped-def]
    """Return the cost of rank `k`'s leftover: each prompt's rest as one chunk with context.

    `behind` tokens have been placed there since the leftover was measured.
    """
    known = w.rank_views[k]
    left = w.leftovers[k]
    if left == 0:
        return 0.0
    ahead = known.sent_tokens - behind - known.acked_tokens - left
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
def note_watchdog(w, i):  # type: ignore[no-untyped-def]
    """Give up waiting for the signal of the believed pass: take it as ended, and as ready."""
    view = w.views[i]
    for k in range(i * w.setup.dp, (i + 1) * w.setup.dp):
        w.rank_views[k].assumed_tokens += w.rank_views[k].run_tokens
        w.rank_views[k].run_tokens = 0
    w.clock.num_watchdogs += 1
    view.known_index += 1
    view.pending = 0
    view.idle_since_s = w.clock.now_s
    _stop_expecting(w, i)
    _set_earliest_watchdog(w)
    refresh_leftovers(w, i)


@inlined
def release_lead_s(w, i):  # type: ignore[no-untyped-def]
    """Return how long before a pass's predicted end a release should leave."""
    margin = min(2.0 * w.views[i].error_s, 0.05 * w.clock.pass_avg_s)
    return w.setup.dispatch_delay_s + margin


@inlined
def is_ready(w, i):  # type: ignore[no-untyped-def]
    """Return whether a gated rule may release to instance `i` now."""
    view, now = w.views[i], w.clock.now_s
    if view.pending:
        return False
    if not view.running:
        return True
    if w.setup.leftovers_alone:
        return False
    if now <= view.run_start_s or now < view.run_end_s - release_lead_s(w, i):
        return False
    return now < view.run_end_s + (w.setup.watchdog_factor - 1.0) * view.run_pred_s
