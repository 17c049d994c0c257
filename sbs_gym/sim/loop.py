"""The loop: advance the clock to the next instant, act, and stop where a scheduler must choose."""

from __future__ import annotations

import math

from sbs_gym.jit import inlined
from sbs_gym.sim.buffer import add_to_buffer
from sbs_gym.sim.events import next_instant, pop_event, push_event
from sbs_gym.sim.prefill import deliver_release, finish_pass, start_pass
from sbs_gym.sim.state import Kind, Phase, Status
from sbs_gym.sim.view import note_signal, note_watchdog

_PASS_END, _SIGNAL, _ROUND = int(Kind.PASS_END), int(Kind.SIGNAL), int(Kind.ROUND)
_DISPATCH_DELIVERED = int(Kind.DISPATCH_DELIVERED)
_ANY_KIND = int(Kind.PASS_START) + 1
_NEXT_INSTANT, _IN_ROUND = int(Phase.NEXT_INSTANT), int(Phase.ROUND)
_AFTER_ROUND = int(Phase.AFTER_ROUND)
_DONE, _ROUND_DUE = int(Status.DONE), int(Status.ROUND_DUE)
_EVENTS_FULL, _SIGNALS_FULL = int(Status.EVENTS_FULL), int(Status.SIGNALS_FULL)
_PASSES_FULL, _SLICE_OVER = int(Status.PASSES_FULL), int(Status.SLICE_OVER)


@inlined
def advance(w):  # type: ignore[no-untyped-def]
    """Run until a scheduler round is due, the run is over, or a capacity is reached.

    The caller answers ROUND_DUE by a round and by setting the phase to AFTER_ROUND; it answers a
    full array by a larger one. Either way it calls again.
    """
    clock = w.clock
    while clock.phase != _IN_ROUND:
        if clock.phase == _AFTER_ROUND:
            before_kind = _ANY_KIND
        else:
            status = _may_go_on(w)
            if status >= 0:
                return status
            now = next_instant(w)
            if now > w.setup.stop_at_s or now == math.inf:
                clock.now_s = min(clock.now_s if now == math.inf else now, w.setup.stop_at_s)
                return _DONE
            clock.now_s = now
            clock.instants_left -= 1
            before_kind = _ROUND
        _handle_events(w, before_kind)
        if clock.phase == _AFTER_ROUND:
            clock.phase = _NEXT_INSTANT
        else:
            _handle_arrivals(w)
            _handle_alarms(w)
            clock.phase = _IN_ROUND if clock.asked else _AFTER_ROUND
            clock.asked = 0
    return _ROUND_DUE


@inlined
def _may_go_on(w):  # type: ignore[no-untyped-def]
    """Return -1 if another instant may be handled, else the status to come back with."""
    clock, setup = w.clock, w.setup
    if clock.num_done == setup.num_requests or clock.num_measured_left == 0:
        return _DONE
    if clock.instants_left <= 0:
        return _SLICE_OVER
    if clock.pass_capacity - clock.num_passes < setup.num_prefill:
        return _PASSES_FULL
    if clock.signal_capacity - (clock.next_signal - clock.first_signal) < setup.num_prefill:
        return _SIGNALS_FULL
    if clock.event_capacity - clock.num_events < 3 * setup.num_prefill:
        return _EVENTS_FULL
    return -1


@inlined
def _handle_events(w, before_kind):  # type: ignore[no-untyped-def]
    """Handle the heap's events of this instant whose kind comes before `before_kind`."""
    clock = w.clock
    while clock.num_events > 0:
        event = w.events[0]
        if event.time_s > clock.now_s or event.kind >= before_kind:
            return
        kind, i, first = event.kind, event.instance, event.first
        end, budget = event.end, event.budget
        pop_event(w)
        if kind == _PASS_END:
            finish_pass(w, i)
        elif kind == _SIGNAL:
            clock.first_signal += 1
            note_signal(w, i, first)
            clock.asked = 1
        elif kind == _DISPATCH_DELIVERED:
            deliver_release(w, i, first, end, budget)
        else:
            start_pass(w, i)


@inlined
def _handle_arrivals(w):  # type: ignore[no-untyped-def]
    clock = w.clock
    r = clock.next_arrival
    while r < w.setup.num_requests and w.requests[r].arrived_at_s <= clock.now_s:
        add_to_buffer(w, r)
        r += 1
        clock.asked = 1
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
    return delivered_at_s


@inlined
def room_for_releases(w, count):  # type: ignore[no-untyped-def]
    """Return whether the event heap takes `count` more releases and what they lead to."""
    return w.clock.event_capacity - w.clock.num_events >= count + 3 * w.setup.num_prefill
