"""The loop: advance the clock to the next instant, act, and stop where a scheduler must choose."""

from __future__ import annotations

import math

import numpy as np

from sbs_gym.jit import inlined
from sbs_gym.sim.buffer import add_to_buffer
from sbs_gym.sim.codes import Kind, Phase, Status
from sbs_gym.sim.decode import finish_step, most_evictions, queue_on_rank, start_step
from sbs_gym.sim.events import next_instant, pop_event, push_event
from sbs_gym.sim.handoff import (
    can_never_fit,
    give_prefill_room_back,
    join_waiting_from_log,
    reject,
)
from sbs_gym.sim.prefill import (
    consider_start,
    deliver_release,
    finish_pass,
    start_pass,
    take_start,
)
from sbs_gym.sim.reports import note_report, sample
from sbs_gym.sim.tally import let_time_pass, tally_arrival
from sbs_gym.sim.view import note_signal, note_watchdog

_PASS_END, _SIGNAL, _ROUND = int(Kind.PASS_END), int(Kind.SIGNAL), int(Kind.ROUND)
_STEP_END, _TRANSFER_END = int(Kind.STEP_END), int(Kind.TRANSFER_END)
_SAMPLE, _STEP_START = int(Kind.SAMPLE), int(Kind.STEP_START)
_DISPATCH_DELIVERED, _PASS_START = int(Kind.DISPATCH_DELIVERED), int(Kind.PASS_START)
_ANY_KIND = int(Kind.PASS_START) + 1
_PATIENCE = 100  # reports of an instance to which nothing happens any more
_NEXT_INSTANT, _IN_ROUND = int(Phase.NEXT_INSTANT), int(Phase.ROUND)
_AFTER_ROUND, _IN_PLACEMENT = int(Phase.AFTER_ROUND), int(Phase.PLACEMENT)
_BEFORE_ROUND, _AFTER_PLACEMENT = int(Phase.BEFORE_ROUND), int(Phase.AFTER_PLACEMENT)
_DONE, _ROUND_DUE = int(Status.DONE), int(Status.ROUND_DUE)
_PLACEMENT_DUE, _STEPS_FULL = int(Status.PLACEMENT_DUE), int(Status.STEPS_FULL)
_EVENTS_FULL, _SIGNALS_FULL = int(Status.EVENTS_FULL), int(Status.SIGNALS_FULL)
_PASSES_FULL, _SLICE_OVER = int(Status.PASSES_FULL), int(Status.SLICE_OVER)


@inlined
def advance(w):  # type: ignore[no-untyped-def]
    """Run until a scheduler has to choose, the run is over, or a capacity is reached.

    The caller answers ROUND_DUE by a round and by setting the phase to AFTER_ROUND, PLACEMENT_DUE
    by a placement round and AFTER_PLACEMENT; it answers a full array by a larger one. Then it calls
    again.
    """
    clock = w.clock
    while clock.phase != _IN_ROUND and clock.phase != _IN_PLACEMENT:
        if clock.phase == _AFTER_ROUND:
            asked = clock.placement_asked and clock.num_waiting > 0
            clock.phase = _IN_PLACEMENT if asked else _AFTER_PLACEMENT
            clock.placement_asked = 0
            continue
        if clock.phase == _NEXT_INSTANT:
            status = _may_go_on(w)
            if status >= 0:
                return status
            now = next_instant(w)
            if now > w.setup.stop_at_s or now == math.inf:
                clock.now_s = min(clock.now_s if now == math.inf else now, w.setup.stop_at_s)
                let_time_pass(w, clock.now_s)
                return _DONE
            clock.now_s = now
            clock.instants_left -= 1
            clock.signal_came = 0
            clock.arrival_came = 0
            clock.phase = _BEFORE_ROUND
        before_kind = _ANY_KIND if clock.phase == _AFTER_PLACEMENT else _ROUND
        if not _handle_events(w, before_kind):  # one call only: all engines are inlined here
            return _EVENTS_FULL
        if clock.phase == _AFTER_PLACEMENT:
            clock.phase = _NEXT_INSTANT
        else:
            _handle_arrivals(w)
            _handle_alarms(w)
            clock.phase = _IN_ROUND if clock.asked else _AFTER_ROUND
            clock.asked = 0
    return _ROUND_DUE if clock.phase == _IN_ROUND else _PLACEMENT_DUE


@inlined
def _may_go_on(w):  # type: ignore[no-untyped-def]
    """Return -1 if another instant may be handled, else the status to come back with."""
    clock, setup = w.clock, w.setup
    if clock.num_done == setup.num_requests or clock.num_measured_left == 0:
        if not w.agent.goes_on:
            return _DONE
    if clock.num_report_events > 0 and _only_reports_are_left(w):
        return _DONE
    if clock.instants_left <= 0:
        return _SLICE_OVER
    if clock.pass_capacity - clock.num_passes < setup.num_prefill:
        return _PASSES_FULL
    if clock.signal_capacity - (clock.next_signal - clock.first_signal) < setup.num_prefill:
        return _SIGNALS_FULL
    if clock.step_capacity - clock.num_steps < setup.num_decode:
        return _STEPS_FULL
    if clock.event_capacity - clock.num_events < event_slack(w):
        return _EVENTS_FULL
    return -1


