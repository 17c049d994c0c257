"""The loop: take the next event, act, and let the scheduler have its round (section 1)."""

from __future__ import annotations

import math
from typing import Any

from tests.reference.agenda import CALLS_THE_SCHEDULER, Agenda, Kind
from tests.reference.clock import Clock
from tests.reference.engine import Engine
from tests.reference.scenario import ReferenceResult, Scenario
from tests.reference.scheduler import Scheduler


def run_reference(scenario: Scenario) -> ReferenceResult:
    """Simulate `scenario` and return every instant of every request."""
    return World(scenario).run()


class World:
    """Engines, scheduler and the agenda between them."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.agenda = Agenda()
        self.clock = Clock(scenario)
        self.result = ReferenceResult.nothing_yet(scenario.num_requests)
        self.scheduler = Scheduler(scenario, self.clock, self.agenda, self.result)
        parts = (scenario, self.clock, self.agenda, self.result)
        self.engines = [Engine(*parts, i) for i in range(scenario.num_prefill)]
        self.awaited = list(range(*(scenario.measured or (0, scenario.num_requests))))
        for request, at_s in enumerate(scenario.arrived_at_s):
            self.agenda.schedule(Kind.ARRIVAL, at_s, request)
        if scenario.stop_at_s < math.inf:
            self.agenda.schedule(Kind.HORIZON, scenario.stop_at_s)

    def run(self) -> ReferenceResult:
        now, round_due = 0.0, False
        while True:
            event = self.agenda.next_event()
            if round_due and self._round_comes_before(event, now):
                round_due = False
                self.scheduler.run_round(now)
                continue
            if event is None or event[1] == Kind.HORIZON or (event[0] > now and self._is_done()):
                break  # an instant is handled whole
            self.agenda.take()
            now, kind, content = event
            self._act(kind, content, now)
            round_due = round_due or kind in CALLS_THE_SCHEDULER
        return self.result

    def _is_done(self) -> bool:
        while self.awaited and self.result.is_settled(self.awaited[-1]):
            self.awaited.pop()
        return not self.awaited

    def _round_comes_before(self, event: tuple[float, Kind, Any] | None, now: float) -> bool:
        return (
            event is None
            or event[0] > now
            or event[1]
            not in (
                Kind.PASS_END,
                *CALLS_THE_SCHEDULER,
            )
        )

    def _act(self, kind: Kind, content: Any, now: float) -> None:
        if kind == Kind.PASS_END:
            self.engines[content].end_pass(now)
        elif kind == Kind.SIGNAL:
            self.scheduler.beliefs.hear(content, now)
        elif kind == Kind.ARRIVAL:
            self.scheduler.take_arrival(content)
        elif kind == Kind.WATCHDOG:
            self.result.num_watchdogs += 1
            self.scheduler.beliefs.give_up_on_pass(content[0], now)
        elif kind == Kind.DISPATCH_DELIVERED:
            self.engines[content.instance].take_delivery(content, now)
        elif kind == Kind.PASS_START:
            self.engines[content].start_pass(now)
        else:
            assert kind == Kind.TIMER  # it only asks for the round
