"""The 95 % interval of a mean over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy.special import stdtrit

_CONFIDENCE = 0.95


def mean_interval(values: Iterable[float]) -> tuple[float, float, float]:
    """Return the mean and the ends of Student's 95 % interval; NaN values are left out.

    Args:
        values: One independent number per seed; the interval is NaN for fewer than two.
    """
    found = np.asarray(list(values), dtype=float)
    found = found[~np.isnan(found)]
    if not len(found):
        return math.nan, math.nan, math.nan
    mean = float(found.mean())
    if len(found) == 1:
        return mean, math.nan, math.nan
    error = float(found.std(ddof=1)) / math.sqrt(len(found))
    half = float(stdtrit(len(found) - 1, 0.5 + _CONFIDENCE / 2)) * error
    return mean, mean - half, mean + half
