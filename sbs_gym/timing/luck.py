"""Luck of a pass, addressed by place and time so that two schedulers meet the same luck there.

The formulas and the order of their operations are `docs/semantics.md`, section 3.
"""

from __future__ import annotations

import math
from enum import IntEnum

from sbs_gym.jit import compiled
from sbs_gym.rng import Stream, normal, uniform


class Purpose(IntEnum):
    """What a number of the timing stream is for."""

    JITTER = 1
    SKEW = 2
    LOSS = 3


_TIMING = int(Stream.TIMING)
_JITTER, _SKEW, _LOSS = int(Purpose.JITTER), int(Purpose.SKEW), int(Purpose.LOSS)


@compiled
def pass_jitter(timing, seed, instance, start_s):  # type: ignore[no-untyped-def]
    """Return the factor on the duration of a pass started at `start_s`; exactly 1.0 without jitter.

    Lognormal with mean 1. `timing` is one record of COEFFICIENTS.
    """
    sigma = timing.jitter_sigma
    if sigma == 0.0:
        return 1.0
    cell = math.floor(start_s / timing.jitter_grid_s)
    z = normal(seed, _TIMING, _JITTER, instance, cell)
    return math.exp(sigma * z - sigma * sigma / 2.0)


@compiled
def skew_start(timing, seed, instance):  # type: ignore[no-untyped-def]
    """Return x_0, the state of an instance's skew at grid point 0 (standard normal)."""
    return normal(seed, _TIMING, _SKEW, instance, 0)


@compiled
def skew_next(timing, seed, instance, k, x_prev):  # type: ignore[no-untyped-def]
    """Return x_k, the state at grid point k >= 1, from x_(k-1)."""
    rho = timing.skew_rho
    z = normal(seed, _TIMING, _SKEW, instance, k)
    return rho * x_prev + math.sqrt(1.0 - rho * rho) * z


@compiled
def skew_factor(timing, x):  # type: ignore[no-untyped-def]
    """Return the expert skew g >= 1 for the state x; exactly the mean if its spread is 0."""
    s = timing.skew_sigma
    if s == 0.0:
        return timing.skew_mean
    return 1.0 + (timing.skew_mean - 1.0) * math.exp(s * x - s * s / 2.0)


@compiled
def signal_lost(seed, instance, pass_index, loss_frac):  # type: ignore[no-untyped-def]
    """Return whether the EndForward signal of this pass is lost."""
    return uniform(seed, _TIMING, _LOSS, instance, pass_index) < loss_frac
