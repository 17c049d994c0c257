"""Fit kernel formulas one group at a time, on log error with a loss that outliers cannot rule."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from sbs_gym.errors import ConfigError
from sbs_gym.timing.kernel_groups import GROUPS, KernelGroup
from sbs_gym.timing.kernel_rows import Parameters, measured_s
from sbs_gym.timing.measurements import Measurement

_LOSS_SCALE = 0.1  # log errors beyond about 10 % count linearly
_DIGITS = 6
_NOTHING = 1e-12  # a launch cost that the fit drives to its bound


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFit:
    """One kernel group after its fit.

    Attributes:
        name, about: Group, and what its rows measure.
        parameters: Fitted numbers by full name, rounded to six digits; empty for a check.
        num_rows: Rows it was fitted to, or checked on.
        sources: The same rows counted by source and GPU.
        kept_out: Rows of its metrics that were kept out, by reason.
        errors: predicted / measured - 1 per row.
        left_out: The same with every EP size or shape predicted by a fit without it, by name;
            empty where too few rows remain.
    """

    name: str
    about: str
    parameters: dict[str, float]
    num_rows: int
    sources: dict[str, int]
    kept_out: dict[str, int]
    errors: tuple[float, ...]
    left_out: dict[str, tuple[float, ...]]

    @property
    def bias(self) -> float:
        """Return the mean relative error with its sign: below zero if predictions are too short."""
        return float(np.mean(self.errors))

    @property
    def mean_error(self) -> float:
        """Return the mean absolute relative error in-sample."""
        return float(np.mean(np.abs(self.errors)))

    @property
    def median_error(self) -> float:
        """Return the median absolute relative error in-sample."""
        return float(np.median(np.abs(self.errors)))

    @property
    def max_error(self) -> float:
        """Return the largest absolute relative error in-sample."""
        return float(np.max(np.abs(self.errors)))

    @property
    def left_out_mean_error(self) -> float:
        """Return the mean absolute relative error over left-out rows; NaN if there are none."""
        errors = [abs(error) for part in self.left_out.values() for error in part]
        return float(np.mean(errors)) if errors else math.nan


def fit_kernels(rows: Sequence[Measurement]) -> list[GroupFit]:
    """Return every group fitted in order; later groups read the frozen numbers of earlier ones.

    Raises:
        ConfigError: If a group finds no rows.
    """
    known: dict[str, float] = {}
    fits = []
    for group in GROUPS:
        fits.append(_fit_group(group, rows, known))
        known |= fits[-1].parameters
    return fits


def rows_kept_out(rows: Sequence[Measurement]) -> dict[str, int]:
    """Return how many rows no group fits or checks, by the reason of the last group asked."""
    counts: Counter[str] = Counter()
    for row in rows:
        asked = [group.keep(row) for group in GROUPS if row.metric in group.metrics]
        if not asked:
            counts[_no_group(row)] += 1
        elif None not in asked:
            counts[next(reason for reason in asked if reason and "see group" not in reason)] += 1
    return dict(counts.most_common())


def _no_group(row: Measurement) -> str:
    if row.metric.startswith("trace_"):
        return "kernels of a block that is fitted as a whole"
    if "epv2" in row.metric:
        return "another generation of kernels, GPU not named"
    return "peak rates and kernels without a formula"


def _fit_group(group: KernelGroup, rows: Sequence[Measurement], known: Parameters) -> GroupFit:
    mine = [row for row in rows if row.metric in group.metrics]
    reasons = [group.keep(row) for row in mine]
    used = [row for row, reason in zip(mine, reasons, strict=True) if reason is None]
    if not used:
        raise ConfigError(f"kernel group {group.name!r}: no rows of {', '.join(group.metrics)}")
    fitted = _solve(group, used, known)
    return GroupFit(
        name=group.name,
        about=group.about,
        parameters=fitted,
        num_rows=len(used),
        sources=dict(Counter(f"{row.source} ({row.gpu})" for row in used)),
        kept_out=dict(Counter(reason for reason in reasons if reason)),
        errors=_errors(group, used, {**known, **fitted}),
        left_out=_left_out(group, used, known),
    )


def _solve(group: KernelGroup, rows: Sequence[Measurement], known: Parameters) -> dict[str, float]:
    if not group.start:
        return {}
    names = [_full_name(group, name) for name in group.start]
    start = np.array(list(group.start.values()))

    def residuals(factors: np.ndarray) -> list[float]:
        tried = {**known, **dict(zip(names, (start * factors).tolist(), strict=True))}
        return [math.log(group.predict(tried, row) / measured_s(row)) for row in rows]

    low = [1.0 / start[i] if name.endswith("softness") else 0.0 for i, name in enumerate(names)]
    solution = least_squares(
        residuals,
        np.ones(len(start)),
        bounds=(low, np.full(len(start), 10.0)),
        loss="soft_l1",
        f_scale=_LOSS_SCALE,
        xtol=1e-12,
        ftol=1e-12,
    )
    return {name: rounded(x) for name, x in zip(names, start * solution.x, strict=True)}


def _left_out(
    group: KernelGroup, rows: Sequence[Measurement], known: Parameters
) -> dict[str, tuple[float, ...]]:
    parts = dict.fromkeys(group.split(row) for row in rows)
    errors: dict[str, tuple[float, ...]] = {}
    for part in parts if group.start else ():
        rest = [row for row in rows if group.split(row) != part]
        if len(rest) < len(group.start):
            return {}
        out = [row for row in rows if group.split(row) == part]
        errors[part] = _errors(group, out, {**known, **_solve(group, rest, known)})
    return errors


def _errors(
    group: KernelGroup, rows: Sequence[Measurement], parameters: Parameters
) -> tuple[float, ...]:
    return tuple(group.predict(parameters, row) / measured_s(row) - 1.0 for row in rows)


def _full_name(group: KernelGroup, name: str) -> str:
    return f"{group.name}_{name}"


def rounded(value: float) -> float:
    """Return `value` with the digits that a YAML file keeps."""
    return float(f"{value:.{_DIGITS}g}") if value > _NOTHING else 0.0