@inlined
def _only_reports_are_left(w):  # type: ignore[no-untyped-def]
    """Return whether nothing can happen any more: requests are forgotten, engines report on."""
    clock, setup = w.clock, w.setup
    if clock.num_events > clock.num_report_events:
        clock.idle_reports = 0
    alarm_s = min(clock.timer_at_s, clock.watchdog_at_s)
    if clock.next_arrival < setup.num_requests or alarm_s < math.inf:
        clock.idle_reports = 0
    return clock.idle_reports >= setup.num_decode * (_PATIENCE + setup.report_slots - 2)


@inlined
def event_slack(w):  # type: ignore[no-untyped-def]
    """Return the room that an instant needs in the event heap, hand-overs and evictions apart."""
    return 3 * w.setup.num_prefill + 3 * w.setup.num_decode


@inlined
def _handle_events(w, before_kind):  # type: ignore[no-untyped-def]
    """Handle the events of this instant whose kind comes before `before_kind`.

    Returns whether that was possible: False asks for a larger heap.
    """
    clock = w.clock
    while True:
        event = w.events[0]
        if clock.num_events > 0 and event.time_s <= clock.now_s and event.kind < before_kind:
            kind, i, first = event.kind, event.instance, event.first
            end, budget = event.end, event.budget
            if not _has_room_after(w, kind, i):
                return False
            pop_event(w)
        elif before_kind == _ANY_KIND and clock.first_start < clock.end_start:
            kind, i = _PASS_START, take_start(w)
            first = end = budget = 0
        else:
            return True
        if kind == _PASS_END:
            finish_pass(w, i)
        elif kind == _SIGNAL:
            clock.first_signal += 1
            note_signal(w, i, first)
            clock.asked = 1
            clock.signal_came = 1
        elif kind == _DISPATCH_DELIVERED:
            deliver_release(w, i, first, end, budget)
        elif kind == _PASS_START:
            start_pass(w, i)
        else:
            _handle_decode_event(w, kind, i, first)


@inlined
def _has_room_after(w, kind, i):  # type: ignore[no-untyped-def]
    """Return whether the event heap takes what an event of this kind may lead to."""
    if kind != _PASS_END and kind != _STEP_END:
        return True
    needed = event_slack(w) + w.clock.num_waiting
    needed += most_evictions(w, i) if kind == _STEP_END else _num_finishing(w, i)
    return w.clock.event_capacity - w.clock.num_events >= needed


@inlined
def _num_finishing(w, i):  # type: ignore[no-untyped-def]
    """Return the prompts that the running pass of instance `i` completes and hands over."""
    if w.setup.num_decode == 0:
        return 0
    count = 0
    for k in range(i * w.setup.dp, (i + 1) * w.setup.dp):
        count += w.shares[k].num_finishing
    return count


@inlined
def _handle_decode_event(w, kind, j, first):  # type: ignore[no-untyped-def]
    if kind == _STEP_END:
        finish_step(w, j)
    elif kind == _STEP_START:
        start_step(w, j)
    elif kind == _TRANSFER_END:
        has_returned = j == 1
        if not has_returned:
            give_prefill_room_back(w, first)
            consider_start(w, np.int64(w.requests[first].instance))
        queue_on_rank(w, first, has_returned)
    elif kind == _SAMPLE:
        sample(w, j)
    else:
        note_report(w, j, first)


@inlined
def _handle_arrivals(w):  # type: ignore[no-untyped-def]
    clock = w.clock
    r = clock.next_arrival
    while r < w.setup.num_requests and w.requests[r].arrived_at_s <= clock.now_s:
        tally_arrival(w)
        if w.setup.num_decode > 0 and can_never_fit(w, r):
            reject(w, r)
        else:
            add_to_buffer(w, r)
        r += 1
        clock.asked = 1
        clock.arrival_came = 1
    clock.next_arrival = r


@inlined
def _handle_alarms(w):  # type: ignore[no-untyped-def]
    clock = w.clock
    if clock.timer_at_s <= clock.now_s:
        clock.timer_at_s = math.inf
        clock.asked = 1
    if clock.watchdog_at_s <= clock.now_s:
        for i in range(w.setup.num_prefill):
            if w.views[i].watchdog_at_s <= clock.now_s:
                note_watchdog(w, i)
        clock.asked = 1


@inlined
def send_release(w, i, first, budget):  # type: ignore[no-untyped-def]
    """Send the requests log[first:] to instance `i`; return the instant of delivery."""
    clock = w.clock
    delivered_at_s = clock.now_s + w.setup.dispatch_delay_s
    push_event(w, delivered_at_s, _DISPATCH_DELIVERED, i, first, clock.num_dispatched, budget)
    clock.release_number += 1
    clock.last_release_at_s = clock.now_s
    join_waiting_from_log(w, first)
    return delivered_at_s


@inlined
def room_for_releases(w, count):  # type: ignore[no-untyped-def]
    """Return whether the event heap takes `count` more releases and what they lead to."""
    return w.clock.event_capacity - w.clock.num_events >= count + event_slack(w)
