"""Fit the roofline: kernels first, then three numbers on three whole passes and steps.

Each number meets one figure, so that everything else published is left to be predicted. The
overhead of a pass and slowdowns of links beside compute stay at assumed values (docs/timing.md,
"What is fitted to what").
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
from sbs_gym.timing.fit_report import FitReport, SystemFit
from sbs_gym.timing.kernel_fit import fit_kernels, rounded, rows_kept_out
from sbs_gym.timing.kernel_rows import DENSE_LAUNCH_S
from sbs_gym.timing.measurements import checksum, read_measurements
from sbs_gym.timing.predict import Predictor
from sbs_gym.timing.systems import SystemPoint
from sbs_gym.timing.validate import SYSTEM_NUMBERS, fitted_points, scored_points

# Where the search for a number begins, and the range it stays in.
_SEARCH = {
    "overlap_softness": (2.5, 1.0, 16.0),
    "default_skew": (1.34, 1.0, 10.0),
    "decode_overhead_s": (0.009, 0.0, 1.0),
}
# Assumed; reasons in docs/timing.md, "Numbers that are not fitted".
_ASSUMED: dict[str, Any] = {
    "dense_launch_s": DENSE_LAUNCH_S,
    "link_launch_s": 60e-6,
    "link_slowdown": 1.0,
    "overlap_min_tokens": 1024,
    "compute_sms": 108,
    "overhead_s": 0.030,
    "decode_link_slowdown": 1.0,
}
_NODES = ("one", "two", "more")


def fit_timing(
    kernels_csv: str | Path, systems_csv: str | Path, *, fitted_on: str | None = None
) -> FitReport:
    """Return the roofline fitted to the rows of two calibration files.

    Args:
        kernels_csv: Single kernels and modules; columns as in measurements.py.
        systems_csv: Whole deployments, same columns. A number whose figure is missing there keeps
            its start value.
        fitted_on: Date for the provenance; today if absent.

    Raises:
        TraceError: If a file cannot be used.
        ConfigError: If a kernel group is missing in the files.
    """
    kernel_rows, system_rows = read_measurements(kernels_csv), read_measurements(systems_csv)
    groups = fit_kernels(kernel_rows)
    frozen = _config({name: x for group in groups for name, x in group.parameters.items()})
    predictor, config = Predictor(), frozen
    targets = fitted_points(system_rows)
    for number, point in targets.items():
        config = _solve(config, (number,), [point], predictor)
    points = scored_points(system_rows)
    numbers = {point: number for number, point in targets.items()}
    return FitReport(
        config=config,
        groups=tuple(groups),
        kept_out=rows_kept_out(kernel_rows),
        systems=tuple(
            SystemFit(
                point=point,
                number=numbers.get(point),
                error=_error(config, point, predictor),
                left_out_error=_left_out(config, points, point, predictor),
            )
            for point in points
        ),
        fitted_on=fitted_on or datetime.date.today().isoformat(),
        kernels_rows=len(kernel_rows),
        systems_rows=len(system_rows),
        kernels_sha256=checksum(kernels_csv),
        systems_sha256=checksum(systems_csv),
    )


def _config(known: dict[str, float]) -> RooflineTiming:
    named = {field.name for field in dataclasses.fields(RooflineTiming)}
    values: dict[str, Any] = {name: value for name, value in known.items() if name in named}
    for kind in ("dispatch", "combine"):
        rates = tuple(known[f"link_{kind}_{nodes}_per_s"] for nodes in _NODES)
        values[f"{kind}_bytes_per_s"] = rates
        for part, node in (
            ("launch_s", f"ll_node_{kind}_launch_s"),
            ("bytes_per_s", f"ll_h800_node_{kind}_per_s"),
        ):
            values[f"ll_{kind}_{part}"] = (known[node], known[f"ll_{kind}_{part}"])
    for name in ("gate", "expert"):
        parts = (x for key, x in known.items() if key.startswith(f"decode_{name}_trace_"))
        values[f"decode_{name}_s"] = rounded(sum(parts))
    values["decode_core_bytes_per_s"] = known["decode_core_memory_bytes_per_s"]
    starts: dict[str, Any] = {name: start for name, (start, _, _) in _SEARCH.items()}
    return RooflineTiming(**values, **_ASSUMED, **starts)


def _left_out(
    config: RooflineTiming, points: Sequence[SystemPoint], out: SystemPoint, predictor: Predictor
) -> float:
    """Return the error on `out` with its phase's numbers fitted to all other points instead."""
    others = [p for p in points if p.phase == out.phase and p is not out]
    numbers = SYSTEM_NUMBERS[out.phase]
    if len(others) < len(numbers):
        return math.nan
    return _error(_solve(config, numbers, others, predictor), out, predictor)


def _solve(
    config: RooflineTiming,
    numbers: Sequence[str],
    points: Sequence[SystemPoint],
    predictor: Predictor,
) -> RooflineTiming:
    """Return the config with `numbers` fitted to `points`, on the logarithm of the error."""
    start, low, high = (np.array([_SEARCH[name][i] for name in numbers]) for i in range(3))

    def tried(x: np.ndarray) -> RooflineTiming:
        values: dict[str, Any] = {n: float(v) for n, v in zip(numbers, x * start, strict=True)}
        return dataclasses.replace(config, **values)

    solution = least_squares(
        lambda x: [math.log1p(_error(tried(x), point, predictor)) for point in points],
        np.ones(len(numbers)),
        bounds=(low / start, high / start),
        xtol=1e-12,
        ftol=1e-12,
    )
    found: dict[str, Any] = {
        name: rounded(float(x)) for name, x in zip(numbers, solution.x * start, strict=True)
    }
    return dataclasses.replace(config, **found)


def _error(config: RooflineTiming, point: SystemPoint, predictor: Predictor) -> float:
    return predictor.predict(config, point) / point.measured - 1.0
