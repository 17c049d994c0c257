"""Prompt and answer lengths: inverse distribution functions of addressed uniform numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

from sbs_gym.config.lengths import LengthConfig
from sbs_gym.errors import ConfigError
from sbs_gym.jit import compiled
from sbs_gym.types import FloatArray

_MIXTURE_POINTS = 16_385
Quantile = Callable[[FloatArray], FloatArray]


@functools.lru_cache(maxsize=256)
def quantile_function(config: LengthConfig) -> Quantile:
    """Return the inverse distribution function of a law, before rounding to whole tokens.

    It never falls, so equal ranks of two laws can be coupled; levels lie in (0, 1).
    """
    return _QUANTILES[config.family](config)


def draw_tokens(config: LengthConfig, levels: FloatArray) -> NDArray[np.int32]:
    """Return one length per level in (0, 1), whole tokens, int32."""
    whole: NDArray[np.int32] = _whole(quantile_function(config)(levels), *_limits(config))
    return whole


@compiled
def _whole(tokens, low, high):  # type: ignore[no-untyped-def]
    """Return the nearest whole numbers of tokens in [low, high], int32."""
    whole = np.empty(len(tokens), dtype=np.int32)
    for i in range(len(tokens)):
        whole[i] = min(max(np.rint(tokens[i]), low), high)
    return whole


def mean_tokens(config: LengthConfig) -> float:
    """Return the mean of a law in tokens; rounding moves it by less than half a token."""
    return float(_MEANS[config.family](config))


def _limits(config: LengthConfig) -> tuple[float, float]:
    if config.family == "constant":
        return float(config.value_tokens or 1), float(config.value_tokens or 1)
    if config.family == "empirical":
        return config.quantiles_tokens[0], config.quantiles_tokens[-1]
    return float(config.low_tokens or 1), float(config.high_tokens or 1)


def _constant(config: LengthConfig) -> Quantile:
    return lambda u: np.full(len(u), float(config.value_tokens or 1))


def _uniform(config: LengthConfig) -> Quantile:
    low, high = _limits(config)
    return lambda u: low + np.floor(u * (high - low + 1))


def _exponential(config: LengthConfig) -> Quantile:
    mean = config.mean_tokens or math.nan
    return lambda u: np.clip(-mean * np.log1p(-u), *_limits(config))


def _exponential_mean(config: LengthConfig) -> float:
    (low, high), mean = _limits(config), config.mean_tokens or math.nan
    return low + mean * (math.exp(-low / mean) - math.exp(-high / mean))


def _lognormal(config: LengthConfig) -> Quantile:
    mu, sigma = config.mu or 0.0, config.sigma or math.nan
    low, high = (math.log(edge) for edge in _limits(config))
    return lambda u: np.exp(np.clip(mu + sigma * ndtri(u), low, high))


def _clipped_lognormal_mean(mu: float, sigma: float, low: float, high: float) -> float:
    a, b = (math.log(low) - mu) / sigma, (math.log(high) - mu) / sigma
    inside = math.exp(mu + sigma * sigma / 2) * (ndtr(b - sigma) - ndtr(a - sigma))
    return float(low * ndtr(a) + inside + high * ndtr(-b))


def _lognormal_mean(config: LengthConfig) -> float:
    return _clipped_lognormal_mean(config.mu or 0.0, config.sigma or math.nan, *_limits(config))


def _truncated_lognormal(config: LengthConfig) -> Quantile:
    mu, sigma = solved_mu(config), config.sigma or math.nan
    a, b = ((math.log(edge) - mu) / sigma for edge in _limits(config))
    if a <= 0:
        start, slope, sign = ndtr(a), ndtr(b) - ndtr(a), 1.0
    else:  # right of the centre the lower tail is close to 1 and loses digits: use the upper one
        start, slope, sign = ndtr(-a), ndtr(-b) - ndtr(-a), -1.0

    def quantile(u: FloatArray) -> FloatArray:
        z: FloatArray = u * slope  # one array for all of it
        z += start
        ndtri(z, out=z)
        z *= sign * sigma
        z += mu
        np.exp(z, out=z)
        return z

    return quantile


def _log_ndtr_difference(a: float, b: float) -> float:
    if a > 0:
        a, b = -b, -a
    return float(log_ndtr(b) + np.log1p(-np.exp(log_ndtr(a) - log_ndtr(b))))


def _truncated_lognormal_mean_at(mu: float, sigma: float, low: float, high: float) -> float:
    a, b = (math.log(low) - mu) / sigma, (math.log(high) - mu) / sigma
    ratio = _log_ndtr_difference(a - sigma, b - sigma) - _log_ndtr_difference(a, b)
    return math.exp(mu + sigma * sigma / 2 + ratio)


def _truncated_lognormal_mean(config: LengthConfig) -> float:
    return _truncated_lognormal_mean_at(
        solved_mu(config), config.sigma or math.nan, *_limits(config)
    )


def solved_mu(config: LengthConfig) -> float:
    """Return mu of a truncated lognormal: as given, or the one that gives `mean_tokens`."""
    if config.mu is not None:
        return config.mu
    (low, high), sigma = _limits(config), config.sigma or math.nan
    wanted = config.mean_tokens or math.nan
    below, above = math.log(low) - 20 * sigma, math.log(high) + 20 * sigma
    for _ in range(200):
        middle = (below + above) / 2
        if _truncated_lognormal_mean_at(middle, sigma, low, high) < wanted:
            below = middle
        else:
            above = middle
    if not math.isclose(
        _truncated_lognormal_mean_at(below, sigma, low, high), wanted, rel_tol=1e-6
    ):
        raise ConfigError(f"no mu gives mean_tokens={wanted} with sigma={sigma} in [{low}, {high}]")
    return below


def _components(config: LengthConfig) -> list[tuple[float, float, float]]:
    total = sum(config.weights)
    weights = [weight / total for weight in config.weights]
    return list(zip(weights, config.mus, config.sigmas, strict=True))


def _lognormal_mixture(config: LengthConfig) -> Quantile:
    # Tabulated over ln(tokens), because a mixture has no closed inverse.
    low, high = _limits(config)
    logs = np.linspace(math.log(low), math.log(high), _MIXTURE_POINTS)
    levels = sum(weight * ndtr((logs - mu) / sigma) for weight, mu, sigma in _components(config))
    return lambda u: np.exp(np.interp(u, levels, logs))


def _lognormal_mixture_mean(config: LengthConfig) -> float:
    limits = _limits(config)
    return sum(w * _clipped_lognormal_mean(mu, s, *limits) for w, mu, s in _components(config))


def _bounded_pareto(config: LengthConfig) -> Quantile:
    (low, high), alpha = _limits(config), config.alpha or math.nan
    missing = 1.0 - (low / high) ** alpha
    return lambda u: low * np.power(1.0 - u * missing, -1.0 / alpha)


def _bounded_pareto_mean(config: LengthConfig) -> float:
    (low, high), alpha = _limits(config), config.alpha or math.nan
    ratio = low / high
    if alpha == 1 or low == high:
        return low if low == high else low * math.log(high / low) / (1 - ratio)
    return float(low * alpha / (alpha - 1) * (1 - ratio ** (alpha - 1)) / (1 - ratio**alpha))


def quantile_levels(count: int, tail_power: float) -> FloatArray:
    """Return the levels of a table of `count` quantiles: 1 - (1 - k/(count - 1))**tail_power."""
    return 1.0 - (1.0 - np.arange(count) / (count - 1)) ** tail_power


def _table(config: LengthConfig) -> tuple[FloatArray, FloatArray]:
    tokens = np.array(config.quantiles_tokens, dtype=np.float64)
    return quantile_levels(len(tokens), config.tail_power or 1.0), tokens


def _empirical(config: LengthConfig) -> Quantile:
    levels, tokens = _table(config)
    return lambda u: np.interp(u, levels, tokens)


def _empirical_mean(config: LengthConfig) -> float:
    levels, tokens = _table(config)
    return float(np.trapezoid(tokens, levels))


_QUANTILES: dict[str, Callable[[LengthConfig], Quantile]] = {
    "constant": _constant,
    "uniform": _uniform,
    "exponential": _exponential,
    "lognormal": _lognormal,
    "truncated_lognormal": _truncated_lognormal,
    "lognormal_mixture": _lognormal_mixture,
    "bounded_pareto": _bounded_pareto,
    "empirical": _empirical,
}
_MEANS: dict[str, Callable[[LengthConfig], Any]] = {
    "constant": lambda config: float(config.value_tokens or 1),
    "uniform": lambda config: sum(_limits(config)) / 2,
    "exponential": _exponential_mean,
    "lognormal": _lognormal_mean,
    "truncated_lognormal": _truncated_lognormal_mean,
    "lognormal_mixture": _lognormal_mixture_mean,
    "bounded_pareto": _bounded_pareto_mean,
    "empirical": _empirical_mean,
}
