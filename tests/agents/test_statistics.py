"""Intervals of ratios: by hand where a hand can do it, by coverage where it cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agents.statistics import (
    log_ratios,
    mean_ratio,
    median_place,
    nested_ratio,
    share_above,
    tail_ratio,
    variation,
)


def test_the_geometric_mean_of_a_half_and_a_double_is_one():
    found = mean_ratio(log_ratios([1.0, 4.0], [2.0, 2.0]))
    assert found.ratio == pytest.approx(1.0)
    # Student's quantile for one degree of freedom is 12.706, the standard error is ln 2.
    assert found.high == pytest.approx(math.exp(12.7062 * math.log(2.0)), rel=1e-4)
    assert found.low == pytest.approx(1.0 / found.high)


def test_three_ratios_have_the_interval_of_two_degrees_of_freedom():
    logs = np.array([0.1, 0.2, 0.3])
    found = mean_ratio(logs)
    half = 4.30265 * 0.1 / math.sqrt(3.0)
    assert found == pytest.approx((math.exp(0.2), math.exp(0.2 - half), math.exp(0.2 + half)))


@pytest.mark.parametrize("interval", (mean_ratio, tail_ratio))
def test_equal_ratios_are_a_point_and_one_ratio_has_no_interval(interval):
    assert interval(np.full(40, 0.25)) == pytest.approx((math.exp(0.25),) * 3, abs=0.0)
    single = interval(np.array([0.25, math.nan]))
    assert single.ratio == math.exp(0.25)
    assert math.isnan(single.low)
    assert math.isnan(single.high)


def test_a_seed_without_goodput_makes_the_ratio_zero_and_one_of_the_reference_unknown():
    assert mean_ratio(log_ratios([0.0, 2.0], [1.0, 1.0])).ratio == 0.0
    assert math.isnan(mean_ratio(log_ratios([1.0, 2.0], [0.0, 1.0])).ratio)
    assert mean_ratio(log_ratios([0.0, 2.0], [0.0, 1.0])).ratio == 2.0


def test_a_tail_has_students_interval_below_thirty_seeds_and_a_skewed_one_from_there():
    logs = np.random.default_rng(0).exponential(size=30)
    assert tail_ratio(logs[:29]) == mean_ratio(logs[:29])
    skewed = tail_ratio(logs)
    below, above = (abs(math.log(end / skewed.ratio)) for end in (skewed.low, skewed.high))
    assert above > 1.05 * below
    assert tail_ratio(logs) == skewed  # resampling has a seed


def test_one_training_has_the_interval_of_its_seeds():
    logs = np.random.default_rng(1).normal(size=(1, 12))
    assert nested_ratio(logs) == mean_ratio(logs[0])


def test_a_seed_that_one_training_lacks_is_left_out_for_all():
    grid = np.random.default_rng(2).normal(size=(4, 9))
    holed = np.column_stack([grid, [math.nan, 5.0, 5.0, 5.0]])
    assert nested_ratio(holed) == nested_ratio(grid)


def test_what_differs_between_trainings_widens_the_interval_beyond_that_of_seeds():
    rng = np.random.default_rng(3)
    seeds = 0.01 * rng.normal(size=20)
    alike = nested_ratio(np.tile(seeds, (5, 1)))
    apart = nested_ratio(np.tile(seeds, (5, 1)) + 0.1 * rng.normal(size=(5, 1)))
    assert math.log(apart.high / apart.low) > 3.0 * math.log(alike.high / alike.low)
    # Seeds that trainings share do not average out over trainings.
    one = mean_ratio(seeds)
    assert math.log(alike.high / alike.low) > 0.8 * math.log(one.high / one.low)


def covered(draw, interval, repetitions=400):
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(repetitions):
        found = interval(draw(rng))
        hits += found.low <= 1.0 <= found.high
    return hits / repetitions


def test_the_interval_of_twenty_seeds_covers_as_often_as_it_says():
    assert 0.92 <= covered(lambda rng: 0.05 * rng.normal(size=20), mean_ratio) <= 0.98


def test_the_interval_of_a_skewed_tail_covers_nearly_as_often_as_it_says():
    def draw(rng):
        return rng.exponential(size=40) - 1.0

    assert 0.88 <= covered(draw, tail_ratio, repetitions=100) <= 0.98


@pytest.mark.parametrize("num_trainings, low, high", ((5, 0.78, 0.93), (20, 0.89, 0.98)))
def test_the_nested_interval_is_too_narrow_for_five_trainings_and_nearly_right_for_twenty(
    num_trainings, low, high
):
    def draw(rng):
        shape = (num_trainings, 20)
        return rng.normal(size=(num_trainings, 1)) + rng.normal(size=shape) + rng.normal(size=20)

    assert low <= covered(draw, nested_ratio, repetitions=100) <= high


def test_spread_shares_and_medians_by_hand():
    assert variation([1.0, 3.0]) == pytest.approx(math.sqrt(2.0) / 2.0)
    assert math.isnan(variation([1.0]))
    assert share_above([0.9, 1.005, 1.02, 1.5, math.nan], 0.01) == 0.5
    assert math.isnan(share_above([], 0.01))
    assert median_place([0.9, 1.2, 1.0]) == 2
    assert median_place([0.9, 1.2, 1.0, 1.1]) == 3  # of 1.0 and 1.1 the worse
