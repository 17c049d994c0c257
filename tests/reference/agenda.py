"""The order of an instant (section 1): one heap of `(time, kind, sequence number)`."""

from __future__ import annotations

import heapq
import math
from enum import IntEnum
from itertools import count
from typing import Any


class Kind(IntEnum):
    """Kinds in the order of an instant; the rounds come after WATCHDOG."""

    PASS_END = 0
    STEP_END = 1
    TRANSFER_END = 2  # and the return of a swapped-out request
    SAMPLE = 3
    SIGNAL = 4
    REPORT = 5
    ARRIVAL = 6
    TIMER = 7
    WATCHDOG = 8
    DISPATCH_DELIVERED = 9
    STEP_START = 10
    PASS_START = 11
    HORIZON = 12


CALLS_THE_SCHEDULER = (Kind.SIGNAL, Kind.ARRIVAL, Kind.TIMER, Kind.WATCHDOG)
CALLS_FOR_PLACEMENT = (Kind.STEP_END, Kind.REPORT)


class Agenda:
    """The events to come; the timer and each instance's watchdog can be replaced."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Kind, int, Any]] = []
        self._sequence = {kind: count() for kind in Kind}
        self._timer_version = 0
        self._watchdog_version: dict[int, int] = {}

    def schedule(self, kind: Kind, at_s: float, content: Any = None) -> None:
        heapq.heappush(self._heap, (at_s, kind, next(self._sequence[kind]), content))

    def set_timer(self, at_s: float) -> None:
        """Replace the timer; infinity means none."""
        self._timer_version += 1
        if at_s < math.inf:
            self.schedule(Kind.TIMER, at_s, self._timer_version)

    def cancel_watchdog(self, instance: int) -> None:
        self._watchdog_version[instance] = self._watchdog_version.get(instance, 0) + 1

    def set_watchdog(self, instance: int, at_s: float) -> None:
        """Replace the watchdog of an instance; among equals the lower instance is first."""
        self.cancel_watchdog(instance)
        content = (instance, self._watchdog_version[instance])
        heapq.heappush(self._heap, (at_s, Kind.WATCHDOG, instance, content))

    def next_event(self) -> tuple[float, Kind, Any] | None:
        """Return the next event without taking it; cancelled ones are dropped unseen."""
        while self._heap and self._is_cancelled(*self._heap[0][1:]):
            heapq.heappop(self._heap)
        if not self._heap:
            return None
        at_s, kind, _, content = self._heap[0]
        return at_s, kind, content

    def holds_only_reports(self) -> bool:
        """Return whether samples and reports are to come, and nothing else but the horizon."""
        live = self._kinds_to_come()
        return bool(live) and live <= {Kind.SAMPLE, Kind.REPORT}

    def holds_nothing(self) -> bool:
        """Return whether nothing is to come but the horizon."""
        return not self._kinds_to_come()

    def _kinds_to_come(self) -> set[Kind]:
        return {e[1] for e in self._heap if not self._is_cancelled(*e[1:])} - {Kind.HORIZON}

    def take(self) -> None:
        heapq.heappop(self._heap)

    def _is_cancelled(self, kind: Kind, _sequence: int, content: Any) -> bool:
        if kind == Kind.TIMER:
            return bool(content != self._timer_version)
        if kind == Kind.WATCHDOG:
            instance, version = content
            return bool(version != self._watchdog_version[instance])
        return False
