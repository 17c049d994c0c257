"""Numbers of a report as text, and the sentences that studies share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from sbs_gym.report.style import ABSENT, milliseconds, percent, signed_percent
from sbs_gym.reproduce.claims import UNDECIDED, VERDICTS, Claim, Measured, Range


def with_interval(measured: Measured, unit: str) -> str:
    """Return `12.3 % [10.1, 14.5]`, or seconds in ms likewise."""
    if math.isnan(measured.value):
        return "nothing steady"
    write = percent if unit == "fraction" else milliseconds
    sign = "%" if unit == "fraction" else "ms"
    ends = "" if math.isnan(measured.low) else f" [{write(measured.low)}, {write(measured.high)}]"
    return f"{write(measured.value)} {sign}{ends}"


def range_text(allowed: Range, unit: str) -> str:
    """Return the range of a claim as text."""
    write = (lambda x: f"{100 * x:.3g}") if unit == "fraction" else milliseconds
    sign = "%" if unit == "fraction" else "ms"
    if allowed.exact and allowed.low is not None:
        return f"{write(allowed.low)} {sign}"
    if allowed.high is None and allowed.low is not None:
        return f"more than {write(allowed.low)} {sign}"
    if allowed.low is None and allowed.high is not None:
        return f"at most {write(allowed.high)} {sign}"
    return f"{write(allowed.low or 0.0)} to {write(allowed.high or 0.0)} {sign}"


def lowered(reduction: Measured, what: str) -> str:
    """Return `lowers TTFT by 12.3 % [10.1, 14.5]`, or that it raises it, of 1 - a ratio."""
    if math.isnan(reduction.value) or reduction.value >= 0:
        return f"lowers {what} by {with_interval(reduction, 'fraction')}"
    raised = Measured(value=-reduction.value, low=-reduction.high, high=-reduction.low)
    return f"raises {what} by {with_interval(raised, 'fraction')}"


def higher(rise: Measured) -> str:
    """Return `12.3 % [10.1, 14.5] higher`, or that it is lower, of a ratio - 1."""
    if math.isnan(rise.value) or rise.value >= 0:
        return f"{with_interval(rise, 'fraction')} higher"
    fall = Measured(value=-rise.value, low=-rise.high, high=-rise.low)
    return f"{with_interval(fall, 'fraction')} lower"


def change(ratio: float, low: float, high: float) -> str:
    """Return a ratio as a change in per cent with half of its interval: `-35.1 ±2.0`."""
    if math.isnan(ratio):
        return ABSENT
    half = "" if math.isnan(low) else f" ±{percent((high - low) / 2)}"
    return f"{signed_percent(ratio - 1)}{half}"


def numbers(values: Iterable[float]) -> str:
    """Return `0.5, 0.7 and 0.9`."""
    return words(f"{value:g}" for value in values)


def words(values: Iterable[str]) -> str:
    """Return `a, b and c`."""
    found = list(values)
    if len(found) < 2:
        return "".join(found)
    return f"{', '.join(found[:-1])} and {found[-1]}"


def by_verdict(verdicts: Mapping[str, str], prefix: str = "") -> str:
    """Return `holds at 0.5 and 0.7; falls short at 0.9` for places and their verdicts."""
    parts = []
    for verdict in VERDICTS:
        places = [place for place, found in verdicts.items() if found == verdict]
        if places:
            said = "no verdict" if verdict == UNDECIDED else verdict
            parts.append(f"{said} {prefix}{words(places)}")
    return "; ".join(parts)


def counts(claims: Sequence[Claim]) -> dict[str, int]:
    """Return how many of the claims have which verdict, none with 0."""
    found = {v: sum(claim.verdict == v for claim in claims) for v in VERDICTS}
    return {verdict: count for verdict, count in found.items() if count}


def told_verdict(verdict: str) -> str:
    """Return a verdict as the end of a sentence on a claim."""
    return f"is {verdict}" if verdict == UNDECIDED else verdict


def by_claim(claims: Sequence[Claim]) -> dict[str, list[Claim]]:
    """Return every statement with the places where it is measured."""
    return {
        text: [claim for claim in claims if claim.claim == text]
        for text in dict.fromkeys(claim.claim for claim in claims)
    }


def told(claims: Sequence[Claim]) -> str:
    """Return how many of the claims have which verdict, as a sentence."""
    found = counts(claims)
    parts = [f"{verdict} in {found[verdict]}" for verdict in found if verdict != UNDECIDED]
    if UNDECIDED in found:
        parts.append(f"is undecided in {found[UNDECIDED]}")
    number = len(claims)
    return f"Of {number} comparisons the claim {words(parts)}."


def common_range(claims: Sequence[Claim]) -> str:
    """Return the range of a statement; where it differs by place, that it does."""
    texts = list(dict.fromkeys(range_text(claim.allowed, claim.unit) for claim in claims))
    return texts[0] if len(texts) == 1 else "one number for each"


def from_to(claims: Sequence[Claim]) -> str:
    """Return the lowest and the highest number that was measured for a statement."""
    known = [claim for claim in claims if not math.isnan(claim.measured.value)]
    if not known or known[0].allowed.exact:
        return "1 setting" if len(known) == 1 else f"{len(known)} settings"
    low, high = (f(claim.measured.value for claim in known) for f in (min, max))
    ends = [with_interval(Measured(value=value), known[0].unit) for value in (low, high)]
    return ends[0] if len(known) == 1 else f"{ends[0]} to {ends[1]}"
