"""A timing fitted to a user's own measured passes.

Model: duration = f(tokens of the fullest rank) + m * mean tokens over ranks + c * pairs of the
rank with most pairs. f is piecewise linear and never falls; m and c are never negative, so the
model is monotone. It is fitted by non-negative least squares on relative errors. Without a context
column c is 0. Beyond the largest measured load f goes on with its last slope: no data there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from sbs_gym.errors import TraceError
from sbs_gym.jit import compiled
from sbs_gym.timing.passes import MeasuredPasses
from sbs_gym.types import FloatArray

_MAX_REFITS = 200  # above that many passes, that many folds are left out instead


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableFit:
    """A fitted table and how well it explains its passes.

    Attributes:
        knots: Shape (num_knots + 1, 2): tokens of the fullest rank, seconds; the first is 0 tokens.
        mean_token_s: Seconds per mean token over ranks.
        pair_s: Seconds per query-key pair of the rank with most.
        num_passes: Passes it was fitted to.
        residuals: predicted / measured - 1 per pass, in-sample.
        left_out: The same, each pass predicted by a fit without it (or without its fold).
    """

    knots: FloatArray
    mean_token_s: float
    pair_s: float
    num_passes: int
    residuals: FloatArray
    left_out: FloatArray

    def summary(self) -> str:
        """Return one line with the in-sample and the leave-one-out errors."""
        parts = [
            f"{name} mean {np.abs(errors).mean():.1%}, max {np.abs(errors).max():.1%}"
            for name, errors in (("in-sample", self.residuals), ("left out", self.left_out))
        ]
        return f"{self.num_passes} passes; " + "; ".join(parts)


@compiled
def piecewise_s(table, load):  # type: ignore[no-untyped-def]
    """Return the seconds at `load` on the lines through the knots (load, seconds) of `table`."""
    last = table.shape[0] - 1
    k = 1
    while k < last and load > table[k, 0]:
        k += 1
    slope = (table[k, 1] - table[k - 1, 1]) / (table[k, 0] - table[k - 1, 0])
    return table[k - 1, 1] + slope * (load - table[k - 1, 0])


@compiled
def table_pass_s(timing, table, most, mean, pairs):  # type: ignore[no-untyped-def]
    """Return the seconds of a pass; `table` holds knots (tokens, seconds), see TableFit."""
    most_pairs = 0
    for d in range(timing.dp):
        most_pairs = max(most_pairs, pairs[d])
    own = piecewise_s(table, most)
    return own + timing.mean_token_s * mean + timing.pair_cost_s * most_pairs / 2.0


def fit_table(passes: MeasuredPasses, num_knots: int, name: str = "passes") -> TableFit:
    """Return the table that explains `passes` best, with its leave-one-out errors.

    Raises:
        TraceError: If there are fewer than two passes (`name` is the file in the message).
    """
    count = len(passes.duration_s)
    if count < 2:
        raise TraceError(name, f"{count} passes", expected="at least 2 to fit a table")
    knots = knots_of(passes.tokens.max(axis=1).astype(np.float64), num_knots)
    basis = _basis(passes, knots)
    weights = solve(basis, passes.duration_s)
    return TableFit(
        knots=seconds_at(knots, float(weights[0]), weights[1 : len(knots)]),
        mean_token_s=float(weights[-2]),
        pair_s=float(weights[-1]),
        num_passes=count,
        residuals=basis @ weights / passes.duration_s - 1.0,
        left_out=left_out(basis, passes.duration_s),
    )


def knots_of(loads: FloatArray, num_knots: int) -> FloatArray:
    """Return 0 and up to `num_knots` quantiles of `loads`, ascending."""
    inner = np.quantile(loads, np.linspace(0.0, 1.0, num_knots + 1)[1:])
    return np.unique(np.concatenate(([0.0], inner))).astype(np.float64)


def ramps_of(loads: FloatArray, knots: FloatArray) -> list[FloatArray]:
    """Return, per piece between two knots, how far each load has come on it."""
    return [np.clip(loads - low, 0.0, high - low) for low, high in itertools.pairwise(knots)]


def seconds_at(knots: FloatArray, base_s: float, slopes: FloatArray) -> FloatArray:
    """Return the knots with their seconds, shape (num_knots + 1, 2)."""
    seconds = np.concatenate(([base_s], base_s + np.cumsum(slopes * np.diff(knots))))
    return np.column_stack((knots, seconds))


def _basis(passes: MeasuredPasses, knots: FloatArray) -> FloatArray:
    most = passes.tokens.max(axis=1).astype(np.float64)
    ramps = ramps_of(most, knots)
    pairs = passes.pairs().max(axis=1) / 2.0 * (passes.context is not None)
    return np.column_stack([np.ones_like(most), *ramps, passes.tokens.mean(axis=1), pairs])


def solve(basis: FloatArray, duration_s: FloatArray) -> FloatArray:
    """Return the weights, none negative, that explain the durations best on relative errors."""
    relative = basis / duration_s[:, None]
    scale = np.maximum(np.abs(relative).max(axis=0), 1e-300)
    weights, _ = nnls(relative / scale, np.ones(len(duration_s)))
    return np.asarray(weights / scale, dtype=np.float64)


def left_out(basis: FloatArray, duration_s: FloatArray) -> FloatArray:
    """Return relative errors, each row predicted by a fit without it (or without its fold)."""
    count = len(duration_s)
    errors = np.empty(count)
    for fold in range(min(count, _MAX_REFITS)):
        out = np.arange(count) % min(count, _MAX_REFITS) == fold
        weights = solve(basis[~out], duration_s[~out])
        errors[out] = basis[out] @ weights / duration_s[out] - 1.0
    return errors
