"""What is said of numbers that are not allowed."""

import math

import pytest

from sbs_gym.errors import ConfigError, require_number


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        (True, {}, r"^x=True is not allowed; expected a number in \[0, 10\] s$"),
        ("3", {}, r"^x='3' is not allowed; expected a number in \[0, 10\] s$"),
        (math.nan, {}, r"^x=nan is not allowed; expected a number in \[0, 10\] s$"),
        (2.0, {"integer": True}, r"^x=2.0 is not allowed; expected a whole number in \[0, 10\] s$"),
        (10.5, {}, r"^x=10.5 is out of range; expected a number in \[0, 10\] s$"),
        (0, {"low_open": True}, r"^x=0 is out of range; expected a number in \(0, 10\] s$"),
        (10**400, {}, r"^x=10+ is out of range; expected a number in \[0, 10\] s$"),
    ],
)
def test_what_is_no_number_in_the_range_is_refused(value, options, message):
    with pytest.raises(ConfigError, match=message):
        require_number("x", value, 0, 10, unit="s", **options)


@pytest.mark.parametrize(("value", "integer"), [(0, True), (10, True), (0.0, False), (10, False)])
def test_the_ends_of_the_range_are_allowed(value, integer):
    require_number("x", value, 0, 10, integer=integer)
    with pytest.raises(ConfigError, match="out of range"):
        require_number("x", value, 1, 9, integer=integer)


def test_without_bounds_infinity_is_not_a_number():
    with pytest.raises(ConfigError, match=r"x=inf is not allowed"):
        require_number("x", math.inf)
