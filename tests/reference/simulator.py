"""The loop: take the next event, act, and let the scheduler have its rounds (section 1)."""

from __future__ import annotations

import math
from typing import Any

from tests.reference.agenda import CALLS_FOR_PLACEMENT, CALLS_THE_SCHEDULER, Agenda, Kind
from tests.reference.clock import Clock
from tests.reference.engine import Engine
from tests.reference.handoff import HandOff, Report, Transfer
from tests.reference.scenario import ReferenceResult, Scenario
from tests.reference.scheduler import Scheduler

Event = tuple[float, Kind, Any]


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
        self.handoff: HandOff | None = None
        if scenario.num_decode > 0:
            self.handoff = HandOff(scenario, self.agenda, self.result)
        self.round_due = self.is_called_for_placement = False
        self.idle_reports = 0  # since anything but samples and reports was to come
        self.awaited = list(range(*(scenario.measured or (0, scenario.num_requests))))
        for request, at_s in enumerate(scenario.arrived_at_s):
            self.agenda.schedule(Kind.ARRIVAL, at_s, request)
        if scenario.stop_at_s < math.inf:
            self.agenda.schedule(Kind.HORIZON, scenario.stop_at_s)

    def run(self) -> ReferenceResult:
        now = 0.0
        while True:
            event = self.agenda.next_event()
            if self._rounds_come_before(event, now) and self._run_a_due_round(now):
                continue
            if event is None or (event[0] > now and (self._is_done() or self._is_forgotten())):
                break  # an instant is handled whole
            now, kind, content = event
            if kind == Kind.HORIZON:
                break
            self.agenda.take()
            self._act(kind, content, now)
            self.round_due |= kind in CALLS_THE_SCHEDULER
            self.is_called_for_placement |= kind in CALLS_FOR_PLACEMENT
        self._finish(now)
        return self.result

    def _finish(self, now: float) -> None:
        self.result.ended_at_s = now
        for engine in self.engines:
            engine.count_open_blocks(now)

    def _is_done(self) -> bool:
        while self.awaited and self.result.is_settled(self.awaited[-1]):
            self.awaited.pop()
        return not self.awaited

    def _is_forgotten(self) -> bool:
        """Return whether nothing can happen to the requests that are left."""
        s = self.scenario
        if self.agenda.holds_nothing():
            return True
        if not self.agenda.holds_only_reports():
            self.idle_reports = 0
        delay = math.ceil(s.signal_delay_s / s.report_period_s) if s.num_decode > 0 else 0
        return s.num_decode > 0 and self.idle_reports >= s.num_decode * (100 + delay)

    # Rounds: the scheduler's first, then placement.

    def _rounds_come_before(self, event: Event | None, now: float) -> bool:
        return event is None or event[0] > now or event[1] > Kind.WATCHDOG

    def _run_a_due_round(self, now: float) -> bool:
        if self.round_due:
            self.round_due = False
            sent = self.scheduler.run_round(now)
            if self.handoff is not None:
                self.handoff.take_dispatched(sent)
            return True
        if self.handoff is None:
            return False
        is_called = self.is_called_for_placement or self.handoff.has_joined
        self.is_called_for_placement = False
        if not is_called or not self.handoff.waiting:
            return False
        self.handoff.run_round(now)
        for engine in self.engines:
            engine.ask_to_start(now)
        return True

    # Events.

    def _act(self, kind: Kind, content: Any, now: float) -> None:
        if kind == Kind.PASS_END:
            ended = self.engines[content].end_pass(now)
            if self.handoff is not None:
                self.handoff.take_ended(ended, now)
        elif kind == Kind.SIGNAL:
            self.scheduler.beliefs.hear(content, now)
        elif kind == Kind.ARRIVAL:
            self._take_arrival(content, now)
        elif kind == Kind.WATCHDOG:
            self.result.num_watchdogs += 1
            self.scheduler.beliefs.give_up_on_pass(content[0], now)
        elif kind == Kind.DISPATCH_DELIVERED:
            self.engines[content.instance].take_delivery(content, now)
        elif kind == Kind.PASS_START:
            self.engines[content].start_pass(now)
        elif kind != Kind.TIMER:  # a timer only asks for the round
            assert self.handoff is not None
            self._act_behind_prefill(self.handoff, kind, content, now)

    def _act_behind_prefill(self, handoff: HandOff, kind: Kind, content: Any, now: float) -> None:
        if kind == Kind.STEP_END:
            handoff.engines[content].end_step(now)
        elif kind == Kind.TRANSFER_END:
            handoff.end_transfer(content, now)
            if isinstance(content, Transfer):
                instance, rank = content.source
                self.engines[instance].give_room_back(content.request, rank, now)
        elif kind == Kind.SAMPLE:
            handoff.sample(content, now)
        elif kind == Kind.REPORT:
            assert isinstance(content, Report)
            self.idle_reports += 1
            handoff.placement.hear(content.instance, content.sampled_at_s, content.ranks)
        else:
            assert kind == Kind.STEP_START
            handoff.engines[content].start_step(now)

    def _take_arrival(self, request: int, now: float) -> None:
        if self.scenario.fits_the_cluster(request):
            self.scheduler.take_arrival(request)
        else:
            self.result.rejected_at_s[request] = now
