"""Poisson arrivals under a moving rate: rate-1 arrivals read through the rate's integral."""

from __future__ import annotations

import math

import numpy as np

from sbs_gym.config.arrivals import ArrivalConfig
from sbs_gym.jit import compiled
from sbs_gym.rng import uniform
from sbs_gym.types import FloatArray
from sbs_gym.workload.purposes import DWELL, FIRST_STATE, GAP, STREAM
from sbs_gym.workload.renewal import unit_exponential


@compiled
def _stay_s(seed, durations_s, random_stay, first, k):  # type: ignore[no-untyped-def]
    duration_s = durations_s[(first + k) % len(durations_s)]
    return duration_s * unit_exponential(seed, DWELL, k) if random_stay else duration_s


@compiled
def _stepwise_times(seed, rates, durations_s, random_stay, first, count):  # type: ignore[no-untyped-def]
    times = np.empty(count)
    k = 0
    began_at_s = 0.0
    done = 0.0  # integral of the rate up to began_at_s
    wanted = 0.0
    rate = rates[first % len(rates)]
    stay_s = _stay_s(seed, durations_s, random_stay, first, k)
    for i in range(count):
        wanted += unit_exponential(seed, GAP, i)
        while rate == 0.0 or wanted > done + rate * stay_s:
            done += rate * stay_s
            began_at_s += stay_s
            k += 1
            rate = rates[(first + k) % len(rates)]
            stay_s = _stay_s(seed, durations_s, random_stay, first, k)
        # The bound keeps rounding from carrying an arrival into the next stay.
        times[i] = min(began_at_s + (wanted - done) / rate, began_at_s + stay_s)
    return times


@compiled
def _ramp_times(seed, first_rate, last_rate, ramp_s, count):  # type: ignore[no-untyped-def]
    times = np.empty(count)
    wanted = 0.0
    by_the_end = 0.5 * (first_rate + last_rate) * ramp_s
    for i in range(count):
        wanted += unit_exponential(seed, GAP, i)
        if wanted > by_the_end:
            times[i] = ramp_s + (wanted - by_the_end) / last_rate
        else:
            square = first_rate * first_rate + 2.0 * (last_rate - first_rate) * wanted / ramp_s
            root_at_s = 2.0 * wanted / (first_rate + math.sqrt(max(square, 0.0)))
            times[i] = min(root_at_s, ramp_s)
    return times


def _two_states(config: ArrivalConfig) -> tuple[float, float, float]:
    if config.family == "on_off":
        return 0.0, config.mean_off_s or math.nan, config.mean_on_s or math.nan
    return config.low_frac or 0.0, config.dwell_low_s or math.nan, config.dwell_high_s or math.nan


def _two_state_times(config: ArrivalConfig, rate_per_s: float, seed: int, count: int) -> FloatArray:
    low_frac, low_s, high_s = _two_states(config)
    # State 0 is the peak; the first state follows the stationary law.
    first = int(uniform(seed, STREAM, FIRST_STATE, 0, 0) >= high_s / (high_s + low_s))
    rates = np.array([rate_per_s, rate_per_s * low_frac])
    return _stepwise_times(seed, rates, np.array([high_s, low_s]), True, first, count)  # type: ignore[no-any-return]


def modulated_times(config: ArrivalConfig, rate_per_s: float, seed: int, count: int) -> FloatArray:
    """Return the first `count` arrivals, seconds; `rate_per_s` is the rate of the peak."""
    if config.family in ("mmpp2", "on_off"):
        return _two_state_times(config, rate_per_s, seed, count)
    if config.family == "ramp":
        first, last = config.start_frac or 0.0, config.end_frac or 0.0
        ramp_s = config.ramp_s or math.nan
        return _ramp_times(seed, rate_per_s * first, rate_per_s * last, ramp_s, count)  # type: ignore[no-any-return]
    levels = np.array(_levels(config))
    if config.family == "step":
        durations_s = np.array([config.step_at_s, math.inf])
    else:
        durations_s = np.full(len(levels), config.slot_s)
    slot = config.start_slot or 0
    return _stepwise_times(seed, rate_per_s * levels, durations_s, False, slot, count)  # type: ignore[no-any-return]


def _levels(config: ArrivalConfig) -> list[float]:
    if config.family == "step":
        return [config.before_frac or 0.0, config.after_frac or 0.0]
    return [level / max(config.profile) for level in config.profile]


def modulated_mean_over_peak(config: ArrivalConfig, horizon_s: float | None) -> float:
    """Return mean rate / peak rate; ramp and step: of [0, horizon_s) or, if None, at their end."""
    if config.family in ("mmpp2", "on_off"):
        low_frac, low_s, high_s = _two_states(config)
        return (high_s + low_frac * low_s) / (high_s + low_s)
    if config.family == "diurnal":
        return math.fsum(_levels(config)) / len(config.profile)
    if config.family == "step":
        first, last = _levels(config)
        change_s, before = config.step_at_s or math.nan, first
    else:
        first, last = config.start_frac or 0.0, config.end_frac or 0.0
        change_s = config.ramp_s or math.nan
        reached = min((horizon_s or change_s) / change_s, 1.0)
        before = first + (last - first) * reached / 2
    if horizon_s is None:
        return last
    early_s = min(horizon_s, change_s)
    return (before * early_s + last * (horizon_s - early_s)) / horizon_s
