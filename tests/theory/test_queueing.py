"""Waiting times against queueing theory."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sbs_gym.config.timing import LinearTiming

from .runs import assert_mean_is, poisson_table, preset, simulate, table, ttfts_s, waits_s

REPLICATIONS = range(8)


@pytest.mark.parametrize("num_prefill", [1, 3, 5])
def test_pooled_staggered_gates_wait_half_a_period_over_their_number(num_prefill):
    # Passes of 0.4 s back to back, phases 0.4/N apart, each arrival takes the next start.
    found = []
    for seed in REPLICATIONS:
        records = simulate(
            poisson_table(50.0, 20_000, seed),
            preset("work_conserving"),
            pass_s=0.4,
            num_prefill=num_prefill,
            start_rule="free_running",
        )
        found.append(waits_s(records).mean())
    assert_mean_is(found, 0.4 / (2 * num_prefill))


def test_requests_bound_to_one_gate_wait_half_a_period():
    found = []
    for seed in REPLICATIONS:
        records = simulate(
            poisson_table(50.0, 20_000, seed),
            preset("round_robin"),
            pass_s=0.4,
            num_prefill=3,
            start_rule="free_running",
        )
        found.append(waits_s(records).mean())
    assert_mean_is(found, 0.4 / 2)


@pytest.mark.parametrize("rate_per_s", [0.5, 3.0, 20.0])
def test_an_eager_engine_without_a_chunk_limit_follows_the_batch_formula(rate_per_s):
    # Wait (D/2) * a / (a + exp(-a)) with a = rate * D: idle when empty, unlimited batch.
    pass_s = 0.4
    a = rate_per_s * pass_s
    found = []
    for seed in REPLICATIONS:
        records = simulate(
            poisson_table(rate_per_s, 20_000, seed), preset("round_robin"), pass_s=pass_s
        )
        found.append(waits_s(records).mean())
    assert_mean_is(found, pass_s / 2 * a / (a + math.exp(-a)))


@pytest.mark.parametrize("load", [0.3, 0.5, 0.8])
def test_one_request_per_pass_is_an_m_d_1_queue(load):
    # Prompts as long as the chunk on a single rank; wait rho*S / (2*(1 - rho)), S = 0.1 s.
    found = []
    for seed in range(16):
        records = simulate(
            poisson_table(load / 0.1, 60_000, seed, tokens=100),
            preset("round_robin"),
            pass_s=0.1,
            chunk=100,
        )
        found.append(waits_s(records).mean())
    assert_mean_is(found, load * 0.1 / (2 * (1 - load)))


@pytest.mark.parametrize("num_prefill", [2, 3, 6])
def test_staggering_takes_ttft_from_one_and_a_half_passes_to_one_and_half_an_interval(num_prefill):
    # Every instance always busy, no chunk limit: immediate 1.5 D, staggered at best D(1 + 1/(2N)).
    pass_s, best = 0.4, 0.4 * (1 + 1 / (2 * num_prefill))
    arrivals = [poisson_table(400.0, 40_000, seed) for seed in REPLICATIONS]
    common = {"pass_s": pass_s, "num_prefill": num_prefill}
    immediate = [ttfts_s(simulate(t, preset("round_robin"), **common)).mean() for t in arrivals]
    staggered = [ttfts_s(simulate(t, preset("sbs"), **common)).mean() for t in arrivals]
    assert_mean_is(immediate, 1.5 * pass_s)
    assert_mean_is(staggered, best)
    # More than a third from pure staggering would be a bug: 1 - 1/1.5.
    assert 1 - np.mean(staggered) / np.mean(immediate) < 1 / 3


@pytest.mark.parametrize("dp", [2, 8, 16])
def test_the_bubble_of_exponential_ranks_is_one_minus_one_over_the_harmonic_number(dp):
    # One prompt per rank and pass, pass time set by the longest.
    timing = LinearTiming(fixed_s=1e-9, per_token_s=1e-5, max_weight=1.0)
    found = []
    for seed in REPLICATIONS:
        lengths = np.random.default_rng(seed).exponential(10_000.0, 2_000 * dp)
        arrivals = np.repeat(np.arange(2_000) * 10.0, dp)
        requests = table(arrivals, np.maximum(1, np.minimum(np.rint(lengths), 999_999)))
        passes = simulate(requests, preset("round_robin"), linear=timing, dp=dp).passes
        assert len(passes) == 2_000
        durations = passes["ended_at_s"] - passes["started_at_s"]
        bubble = 1 - passes["cost_sum_s"] / (dp * passes["cost_max_s"])
        found.append(float((bubble * durations).sum() / durations.sum()))
    assert_mean_is(found, 1 - 1 / sum(1 / k for k in range(1, dp + 1)))


def test_releases_that_let_leftovers_run_alone_collapse_where_joining_ones_are_stable():
    # Prompts of 1000 tokens on average against a chunk of 3072, load 0.95 of full chunks.
    timing = LinearTiming(fixed_s=0.06, per_token_s=1 / 6500, max_weight=0.7)
    full_pass_s = 0.06 + 3072 / 6500
    rate_per_s = 0.95 * 3 * 8 * 3072 / full_pass_s / 1000
    random = np.random.default_rng(1)
    lengths = np.clip(random.lognormal(6.85312, 1.0, 40_000), 1, None)
    lengths = lengths[lengths <= 3000][:30_000]
    arrivals = np.cumsum(random.exponential(1 / rate_per_s, len(lengths)))
    requests = table(arrivals, np.maximum(1, np.rint(lengths)))
    common = {"linear": timing, "num_prefill": 3, "dp": 8, "chunk": 3072}
    join = simulate(requests, preset("sbs"), **common)
    alone = simulate(requests, preset("sbs", leftovers="alone"), **common)
    last = slice(-len(requests) // 5, None)
    assert ttfts_s(join)[last].mean() < 2.0 * full_pass_s
    assert ttfts_s(alone)[last].mean() > 10.0 * full_pass_s
    # Short passes of leftovers between full ones cap the use of chunks near 0.6.
    assert alone.passes["tokens"].sum() / (len(alone.passes) * 8 * 3072) < 0.65
