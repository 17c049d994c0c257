"""Errors of the package, and the checks that raise them with field, value and allowed range."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path


class SbsGymError(Exception):
    """Base of every error that sbs_gym raises on purpose."""


class ConfigError(SbsGymError, ValueError):
    """A configuration value is unknown, out of range or contradicts another one."""


class SimulationError(SbsGymError, RuntimeError):
    """An invariant of the simulated world is broken: a bug in sbs_gym, never a user's mistake."""


class SchedulerError(SbsGymError, ValueError):
    """A user's scheduler gave an answer that its question does not allow, or read what is gone."""


class TraceError(SbsGymError, ValueError):
    """A trace file cannot be used; names the file, the line, the field and what was expected."""

    def __init__(
        self,
        path: str | Path,
        problem: str,
        *,
        line: int | None = None,
        field: str | None = None,
        expected: str | None = None,
    ) -> None:
        place = str(path) + (f", line {line}" if line is not None else "")
        text = place + (f", field {field!r}" if field is not None else "") + f": {problem}"
        super().__init__(text + (f"; expected {expected}" if expected else ""))
        self.path, self.line, self.field, self.expected = str(path), line, field, expected


def require_number(
    field: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    unit: str = "",
    low_open: bool = False,
    integer: bool = False,
) -> None:
    """Raise ConfigError unless `value` is a finite number in [low, high] (or (low, high])."""
    kinds = int if integer else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if not number or (isinstance(value, float) and not math.isfinite(value)):
        problem = "is not allowed"
    elif value < low or value > high or (low_open and value == low):  # type: ignore[operator]
        problem = "is out of range"
    else:
        return
    wanted = "a whole number" if integer else "a number"
    allowed = f"{'(' if low_open else '['}{low:g}, {high:g}]{' ' + unit if unit else ''}"
    raise ConfigError(f"{field}={value!r} {problem}; expected {wanted} in {allowed}")


def require_flag(field: str, value: object) -> None:
    """Raise ConfigError unless `value` is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{field}={value!r} is not allowed; expected true or false")


def require_choice(field: str, value: object, known: Iterable[str]) -> None:
    """Raise ConfigError unless `value` is one of `known`; lists them and the nearest one."""
    names = sorted(known)
    if value in names:
        return
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{field}={value!r} is not known.{hint} Known: {', '.join(names)}")
