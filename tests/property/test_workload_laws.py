"""Laws that hold for every workload: same seed, same bytes; prefixes stay; halving doubles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbs_gym.config.arrivals import ArrivalConfig, arrivals_from_mapping
from sbs_gym.config.groups import group_names, read_group
from sbs_gym.config.workload import workload_from_mapping
from sbs_gym.types import RequestTable
from sbs_gym.workload import generate, scale_trace

SEEDS = st.integers(0, 2**62)
COUNTS = st.integers(1, 60)
RATES = st.floats(1e-3, 1e5)
SHORT = workload_from_mapping({**read_group("workload", "sbs_short"), "spearman": 0.3})
ARRIVALS = [arrivals_from_mapping(read_group("arrivals", name)) for name in group_names("arrivals")]
ON_THE_RATE_ONLY = [
    ArrivalConfig(family="poisson"),
    ArrivalConfig(family="gamma_renewal", cv=2.0),
    ArrivalConfig(family="gamma_renewal", cv=0.4),
    ArrivalConfig(family="weibull_renewal", cv=3.0),
    arrivals_from_mapping(read_group("arrivals", "multi_client")),
]


@given(seed=SEEDS, count=COUNTS, more=COUNTS, arrivals=st.sampled_from(ARRIVALS))
def test_adding_requests_does_not_change_the_earlier_ones(
    seed: int, count: int, more: int, arrivals: ArrivalConfig
) -> None:
    short = generate(SHORT, arrivals, rate_per_s=3.0, seed=seed, num_requests=count)
    long = generate(SHORT, arrivals, rate_per_s=3.0, seed=seed, num_requests=count + more)
    for column in ("arrived_at_s", "input_tokens", "output_tokens"):
        assert (getattr(long, column)[:count] == getattr(short, column)).all()


@given(seed=SEEDS, rate_per_s=RATES, arrivals=st.sampled_from(ON_THE_RATE_ONLY))
def test_halving_the_rate_doubles_every_arrival_time_exactly(
    seed: int, rate_per_s: float, arrivals: ArrivalConfig
) -> None:
    one = generate(SHORT, arrivals, rate_per_s=rate_per_s, seed=seed, num_requests=50)
    half = generate(SHORT, arrivals, rate_per_s=rate_per_s / 2, seed=seed, num_requests=50)
    assert (half.arrived_at_s == 2 * one.arrived_at_s).all()


@given(seed=SEEDS, rate_per_s=RATES)
def test_halving_rates_and_doubling_stays_doubles_an_mmpp_exactly(
    seed: int, rate_per_s: float
) -> None:
    fast = ArrivalConfig(family="mmpp2", low_frac=0.3, dwell_low_s=3.0, dwell_high_s=1.5)
    slow = ArrivalConfig(family="mmpp2", low_frac=0.3, dwell_low_s=6.0, dwell_high_s=3.0)
    one = generate(SHORT, fast, rate_per_s=rate_per_s, seed=seed, num_requests=50)
    half = generate(SHORT, slow, rate_per_s=rate_per_s / 2, seed=seed, num_requests=50)
    assert (half.arrived_at_s == 2 * one.arrived_at_s).all()


@given(seed=SEEDS, arrivals=st.sampled_from(ARRIVALS))
def test_same_seed_gives_the_same_bytes_and_another_seed_others(
    seed: int, arrivals: ArrivalConfig
) -> None:
    tables = [
        generate(SHORT, arrivals, rate_per_s=3.0, seed=s, num_requests=40)
        for s in (seed, seed, seed ^ 1)
    ]
    assert tables[0].digest() == tables[1].digest()
    assert tables[0].digest() != tables[2].digest()


@given(seed=SEEDS, gaps_s=st.lists(st.floats(0.01, 100), min_size=2, max_size=30))
def test_thinning_keeps_rows_as_they_are_and_compressing_keeps_all(
    seed: int, gaps_s: list[float]
) -> None:
    count = len(gaps_s)
    table = RequestTable(
        arrived_at_s=np.cumsum(gaps_s),
        input_tokens=np.arange(1, count + 1, dtype=np.int32),
        output_tokens=np.ones(count, dtype=np.int32),
        name="t",
    )
    native = (count - 1) / (table.arrived_at_s[-1] - table.arrived_at_s[0])
    thin = scale_trace(table, rate_per_s=native / 2, scaling="thin", seed=seed)
    assert set(zip(thin.arrived_at_s, thin.input_tokens, strict=True)) <= set(
        zip(table.arrived_at_s, table.input_tokens, strict=True)
    )
    fast = scale_trace(table, rate_per_s=native * 4, scaling="compress", seed=seed)
    assert fast.arrived_at_s == pytest.approx(table.arrived_at_s / 4)
    assert (fast.input_tokens == table.input_tokens).all()
