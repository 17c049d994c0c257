"""The rule that turns a number, its interval and a range into a verdict."""

from __future__ import annotations

import math

import pytest

from sbs_gym.reproduce.claims import (
    DIFFERS,
    EXCEEDS,
    HOLDS,
    SHORT,
    UNDECIDED,
    VERDICTS,
    Measured,
    Range,
    verdict,
)
from sbs_gym.reproduce.text import by_verdict, change, higher, lowered, range_text, with_interval

PAPER = Range(low=0.30, high=0.40)
LESS = Range(high=1 / 3)
MORE = Range(low=0.0)
LAW = Range(low=0.2, high=0.2, exact=True)


def measured(low, high):
    return Measured(value=(low + high) / 2, low=low, high=high)


@pytest.mark.parametrize(
    "allowed, low, high, expected",
    [
        (PAPER, 0.31, 0.39, HOLDS),
        (PAPER, 0.30, 0.40, HOLDS),
        (PAPER, 0.35, 0.45, HOLDS),  # no less than claimed, and not told apart from the upper end
        (PAPER, 0.41, 0.45, EXCEEDS),
        (PAPER, 0.20, 0.29, SHORT),
        (PAPER, -0.20, -0.10, SHORT),
        (PAPER, 0.29, 0.35, UNDECIDED),
        (PAPER, 0.20, 0.50, UNDECIDED),
        (PAPER, 0.0, 0.0, SHORT),  # the same scheduler twice
        (LESS, 0.2, 0.25, HOLDS),
        (LESS, 0.3, 0.35, UNDECIDED),
        (LESS, 0.34, 0.35, EXCEEDS),
        (MORE, 0.01, 0.02, HOLDS),
        (MORE, -0.01, 0.02, UNDECIDED),
        (MORE, -0.02, -0.01, SHORT),
        (MORE, 0.0, 0.0, SHORT),  # no change is no rise
        (LAW, 0.199, 0.201, HOLDS),
        (LAW, 0.201, 0.203, DIFFERS),
        (LAW, 0.15, 0.25, UNDECIDED),  # too wide to tell anything
    ],
)
def test_the_verdict_follows_from_the_interval(allowed, low, high, expected):
    assert verdict(measured(low, high), allowed) == expected
    assert expected in VERDICTS


@pytest.mark.parametrize("allowed", [PAPER, LESS, MORE, LAW])
def test_a_number_without_an_interval_decides_nothing(allowed):
    assert verdict(Measured(value=0.35), allowed) == UNDECIDED
    assert verdict(Measured(), allowed) == UNDECIDED


def test_ranges_and_numbers_are_told_with_their_unit():
    assert range_text(PAPER, "fraction") == "30 to 40 %"
    assert range_text(LESS, "fraction") == "at most 33.3 %"
    assert range_text(MORE, "fraction") == "more than 0 %"
    assert range_text(LAW, "s") == "200 ms"
    assert with_interval(measured(0.3, 0.4), "fraction") == "35.0 % [30.0, 40.0]"
    assert with_interval(measured(0.01, 0.03), "s") == "20.0 ms [10.0, 30.0]"
    assert with_interval(Measured(), "fraction") == "nothing steady"


def test_a_reduction_below_zero_is_told_as_a_rise():
    assert lowered(measured(0.1, 0.3), "TTFT") == "lowers TTFT by 20.0 % [10.0, 30.0]"
    assert lowered(measured(-0.3, -0.1), "TTFT") == "raises TTFT by 20.0 % [10.0, 30.0]"
    assert higher(measured(0.1, 0.3)) == "20.0 % [10.0, 30.0] higher"
    assert higher(measured(-0.3, -0.1)) == "20.0 % [10.0, 30.0] lower"
    assert change(0.9, 0.85, 0.95) == "-10.0 ±5.0"
    assert change(math.nan, math.nan, math.nan) == "-"


def test_places_are_grouped_by_their_verdict():
    found = by_verdict({"0.5": SHORT, "0.7": HOLDS, "0.8": HOLDS, "0.9": UNDECIDED}, "at load ")
    assert found == "holds at load 0.7 and 0.8; falls short at load 0.5; no verdict at load 0.9"
