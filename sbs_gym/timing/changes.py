"""Every number of a timing, made smaller and larger by the same fraction, one at a time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sbs_gym.config.timing import TimingConfig
from sbs_gym.errors import ConfigError, require_number

_GRID = "the spacing of the draws of luck, no duration"
_FIT = "knots of the fit to your file, no duration"
_REPORT = "no run uses it, only the comparison with published systems"
_NO_DURATION = {
    "jitter_grid_s": _GRID,
    "skew_grid_s": _GRID,
    "default_skew": _REPORT,
    "decode_default_skew": _REPORT,
    "num_knots": _FIT,
    "steps_num_knots": _FIT,
}
_FROM_ONE = ("skew_mean",)  # 1 is no skew: what is scaled is the excess over it


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One parameter of a timing times a factor.

    Attributes:
        parameter: Its name.
        factor: What it was multiplied by; a skew's excess over 1 was.
        timing: The timing with that one change.
    """

    parameter: str
    factor: float
    timing: TimingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """A change that is not made.

    Attributes:
        parameter: Its name.
        factor: The factor that is not possible; None if the parameter is not changed at all.
        reason: Why.
    """

    parameter: str
    factor: float | None
    reason: str


def changes(timing: TimingConfig, frac: float) -> tuple[list[Change], list[Unchanged]]:
    """Return every change by 1 - frac and 1 + frac, and what is left out with its reason.

    Args:
        timing: What is changed, one parameter at a time, in the order of its fields.
        frac: By how much, in [0.001, 0.9].

    Raises:
        ConfigError: If frac is out of range.
    """
    require_number("frac", frac, 0.001, 0.9)
    made: list[Change] = []
    left_out: list[Unchanged] = []
    for field in dataclasses.fields(timing):
        reason = _why_not(timing, field.name)
        if reason is not None:
            left_out.append(Unchanged(parameter=field.name, factor=None, reason=reason))
            continue
        for factor in (1.0 - frac, 1.0 + frac):
            found = _change(timing, field.name, factor)
            if isinstance(found, Change):
                made.append(found)
            else:
                left_out.append(found)
    return made, left_out


def _change(timing: TimingConfig, name: str, factor: float) -> Change | Unchanged:
    """Return the timing with one parameter times a factor, or why there is none."""
    before: Any = getattr(timing, name)
    after = _scaled(name, before, factor)
    if after == before:
        return Unchanged(parameter=name, factor=factor, reason=f"{before} rounds to itself")
    try:
        changed = dataclasses.replace(timing, **{name: after})
    except ConfigError as problem:
        return Unchanged(parameter=name, factor=factor, reason=str(problem))
    return Change(parameter=name, factor=factor, timing=changed)


def _why_not(timing: TimingConfig, name: str) -> str | None:
    value: Any = getattr(timing, name)
    if name in _NO_DURATION:
        return _NO_DURATION[name]
    numbers = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in numbers):
        return f"{value!r} is no number"
    if name.startswith("skew_") and timing.skew_mean == 1.0:
        return "skew_mean is 1: there is no skew"
    if name == "skew_rho" and timing.skew_sigma == 0.0:
        return "skew_sigma is 0: the skew does not vary"
    return "it is 0" if all(item == 0 for item in numbers) else None


def _scaled(name: str, value: Any, factor: float) -> Any:
    if isinstance(value, tuple):
        return tuple(_scaled(name, item, factor) for item in value)
    if name in _FROM_ONE:
        return 1.0 + (value - 1.0) * factor
    return round(value * factor) if isinstance(value, int) else value * factor
