"""Length laws against hand calculations and their own means."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sbs_gym.config.lengths import LengthConfig
from sbs_gym.errors import ConfigError
from sbs_gym.workload.lengths import draw_tokens, mean_tokens, quantile_function, solved_mu

LEVELS = (np.arange(200_000) + 0.5) / 200_000
LAWS = {
    "constant": LengthConfig(family="constant", value_tokens=5),
    "uniform": LengthConfig(family="uniform", low_tokens=1, high_tokens=4),
    "exponential": LengthConfig(
        family="exponential", mean_tokens=300.0, low_tokens=1, high_tokens=900
    ),
    "lognormal": LengthConfig(
        family="lognormal", mu=6.0, sigma=1.2, low_tokens=10, high_tokens=3000
    ),
    "truncated_lognormal": LengthConfig(
        family="truncated_lognormal", mu=6.0, sigma=1.2, low_tokens=10, high_tokens=3000
    ),
    "tail_only": LengthConfig(
        family="truncated_lognormal", mu=2.0, sigma=0.8, low_tokens=3000, high_tokens=9000
    ),
    "mixture": LengthConfig(
        family="lognormal_mixture",
        weights=(0.3, 0.7),
        mus=(4.0, 7.0),
        sigmas=(0.05, 1.0),
        low_tokens=1,
        high_tokens=20_000,
    ),
    "bounded_pareto": LengthConfig(
        family="bounded_pareto", alpha=1.6, low_tokens=3000, high_tokens=64_000
    ),
    "empirical": LengthConfig(family="empirical", quantiles_tokens=(10.0, 20.0, 100.0)),
    "empirical_with_tail": LengthConfig(
        family="empirical", quantiles_tokens=(10.0, 20.0, 100.0), tail_power=2.0
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_mean_of_draws_at_even_levels_is_the_stated_mean(name: str) -> None:
    draws = draw_tokens(LAWS[name], LEVELS)
    assert float(draws.mean()) == pytest.approx(mean_tokens(LAWS[name]), abs=0.6)


@pytest.mark.parametrize("name", LAWS)
def test_quantile_function_never_falls(name: str) -> None:
    assert (np.diff(quantile_function(LAWS[name])(LEVELS)) >= 0).all()


def test_uniform_law_gives_each_whole_number_an_equal_share() -> None:
    draws = draw_tokens(LAWS["uniform"], np.array([0.1, 0.3, 0.6, 0.9]))
    assert draws.tolist() == [1, 2, 3, 4]


def test_lognormal_median_is_exp_mu() -> None:
    assert draw_tokens(LAWS["lognormal"], np.array([0.5])).tolist() == [round(math.exp(6.0))]


def test_empirical_law_is_linear_between_quantiles() -> None:
    # Levels of 10, 20, 100 are 0, 1/2, 1, so level 3/4 is halfway from 20 to 100.
    assert draw_tokens(LAWS["empirical"], np.array([0.25, 0.5, 0.75])).tolist() == [15, 20, 60]


def test_tail_power_two_puts_the_middle_quantile_at_level_three_quarters() -> None:
    assert draw_tokens(LAWS["empirical_with_tail"], np.array([0.75])).tolist() == [20]


def test_mixture_share_of_its_first_component_is_its_weight() -> None:
    # The narrow component lies around exp(4) = 55; the other has 0.15 % below 90.
    draws = draw_tokens(LAWS["mixture"], LEVELS)
    low = ((draws > 40) & (draws < 75)).mean()
    assert low == pytest.approx(0.3, abs=0.005)


def test_given_mean_is_solved_for_mu() -> None:
    law = LengthConfig(
        family="truncated_lognormal", mean_tokens=180, sigma=1.0, low_tokens=1, high_tokens=2000
    )
    assert mean_tokens(law) == pytest.approx(180, rel=1e-9)
    assert solved_mu(law) == pytest.approx(4.72152, abs=1e-5)


def test_mean_outside_the_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="mean_tokens"):
        LengthConfig(
            family="truncated_lognormal", mean_tokens=9, sigma=1.0, low_tokens=10, high_tokens=20
        )


def test_quantiles_that_fall_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"quantiles_tokens\[1\]"):
        LengthConfig(family="empirical", quantiles_tokens=(3.0, 2.0))
