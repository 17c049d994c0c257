"""Fit the roofline: kernels first, then two numbers on whole prefill passes, all errors reported.

The overhead outside the layers and the slowdown of links beside compute stay at assumed values:
four system points, three of them of one cluster, do not pin them (docs/timing.md, "What is fitted
to what").
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from sbs_gym.config.timing import RooflineTiming
from sbs_gym.errors import ConfigError
from sbs_gym.timing.fit_report import FitReport, SystemFit
from sbs_gym.timing.kernel_fit import fit_kernels, rounded, rows_kept_out
from sbs_gym.timing.kernel_rows import DENSE_LAUNCH_S
from sbs_gym.timing.measurements import checksum, read_measurements
from sbs_gym.timing.systems import SystemPoint, build_point, point_pass_s
from sbs_gym.timing.validate import fit_points

_START = (2.5, 1.34)  # overlap softness, skew of a default deployment: where the search begins
# Assumed; reasons in docs/timing.md, "Numbers that are not fitted".
_LINK_LAUNCH_S = 60e-6
_OVERHEAD_S = 0.030
_OVERLAP_MIN_TOKENS = 1024
_COMPUTE_SMS = 108
_NODES = ("one", "two", "more")


def fit_timing(
    kernels_csv: str | Path, systems_csv: str | Path, *, fitted_on: str | None = None
) -> FitReport:
    """Return the roofline fitted to the rows of two calibration files.

    Args:
        kernels_csv: Single kernels and modules; columns as in measurements.py.
        systems_csv: Whole deployments, same columns.
        fitted_on: Date for the provenance; today if absent.

    Raises:
        TraceError: If a file cannot be used.
        ConfigError: If a kernel group or the system points are missing in the files.
    """
    kernel_rows, system_rows = read_measurements(kernels_csv), read_measurements(systems_csv)
    groups = fit_kernels(kernel_rows)
    frozen = _config({name: x for group in groups for name, x in group.parameters.items()})
    points = fit_points(system_rows)
    if len(points) <= len(_START):
        raise ConfigError(f"{systems_csv}: {len(points)} prefill pass times; expected at least 3")
    config, errors = _fit_systems(frozen, points, points)
    left_out = [_fit_systems(frozen, _without(points, p), [p])[1][0] for p in points]
    return FitReport(
        config=config,
        groups=tuple(groups),
        kept_out=rows_kept_out(kernel_rows),
        systems=tuple(
            SystemFit(point=point, error=error, left_out_error=other)
            for point, error, other in zip(points, errors, left_out, strict=True)
        ),
        fitted_on=fitted_on or datetime.date.today().isoformat(),
        kernels_rows=len(kernel_rows),
        systems_rows=len(system_rows),
        kernels_sha256=checksum(kernels_csv),
        systems_sha256=checksum(systems_csv),
    )


def _without(points: Sequence[SystemPoint], point: SystemPoint) -> list[SystemPoint]:
    return [other for other in points if other is not point]


def _config(known: dict[str, float]) -> RooflineTiming:
    named = {field.name for field in dataclasses.fields(RooflineTiming)}
    values: dict[str, Any] = {name: value for name, value in known.items() if name in named}
    for kind in ("dispatch", "combine"):
        rates = tuple(known[f"link_{kind}_{nodes}_per_s"] for nodes in _NODES)
        values[f"{kind}_bytes_per_s"] = rates
    return RooflineTiming(
        **values,
        dense_launch_s=DENSE_LAUNCH_S,
        link_launch_s=_LINK_LAUNCH_S,
        link_slowdown=1.0,
        overlap_softness=_START[0],
        overlap_min_tokens=_OVERLAP_MIN_TOKENS,
        compute_sms=_COMPUTE_SMS,
        overhead_s=_OVERHEAD_S,
        default_skew=_START[1],
    )


def _fit_systems(
    config: RooflineTiming, used: Sequence[SystemPoint], judged: Sequence[SystemPoint]
) -> tuple[RooflineTiming, list[float]]:
    """Return the config fitted to `used`, and its errors on `judged`."""
    models = {id(p): build_point(config, p, overlap=p.overlap) for p in (*used, *judged)}

    def error(point: SystemPoint, softness: float, skew: float) -> float:
        model = models[id(point)]
        model.coefficients["overlap_softness"] = softness
        g = skew if point.skew is None else point.skew
        return point_pass_s(model, point, g) / point.measured - 1.0

    solution = least_squares(
        lambda x: [math.log1p(error(point, x[0], x[1])) for point in used],
        np.array(_START),
        bounds=([1.0, 1.0], [16.0, 10.0]),
        xtol=1e-12,
        ftol=1e-12,
    )
    softness, skew = (rounded(float(x)) for x in solution.x)
    fitted = dataclasses.replace(config, overlap_softness=softness, default_skew=skew)
    return fitted, [error(point, softness, skew) for point in judged]
