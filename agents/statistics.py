"""Ratios of two schedulers over seeds, and what their 95 % intervals rest on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, bootstrap

from sbs_gym.metrics.intervals import mean_interval

Array = NDArray[np.float64]
CONFIDENCE = 0.95
FEWEST_FOR_BOOTSTRAP = 30
_RESAMPLES = 4000


class Ratio(NamedTuple):
    """A geometric mean of ratios and the ends of its 95 % interval; NaN where there is none."""

    ratio: float
    low: float
    high: float


def log_ratios(values: Sequence[float] | Array, reference: Sequence[float] | Array) -> Array:
    """Return log(values / reference), pair by pair; NaN where one is NaN or both are 0.

    A zero on one side only, such as no goodput in a seed, gives an infinity, and a ratio of 0, or
    NaN where it is the reference's, without an interval.
    """
    above, below = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(above / below))


def mean_ratio(logs: Array) -> Ratio:
    """Return exp of the mean of log ratios with Student's interval; the point if all are equal.

    Args:
        logs: One log ratio per seed; NaN is left out.
    """
    known = _known(logs)
    if np.isinf(known).any():
        return _endless(known)
    if len(known) > 1 and np.ptp(known) == 0.0:
        return Ratio(*(math.exp(float(known[0])),) * 3)
    return Ratio(*(math.exp(end) for end in mean_interval(known)))


def tail_ratio(logs: Array, seed: int = 0) -> Ratio:
    """Return exp of the mean of log ratios of a tail, with a BCa interval from 30 seeds on.

    Below that Student's: bias-corrected intervals cover too rarely in small samples
    (arXiv 2508.10083).

    Args:
        logs: One log ratio per seed; NaN is left out.
        seed: Of the resampling.
    """
    known = _known(logs)
    few = len(known) < FEWEST_FOR_BOOTSTRAP
    if few or np.isinf(known).any() or np.ptp(known) == 0.0:
        return mean_ratio(known)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DegenerateDataWarning)
        found = bootstrap(
            (known,),
            np.mean,
            confidence_level=CONFIDENCE,
            n_resamples=_RESAMPLES,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return Ratio(
        math.exp(float(known.mean())), math.exp(float(found.low)), math.exp(float(found.high))
    )


def nested_ratio(logs: Array, seed: int = 0) -> Ratio:
    """Return exp of the mean over trainings and seeds, with a hierarchical bootstrap interval.

    Every resample draws trainings, then workload seeds. All trainings met the same requests, so the
    drawn seeds are the same for all of them: what a seed does to every training does not average
    out over trainings. With five trainings the interval is too narrow (a resample of n values has
    (n - 1) / n of their variance); `tests/agents/test_statistics.py` says by how much.

    Args:
        logs: Log ratios, shape (trainings, seeds); a seed with a NaN is left out.
        seed: Of the resampling.
    """
    grid = np.atleast_2d(np.asarray(logs, dtype=float))
    grid = grid[:, ~np.isnan(grid).any(axis=0)]
    num_trainings, num_seeds = grid.shape
    if num_seeds == 0 or num_trainings == 1 or np.isinf(grid).any():
        return mean_ratio(grid.ravel())
    mean = float(grid.mean())
    if num_seeds == 1:
        return Ratio(math.exp(mean), math.nan, math.nan)
    rng = np.random.default_rng(seed)
    trainings = rng.integers(num_trainings, size=(_RESAMPLES, num_trainings))
    seeds = rng.integers(num_seeds, size=(_RESAMPLES, num_seeds))
    means = grid[trainings[:, :, None], seeds[:, None, :]].mean(axis=(1, 2))
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Ratio(math.exp(mean), math.exp(float(low)), math.exp(float(high)))


def variation(values: Sequence[float] | Array) -> float:
    """Return the coefficient of variation over seeds: standard deviation / mean; NaN for one."""
    known = _known(values)
    return math.nan if len(known) < 2 else float(known.std(ddof=1) / known.mean())


def share_above(ratios: Sequence[float], margin: float) -> float:
    """Return the share of ratios above 1 + margin; NaN if there are none."""
    known = _known(ratios)
    return math.nan if not len(known) else float((known > 1.0 + margin).mean())


def median_place(values: Sequence[float]) -> int:
    """Return the place of the median value; of two in the middle the larger, so the worse ratio."""
    return int(np.argsort(np.asarray(values, dtype=float), kind="stable")[len(values) // 2])


def _known(values: Any) -> Array:
    found = np.asarray(values, dtype=float)
    return np.asarray(found[~np.isnan(found)])


def _endless(known: Array) -> Ratio:
    return Ratio(math.nan if np.isposinf(known).any() else 0.0, math.nan, math.nan)
