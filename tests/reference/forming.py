"""Forming a pass (section 2), used by the engine and by the scheduler's beliefs alike."""

from __future__ import annotations

from dataclasses import dataclass

from tests.reference.scenario import Scenario

Part = tuple[int, int, int]  # request, tokens of it already done, tokens of it left
Chunk = tuple[int, int, int]  # request, tokens of it already done, tokens of it taken


@dataclass(frozen=True)
class Price:
    """Cost of prompt tokens: `token_cost` (a) each, and `pair_cost` (c) per query-key pair."""

    token_cost: float
    pair_cost: float

    def of_chunk(self, tokens: int, done: int) -> float:
        return self.token_cost * tokens + self.pair_cost * tokens * (done + 0.5 * tokens)

    def of_fresh(self, tokens: int) -> float:
        """Return the cost of fresh tokens: the limit of a budget, the charge of a prompt."""
        return self.token_cost * tokens + 0.5 * self.pair_cost * tokens * tokens


def price_of(scenario: Scenario) -> Price | None:
    """Return the price of tokens, or None if cost equals tokens (no pair cost)."""
    record = scenario.timing.coefficients[0]
    if record["pair_cost_s"] == 0.0:
        return None
    return Price(float(record["token_cost_s"]), float(record["pair_cost_s"]))


def largest_within(price: Price, most: int, done: int, used: float, limit: float) -> int:
    """Return the largest q <= most with `used + cost(q) <= limit`; the cost rises with q."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if used + price.of_chunk(middle, done) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def form_rank(parts: list[Part], budget: int, price: Price | None) -> list[Chunk]:
    """Return the chunks one rank takes; `price` is None where the unit is tokens."""
    chunks: list[Chunk] = []
    taken, used = 0, 0.0
    for request, done, left in parts:
        tokens = min(left, budget - taken)
        if price is not None:
            tokens = largest_within(price, tokens, done, used, price.of_fresh(budget))
            if not chunks:
                tokens = max(tokens, 1)  # else a long context would stop its rank for good
            used += price.of_chunk(tokens, done)
        if tokens > 0:
            chunks.append((request, done, tokens))
            taken += tokens
        if tokens < left:
            break
    return chunks


def tokens_of(chunks: list[Chunk]) -> int:
    return sum(tokens for _, _, tokens in chunks)


def pairs_of(chunks: list[Chunk]) -> int:
    """Return twice the query-key pairs, a whole number."""
    return sum(tokens * (2 * done + tokens) for _, done, tokens in chunks)
