"""Release rules: when requests leave the buffer (Algorithm 1 and its rivals)."""

from __future__ import annotations

import math

from sbs_gym.jit import inlined
from sbs_gym.schedulers.allocation import allocate, reject_past_limit
from sbs_gym.schedulers.budget import choose_budget
from sbs_gym.schedulers.questions import asks_for_window
from sbs_gym.schedulers.routing import choose_instance, comes_earlier
from sbs_gym.schedulers.rules import LimitAction, Release
from sbs_gym.sim.agent_state import Pause, Question, Reask
from sbs_gym.sim.buffer import first_in_buffer, oldest_in_buffer
from sbs_gym.sim.codes import StartRule
from sbs_gym.sim.loop import send_release
from sbs_gym.sim.view import begin_pass, begin_release, is_ready, note_release, release_lead_s

_SIZE_OR_TIMEOUT, _FIXED_WINDOW = int(Release.SIZE_OR_TIMEOUT), int(Release.FIXED_WINDOW)
_RELEASE, _AT_SIGNAL = int(Question.RELEASE), int(Reask.SIGNAL)
_NOWHERE, _IN_RELEASE = int(Pause.NOWHERE), int(Pause.RELEASE)
_IN_ALLOCATION = int(Pause.ALLOCATION)
_REJECT = int(LimitAction.REJECT)
_ON_RELEASE = int(StartRule.ON_RELEASE)


@inlined
def run_round(w, rules):  # type: ignore[no-untyped-def]
    """Make every release that is due at this instant, then set the timer.

    Returns whether the round is over; if not, an agent has to answer and the round goes on after.
    """
    agent = w.agent
    if agent.paused == _NOWHERE:
        _begin_round(w)
    elif agent.paused == _IN_RELEASE:
        agent.paused = _NOWHERE
    if w.setup.gated:
        agent.round_interval_s = interval_s(w, rules)
        return _run_gated_round(w, rules)
    return _run_ungated_round(w, rules)


@inlined
def interval_s(w, rules):  # type: ignore[no-untyped-def]
    """Return the interval that must pass between two releases, as of now."""
    if rules.release == _FIXED_WINDOW:
        return rules.window_s
    setup = w.setup
    link = setup.dispatch_delay_s + setup.signal_delay_s
    multiplier = w.agent.multiplier if w.agent.kinds & _RELEASE else rules.multiplier
    wanted = multiplier * (w.clock.pass_avg_s + link) / setup.num_prefill
    return min(max(wanted, rules.min_interval_s), most_interval_s(w, rules))


@inlined
def most_interval_s(w, rules):  # type: ignore[no-untyped-def]
    """Return the longest interval that the rules allow."""
    if math.isnan(rules.max_interval_s):
        return 2.0 * w.setup.full_pass_s
    return rules.max_interval_s


@inlined
def _run_gated_round(w, rules):  # type: ignore[no-untyped-def]
    agent = w.agent
    while w.buffer.num > 0 or w.setup.start_rule == _ON_RELEASE:
        i = agent.instance
        if agent.paused != _IN_ALLOCATION:
            if asks_for_window(w):
                return False
            i = _first_qualified(w, rules)
            if i < 0:
                break
        if not _release_to(w, rules, i):  # or bars it, which may change the ready order
            return False
        if agent.stopped:
            break
    _close_gated_round(w, agent.round_interval_s)
    return True


@inlined
def _begin_round(w):  # type: ignore[no-untyped-def]
    agent = w.agent
    agent.stopped = 0
    if agent.reask:
        came = w.clock.signal_came if agent.reask == _AT_SIGNAL else w.clock.arrival_came
        if came:
            agent.answered = 0


@inlined
def _first_qualified(w, rules):  # type: ignore[no-untyped-def]
    """Return the first instance in ready order that a release may go to now; -1 if none is."""
    due = w.clock.now_s >= w.clock.last_release_at_s + w.agent.round_interval_s
    best = -1
    for i in range(w.setup.num_prefill):
        if _qualifies(w, rules, i, due) and is_ready(w, i):
            if best < 0 or comes_earlier(w, i, best):
                best = i
    return best


