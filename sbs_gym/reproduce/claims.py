"""What the paper says, what was measured, and the rule that tells one from the other."""

from __future__ import annotations

import math
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
    UNDECIDED: "the lower end of the range lies inside the interval (of a range without one, the "
    "upper end), the interval around a law's number is too wide, or nothing steady was measured",
}
_HOLDS = {HOLDS: True, EXCEEDS: True, SHORT: False, DIFFERS: False}  # undecided: neither
_LEAST_PRECISION = 0.05  # of a law's number: an interval wider than this decides nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What a claim allows.

    Attributes:
        low, high: Ends, in the unit of the measured number; None where there is none. Without an
            upper end the number shall be more than the lower one: no change is none.
        exact: Whether it is one number that the measurement shall meet; then low is that number.
    """

    low: float | None = None
    high: float | None = None
    exact: bool = False

    @property
    def is_direction(self) -> bool:
        """Whether anything above the lower end will do."""
        return self.high is None and not self.exact


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
        claim: What is claimed, the same words for every place where it is measured.
        setting: Where it is measured.
        against: Whom it compares with; empty where nobody.
        source: How well that is known: published, reviewed, derived or assumed, and where.
        allowed: Its range.
        measured: What was found.
        unit: `fraction` (shown as per cent) or `s`.
        where: Where it holds and where it does not, a sentence.
        how_measured: What the number is, exactly.
    """

    id: str
    claim: str
    setting: str
    against: str
    source: str
    allowed: Range
    measured: Measured
    unit: str
    where: str
    how_measured: str

    @property
    def sentence(self) -> str:
        """Return claim, setting and whom it compares with."""
        against = f", against {self.against}" if self.against else ""
        return f"{self.claim}: {self.setting}{against}"

    @property
    def verdict(self) -> str:
        """Return the verdict on the measured number; one of VERDICTS."""
        return verdict(self.measured, self.allowed)

    def to_mapping(self) -> dict[str, Any]:
        """Return everything, the verdict included, as JSON knows it."""
        return {
            "id": self.id,
            "claim": self.claim,
            "setting": self.setting,
            "against": self.against,
            "source": self.source,
            "range": [self.allowed.low, self.allowed.high],
            "exact": self.allowed.exact,
            "measured": self.measured.value,
            "interval": [self.measured.low, self.measured.high],
            "unit": self.unit,
            "verdict": self.verdict,
            "holds": _HOLDS.get(self.verdict),
            "where": self.where,
            "how_measured": self.how_measured,
        }


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
    if measured.high < low or (allowed.is_direction and measured.high <= low):
        return SHORT
    if measured.low > high:
        return EXCEEDS
    reaches = measured.low > low if allowed.is_direction else measured.low >= low
    stays = allowed.low is not None or measured.high <= high
    return HOLDS if reaches and stays else UNDECIDED


def _against_number(measured: Measured, allowed: Range) -> str:
    number = math.nan if allowed.low is None else allowed.low
    if not measured.low <= number <= measured.high:
        return DIFFERS
    wide = measured.high - measured.low > 2 * _LEAST_PRECISION * abs(number)
    return UNDECIDED if wide else HOLDS
