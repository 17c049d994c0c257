"""Whether a queue still grows: the slope of TTFT against arrival time.

Where decode is modelled, TTFT is that of the client, which ends with the first step: prompts and
answers wait for room on either side before it, and the length of the answer, whose spread would
hide the trend in the end-to-end time, comes after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sbs_gym.types import FloatArray

_NUM_BATCHES = 20
_FEWEST_PER_BATCH = 2
_T_LIMIT = 3.0


@dataclass(frozen=True, slots=True)
class Growth:
    """The trend of TTFT over a run.

    Attributes:
        slope_s_per_s: Seconds of TTFT per second of arrivals; NaN if it cannot be told.
        overloaded: Whether the trend is clear and large; None if it cannot be told.
    """

    slope_s_per_s: float
    overloaded: bool | None


def ttft_growth(arrived_at_s: FloatArray, ttft_s: FloatArray) -> Growth:
    """Return the trend over 20 batches of equally many requests, in order of arrival.

    Batch means take most of the correlation between neighbours out of the t-statistic. A run is
    overloaded if t > 3 and the trend over the run exceeds the mean TTFT: a stable queue that is
    still filling has a slope too, but one that is small beside its mean.

    Args:
        arrived_at_s: Instants of arrival, never falling, shape (n,).
        ttft_s: TTFT of the same requests; NaN where there is none, shape (n,).
    """
    known = ~np.isnan(ttft_s)
    x, y = arrived_at_s[known], ttft_s[known]
    if len(x) < _NUM_BATCHES * _FEWEST_PER_BATCH:
        return Growth(math.nan, None)
    at = np.array([part.mean() for part in np.array_split(x, _NUM_BATCHES)])
    mean = np.array([part.mean() for part in np.array_split(y, _NUM_BATCHES)])
    if not at[-1] > at[0]:  # a backlog: everything arrives at once
        return Growth(math.nan, None)
    slope, t = _slope_and_t(at, mean)
    grown_s = slope * float(x[-1] - x[0])
    return Growth(slope, bool(t > _T_LIMIT and grown_s > float(y.mean())))


def _slope_and_t(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    dx, dy = x - x.mean(), y - y.mean()
    sxx = float((dx * dx).sum())
    slope = float((dx * dy).sum()) / sxx
    rest = dy - slope * dx
    error = math.sqrt(float((rest * rest).sum()) / (len(x) - 2) / sxx)
    if error == 0.0:
        return slope, math.copysign(math.inf, slope) if slope else 0.0
    return slope, slope / error
