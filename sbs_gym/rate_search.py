"""The largest rate that meets a target: which rate to try next, given what was found so far."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

FIRST_FRAC = 0.7  # of the guess: where the search begins
_GROWTH, _SHRINK = 1.25, 0.5
MOST_FRAC = 16.0  # of the guess: the search gives up above
LEAST_FRAC = 0.01  # of the guess: next to no load, where a request meets nobody else


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSearch:
    """A search that is told what was found at a rate, and says which rate to try next.

    It begins at 0.7 of the guess, goes down by halves until the target is met or up by quarters
    until it is missed, and then halves the bracket (in its logarithm). The rates tried depend on
    nothing but what was found, so that a repeated search asks for the same ones.

    Attributes:
        guess_per_s: Rate near which the result is expected, requests per second.
        target_frac: Share that must be reached, (0, 1].
        tolerance_frac: The bracket's width at the end: its ends differ by this fraction at most.
        tried: Pairs (rate, share found there), in the order of trying.
    """

    guess_per_s: float
    target_frac: float
    tolerance_frac: float
    tried: tuple[tuple[float, float], ...] = ()

    def told(self, rate_per_s: float, found_frac: float) -> RateSearch:
        """Return the search that knows what was found at one more rate; NaN misses the target."""
        return dataclasses.replace(self, tried=(*self.tried, (rate_per_s, found_frac)))

    @property
    def low_per_s(self) -> float | None:
        """The largest rate tried that meets the target; None if none did."""
        return max((rate for rate, frac in self.tried if self._meets(frac)), default=None)

    @property
    def high_per_s(self) -> float | None:
        """The smallest rate tried that misses the target; None if none did."""
        return min((rate for rate, frac in self.tried if not self._meets(frac)), default=None)

    @property
    def next_per_s(self) -> float | None:
        """The rate to try next; None if the search is over."""
        low, high = self.low_per_s, self.high_per_s
        if low is not None and high is not None:
            return math.sqrt(low * high) if high / low > 1.0 + self.tolerance_frac else None
        if low is not None:
            return low * _GROWTH if low < MOST_FRAC * self.guess_per_s else None
        if high is not None:
            least = LEAST_FRAC * self.guess_per_s
            return max(high * _SHRINK, least) if high > least else None
        return FIRST_FRAC * self.guess_per_s

    @property
    def num_left(self) -> int:
        """About how many rates are still to be tried."""
        if self.next_per_s is None:
            return 0
        low, high = self.low_per_s, self.high_per_s
        has_bracket = low is not None and high is not None
        width = high / low if low is not None and high is not None else _GROWTH
        halvings = math.log2(math.log(width) / math.log1p(self.tolerance_frac))
        return max(1, math.ceil(halvings)) + (0 if has_bracket else 2)

    @property
    def outcome(self) -> str:
        """Return `open`, `found`, `infeasible` (missed at any rate) or `unbounded` (always met)."""
        if self.next_per_s is not None:
            return "open"
        if self.low_per_s is None:
            return "infeasible"
        return "unbounded" if self.high_per_s is None else "found"

    @property
    def rate_per_s(self) -> float | None:
        """The result, requests per second; None unless the outcome is `found`."""
        return self.low_per_s if self.outcome == "found" else None

    @property
    def shown_per_s(self) -> float:
        """The largest rate tried that meets the target; where none does, the lowest tried."""
        rates = [rate for rate, _ in self.tried]
        return self.low_per_s if self.low_per_s is not None else min(rates)

    def _meets(self, found_frac: float) -> bool:
        return found_frac >= self.target_frac  # False for NaN
