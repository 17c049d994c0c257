"""Choice of a decode rank by the scheduler's records (sections 14 and 15)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sbs_gym.rng import Stream, uniform
from tests.reference.decode import RankSample
from tests.reference.rules import Purpose, drawn
from tests.reference.scenario import Scenario

LONGEST_FIRST = ("iqr_lex", "bf_io", "br_0")


NOTHING_YET = RankSample(running=0, waiting=0, blocks=0, kv_tokens=0.0)


@dataclass(frozen=True)
class Grant:
    """What a grant added to a rank's record."""

    at_s: float
    blocks: int
    tokens: int


@dataclass
class RankRecord:
    """What the scheduler knows of one decode rank: its last sample, and the grants since then."""

    sample: RankSample = NOTHING_YET
    grants: list[Grant] = field(default_factory=list)
    refused: bool = False

    @property
    def running(self) -> int:
        return self.sample.running

    @property
    def waiting(self) -> int:
        return self.sample.waiting + len(self.grants)

    @property
    def requests(self) -> int:
        return self.running + self.waiting

    @property
    def blocks(self) -> int:
        return self.sample.blocks + sum(grant.blocks for grant in self.grants)

    @property
    def kv_tokens(self) -> float:
        return self.sample.kv_tokens + sum(grant.tokens for grant in self.grants)

    def replace(self, sampled_at_s: float, sample: RankSample) -> None:
        """Take over a report, and keep what was granted at or after its sample."""
        self.grants = [grant for grant in self.grants if grant.at_s >= sampled_at_s]
        self.refused = False
        self.sample = sample


