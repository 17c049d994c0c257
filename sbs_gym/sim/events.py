"""The event heap: events leave it by (time, kind, sequence number), decided here and only here."""

from __future__ import annotations

import math

from sbs_gym.jit import inlined


@inlined
def comes_before(a, b):  # type: ignore[no-untyped-def]
    """Return whether event `a` is handled before event `b`."""
    if a.time_s != b.time_s:
        return a.time_s < b.time_s
    if a.kind != b.kind:
        return a.kind < b.kind
    return a.seq < b.seq


@inlined
def push_event(w, time_s, kind, instance, first, end, budget):  # type: ignore[no-untyped-def]
    """Add an event; the caller has made sure that there is room."""
    events = w.events
    slot = w.clock.num_events
    w.clock.num_events += 1
    seq = w.clock.next_seq
    w.clock.next_seq += 1
    while slot > 0:
        parent = (slot - 1) >> 1
        above = events[parent]
        if above.time_s < time_s or (above.time_s == time_s and above.kind <= kind):
            break  # equal kinds: the earlier sequence number stays above
        _copy_event(events, slot, parent)
        slot = parent
    event = events[slot]
    event.time_s = time_s
    event.seq = seq
    event.kind = kind
    event.instance = instance
    event.first = first
    event.end = end
    event.budget = budget


@inlined
def pop_event(w):  # type: ignore[no-untyped-def]
    """Remove the first event; its fields must have been read before."""
    events = w.events
    last = w.clock.num_events - 1
    w.clock.num_events = last
    slot = 0
    while True:
        child = 2 * slot + 1
        if child >= last:
            break
        if child + 1 < last and comes_before(events[child + 1], events[child]):
            child += 1
        if not comes_before(events[child], events[last]):
            break
        _copy_event(events, slot, child)
        slot = child
    if slot != last:
        _copy_event(events, slot, last)


@inlined
def _copy_event(events, to, origin):  # type: ignore[no-untyped-def]
    a, b = events[to], events[origin]
    time_s, seq, kind, instance = b.time_s, b.seq, b.kind, b.instance
    first, end, budget = b.first, b.end, b.budget
    a.time_s = time_s  # written after all has been read: as a block of memory
    a.seq = seq
    a.kind = kind
    a.instance = instance
    a.first = first
    a.end = end
    a.budget = budget


@inlined
def next_instant(w):  # type: ignore[no-untyped-def]
    """Return the earliest instant at which anything happens; inf if nothing ever will."""
    clock = w.clock
    first = math.inf
    if clock.num_events > 0:
        first = w.events[0].time_s
    if clock.next_arrival < w.setup.num_requests:
        first = min(first, w.requests[clock.next_arrival].arrived_at_s)
    return min(first, min(clock.timer_at_s, clock.watchdog_at_s))