@inlined
def _qualifies(w, rules, i, due):  # type: ignore[no-untyped-def]
    view, setup = w.views[i], w.setup
    if view.barred:
        return False
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
    """Release to instance `i`, or bar it for this round if no rank of it has room.

    Returns False if an agent has to choose a rank first.
    """
    leftovers_alone = w.setup.start_rule == _ON_RELEASE and w.views[i].leftover_tokens > 0
    _plan_release(w, rules, i, w.buffer.num)
    placed = allocate(w, rules, i, w.agent.budget, w.agent.most)
    if placed < 0:
        return False
    if placed == 0 and not leftovers_alone:
        w.views[i].barred = 1
        # Leftovers fill it; where an agent has left everything there may be none, hence no pass.
        if not w.views[i].running and w.views[i].leftover_tokens > 0:
            begin_pass(w, i)
        return True
    if placed == 0:
        begin_release(w, i)
    _send(w, rules, i)
    return True


@inlined
def _plan_release(w, rules, i, most):  # type: ignore[no-untyped-def]
    """Fix what a release to instance `i` starts from, unless it has begun."""
    agent = w.agent
    if agent.paused == _IN_ALLOCATION:
        return
    agent.budget = choose_budget(w, rules, i)
    agent.first = w.clock.num_dispatched
    agent.most = most


@inlined
def _send(w, rules, i):  # type: ignore[no-untyped-def]
    agent = w.agent
    agent.answered = agent.stands = 0
    delivered_at_s = send_release(w, i, agent.first, agent.budget)
    note_release(w, i, delivered_at_s, agent.budget)
    if rules.limit_action == _REJECT:
        reject_past_limit(w)


@inlined
def revise_timer(w, rules):  # type: ignore[no-untyped-def]
    """Set the timer anew for a window that was answered outside a round."""
    clock, agent = w.clock, w.agent
    interval = interval_s(w, rules)
    _close_gated_round(w, interval)
    if clock.last_release_at_s + interval <= clock.now_s:
        if clock.last_release_at_s + agent.interval_s > clock.now_s:
            clock.timer_at_s = clock.now_s  # it would have been due by now


@inlined
def _close_gated_round(w, interval):  # type: ignore[no-untyped-def]
    """Let passes begin that no release has joined, and set the timer."""
    clock = w.clock
    at = math.inf
    waiting = w.buffer.num > 0
    for i in range(w.setup.num_prefill):
        view = w.views[i]
        view.barred = 0
        if view.to_begin:
            begin_pass(w, i)
        if view.leftover_tokens == 0:
            continue
        waiting = waiting or w.setup.start_rule == _ON_RELEASE
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
        i = w.agent.instance
        if w.agent.paused != _IN_ALLOCATION:
            if batched and not _batch_is_due(w, rules):
                break
            i = choose_instance(w, rules, first_in_buffer(w))
        _plan_release(w, rules, i, rules.size if batched else 1)
        placed = allocate(w, rules, i, w.agent.budget, w.agent.most)
        if placed < 0:
            return False
        if placed == 0:
            break  # an agent left everything
        _send(w, rules, i)
    w.clock.timer_at_s = math.inf
    if batched and w.buffer.num > 0:
        oldest = w.requests[oldest_in_buffer(w)]
        due_at_s = oldest.arrived_at_s + rules.timeout_s
        if due_at_s > w.clock.now_s:  # else an agent has left it
            w.clock.timer_at_s = due_at_s
    return True


@inlined
def _batch_is_due(w, rules):  # type: ignore[no-untyped-def]
    if w.buffer.num >= rules.size:
        return True
    oldest = w.requests[oldest_in_buffer(w)]
    return w.clock.now_s >= oldest.arrived_at_s + rules.timeout_s
