"""Arrival processes against their rates, CVs and dispersion."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sbs_gym.config.arrivals import ArrivalConfig, arrivals_from_mapping
from sbs_gym.config.groups import read_group
from sbs_gym.workload.arrivals import arrivals_before, first_arrivals, mean_over_peak
from sbs_gym.workload.renewal import weibull_shape

SEEDS = range(40)


def preset(name: str) -> ArrivalConfig:
    return arrivals_from_mapping(read_group("arrivals", name))


def counts_before(config: ArrivalConfig, rate_per_s: float, horizon_s: float) -> np.ndarray:
    runs = [
        arrivals_before(config, rate_per_s=rate_per_s, seed=seed, horizon_s=horizon_s)
        for seed in SEEDS
    ]
    return np.array([len(run.arrived_at_s) for run in runs], dtype=float)


CASES = [
    (ArrivalConfig(family="poisson"), 100.0),
    (ArrivalConfig(family="gamma_renewal", cv=4.0), 100.0),
    (ArrivalConfig(family="gamma_renewal", cv=0.5), 100.0),
    (ArrivalConfig(family="weibull_renewal", cv=3.0), 100.0),
    (ArrivalConfig(family="on_off", mean_on_s=3.0, mean_off_s=5.0), 400.0),
    (ArrivalConfig(family="mmpp2", low_frac=0.2, dwell_low_s=4.0, dwell_high_s=2.0), 400.0),
    (ArrivalConfig(family="ramp", start_frac=0.1, end_frac=1.0, ramp_s=60.0), 100.0),
    (ArrivalConfig(family="ramp", start_frac=1.0, end_frac=0.2, ramp_s=150.0), 100.0),
    (ArrivalConfig(family="step", before_frac=0.5, after_frac=1.0, step_at_s=30.0), 100.0),
    (ArrivalConfig(family="diurnal", profile=(1.0, 3.0, 0.0), slot_s=10.0, start_slot=0), 90.0),
    (ArrivalConfig(family="tick_batches", tick_s=3.0), 99.0),
    (preset("multi_client"), 100.0),
    (
        ArrivalConfig(
            family="closed_loop", mean_turns=5.0, think_mean_s=4.0, think_sigma=1.0, service_s=2.0
        ),
        100.0,
    ),
]


@pytest.mark.parametrize("config, horizon_s", CASES, ids=lambda value: getattr(value, "family", ""))
def test_mean_number_of_arrivals_is_the_mean_rate_times_the_horizon(
    config: ArrivalConfig, horizon_s: float
) -> None:
    counts = counts_before(config, 10.0, horizon_s)
    expected = 10.0 * mean_over_peak(config, horizon_s) * horizon_s
    error = counts.std(ddof=1) / math.sqrt(len(counts))
    assert abs(counts.mean() - expected) < 4 * error


@pytest.mark.parametrize("family", ["gamma_renewal", "weibull_renewal"])
def test_renewal_gaps_have_the_wanted_cv(family: str) -> None:
    config = ArrivalConfig(family=family, cv=2.0)
    times = first_arrivals(config, rate_per_s=1.0, seed=3, count=200_000).arrived_at_s
    gaps = np.diff(times)
    assert gaps.std() / gaps.mean() == pytest.approx(2.0, rel=0.03)


def test_weibull_of_cv_one_is_exponential() -> None:
    assert weibull_shape(1.0) == pytest.approx(1.0, abs=1e-9)


def test_mmpp_dispersion_follows_its_law() -> None:
    # IDC(w) = 1 + 2A/s (1 - (1 - exp(-s w)) / (s w)), A = p (1 - p) (high - low)^2 / mean.
    config = ArrivalConfig(family="mmpp2", low_frac=0.2, dwell_low_s=6.0, dwell_high_s=2.0)
    high, low, share, window_s = 10.0, 2.0, 0.25, 5.0
    mean, s = share * high + (1 - share) * low, 1 / 2.0 + 1 / 6.0
    a = share * (1 - share) * (high - low) ** 2 / mean
    wanted = 1 + 2 * a / s * (1 - (1 - math.exp(-s * window_s)) / (s * window_s))
    run = arrivals_before(config, rate_per_s=high, seed=5, horizon_s=100_000.0)
    counts = np.bincount((run.arrived_at_s // window_s).astype(int))
    assert counts.var() / counts.mean() == pytest.approx(wanted, rel=0.05)


def test_ticks_stamp_requests_together() -> None:
    config = ArrivalConfig(family="tick_batches", tick_s=3.0)
    times = first_arrivals(config, rate_per_s=4.0, seed=1, count=100).arrived_at_s
    assert set(np.unique(times % 3.0)) == {0.0}
    poisson = first_arrivals(ArrivalConfig(family="poisson"), rate_per_s=4.0, seed=1, count=100)
    assert (times == np.floor(poisson.arrived_at_s / 3.0) * 3.0).all()


def test_nothing_arrives_in_a_slot_of_level_zero() -> None:
    config = ArrivalConfig(family="diurnal", profile=(1.0, 0.0), slot_s=10.0, start_slot=1)
    run = arrivals_before(config, rate_per_s=20.0, seed=2, horizon_s=100.0)
    slots = set((run.arrived_at_s // 10.0).astype(int))
    assert slots == {1, 3, 5, 7, 9}


def test_second_half_of_a_step_is_twice_as_busy() -> None:
    config = ArrivalConfig(family="step", before_frac=0.5, after_frac=1.0, step_at_s=500.0)
    run = arrivals_before(config, rate_per_s=100.0, seed=1, horizon_s=1000.0)
    early = int((run.arrived_at_s < 500.0).sum())
    late = len(run.arrived_at_s) - early
    # Poisson counts of 25,000 and 50,000: four standard errors.
    assert abs(early - 25_000) < 4 * math.sqrt(25_000)
    assert abs(late - 50_000) < 4 * math.sqrt(50_000)


def test_ramp_from_zero_has_a_quarter_of_its_arrivals_in_the_first_half() -> None:
    config = ArrivalConfig(family="ramp", start_frac=0.0, end_frac=1.0, ramp_s=1000.0)
    run = arrivals_before(config, rate_per_s=100.0, seed=1, horizon_s=1000.0)
    early = (run.arrived_at_s < 500.0).mean()
    assert early == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 50_000))


def test_turns_of_a_session_follow_at_service_plus_think_time() -> None:
    config = ArrivalConfig(
        family="closed_loop", mean_turns=4.0, think_mean_s=5.0, think_sigma=0.5, service_s=2.0
    )
    run = first_arrivals(config, rate_per_s=3.0, seed=1, count=2000)
    assert run.parent_id is not None
    assert run.delay_s is not None
    assert run.session_id is not None
    assert run.turn is not None
    later = np.flatnonzero(run.parent_id >= 0)
    parent = run.parent_id[later]
    expected = run.arrived_at_s[parent] + (2.0 + run.delay_s[later])
    assert (run.arrived_at_s[later] == expected).all()
    assert (run.session_id[later] == run.session_id[parent]).all()
    assert (run.turn[later] == run.turn[parent] + 1).all()
    assert np.isnan(run.delay_s[run.parent_id < 0]).all()


def test_peak_ratio_of_bursty_mmpp_is_one_over_six_point_four() -> None:
    assert mean_over_peak(preset("mmpp2_bursty")) == pytest.approx(1 / 6.4)
    assert mean_over_peak(preset("poisson")) == 1.0
