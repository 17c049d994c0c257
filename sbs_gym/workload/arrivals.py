"""Arrival times of every family, for a number of requests or a horizon."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sbs_gym.config.arrivals import MODULATED, ArrivalConfig
from sbs_gym.types import FloatArray, IntArray
from sbs_gym.workload.modulated import modulated_mean_over_peak, modulated_times
from sbs_gym.workload.renewal import client_times, poisson_times, renewal_times
from sbs_gym.workload.sessions import session_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Arrival times, and for sessions who follows whom; columns as in `RequestTable`."""

    arrived_at_s: FloatArray
    session_id: IntArray | None = None
    parent_id: IntArray | None = None
    turn: IntArray | None = None
    delay_s: FloatArray | None = None

    def first(self, count: int) -> Arrivals:
        """Return the first `count` arrivals."""
        if self.session_id is None:
            return Arrivals(arrived_at_s=self.arrived_at_s[:count])
        return Arrivals(**{name: getattr(self, name)[:count] for name in self.__slots__})


def mean_over_peak(config: ArrivalConfig, horizon_s: float | None = None) -> float:
    """Return the mean rate divided by `rate_per_s`: 1 unless the family is modulated.

    For ramp and step the mean is that of [0, horizon_s), or the final level if None.
    """
    if config.family not in MODULATED:
        return 1.0
    return modulated_mean_over_peak(config, horizon_s)


def first_arrivals(config: ArrivalConfig, *, rate_per_s: float, seed: int, count: int) -> Arrivals:
    """Return the first `count` arrivals; a larger count never changes the earlier ones."""
    if config.family == "closed_loop":
        times, session, parent, turn, delay = session_rows(config, rate_per_s, seed, count)
        return Arrivals(
            arrived_at_s=times, session_id=session, parent_id=parent, turn=turn, delay_s=delay
        )
    return Arrivals(arrived_at_s=_times(config, rate_per_s, seed, count))


def _times(config: ArrivalConfig, rate_per_s: float, seed: int, count: int) -> FloatArray:
    if config.family in MODULATED:
        return modulated_times(config, rate_per_s, seed, count)
    unit = _unit_times(config, seed, count)
    unit /= rate_per_s
    if config.family == "tick_batches":
        tick_s = config.tick_s or math.nan
        np.floor(unit / tick_s, out=unit)
        unit *= tick_s
    return unit


def _unit_times(config: ArrivalConfig, seed: int, count: int) -> FloatArray:
    # At rate 1, divided by the rate afterwards: halving the rate doubles every time exactly.
    if config.family in ("gamma_renewal", "weibull_renewal"):
        family = config.family.removesuffix("_renewal")
        return renewal_times(seed, family, config.cv or math.nan, count)
    if config.family == "multi_client":
        families, cvs, shares = config.client_families, config.client_cvs, config.client_shares
        return client_times(seed, families, cvs, shares, count)
    return poisson_times(seed, count)


def arrivals_before(
    config: ArrivalConfig, *, rate_per_s: float, seed: int, horizon_s: float
) -> Arrivals:
    """Return all arrivals in [0, horizon_s)."""
    expected = rate_per_s * mean_over_peak(config, horizon_s) * horizon_s
    count = int(1.02 * expected + 6 * math.sqrt(expected)) + 50
    while True:
        arrivals = first_arrivals(config, rate_per_s=rate_per_s, seed=seed, count=count)
        when = arrivals.arrived_at_s
        if when[-1] >= horizon_s:
            return arrivals.first(int(when.searchsorted(horizon_s)))
        count *= 2
