"""One prefill instance: `dp` ranks in lockstep (section 2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.reference.agenda import Agenda, Kind
from tests.reference.clock import Clock
from tests.reference.forming import Chunk, form_rank, pairs_of, price_of, tokens_of
from tests.reference.scenario import (
    EAGER,
    FREE_RUNNING,
    ON_RELEASE,
    FinishedPass,
    ReferenceResult,
    Scenario,
)


@dataclass(frozen=True)
class Release:
    """One message to an instance: requests with their ranks, in placement order."""

    instance: int
    placed: list[tuple[int, int]]
    budget: int


@dataclass(frozen=True)
class Signal:
    """EndForward of one pass; `done` counts each rank's tokens since the start of the run."""

    instance: int
    index: int
    started_at_s: float
    ended_at_s: float
    tokens: int
    done: list[int]


@dataclass
class Job:
    """A request in a rank's FIFO."""

    request: int
    tokens: int
    done: int = 0


@dataclass
class Engine:
    """The true state of one instance; only its signals tell the scheduler about it."""

    scenario: Scenario
    clock: Clock
    agenda: Agenda
    result: ReferenceResult
    instance: int
    idle: bool = True
    released: bool = False  # a release was delivered since the last pass started
    start_scheduled: bool = False
    index: int = -1  # of the running or the last pass
    started_at_s: float = 0.0
    chunks: list[list[Chunk]] = field(default_factory=list)

    def __post_init__(self) -> None:
        ranks = range(self.scenario.dp)
        self.fifos: list[list[Job]] = [[] for _ in ranks]
        self.done = [0 for _ in ranks]
        self.budget = self.scenario.chunk_tokens
        self.pass_budget = self.budget  # of the running pass
        if self.scenario.start_rule == FREE_RUNNING:
            self._schedule_start(self.clock.first_free_start_s(self.instance))

    def take_delivery(self, release: Release, now: float) -> None:
        for request, rank in release.placed:
            self.fifos[rank].append(Job(request, self.scenario.input_tokens[request]))
            self.result.delivered_at_s[request] = now
        self.budget = release.budget
        self.released = True
        rests = self.idle and not self.start_scheduled
        if rests and self.scenario.start_rule != FREE_RUNNING and self._may_start():
            self._schedule_start(now)

    def start_pass(self, now: float) -> None:
        price = price_of(self.scenario) if self.scenario.budget_unit == "cost" else None
        waiting = [[(j.request, j.done, j.tokens - j.done) for j in fifo] for fifo in self.fifos]
        self.chunks = [form_rank(parts, self.budget, price) for parts in waiting]
        self._stamp_first_chunks(now)
        self.idle = self.released = self.start_scheduled = False
        self.index += 1
        self.started_at_s = now
        self.pass_budget = self.budget
        duration_s = self.clock.true_pass_s(self.chunks, self.instance, now)
        self.agenda.schedule(Kind.PASS_END, now + duration_s, self.instance)

    def end_pass(self, now: float) -> None:
        for rank, chunks in enumerate(self.chunks):
            self._finish_chunks(rank, chunks, now)
        self.idle = True
        self.result.passes.append(self._record(now))
        self._send_signal(now)
        if self._may_start():
            self._schedule_start(now)

    def _may_start(self) -> bool:
        if self.scenario.start_rule == FREE_RUNNING:
            return True
        any_queued = any(self.fifos)
        if self.scenario.start_rule == EAGER:
            return any_queued
        assert self.scenario.start_rule == ON_RELEASE
        self.released = self.released and any_queued  # with nothing queued the release is spent
        return self.released

    def _schedule_start(self, at_s: float) -> None:
        self.start_scheduled = True
        self.agenda.schedule(Kind.PASS_START, at_s, self.instance)

    def _stamp_first_chunks(self, now: float) -> None:
        for request, done, _ in (chunk for of_rank in self.chunks for chunk in of_rank):
            if done == 0:
                self.result.prefill_started_at_s[request] = now

    def _finish_chunks(self, rank: int, chunks: list[Chunk], now: float) -> None:
        fifo = self.fifos[rank]
        self.done[rank] += tokens_of(chunks)
        for request, _, tokens in chunks:
            fifo[0].done += tokens
            if fifo[0].done == fifo[0].tokens:
                fifo.pop(0)
                self.result.first_token_at_s[request] = now

    def _record(self, now: float) -> FinishedPass:
        return FinishedPass(
            self.instance,
            self.index,
            self.started_at_s,
            now,
            self.pass_budget,
            [tokens_of(chunks) for chunks in self.chunks],
            [pairs_of(chunks) for chunks in self.chunks],
        )

    def _send_signal(self, now: float) -> None:
        if self.clock.is_signal_lost(self.instance, self.index):
            self.result.num_signals_lost += 1
            return
        tokens = sum(tokens_of(chunks) for chunks in self.chunks)
        content = (self.instance, self.index, self.started_at_s, now, tokens, list(self.done))
        self.agenda.schedule(Kind.SIGNAL, now + self.scenario.signal_delay_s, Signal(*content))
