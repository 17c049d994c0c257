"""One prefill instance: `dp` ranks in lockstep (section 2), and its KV room (section 11)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tests.reference.agenda import Agenda, Kind
from tests.reference.clock import Clock
from tests.reference.forming import Chunk, form_rank, pairs_of, price_of, tokens_of
from tests.reference.scenario import (
    AT_DISPATCH,
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
    """A request in a rank's FIFO; `done` counts the tokens that passes took, the running one too.

    It leaves the FIFO when its last tokens are taken.
    """

    request: int
    tokens: int
    done: int = 0


@dataclass(frozen=True)
class EndedPrompt:
    """A prompt that a pass completed, and its tokens in that pass."""

    request: int
    rank: int
    last_tokens: int


@dataclass
class Room:
    """KV room of one rank in tokens; without decode there is no end of it."""

    free: float
    blocked_since_s: float | None = None


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
        tokens = math.inf if self.scenario.num_decode == 0 else self.scenario.prefill_kv_tokens
        self.rooms = [Room(tokens) for _ in ranks]
        if self.scenario.start_rule == FREE_RUNNING:
            self._schedule_start(self.clock.first_free_start_s(self.instance))

    def take_delivery(self, release: Release, now: float) -> None:
        for request, rank in release.placed:
            self.fifos[rank].append(Job(request, self.scenario.input_tokens[request]))
            self.result.delivered_at_s[request] = now
        self.budget = release.budget
        self.released = True
        self._note_blocked_ranks(now)
        if self.scenario.start_rule != FREE_RUNNING:
            self.ask_to_start(now)

    def ask_to_start(self, now: float) -> None:
        if self.idle and not self.start_scheduled and self._may_start():
            self._schedule_start(now)

    def give_room_back(self, request: int, rank: int, now: float) -> None:
        """The KV of the request has left the rank."""
        self.rooms[rank].free += self.scenario.input_tokens[request]
        self._note_blocked_ranks(now)
        self.ask_to_start(now)

    def start_pass(self, now: float) -> None:
        price = price_of(self.scenario) if self.scenario.budget_unit == "cost" else None
        self.chunks = []
        for rank, room in enumerate(self.rooms):
            parts = [(j.request, j.done, j.tokens - j.done) for j in self._startable(rank)]
            self.chunks.append(form_rank(parts, self.budget, price))
            self._take_from_fifo(self.fifos[rank], room, self.chunks[-1])
        self._stamp_first_chunks(now)
        self._note_blocked_ranks(now)
        self.idle = self.released = self.start_scheduled = False
        self.index += 1
        self.started_at_s = now
        self.pass_budget = self.budget
        duration_s = self.clock.true_pass_s(self.chunks, self.instance, now)
        self.agenda.schedule(Kind.PASS_END, now + duration_s, self.instance)

    def end_pass(self, now: float) -> list[EndedPrompt]:
        """End the pass; return the prompts it completed, ranks by index, in FIFO order."""
        ended = []
        for rank, chunks in enumerate(self.chunks):
            self.done[rank] += tokens_of(chunks)
            ended += self._ended_prompts(rank, chunks)
        for prompt in ended:
            self._stamp_first_token(prompt, now)
        self._note_blocked_ranks(now)
        self.idle = True
        self.result.passes.append(self._record(now))
        self._send_signal(now)
        self.ask_to_start(now)
        return ended

    def count_open_blocks(self, now: float) -> None:
        """At the end of the run, count what is blocked until then."""
        for room in self.rooms:
            if room.blocked_since_s is not None:
                self.result.prefill_kv_blocked_s += now - room.blocked_since_s

    def _may_start(self) -> bool:
        if self.scenario.start_rule == FREE_RUNNING:
            return True
        any_startable = any(self._startable(d) for d in range(self.scenario.dp))
        if self.scenario.start_rule == EAGER:
            return any_startable
        assert self.scenario.start_rule == ON_RELEASE
        # With nothing queued the release is spent.
        self.released = self.released and any(self.fifos)
        return self.released and any_startable

    def _startable(self, rank: int) -> list[Job]:
        """Return the jobs from the front of the FIFO that KV room and binding let into a pass."""
        free, jobs = self.rooms[rank].free, []
        for job in self.fifos[rank]:
            if job.done == 0:
                if job.tokens > free or self._is_held(job.request):
                    break
                free -= job.tokens
            jobs.append(job)
        return jobs

    def _is_held(self, request: int) -> bool:
        """Return whether the request may not begin before a decode rank is bound."""
        if self.scenario.num_decode == 0 or self.scenario.decode_binding != AT_DISPATCH:
            return False
        return math.isnan(self.result.bound_at_s[request])

    @staticmethod
    def _take_from_fifo(fifo: list[Job], room: Room, chunks: list[Chunk]) -> None:
        for _, done, tokens in chunks:
            if done == 0:
                room.free -= fifo[0].tokens
            fifo[0].done += tokens
            if fifo[0].done == fifo[0].tokens:
                fifo.pop(0)

    def _note_blocked_ranks(self, now: float) -> None:
        for fifo, room in zip(self.fifos, self.rooms, strict=True):
            blocked = bool(fifo) and fifo[0].done == 0 and fifo[0].tokens > room.free
            if blocked and room.blocked_since_s is None:
                room.blocked_since_s = now
            if not blocked and room.blocked_since_s is not None:
                self.result.prefill_kv_blocked_s += now - room.blocked_since_s
                room.blocked_since_s = None

    def _schedule_start(self, at_s: float) -> None:
        self.start_scheduled = True
        self.agenda.schedule(Kind.PASS_START, at_s, self.instance)

    def _stamp_first_chunks(self, now: float) -> None:
        for request, done, _ in (chunk for of_rank in self.chunks for chunk in of_rank):
            if done == 0:
                self.result.prefill_started_at_s[request] = now

    def _ended_prompts(self, rank: int, chunks: list[Chunk]) -> list[EndedPrompt]:
        return [
            EndedPrompt(request, rank, tokens)
            for request, done, tokens in chunks
            if done + tokens == self.scenario.input_tokens[request]
        ]

    def _stamp_first_token(self, prompt: EndedPrompt, now: float) -> None:
        self.result.first_token_at_s[prompt.request] = now
        if self.scenario.ends_with_first_token(prompt.request):
            self.result.finished_at_s[prompt.request] = now
            self.rooms[prompt.rank].free += self.scenario.input_tokens[prompt.request]

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
