"""Release rules: when requests leave the buffer (Algorithm 1 and its rivals)."""

from __future__ import annotations

import math

from sbs_gym.jit import inlined
from sbs_gym.schedulers.allocation import allocate, reject_past_limit
from sbs_gym.schedulers.budget import choose_budget
from sbs_gym.schedulers.routing import choose_instance, next_ready
from sbs_gym.schedulers.rules import LimitAction, Release
from sbs_gym.sim.buffer import first_in_buffer, oldest_in_buffer
from sbs_gym.sim.loop import send_release
from sbs_gym.sim.state import StartRule
from sbs_gym.sim.view import begin_pass, begin_release, note_release, release_lead_s

_SIZE_OR_TIMEOUT, _FIXED_WINDOW = int(Release.SIZE_OR_TIMEOUT), int(Release.FIXED_WINDOW)
_REJECT = int(LimitAction.REJECT)
_ON_RELEASE = int(StartRule.ON_RELEASE)


@inlined
def run_round(w, rules):  # type: ignore[no-untyped-def]
    """Make every release that is due at this instant, then set the timer."""
    if w.setup.gated:
        _run_gated_round(w, rules)
    else:
        _run_ungated_round(w, rules)


@inlined
def interval_s(w, rules):  # type: ignore[no-untyped-def]
    """Return the interval that must pass between two releases, as of now."""
    if rules.release == _FIXED_WINDOW:
        return rules.window_s
    setup = w.setup
    link = setup.dispatch_delay_s + setup.signal_delay_s
    wanted = rules.multiplier * (w.clock.pass_avg_s + link) / setup.num_prefill
    most = rules.max_interval_s
    if math.isnan(most):
        most = 2.0 * setup.full_pass_s
    return min(max(wanted, rules.min_interval_s), most)


@inlined
def _run_gated_round(w, rules):  # type: ignore[no-untyped-def]
    interval = interval_s(w, rules)
    for i in range(w.setup.num_prefill):
        w.views[i].barred = 0
    while w.buffer.num > 0 or w.setup.start_rule == _ON_RELEASE:
        i = next_ready(w, -1)
        while i >= 0 and not _qualifies(w, rules, i, interval):
            i = next_ready(w, i)
        if i < 0:
            break
        _release_to(w, rules, i)  # or bars it, which may change the ready order
    for i in range(w.setup.num_prefill):
        if w.views[i].to_begin:
            begin_pass(w, i)
    _set_gated_timer(w, interval)


@inlined
def _qualifies(w, rules, i, interval):  # type: ignore[no-untyped-def]
    view, setup = w.views[i], w.setup
    if view.barred:
        return False
    due = w.clock.now_s >= w.clock.last_release_at_s + interval
    if w.buffer.num == 0:
        return due and view.leftover_tokens > 0  # on_release: leftovers need a release of their own
    if due:
        return True
    if view.leftover_tokens > 0 and setup.start_rule != _ON_RELEASE:
        return True  # they would start alone
    if not rules.full_batch_bypass:
        return False
    fill = view.leftover_chunk_tokens + w.buffer.chunk_tokens
    return fill >= rules.full_batch_frac * setup.dp * setup.chunk_tokens


@inlined
def _release_to(w, rules, i):  # type: ignore[no-untyped-def]
    """Release to instance `i`, or bar it for this round if no rank of it has room."""
    leftovers_alone = w.setup.start_rule == _ON_RELEASE and w.views[i].leftover_tokens > 0
    budget = choose_budget(w, rules, i)
    first = w.clock.num_dispatched
    placed = allocate(w, rules, i, budget, w.buffer.num)
    if placed == 0 and not leftovers_alone:
        w.views[i].barred = 1
        if not w.views[i].running:
            begin_pass(w, i)
        return
    if placed == 0:
        begin_release(w, i)
    delivered_at_s = send_release(w, i, first, budget)
    note_release(w, i, delivered_at_s, budget)
    if rules.limit_action == _REJECT:
        reject_past_limit(w)


@inlined
def _set_gated_timer(w, interval):  # type: ignore[no-untyped-def]
    clock, setup = w.clock, w.setup
    at = math.inf
    waiting = w.buffer.num > 0
    for i in range(setup.num_prefill):
        view = w.views[i]
        if view.leftover_tokens == 0:
            continue
        waiting = waiting or setup.start_rule == _ON_RELEASE
        look_at_s = view.run_end_s - release_lead_s(w, i)
        if view.running and not view.pending and look_at_s > clock.now_s:
            at = min(at, look_at_s)
    due_at_s = clock.last_release_at_s + interval
    if waiting and due_at_s > clock.now_s:
        at = min(at, due_at_s)
    clock.timer_at_s = at


@inlined
def _run_ungated_round(w, rules):  # type: ignore[no-untyped-def]
    batched = rules.release == _SIZE_OR_TIMEOUT
    while w.buffer.num > 0:
        if batched and not _batch_is_due(w, rules):
            break
        i = choose_instance(w, rules, first_in_buffer(w))
        budget = choose_budget(w, rules, i)
        first = w.clock.num_dispatched
        allocate(w, rules, i, budget, rules.size if batched else 1)
        delivered_at_s = send_release(w, i, first, budget)
        note_release(w, i, delivered_at_s, budget)
        if rules.limit_action == _REJECT:
            reject_past_limit(w)
    w.clock.timer_at_s = math.inf
    if batched and w.buffer.num > 0:
        oldest = w.requests[oldest_in_buffer(w)]
        w.clock.timer_at_s = oldest.arrived_at_s + rules.timeout_s


@inlined
def _batch_is_due(w, rules):  # type: ignore[no-untyped-def]
    if w.buffer.num >= rules.size:
        return True
    oldest = w.requests[oldest_in_buffer(w)]
    return w.clock.now_s >= oldest.arrived_at_s + rules.timeout_s
