"""The test for a growing queue, on queues whose answer is known."""

import numpy as np
import pytest

from sbs_gym.metrics.overload import ttft_growth

NAN = float("nan")


def lindley(arrived_at_s, service_s):
    """TTFT of a queue with one server: waits by Lindley's recursion, plus the service."""
    free_at_s, out = 0.0, np.empty(len(arrived_at_s))
    for i, (at, work) in enumerate(zip(arrived_at_s, service_s, strict=True)):
        free_at_s = max(free_at_s, at) + work
        out[i] = free_at_s - at
    return out


def poisson(rng, count, rate_per_s=1.0):
    return np.cumsum(rng.exponential(1 / rate_per_s, count))


def test_straight_line_has_its_slope_and_is_overloaded():
    x = np.arange(400.0)
    growth = ttft_growth(x, 0.25 * x)
    assert growth.slope_s_per_s == pytest.approx(0.25)
    assert growth.overloaded is True


def test_constant_ttft_is_not_overloaded():
    growth = ttft_growth(np.arange(400.0), np.full(400, 2.0))
    assert growth.slope_s_per_s == 0.0
    assert growth.overloaded is False


def test_falling_ttft_is_not_overloaded():
    x = np.arange(400.0)
    assert ttft_growth(x, 1000.0 - x).overloaded is False


def test_small_trend_beside_a_large_mean_is_not_overloaded():
    x = np.arange(400.0)
    assert ttft_growth(x, 10.0 + 0.001 * x).overloaded is False


def test_few_requests_or_one_instant_cannot_tell():
    few = ttft_growth(np.arange(39.0), np.arange(39.0))
    assert few.overloaded is None
    assert np.isnan(few.slope_s_per_s)
    assert ttft_growth(np.zeros(400), np.arange(400.0)).overloaded is None


def test_requests_without_a_first_token_are_left_out():
    x = np.arange(400.0)
    y = np.where(x % 2 == 0, 0.5 * x, NAN)
    assert ttft_growth(x, y).slope_s_per_s == pytest.approx(0.5)


@pytest.mark.parametrize("load", [1.1, 1.3])
def test_true_overload_is_found(load):
    rng = np.random.default_rng(3)
    for _ in range(20):
        at = poisson(rng, 5000)
        assert ttft_growth(at, lindley(at, np.full(5000, load))).overloaded


@pytest.mark.parametrize("load", [0.5, 0.7, 0.85])
def test_stable_poisson_queue_is_not_called_overloaded(load):
    rng = np.random.default_rng(4)
    for _ in range(20):
        at = poisson(rng, 5000)
        assert not ttft_growth(at, lindley(at, np.full(5000, load))).overloaded


def two_states(rng, count, low_per_s, high_per_s):
    """Arrivals that switch between two rates: 20 s high, 60 s low in the mean."""
    parts, clock_s, high, total = [], 0.0, True, 0
    while total < count:
        dwell_s = rng.exponential(20.0 if high else 60.0)
        num = rng.poisson(dwell_s * (high_per_s if high else low_per_s))
        parts.append(clock_s + np.sort(rng.uniform(0, dwell_s, num)))
        clock_s, high, total = clock_s + dwell_s, not high, total + num
    return np.concatenate(parts)[:count]


def test_stable_bursty_queue_is_hardly_ever_called_overloaded():
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(30):
        at = two_states(rng, 20_000, low_per_s=47.5, high_per_s=95.0)
        wrong += bool(ttft_growth(at, lindley(at, np.full(len(at), 0.01))).overloaded)
    assert wrong <= 1