class Placement:
    """The records of all decode ranks, numbered over all instances, and the rule on them."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        count = scenario.num_decode * scenario.decode_dp
        self.records = [RankRecord() for _ in range(count)]
        self.counter = 0  # of round_robin or vllm_kv

    def in_order(self, waiting: list[int]) -> list[int]:
        if self.scenario.placement in LONGEST_FIRST:
            return sorted(waiting, key=lambda r: -self.scenario.input_tokens[r])
        return list(waiting)

    def grant(self, request: int, rank: int, now: float) -> None:
        need, tokens = self.scenario.blocks_to_bind(request), self.weight(request)
        self.records[rank].grants.append(Grant(now, need, tokens))

    def hear(self, instance: int, sampled_at_s: float, samples: list[RankSample]) -> None:
        first = instance * self.scenario.decode_dp
        for d, sample in enumerate(samples):
            self.records[first + d].replace(sampled_at_s, sample)

    def choose(self, request: int) -> int | None:
        """Return the rank to ask, or None if there is none left to ask."""
        need = self.scenario.blocks_to_bind(request)
        willing = [g for g, record in enumerate(self.records) if not record.refused]
        room = self.scenario.decode_kv_blocks
        candidates = [g for g in willing if room - self.records[g].blocks >= need]
        if candidates:
            return self._rule()(request, candidates)
        return self._vllm_count(request, willing) if willing else None

    def weight(self, request: int) -> int:
        return self.scenario.input_tokens[request] + 1

    def kv(self, rank: int) -> float:
        """Return what the rule calls KV load (K)."""
        in_blocks = self.scenario.placement_kv == "blocks"
        return self.records[rank].blocks if in_blocks else self.records[rank].kv_tokens

    def _rule(self) -> Callable[[int, list[int]], int]:
        return {
            "round_robin": self._round_robin,
            "random": self._random,
            "jsq": self._jsq,
            "least_kv": self._least_kv,
            "vllm_count": self._vllm_count,
            "total_tokens": self._total_tokens,
            "power_of_two": self._power_of_two,
            "vllm_kv": self._vllm_kv,
            "iqr_lex": self._iqr_lex,
            "bf_io": self._bf_io,
            "br_0": self._br_0,
            "exp_weighted": self._exp_weighted,
        }[self.scenario.placement]

    # Every rule takes the request and the candidates in rising order; min() takes the first.

    def _round_robin(self, _request: int, candidates: list[int]) -> int:
        rank = min(candidates, key=self._turns_to)
        self.counter = (rank + 1) % len(self.records)
        return rank

    def _turns_to(self, rank: int) -> int:
        return (rank - self.counter) % len(self.records)

    def _random(self, request: int, candidates: list[int]) -> int:
        return candidates[drawn(self.scenario, Purpose.PLACE, request, len(candidates))]

    def _jsq(self, _request: int, candidates: list[int]) -> int:
        return min(candidates, key=lambda g: self.records[g].requests)

    def _least_kv(self, _request: int, candidates: list[int]) -> int:
        return min(candidates, key=self.kv)

    def _vllm_count(self, _request: int, candidates: list[int]) -> int:
        return min(candidates, key=lambda g: 4 * self.records[g].waiting + self.records[g].running)

    def _total_tokens(self, _request: int, candidates: list[int]) -> int:
        return min(candidates, key=lambda g: (self.records[g].kv_tokens, self.records[g].requests))

    def _power_of_two(self, request: int, candidates: list[int]) -> int:
        count = len(candidates)
        if count == 1:
            return candidates[0]
        first = drawn(self.scenario, Purpose.PLACE, request, count)
        second = drawn(self.scenario, Purpose.PLACE_SECOND, request, count - 1)
        second += second >= first
        return self._jsq(request, sorted((candidates[first], candidates[second])))

    def _vllm_kv(self, _request: int, candidates: list[int]) -> int:
        rank = min(candidates, key=lambda g: (self._vllm_score(g), self._turns_to(g)))
        self.counter = (self.counter + 1) % len(self.records)
        return rank

    def _vllm_score(self, rank: int) -> float:
        record = self.records[rank]
        if record.waiting == 0:
            return record.requests
        used = record.blocks / self.scenario.decode_kv_blocks
        return record.requests + (6 * record.waiting) * max(0.0, used - 0.5)

    def _iqr_lex(self, _request: int, candidates: list[int]) -> int:
        safe = self._without_outliers(candidates)
        return min(safe, key=lambda g: (self.records[g].requests, self.kv(g)))

    def _without_outliers(self, candidates: list[int]) -> list[int]:
        if len(candidates) < 4:
            return candidates
        loads = sorted(self.kv(g) for g in candidates)
        low, high = quantile(loads, 0.25), quantile(loads, 0.75)
        limit = high + self.scenario.placement_iqr_k * (high - low)
        safe = [g for g in candidates if not self.kv(g) > limit]
        return safe if len(safe) >= self.scenario.placement_min_safe_ranks else candidates

    def _bf_io(self, request: int, candidates: list[int]) -> int:
        steps = range(self.scenario.placement_horizon_steps + 1)
        most = [max(self._load_ahead(g, h) for g in range(len(self.records))) for h in steps]

        def key(rank: int) -> tuple[float, float]:
            cost = 0.0
            for h in steps:
                load = self._load_ahead(rank, h) + self.weight(request)
                cost += max(most[h], load + h * self.scenario.tokens_per_step)
            return cost, self.records[rank].kv_tokens

        return min(candidates, key=key)

    def _load_ahead(self, rank: int, steps: int) -> float:
        record = self.records[rank]
        return record.kv_tokens + (steps * self.scenario.tokens_per_step) * record.requests

    def _br_0(self, request: int, candidates: list[int]) -> int:
        w, others = self.weight(request), len(self.records) - 1
        most = max(record.kv_tokens for record in self.records)

        def key(rank: int) -> tuple[float, float]:
            kv_tokens = self.records[rank].kv_tokens
            gap = most - kv_tokens
            return -(min(w, gap) - others * max(0.0, w - gap)), kv_tokens

        return min(candidates, key=key)

    def _exp_weighted(self, request: int, candidates: list[int]) -> int:
        limit = 3 * added(self.kv(g) for g in candidates) / len(candidates)
        left = [g for g in candidates if not self.kv(g) > limit]
        left = left or [self._least_kv(request, candidates)]
        least = min(self.records[g].kv_tokens for g in left)
        decay = self.scenario.placement_decay
        weights = [math.exp(-decay * (self.records[g].kv_tokens - least)) for g in left]
        u = float(uniform(self.scenario.seed, int(Stream.POLICY), int(Purpose.PLACE), request, 0))
        return first_past(u * added(weights), weights, left)


def added(values: Iterable[float]) -> float:
    """Return the sum, one after the other; newer versions of Python's sum() compensate."""
    total = 0.0
    for value in values:
        total += value
    return total


def quantile(loads: list[float], q: float) -> float:
    """Return the linear quantile of sorted loads."""
    x = q * (len(loads) - 1)
    low = math.floor(x)
    if low == len(loads) - 1:
        return loads[low]
    return loads[low] + (loads[low + 1] - loads[low]) * (x - low)


def first_past(mark: float, weights: list[float], ranks: list[int]) -> int:
    """Return the first rank at which the running sum of weights exceeds the mark, else the last."""
    total = 0.0
    for rank, weight in zip(ranks, weights, strict=True):
        total += weight
        if total > mark:
            return rank
    return ranks[-1]
