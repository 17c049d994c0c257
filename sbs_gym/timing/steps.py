"""A decode timing fitted to a user's own measured steps.

Model: duration = f(requests of the fullest rank) + c * tokens of context of the rank with most. f
is piecewise linear and never falls, c is never negative; both are fitted together by non-negative
least squares on relative errors. Beyond the largest measured batch f goes on with its last slope.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sbs_gym.errors import TraceError
from sbs_gym.timing.passes import locate, numbers, per_rank, read_frame
from sbs_gym.timing.table import knots_of, left_out, ramps_of, seconds_at, solve
from sbs_gym.types import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredSteps:
    """Decode steps of one deployment.

    Attributes:
        duration_s: Seconds from launch to barrier, shape (num_steps,).
        batch: Requests of the fullest rank per step, same shape.
        kv_tokens: Tokens of context of the rank with most per step, same shape.
    """

    duration_s: FloatArray
    batch: FloatArray
    kv_tokens: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepFit:
    """A fitted table of steps and how well it explains them.

    Attributes:
        knots: Shape (num_knots + 1, 2): requests of the fullest rank, seconds; the first is 0.
        kv_token_s: Seconds per token of context of the rank with most.
        residuals: predicted / measured - 1 per step, in-sample.
        left_out: The same, each step predicted by a fit without it (or without its fold).
    """

    knots: FloatArray
    kv_token_s: float
    residuals: FloatArray
    left_out: FloatArray

    def summary(self) -> str:
        """Return one line with the in-sample and the leave-one-out errors."""
        parts = [
            f"{name} mean {np.abs(errors).mean():.1%}, max {np.abs(errors).max():.1%}"
            for name, errors in (("in-sample", self.residuals), ("left out", self.left_out))
        ]
        return f"{len(self.residuals)} steps; " + "; ".join(parts)


def read_steps(path: str | Path) -> MeasuredSteps:
    """Return the decode steps of a CSV or Parquet file.

    Columns: `start_s` (seconds, any origin), `duration_s` (seconds), then of the fullest rank
    `batch_max` and `kv_tokens_max`, or of every rank `batch` and `kv_tokens`, as lists or as
    `batch_0 ...` and `kv_tokens_0 ...`.

    Raises:
        TraceError: If the file cannot be read or a field is missing or not usable; names it.
    """
    file = locate(str(path))
    frame = read_frame(file)
    for name in ("start_s", "duration_s"):
        if name not in frame:
            raise TraceError(file, "column is missing", field=name, expected="seconds per step")
    if len(frame) == 0:
        raise TraceError(file, "no steps", expected="at least one row")
    numbers(file, frame, "start_s", low=None)
    steps = MeasuredSteps(
        duration_s=numbers(file, frame, "duration_s", low=0.0),
        batch=_largest(file, frame, "batch"),
        kv_tokens=_largest(file, frame, "kv_tokens"),
    )
    empty = np.flatnonzero(steps.batch <= 0)
    if empty.size:
        raise TraceError(file, "a step without requests", line=int(empty[0]) + 2, field="batch")
    return steps


def _largest(file: Path, frame: pd.DataFrame, name: str) -> FloatArray:
    largest = f"{name}_max"
    if largest in frame:
        values = numbers(file, frame, largest, low=None)
        bad = np.flatnonzero(values < 0)
        if bad.size:
            problem = f"{values[bad[0]]:g} is negative"
            raise TraceError(file, problem, line=int(bad[0]) + 2, field=largest)
        return values
    ranks = per_rank(file, frame, name)
    if ranks is None:
        raise TraceError(
            file, "column is missing", field=largest, expected=f"{largest}, or {name} per rank"
        )
    return np.asarray(ranks.max(axis=1), dtype=np.float64)


def fit_steps(steps: MeasuredSteps, num_knots: int, name: str = "steps") -> StepFit:
    """Return the table that explains `steps` best, with its leave-one-out errors.

    Raises:
        TraceError: If there are fewer than two steps (`name` is the file in the message).
    """
    count = len(steps.duration_s)
    if count < 2:
        raise TraceError(name, f"{count} steps", expected="at least 2 to fit a table")
    knots = knots_of(steps.batch, num_knots)
    ramps = ramps_of(steps.batch, knots)
    basis = np.column_stack([np.ones(count), *ramps, steps.kv_tokens])
    weights = solve(basis, steps.duration_s)
    return StepFit(
        knots=seconds_at(knots, float(weights[0]), weights[1 : len(knots)]),
        kv_token_s=float(weights[-1]),
        residuals=basis @ weights / steps.duration_s - 1.0,
        left_out=left_out(basis, steps.duration_s),
    )
