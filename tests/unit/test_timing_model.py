"""Seconds of a pass, by hand where a hand can follow, and the laws of the roofline."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml

from sbs_gym.config.timing import ConstantTiming, LinearTiming, timing_from_mapping
from sbs_gym.errors import ConfigError, SimulationError
from sbs_gym.timing.kernels import copies_per_token, gemm_s, soft_max
from sbs_gym.timing.model import build_timing, empty_pass_s, prefill_pass_s, rank_cost_s
from sbs_gym.timing.shape import DISPATCH_BYTES

CONF = Path(__file__).parents[2] / "conf" / "timing"
ROOFLINE = timing_from_mapping(yaml.safe_load((CONF / "roofline.yaml").read_text("utf-8")))
TABLE = timing_from_mapping(
    yaml.safe_load((CONF / "table.yaml").read_text("utf-8")) | {"path": "example_passes.csv"}
)
KINDS = [LinearTiming(), ConstantTiming(), TABLE, ROOFLINE]


def ints(*values):
    return np.array(values, dtype=np.int64)


def seconds(model, tokens, context=None, skew=1.0):
    tokens = ints(*tokens)
    return model.prefill_pass_s(
        tokens, tokens * 0 if context is None else ints(*context), skew=skew
    )


@pytest.fixture(scope="module")
def roofline():
    return build_timing(ROOFLINE, dp=16, ep=16, chunk_tokens=3072)


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
def test_no_tokens_take_no_time(config):
    model = build_timing(config, dp=4, ep=4, chunk_tokens=2048)
    assert seconds(model, [0, 0, 0, 0]) == 0.0


def test_an_empty_pass_costs_a_free_running_engine_the_constant():
    model = build_timing(ConstantTiming(pass_s=0.5), dp=2, ep=2, chunk_tokens=8)
    assert empty_pass_s(model.coefficients[0]) == 0.5


def test_the_linear_pass_weighs_the_fullest_rank_and_the_mean():
    config = LinearTiming(fixed_s=0.5, per_token_s=0.25, max_weight=0.75)
    model = build_timing(config, dp=4, ep=4, chunk_tokens=8)
    # fullest 8, mean 3: 0.5 + 0.25 * (0.75 * 8 + 0.25 * 3) = 2.1875
    assert seconds(model, [8, 4, 0, 0]) == 2.1875


def test_doubling_the_durations_of_the_linear_model_doubles_every_pass_exactly():
    once, twice = LinearTiming(), LinearTiming(fixed_s=0.12, per_token_s=2.0 / 6500.0)
    models = [build_timing(c, dp=3, ep=3, chunk_tokens=3072) for c in (once, twice)]
    for tokens in ([1, 0, 0], [17, 333, 3072], [3072, 3072, 3071]):
        assert seconds(models[1], tokens) == 2.0 * seconds(models[0], tokens)


def test_soft_max_doubles_exactly_and_lies_between_the_maximum_and_the_sum():
    for a, b, p in ((1e-4, 3.3e-5, 2.5), (7.0, 7.0, 1.75), (0.1, 0.0, 3.0), (0.0, 0.0, 2.0)):
        assert soft_max(2.0 * a, 2.0 * b, p) == 2.0 * soft_max(a, b, p)
        assert max(a, b) <= soft_max(a, b, p) <= a + b


def test_golden_row_a_large_gemm_runs_at_its_rate():
    # 4096 x 7168 x 4096 is 0.2405 TFLOP: 240.5 us at 1 PFLOP/s, memory time of 1e15 B/s is nothing.
    assert gemm_s(1, 4096.0, 7168, 4096, 0.0, 1e15, 1e15, 4.0) == pytest.approx(240.5e-6, rel=1e-3)


def test_golden_row_a_dispatch_on_four_nodes_takes_046_us_per_token():
    assert copies_per_token(32) == pytest.approx(3.60, abs=0.005)
    assert copies_per_token(16) == pytest.approx(1.99, abs=0.005)
    assert copies_per_token(8) == pytest.approx(5.25, abs=0.005)
    assert copies_per_token(32) * DISPATCH_BYTES / 58e9 == pytest.approx(0.459e-6, rel=1e-3)


def test_golden_row_context_of_32k_adds_most_of_a_second_to_a_full_chunk(roofline):
    # 3072 * 32768 pairs * 81,920 FLOP * 61 layers at about 0.6 of 989 TFLOPS: 0.80 to 0.88 s.
    full = [3072] * 16
    added = seconds(roofline, full, [32768] * 16) - seconds(roofline, full)
    assert 0.75 < added < 0.9


def test_golden_row_a_balanced_pass_on_32_gpus_is_two_seconds_for_16k_tokens():
    model = build_timing(ROOFLINE, dp=32, ep=32, chunk_tokens=16384)
    tokens = np.full(32, 16384, dtype=np.int64)
    taken = prefill_pass_s(model.coefficients[0], model.table, tokens, tokens * 4096, 1.0)
    assert taken == pytest.approx(2.09, rel=0.05)  # DeepSeek profile, 62,713 tok/s per node


def test_time_drops_at_the_overlap_threshold(roofline):
    below, at = seconds(roofline, [1023] * 16), seconds(roofline, [1024] * 16)
    assert at < below


def test_one_rank_below_the_threshold_switches_overlap_off_and_an_idle_one_does_not(roofline):
    full, idle, small = ([2048] * 15 + [last] for last in (2048, 0, 1023))
    assert seconds(roofline, idle) < seconds(roofline, full) < seconds(roofline, small)


def test_expert_load_max_times_experts_by_the_fullest_rank():
    config = dataclasses.replace(ROOFLINE, expert_load="max")
    by_max = build_timing(config, dp=16, ep=16, chunk_tokens=3072)
    by_mean = build_timing(ROOFLINE, dp=16, ep=16, chunk_tokens=3072)
    uneven, even = [3072] + [1024] * 15, [3072] * 16
    assert seconds(by_max, uneven) > seconds(by_mean, uneven)
    assert seconds(by_max, even) == seconds(by_mean, even)
    assert seconds(by_max, uneven) == seconds(by_max, even)


def test_costs_are_what_a_token_and_a_pair_add_to_a_balanced_full_pass(roofline):
    record = roofline.coefficients[0]
    mean = record.skew_mean
    pass_s = [seconds(roofline, [n] * 16, skew=mean) for n in (2304, 3072)]
    pairs = [rank_cost_s(record, n, n * n) for n in (2304, 3072)]
    assert pairs[1] - pairs[0] == pytest.approx(pass_s[1] - pass_s[0], rel=0.1)
    assert rank_cost_s(record, 1, 0) == record.token_cost_s
    assert rank_cost_s(record, 0, 2) == record.pair_cost_s


def test_costs_of_the_simple_kinds():
    linear = build_timing(LinearTiming(), dp=2, ep=2, chunk_tokens=8).coefficients[0]
    constant = build_timing(ConstantTiming(), dp=2, ep=2, chunk_tokens=8).coefficients[0]
    assert rank_cost_s(linear, 10, 100) == 10 / 6500
    assert rank_cost_s(constant, 10, 100) == 10.0


@pytest.mark.parametrize(
    ("tokens", "context"), [([9, 0], [0, 0]), ([1], [0]), ([-1, 2], [0, 0]), ([1, 1], [-1, 0])]
)
def test_a_load_that_cannot_be_is_refused(tokens, context):
    model = build_timing(LinearTiming(), dp=2, ep=2, chunk_tokens=8)
    with pytest.raises(ConfigError):
        model.prefill_pass_s(ints(*tokens), ints(*context))


def test_a_chunk_beyond_the_table_is_a_broken_invariant(roofline):
    tokens = np.full(16, 3073, dtype=np.int64)
    with pytest.raises(SimulationError):
        prefill_pass_s(roofline.coefficients[0], roofline.table, tokens, tokens, 1.0)


@pytest.mark.parametrize("ep, low, high", [(32, -0.08, 0.08), (16, 0.135, 0.205)])
def test_the_linear_pass_is_as_near_the_roofline_as_its_page_says(ep, low, high):
    # docs/timing.md, "The linear model": 1K to 4K tokens on every rank, without rebalancing.
    line, kernels = (
        build_timing(config, dp=ep, ep=ep, chunk_tokens=4096)
        for config in (LinearTiming(), ROOFLINE)
    )
    for count in (1024, 1536, 2048, 3072, 4096):
        tokens = [count] * ep
        ratio = seconds(line, tokens) / seconds(kernels, tokens, skew=ROOFLINE.default_skew)
        assert low < ratio - 1.0 < high
