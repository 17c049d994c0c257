"""From a prefill rank to a decode rank: binding, transfer, reports (sections 12, 14 and 15)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.reference.agenda import Agenda, Kind
from tests.reference.clock import DecodeClock
from tests.reference.decode import DecodeEngine, DecodeRank, RankSample, Return
from tests.reference.engine import EndedPrompt
from tests.reference.placement import Placement
from tests.reference.scenario import AT_DISPATCH, AT_PREFILL_END, ReferenceResult, Scenario


@dataclass(frozen=True)
class Transfer:
    """KV under way; the ranks count within their instances."""

    request: int
    source: tuple[int, int]
    destination: tuple[int, int]


@dataclass(frozen=True)
class Report:
    """What a SAMPLE saw, on its way to the scheduler."""

    instance: int
    sampled_at_s: float
    ranks: list[RankSample]


class HandOff:
    """The waiting list, the links and the decode instances."""

    def __init__(self, scenario: Scenario, agenda: Agenda, result: ReferenceResult) -> None:
        self.scenario, self.agenda, self.result = scenario, agenda, result
        clock = DecodeClock(scenario)
        parts = (scenario, clock, agenda, result)
        self.engines = [DecodeEngine(*parts, j) for j in range(scenario.num_decode)]
        self.placement = Placement(scenario)
        self.waiting: list[int] = []
        self.has_joined = False  # since the last placement round
        self.last_tokens: dict[int, int] = {}  # of the last pass of every ended prompt
        self.source_free_at_s: dict[tuple[int, int], float] = {}
        self.is_sampled = [False] * scenario.num_decode  # whether a SAMPLE is scheduled

    # Who waits.

    def take_dispatched(self, requests: list[int]) -> None:
        if self.scenario.decode_binding == AT_DISPATCH:
            self._join(requests)

    def take_ended(self, prompts: list[EndedPrompt], now: float) -> None:
        """Prompts of one pass got their first tokens."""
        for prompt in prompts:
            self.last_tokens[prompt.request] = prompt.last_tokens
            if self.scenario.ends_with_first_token(prompt.request):
                self._drop_binding(prompt.request, now)
            elif self.scenario.decode_binding == AT_PREFILL_END:
                self._join([prompt.request])
            else:
                self._book_transfer(prompt.request, now)

    def _join(self, requests: list[int]) -> None:
        self.waiting += requests
        self.has_joined |= bool(requests)

    def _drop_binding(self, request: int, now: float) -> None:
        if math.isnan(self.result.bound_at_s[request]):
            return
        self._rank_of(request).let_go(request)
        if self._rank_of(request).returned:
            self.engines[self.result.decode_instance[request]].ask_to_start(now)

    def _rank_of(self, request: int) -> DecodeRank:
        instance = self.result.decode_instance[request]
        return self.engines[instance].ranks[self.result.decode_rank[request]]

    # The placement round.

    def run_round(self, now: float) -> None:
        self.has_joined = False
        held: set[tuple[int, int]] = set()  # prefill ranks with an earlier request that waits
        for request in self._in_order():
            source = (self.result.instance[request], self.result.rank[request])
            if source in held:
                continue
            rank = self.placement.choose(request)
            if rank is None:
                return
            self._ask(request, rank, now)
            if self.scenario.decode_binding == AT_DISPATCH and request in self.waiting:
                held.add(source)

    def _in_order(self) -> list[int]:
        if self.scenario.decode_binding == AT_DISPATCH:
            return list(self.waiting)
        return list(self.placement.in_order(self.waiting))

    def _ask(self, request: int, number: int, now: float) -> None:
        instance, rank = divmod(number, self.scenario.decode_dp)
        if not self.engines[instance].grants(rank, request):
            self.placement.records[number].refused = True
            self.result.num_refusals += 1
            return
        self.waiting.remove(request)
        self.placement.grant(request, number, now)
        self.result.bound_at_s[request] = now
        self.result.decode_instance[request] = instance
        self.result.decode_rank[request] = rank
        if not self.is_sampled[instance]:
            self._schedule_sample(instance, now)
        if self.scenario.decode_binding == AT_PREFILL_END:
            self._book_transfer(request, now)

    # Transfers.

    def _book_transfer(self, request: int, now: float) -> None:
        s, rank = self.scenario, self._rank_of(request)
        source = (self.result.instance[request], self.result.rank[request])
        start = max(now, self.source_free_at_s.get(source, -math.inf), rank.nic_free_at_s)
        end = start + (self._tokens_to_send(request) * s.kv_bytes_per_token) / s.nic_bytes_per_s
        self.source_free_at_s[source] = rank.nic_free_at_s = end
        destination = (self.result.decode_instance[request], self.result.decode_rank[request])
        content = Transfer(request, source, destination)
        self.agenda.schedule(Kind.TRANSFER_END, end + s.transfer_latency_s, content)

    def _tokens_to_send(self, request: int) -> int:
        if self.scenario.transfer_overlap == "none":
            return self.scenario.input_tokens[request]
        return self.last_tokens[request]

    def end_transfer(self, content: Transfer | Return, now: float) -> None:
        """The KV of a request is on its decode rank, after prefill or after a swap."""
        if isinstance(content, Return):
            self.engines[content.instance].take_return(content, now)
            return
        self.result.transferred_at_s[content.request] = now
        instance, rank = content.destination
        self.engines[instance].take_arrival(content.request, rank, now)

    # Reports.

    def sample(self, instance: int, now: float) -> None:
        engine = self.engines[instance]
        content = Report(instance, now, engine.sample())
        self.agenda.schedule(Kind.REPORT, now + self.scenario.signal_delay_s, content)
        self.is_sampled[instance] = False
        if any(rank.bound for rank in engine.ranks):
            self._schedule_sample(instance, now)

    def _schedule_sample(self, instance: int, now: float) -> None:
        period_s = self.scenario.report_period_s
        m = math.floor(now / period_s) + 1
        while m * period_s <= now:
            m += 1
        self.is_sampled[instance] = True
        self.agenda.schedule(Kind.SAMPLE, m * period_s, instance)
