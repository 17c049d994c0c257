"""Budget, order, allocation and routing (sections 7 to 9)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import IntEnum

from sbs_gym.rng import Stream, hash64
from tests.reference.beliefs import Beliefs
from tests.reference.forming import price_of
from tests.reference.scenario import Scenario


class Purpose(IntEnum):
    """What a random rule draws for."""

    ROUTE = 1
    ROUTE_SECOND = 2
    ALLOCATE = 3
    PLACE = 4
    PLACE_SECOND = 5


def drawn(scenario: Scenario, purpose: Purpose, request: int, count: int) -> int:
    return int(hash64(scenario.seed, int(Stream.POLICY), int(purpose), request, 0)) % count


def budget_for(scenario: Scenario, buffered_tokens: int, leftover_tokens: int) -> int:
    """Return the budget of a release to an instance with these leftovers (section 8)."""
    chunk = scenario.chunk_tokens
    if scenario.budget == "full":
        return chunk
    if scenario.budget == "fixed":
        return min(scenario.budget_tokens, chunk)
    assert scenario.budget == "backlog"
    backlog = buffered_tokens + leftover_tokens
    share = math.ceil(scenario.alpha * backlog / scenario.dp)
    return min(max(share, scenario.floor_tokens), chunk)


def ordered(scenario: Scenario, waited: dict[int, int]) -> list[int]:
    """Return the buffered requests in order; `waited` counts each one's waited releases."""

    def key(request: int) -> tuple[float, ...]:
        arrival = (scenario.arrived_at_s[request], request)
        length = scenario.input_tokens[request]
        if waited[request] > scenario.n_limit:
            return (0, *arrival)
        return {
            "age_longest": (1, -waited[request], -length, *arrival),
            "longest": (1, -length, *arrival),
            "shortest": (1, length, *arrival),
            "arrival": (1, *arrival),
        }[scenario.order]

    return sorted(waited, key=key)


class Allocation:
    """Choice of ranks for one release to one instance."""

    def __init__(self, scenario: Scenario, beliefs: Beliefs, instance: int, budget: int) -> None:
        self.scenario, self.belief = scenario, beliefs.instances[instance]
        self.beliefs = beliefs
        self.has_long = self.belief.holds_longer_than(scenario.long)
        self.ranks = range(scenario.dp)
        self.price = price_of(scenario) if scenario.charge == "cost" else None
        self.tokens = beliefs.leftovers(instance)
        self.requests = [len(rank.fifo) for rank in self.belief.ranks]
        self.load: list[float] = [
            self._cost_of_leftover(beliefs, instance, d) if self.price else self.tokens[d]
            for d in self.ranks
        ]
        limit = self.price.of_fresh(budget) if self.price else budget
        self.room = [limit - load for load in self.load]

    def place(self, queue: Iterable[int], waited: dict[int, int]) -> list[tuple[int, int]]:
        """Return (request, rank) of what is placed, in placement order."""
        placed: list[tuple[int, int]] = []
        for request in queue:
            if self._is_kept_out(request, waited[request]):
                continue
            rank = self._rank_for(request, waited[request] > self.scenario.n_limit)
            if rank is None:
                break  # requests past the limit come first, so nobody behind can be forced
            self._charge(request, rank)
            self.has_long |= self.scenario.input_tokens[request] > self.scenario.long
            placed.append((request, rank))
        return placed

    def _is_kept_out(self, request: int, waited: int) -> bool:
        s = self.scenario
        if s.reserved == 0 or s.input_tokens[request] <= s.long or waited > s.n_limit:
            return False
        holders = sum(b.holds_longer_than(s.long) for b in self.beliefs.instances)
        return not self.has_long and holders >= max(s.num_prefill - s.reserved, 1)

    def _cost_of_leftover(self, beliefs: Beliefs, instance: int, rank: int) -> float:
        cost = 0.0
        for _, done, left in beliefs.leftover_parts(instance, rank):
            cost += self.price.of_chunk(left, done)
        return cost

    def _rank_for(self, request: int, past_limit: bool) -> int | None:
        if past_limit and self.scenario.n_limit_action == "force":
            return self._roomiest(list(self.ranks))
        eligible = [d for d in self.ranks if not self.scenario.gated or self.room[d] > 0]
        return self._choose(request, eligible) if eligible else None

    def _roomiest(self, eligible: list[int]) -> int:
        return min(eligible, key=lambda d: (-self.room[d], self._place_in_tie(d)))

    def _place_in_tie(self, rank: int) -> int:
        return rank

    def _choose(self, request: int, eligible: list[int]) -> int:
        rule = self.scenario.allocation
        if rule == "pbaa":
            return self._roomiest(eligible)
        if rule == "round_robin":
            return self._next_in_turn(eligible)
        if rule == "random":
            return eligible[drawn(self.scenario, Purpose.ALLOCATE, request, len(eligible))]
        measure = {
            "lpt": self.load,
            "least_tokens": self.tokens,
            "least_requests": self.requests,
        }[rule]
        return min(eligible, key=lambda d: (measure[d], self._place_in_tie(d)))

    def _next_in_turn(self, eligible: list[int]) -> int:
        dp = self.scenario.dp
        rank = min(eligible, key=lambda d: (d - self.belief.next_rank) % dp)
        self.belief.next_rank = (rank + 1) % dp
        return rank

    def _charge(self, request: int, rank: int) -> None:
        tokens = self.scenario.input_tokens[request]
        charge = self.price.of_fresh(tokens) if self.price else tokens
        self.room[rank] -= charge
        self.load[rank] += charge
        self.tokens[rank] += tokens
        self.requests[rank] += 1


def route(scenario: Scenario, beliefs: Beliefs, release_number: int, request: int) -> int:
    """Return the instance of an ungated release whose first request is given."""
    count = scenario.num_prefill
    tokens = [belief.outstanding for belief in beliefs.instances]
    if scenario.routing == "round_robin":
        return release_number % count
    if scenario.routing == "random":
        return drawn(scenario, Purpose.ROUTE, request, count)
    if scenario.routing == "least_tokens":
        return min(range(count), key=lambda i: (tokens[i], i))
    if scenario.routing == "least_requests":
        requests = [sum(len(rank.fifo) for rank in b.ranks) for b in beliefs.instances]
        return min(range(count), key=lambda i: (requests[i], i))
    assert scenario.routing == "power_of_two"
    if count == 1:
        return 0
    first = drawn(scenario, Purpose.ROUTE, request, count)
    second = drawn(scenario, Purpose.ROUTE_SECOND, request, count - 1)
    second += second >= first
    return min((first, second), key=lambda i: (tokens[i], i))
