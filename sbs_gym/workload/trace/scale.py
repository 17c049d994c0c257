"""Bring a trace to another rate: compress its clock, thin its rows, or overlay shifted copies."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from sbs_gym.config.workload import SCALINGS
from sbs_gym.errors import ConfigError, require_choice, require_number
from sbs_gym.rng import uniform, uniform_array
from sbs_gym.types import FloatArray, IntArray, RequestTable
from sbs_gym.workload.purposes import SHIFT, STREAM, THIN
from sbs_gym.workload.trace.select import joined, take_rows


def native_rate_per_s(table: RequestTable) -> float:
    """Return (number of requests - 1) / (last arrival - first), NaN if they are all at once."""
    if len(table) < 2 or table.arrived_at_s[-1] == table.arrived_at_s[0]:
        return math.nan
    return float((len(table) - 1) / (table.arrived_at_s[-1] - table.arrived_at_s[0]))


def scale_trace(table: RequestTable, *, rate_per_s: float, scaling: str, seed: int) -> RequestTable:
    """Return the trace at another mean rate. The three ways are not equivalent.

    compress: all times are divided by k = wanted rate / native rate. Any k; all rows stay. The
        dispersion curve moves to k times shorter windows, so drifts become faster.
    thin: each row stays with probability k <= 1. The time axis stays; IDC - 1 shrinks by k, so the
        arrivals come closer to Poisson. Turns of one session are thinned one by one; a link to a
        row that is left out becomes -1.
    overlay: k >= 1 copies, each shifted by its own uniform time around the span (a circle) and
        merged; of a fraction of a copy the rows are thinned. The IDC stays, but bursts of
        different copies rarely meet, so relative variation falls by sqrt(k). Copies are other
        users: their sessions and prefix blocks are their own. Links that would cross the seam of
        the circle become -1.

    Args:
        table: At least two requests that do not all arrive at once.
        rate_per_s: Wanted requests per second, by the native definition (`native_rate_per_s`).
        scaling: compress, thin or overlay.
        seed: For the choice of rows and the shifts.

    Raises:
        ConfigError: If the way cannot reach the rate.
    """
    require_choice("workload.scaling", scaling, SCALINGS)
    require_number("rate_per_s", rate_per_s, 0, 1e7, unit="1/s", low_open=True)
    native = native_rate_per_s(table)
    if math.isnan(native):
        raise ConfigError(f"trace {table.name!r} has no rate of its own; use with_arrivals")
    factor = rate_per_s / native
    if scaling == "compress":
        return take_rows(table, np.arange(len(table)), arrived_at_s=table.arrived_at_s / factor)
    wrong = factor > 1 if scaling == "thin" else factor < 1
    if wrong and not math.isclose(factor, 1.0, rel_tol=1e-9):
        raise ConfigError(
            f"workload.scaling={scaling!r} cannot bring {native:.6g}/s to {rate_per_s:.6g}/s; "
            "expected thin for less, overlay for more, compress for either"
        )
    return _thinned(table, factor, seed) if scaling == "thin" else _overlaid(table, factor, seed)


def _thinned(table: RequestTable, share: float, seed: int) -> RequestTable:
    stays = uniform_array(seed, STREAM, THIN, len(table)) < share
    return take_rows(table, np.flatnonzero(stays))


def _overlaid(table: RequestTable, factor: float, seed: int) -> RequestTable:
    copies = list(_copies(table, factor, seed))
    times_s = np.concatenate([times for _, times, _ in copies])
    rows = np.concatenate([index for index, _, _ in copies])
    copy = np.concatenate([np.full(len(index), number) for index, _, number in copies])
    order = np.argsort(times_s, kind="stable")
    return joined(table, rows[order], copy[order], times_s[order])


def _copies(
    table: RequestTable, factor: float, seed: int
) -> Iterator[tuple[IntArray, FloatArray, int]]:
    # One mean gap closes the circle, so that first and last arrival do not fall together.
    first_s = table.arrived_at_s[0]
    circle_s = table.arrived_at_s[-1] - first_s + 1.0 / native_rate_per_s(table)
    for number in range(math.ceil(factor - 1e-9)):
        share = min(1.0, factor - number)
        stays = uniform_array(seed, STREAM, THIN, len(table), b=number) < share
        index = np.flatnonzero(stays)
        shift_s = circle_s * uniform(seed, STREAM, SHIFT, number, 0) if number else 0.0
        yield index, (table.arrived_at_s[index] - first_s + shift_s) % circle_s, number
