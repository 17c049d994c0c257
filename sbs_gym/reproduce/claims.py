"""What the paper says, what was measured, and the rule that tells one from the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HOLDS, EXCEEDS, SHORT, DIFFERS, UNDECIDED = (
    "holds",
    "exceeds",
    "falls short",
    "differs",
    "undecided",
)
VERDICTS = {
    HOLDS: "the interval lies at or above the lower end of the range, and not wholly above the "
    "upper one; for a law of queueing: it holds the law's number",
    EXCEEDS: "the interval lies wholly above the range",
    SHORT: "the interval lies wholly below the range",
    DIFFERS: "the law's number lies outside the interval",
    UNDECIDED: "an end of the range lies inside the interval, or nothing steady was measured",
}
_LEAST_PRECISION = 0.05  # of a law's number: an interval wider than this decides nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What a claim allows.

    Attributes:
        low, high: Ends, in the unit of the measured number; None where there is none.
        exact: Whether it is one number that the measurement shall meet; then low is that number.
    """

    low: float | None = None
    high: float | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A number with the ends of its interval; NaN where it does not exist.

    Attributes:
        value, low, high: In the unit of the claim.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim, measured.

    Attributes:
        id: Short name.
        claim: What is claimed, a sentence.
        source: How well that is known: published, reviewed, derived or assumed, and where.
        allowed: Its range.
        measured: What was found.
        unit: `fraction` (shown as per cent) or `s`.
        where: Where it holds and where it does not, a sentence.
        how_measured: What the number is, exactly.
    """

    id: str
    claim: str
    source: str
    allowed: Range
    measured: Measured
    unit: str
    where: str
    how_measured: str

    @property
    def verdict(self) -> str:
        """Return the verdict on the measured number; one of VERDICTS."""
        return verdict(self.measured, self.allowed)

    def to_mapping(self) -> dict[str, Any]:
        """Return everything, the verdict included, as JSON knows it."""
        return {
            "id": self.id,
            "claim": self.claim,
            "source": self.source,
            "range": [self.allowed.low, self.allowed.high],
            "exact": self.allowed.exact,
            "measured": self.measured.value,
            "interval": [self.measured.low, self.measured.high],
            "unit": self.unit,
            "verdict": self.verdict,
            "where": self.where,
            "how_measured": self.how_measured,
        }


def claim_from_mapping(values: Mapping[str, Any]) -> Claim:
    """Return the claim that `Claim.to_mapping` wrote; its verdict is computed again."""
    low, high = values["range"]
    numbers = (values["measured"], *values["interval"])
    value, at_least, at_most = (math.nan if one is None else float(one) for one in numbers)
    return Claim(
        id=values["id"],
        claim=values["claim"],
        source=values["source"],
        allowed=Range(low=low, high=high, exact=values["exact"]),
        measured=Measured(value=value, low=at_least, high=at_most),
        unit=values["unit"],
        where=values["where"],
        how_measured=values["how_measured"],
    )


def verdict(measured: Measured, allowed: Range) -> str:
    """Return what a measured interval says about a range; one of VERDICTS.

    A number without an interval (one seed, nothing steady) decides nothing.
    """
    if math.isnan(measured.low) or math.isnan(measured.high):
        return UNDECIDED
    if allowed.exact:
        return _against_number(measured, allowed)
    low = -math.inf if allowed.low is None else allowed.low
    high = math.inf if allowed.high is None else allowed.high
    if measured.high < low:
        return SHORT
    if measured.low > high:
        return EXCEEDS
    only_at_most = allowed.low is None and measured.high > high
    return UNDECIDED if measured.low < low or only_at_most else HOLDS


def _against_number(measured: Measured, allowed: Range) -> str:
    number = math.nan if allowed.low is None else allowed.low
    if not measured.low <= number <= measured.high:
        return DIFFERS
    wide = measured.high - measured.low > 2 * _LEAST_PRECISION * abs(number)
    return UNDECIDED if wide else HOLDS
