"""Renewal processes at rate 1: gaps of exponential, gamma or Weibull law, and their superposition.

Every process starts in its stationary state (the first gap is a residual one), so the expected
number of arrivals in [0, t) is exactly rate * t, whatever the CV.
Source of the gamma sampler: Marsaglia and Tsang, ACM TOMS 26(3), 2000, doi 10.1145/358407.358414.
"""

from __future__ import annotations

import math

import numpy as np

from sbs_gym.jit import compiled
from sbs_gym.rng import normal, uniform
from sbs_gym.types import FloatArray
from sbs_gym.workload.purposes import FIRST_GAP, GAMMA_FIRST_GAP, GAMMA_GAP, GAP, STREAM

EXPONENTIAL, GAMMA, WEIBULL = 0, 1, 2
_CLIENT_STRIDE = 1 << 40  # addresses of one client's gaps


@compiled
def unit_exponential(seed, purpose, a):  # type: ignore[no-untyped-def]
    """Return an exponential number of mean 1 at the address `(purpose, a)`."""
    return -math.log(uniform(seed, STREAM, purpose, a, 0))


@compiled
def unit_gamma(seed, purpose, shape, a):  # type: ignore[no-untyped-def]
    """Return a gamma number of the given shape and scale 1 at the address `(purpose, a)`."""
    boosted = shape + 1.0 if shape < 1.0 else shape
    d = boosted - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    attempt = 0
    while True:
        x = normal(seed, STREAM, purpose, a, attempt)
        root = 1.0 + c * x
        v = root * root * root  # `** 3` differs in the last bit between the two modes
        if v > 0.0:
            u = uniform(seed, STREAM, purpose + 1, a, attempt)
            if math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
                break
        attempt += 1
    if shape < 1.0:
        return d * v * math.exp(math.log(uniform(seed, STREAM, purpose + 2, a, 0)) / shape)
    return d * v


@compiled
def _first_gap(seed, law, shape, scale, a):  # type: ignore[no-untyped-def]
    # Residual gap: a uniform part of a length-biased gap.
    part = uniform(seed, STREAM, FIRST_GAP, a, 0)
    if law == GAMMA:
        return part * scale * unit_gamma(seed, GAMMA_FIRST_GAP, shape + 1.0, a)
    if law == WEIBULL:
        biased = unit_gamma(seed, GAMMA_FIRST_GAP, 1.0 + 1.0 / shape, a)
        return part * scale * math.exp(math.log(biased) / shape)
    return unit_exponential(seed, GAP, a)


@compiled
def _gap(seed, law, shape, scale, a):  # type: ignore[no-untyped-def]
    if law == GAMMA:
        return scale * unit_gamma(seed, GAMMA_GAP, shape, a)
    if law == WEIBULL:
        return scale * math.exp(math.log(unit_exponential(seed, GAP, a)) / shape)
    return unit_exponential(seed, GAP, a)


@compiled
def superposed_times(seed, laws, shapes, scales, rates, count):  # type: ignore[no-untyped-def]
    """Return the first `count` arrivals of independent renewal clients.

    Args:
        seed: Seed of the run.
        laws: EXPONENTIAL, GAMMA or WEIBULL per client, shape (num_clients,).
        shapes: Shape of the gap's law per client.
        scales: Scale that gives the gap mean 1, per client.
        rates: Arrivals per unit of time, per client.
        count: Number of arrivals.
    """
    num_clients = len(laws)
    next_at = np.empty(num_clients)
    drawn = np.ones(num_clients, dtype=np.int64)
    for c in range(num_clients):
        gap = _first_gap(seed, laws[c], shapes[c], scales[c], c * _CLIENT_STRIDE)
        next_at[c] = gap / rates[c]
    times = np.empty(count)
    for i in range(count):
        c = 0
        for other in range(1, num_clients):
            if next_at[other] < next_at[c]:
                c = other
        times[i] = next_at[c]
        gap = _gap(seed, laws[c], shapes[c], scales[c], c * _CLIENT_STRIDE + drawn[c])
        next_at[c] += gap / rates[c]
        drawn[c] += 1
    return times


def gap_law(family: str, cv: float) -> tuple[int, float, float]:
    """Return (law, shape, scale) of a gap with mean 1 and the given CV."""
    if family == "gamma":
        return GAMMA, 1.0 / cv**2, cv**2
    shape = weibull_shape(cv)
    return WEIBULL, shape, math.exp(-math.lgamma(1.0 + 1.0 / shape))


def weibull_shape(cv: float) -> float:
    """Return the shape k with Gamma(1 + 2/k) / Gamma(1 + 1/k)**2 = 1 + cv**2, by bisection."""
    wanted = math.log1p(cv * cv)
    low, high = 0.05, 100.0
    for _ in range(200):
        middle = (low + high) / 2
        if math.lgamma(1 + 2 / middle) - 2 * math.lgamma(1 + 1 / middle) > wanted:
            low = middle
        else:
            high = middle
    return low


def renewal_times(seed: int, family: str, cv: float, count: int) -> FloatArray:
    """Return `count` arrivals of one renewal process at rate 1."""
    return client_times(seed, (family,), (cv,), (1.0,), count)


def poisson_times(seed: int, count: int) -> FloatArray:
    """Return `count` arrivals of a Poisson process at rate 1."""
    return _poisson_times(seed, count)  # type: ignore[no-any-return]


@compiled
def _poisson_times(seed, count):  # type: ignore[no-untyped-def]
    """Return what `superposed_times` gives for one exponential client, in half the time."""
    times = np.empty(count)
    now = 0.0
    for i in range(count):
        now += unit_exponential(seed, GAP, i)
        times[i] = now
    return times


def client_times(
    seed: int,
    families: tuple[str, ...],
    cvs: tuple[float, ...],
    shares: tuple[float, ...],
    count: int,
) -> FloatArray:
    """Return `count` arrivals of superposed renewal clients at total rate 1."""
    rules = [gap_law(family, cv) for family, cv in zip(families, cvs, strict=True)]
    laws = np.array([rule[0] for rule in rules], dtype=np.int64)
    shapes = np.array([rule[1] for rule in rules])
    scales = np.array([rule[2] for rule in rules])
    rates = np.array(shares, dtype=np.float64) / math.fsum(shares)
    return superposed_times(seed, laws, shapes, scales, rates, count)  # type: ignore[no-any-return]
