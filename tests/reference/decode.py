"""One decode instance: `decode_dp` ranks in lockstep (section 13)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.reference.agenda import Agenda, Kind
from tests.reference.clock import DecodeClock
from tests.reference.scenario import FinishedStep, ReferenceResult, Scenario


def tokens_after(scenario: Scenario, request: int, steps: int) -> int:
    """Return g(k): the tokens of the request after `steps` steps of its own."""
    tokens = 1 + math.floor(steps * scenario.tokens_per_step)
    return min(tokens, scenario.output_tokens[request])


def max_running(scenario: Scenario) -> int:
    most = scenario.max_step_tokens // scenario.mtp_tokens
    return max(1, min(scenario.max_requests_per_rank, most))


@dataclass(frozen=True)
class Return:
    """A swapped-out request that may come back to its rank."""

    instance: int
    rank: int
    request: int


@dataclass(frozen=True)
class RankSample:
    """What a report says about a rank."""

    running: int
    waiting: int
    blocks: int
    kv_tokens: float


@dataclass
class DecodeRank:
    """The true state of one rank; requests are bound from their grant to their last token."""

    bound: list[int] = field(default_factory=list)
    blocks: dict[int, int] = field(default_factory=dict)  # held or reserved
    running: list[int] = field(default_factory=list)
    arrived: list[int] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)
    swapped_out: set[int] = field(default_factory=set)  # until admitted again
    nic_free_at_s: float = -math.inf

    @property
    def num_blocks(self) -> int:
        return sum(self.blocks.values())

    def let_go(self, request: int) -> None:
        """The request is finished."""
        self.bound.remove(request)
        del self.blocks[request]


@dataclass
class DecodeEngine:
    """The true state of one instance; only its reports tell the scheduler about it."""

    scenario: Scenario
    clock: DecodeClock
    agenda: Agenda
    result: ReferenceResult
    instance: int
    idle: bool = True
    start_scheduled: bool = False
    index: int = -1  # of the running or the last step

    def __post_init__(self) -> None:
        self.ranks = [DecodeRank() for _ in range(self.scenario.decode_dp)]
        self.steps_done: dict[int, int] = {}  # k of every request that was admitted

    def grants(self, rank: int, request: int) -> bool:
        """Reserve room for the request, or refuse."""
        r, need = self.ranks[rank], self.scenario.blocks_to_bind(request)
        if r.swapped_out or r.num_blocks + need > self.scenario.decode_kv_blocks:
            return False
        r.bound.append(request)
        r.blocks[request] = need
        return True

    def take_arrival(self, request: int, rank: int, now: float) -> None:
        self.ranks[rank].arrived.append(request)
        self.ask_to_start(now)

    def take_return(self, back: Return, now: float) -> None:
        self.ranks[back.rank].returned.append(back.request)
        self.ask_to_start(now)

    def ask_to_start(self, now: float) -> None:
        if self.idle and not self.start_scheduled:
            self.start_scheduled = True
            self.agenda.schedule(Kind.STEP_START, now, self.instance)

    def start_step(self, now: float) -> None:
        self.start_scheduled = False
        self.num_admitted = sum(self._admit(rank, now) for rank in self.ranks)
        self.batch = [len(rank.running) for rank in self.ranks]
        if not any(self.batch):
            return
        self.idle = False
        self.index += 1
        self.started_at_s = now
        self.kv_tokens = [self.kv_tokens_of(rank) for rank in self.ranks]
        self.blocks = [rank.num_blocks for rank in self.ranks]
        step_s = self.clock.true_step_s(self.batch, self.kv_tokens, self.instance, now)
        self.agenda.schedule(Kind.STEP_END, now + step_s, self.instance)

    def end_step(self, now: float) -> None:
        for rank in self.ranks:
            for request in rank.running:
                self.steps_done[request] += 1
                if self.steps_done[request] == 1:
                    self.result.second_token_at_s[request] = now
        num_finished = num_preempted = 0
        for d, rank in enumerate(self.ranks):
            num_finished += self._leave(rank, now)
            self._grow(rank)
            num_preempted += self._preempt(d, rank, now)
        self._record(now, num_finished, num_preempted)
        self.idle = True
        if any(rank.running or rank.arrived or rank.returned for rank in self.ranks):
            self.ask_to_start(now)

    def kv_tokens_of(self, rank: DecodeRank, more: Iterable[int] = ()) -> float:
        """Return the KV tokens of the running requests, and of the prompts of `more`."""
        prompts = sum(self.scenario.input_tokens[r] + 1 for r in [*rank.running, *more])
        steps = sum(self.steps_done[r] for r in rank.running)
        return prompts + self.scenario.tokens_per_step * steps

    def sample(self) -> list[RankSample]:
        return [self._sample_of(rank) for rank in self.ranks]

    def _sample_of(self, rank: DecodeRank) -> RankSample:
        on_the_way = [r for r in rank.bound if r not in self.steps_done]
        return RankSample(
            running=len(rank.running),
            waiting=len(rank.bound) - len(rank.running),
            blocks=rank.num_blocks,
            kv_tokens=self.kv_tokens_of(rank, on_the_way),
        )

    def _admit(self, rank: DecodeRank, now: float) -> int:
        """Let requests run, the returned ones first; return how many."""
        before, most = len(rank.running), max_running(self.scenario)
        while rank.returned and len(rank.running) < most:
            need = self._blocks_to_return(rank.returned[0])
            if rank.num_blocks + need > self.scenario.decode_kv_blocks:
                break
            request = rank.returned.pop(0)
            rank.swapped_out.remove(request)
            rank.blocks[request] = need
            rank.running.append(request)
        while rank.arrived and len(rank.running) < most:
            request = rank.arrived.pop(0)
            self.steps_done[request] = 0
            self.result.admitted_at_s[request] = now
            rank.running.append(request)
        return len(rank.running) - before

    def _blocks_to_return(self, request: int) -> int:
        s = self.scenario
        tokens = tokens_after(s, request, self.steps_done[request])
        return s.blocks(s.input_tokens[request] + max(s.decode_reserve_tokens, tokens))

    def _leave(self, rank: DecodeRank, now: float) -> int:
        finished = [r for r in rank.running if self._has_all_tokens(r)]
        for request in finished:
            rank.running.remove(request)
            rank.let_go(request)
            self.result.finished_at_s[request] = now
        return len(finished)

    def _has_all_tokens(self, request: int) -> bool:
        tokens = tokens_after(self.scenario, request, self.steps_done[request])
        return tokens >= self.scenario.output_tokens[request]

    def _kept_tokens(self, request: int) -> int:
        tokens = tokens_after(self.scenario, request, self.steps_done[request])
        return self.scenario.input_tokens[request] + tokens

    def _grow(self, rank: DecodeRank) -> None:
        for request in rank.running:
            need = self.scenario.blocks(self._kept_tokens(request))
            rank.blocks[request] = max(rank.blocks[request], need)

    def _preempt(self, number: int, rank: DecodeRank, now: float) -> int:
        count = 0
        while rank.num_blocks > self.scenario.decode_kv_blocks:
            request = min(rank.running, key=self._first_to_go)
            rank.running.remove(request)
            rank.swapped_out.add(request)
            del rank.blocks[request]
            self.result.num_preempted[request] += 1
            content = Return(self.instance, number, request)
            self.agenda.schedule(Kind.TRANSFER_END, now + self._away_s(request), content)
            count += 1
        return count

    def _first_to_go(self, request: int) -> tuple[int, int, int]:
        return (self.steps_done[request], -self.scenario.input_tokens[request], request)

    def _away_s(self, request: int) -> float:
        s, tokens = self.scenario, self._kept_tokens(request)
        if s.preempt == "swap":
            return (2 * tokens * s.kv_bytes_per_token) / s.host_bytes_per_s
        return tokens / s.recompute_tokens_per_s

    def _record(self, now: float, num_finished: int, num_preempted: int) -> None:
        times = (self.started_at_s, now)
        per_rank = (self.batch, self.kv_tokens, self.blocks)
        counts = (self.num_admitted, num_finished, num_preempted)
        self.result.steps.append(
            FinishedStep(self.instance, self.index, *times, *per_rank, *counts)
        )
