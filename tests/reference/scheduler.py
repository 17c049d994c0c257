"""The scheduler's round: when to release, to whom, and the timer (sections 6 and 7)."""

from __future__ import annotations

import math

from tests.reference.agenda import Agenda, Kind
from tests.reference.beliefs import Beliefs
from tests.reference.clock import Clock
from tests.reference.engine import Release
from tests.reference.rules import Allocation, budget_for, ordered, route
from tests.reference.scenario import (
    FIXED_WINDOW,
    IMMEDIATE,
    ON_RELEASE,
    ReferenceResult,
    Scenario,
)


class Scheduler:
    """The buffer, the beliefs, and one round per instant in which something was heard."""

    def __init__(
        self, scenario: Scenario, clock: Clock, agenda: Agenda, result: ReferenceResult
    ) -> None:
        self.scenario, self.clock, self.agenda, self.result = scenario, clock, agenda, result
        self.beliefs = Beliefs(scenario, clock, agenda)
        self.buffer: dict[int, int] = {}  # request -> release number at its arrival
        self.release_number = 0
        self.last_release = -math.inf
        self.sent: list[int] = []  # in this round, in order of dispatch

    def take_arrival(self, request: int) -> None:
        self.buffer[request] = self.release_number

    def run_round(self, now: float) -> list[int]:
        """Release what is due; return the requests that went out, in order."""
        self.sent = []
        if self.scenario.gated:
            self._gated_round(now)
            self.beliefs.settle_put_off_starts(now)
            self.agenda.set_timer(self._next_gated_look(now))
        elif self.scenario.release == IMMEDIATE:
            for request in list(self.buffer):
                if request in self.buffer:  # an earlier release may have rejected it
                    self._release_ungated([request], now)
        else:
            self._size_or_timeout_round(now)
            due = self._earliest_arrival() + self.scenario.timeout_s
            self.agenda.set_timer(due if due > now else math.inf)
        return self.sent

    # Gated release (section 6).

    def interval(self) -> float:
        s = self.scenario
        if s.release == FIXED_WINDOW:
            return s.window_s
        link = s.dispatch_delay_s + s.signal_delay_s
        most = 2 * self.clock.full_pass_s if s.max_interval_s is None else s.max_interval_s
        wish = s.multiplier * (self.beliefs.pass_avg + link) / s.num_prefill
        return min(max(wish, s.min_interval_s), most)

    def _gated_round(self, now: float) -> None:
        refused: set[int] = set()  # qualified, but no rank had room
        while True:
            chosen = self._first_qualified(now, refused)
            if chosen is None:
                return
            if not self._release_gated(chosen, now):
                refused.add(chosen)

    def _first_qualified(self, now: float, refused: set[int]) -> int | None:
        for i in self._ready_order(now):
            if i not in refused and self._qualifies(i, now):
                return i
        return None

    def _ready_order(self, now: float) -> list[int]:
        def key(i: int) -> tuple[bool, float, int]:
            b = self.beliefs.instances[i]
            return (b.running, b.run_end if b.running else b.idle_since, i)

        instances = range(self.scenario.num_prefill)
        return sorted((i for i in instances if self.beliefs.is_ready(i, now)), key=key)

    def _qualifies(self, instance: int, now: float) -> bool:
        due = now >= self.last_release + self.interval()
        has_leftovers = any(self.beliefs.leftovers(instance))
        if not self.buffer:
            return self.scenario.start_rule == ON_RELEASE and due and has_leftovers
        runs_alone = self.scenario.start_rule != ON_RELEASE and has_leftovers
        return due or runs_alone or self._is_full_batch(instance)

    def _is_full_batch(self, instance: int) -> bool:
        if not self.scenario.full_batch_bypass:
            return False
        chunk = self.scenario.chunk_tokens
        fill = sum(min(tokens, chunk) for tokens in self.beliefs.leftovers(instance))
        fill += sum(min(self.scenario.input_tokens[r], chunk) for r in self.buffer)
        return fill >= self.scenario.full_batch_frac * self.scenario.dp * chunk

    def _release_gated(self, instance: int, now: float) -> bool:
        waited = self._waited()
        budget = self._budget(instance)
        allocation = Allocation(self.scenario, self.beliefs, instance, budget)
        placed = allocation.place(ordered(self.scenario, waited), waited)
        if not placed and not self._may_go_without_requests(instance):
            waits = any(self.beliefs.leftovers(instance))
            if waits and not self.beliefs.instances[instance].running:
                self.beliefs.start_without_release(instance, now)
            return False
        self._send(Release(instance, placed, budget), now)
        return True

    def _may_go_without_requests(self, instance: int) -> bool:
        """Leftovers that wait for a release go alone if no rank has room for more."""
        waits = self.scenario.start_rule == ON_RELEASE
        return waits and any(self.beliefs.leftovers(instance))

    def _next_gated_look(self, now: float) -> float:
        looks = []
        instances = range(self.scenario.num_prefill)
        with_leftovers = [i for i in instances if any(self.beliefs.leftovers(i))]
        if self.buffer or (self.scenario.start_rule == ON_RELEASE and with_leftovers):
            looks.append(self.last_release + self.interval())
        for i in with_leftovers:
            b = self.beliefs.instances[i]
            if b.running and not b.pending:
                looks.append(b.run_end - self.beliefs.lead(i))
        return min((look for look in looks if look > now), default=math.inf)

    # Ungated release (section 7).

    def _size_or_timeout_round(self, now: float) -> None:
        s = self.scenario
        while len(self.buffer) >= s.size or now >= self._earliest_arrival() + s.timeout_s:
            self._release_ungated(ordered(s, self._waited())[: s.size], now)

    def _earliest_arrival(self) -> float:
        return min((self.scenario.arrived_at_s[r] for r in self.buffer), default=math.inf)

    def _release_ungated(self, requests: list[int], now: float) -> None:
        instance = route(self.scenario, self.beliefs, self.release_number, requests[0])
        budget = self._budget(instance)
        allocation = Allocation(self.scenario, self.beliefs, instance, budget)
        self._send(Release(instance, allocation.place(requests, self._waited()), budget), now)

    # Both.

    def _waited(self) -> dict[int, int]:
        return {r: self.release_number - arrived for r, arrived in self.buffer.items()}

    def _budget(self, instance: int) -> int:
        buffered = sum(self.scenario.input_tokens[r] for r in self.buffer)
        return budget_for(self.scenario, buffered, sum(self.beliefs.leftovers(instance)))

    def _send(self, release: Release, now: float) -> None:
        for request, rank in release.placed:
            self.result.waited_releases[request] = self.release_number - self.buffer.pop(request)
            self.sent.append(request)
            self.result.dispatched_at_s[request] = now
            self.result.instance[request] = release.instance
            self.result.rank[request] = rank
        self.beliefs.record(release, now)
        self.release_number += 1
        self.result.num_releases += 1
        self.last_release = now
        delivery_s = now + self.scenario.dispatch_delay_s
        self.agenda.schedule(Kind.DISPATCH_DELIVERED, delivery_s, release)
        self._reject_the_overdue(now)

    def _reject_the_overdue(self, now: float) -> None:
        if self.scenario.n_limit_action != "reject":
            return
        for request, waited in self._waited().items():
            if waited > self.scenario.n_limit:
                del self.buffer[request]
                self.result.rejected_at_s[request] = now
