"""Seconds of a decode step: by hand where a hand can follow, and what is refused."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from sbs_gym.config.timing import ConstantTiming, LinearTiming, TableTiming, timing_from_mapping
from sbs_gym.errors import ConfigError, SimulationError
from sbs_gym.jit import PURE_PYTHON
from sbs_gym.timing.coefficients import COEFFICIENTS
from sbs_gym.timing.decode import (
    DECODE_COEFFICIENTS,
    build_decode_timing,
    decode_rank_cost_s,
    decode_step_s,
)
from sbs_gym.timing.decode_roofline import (
    BEFORE_SHARE,
    bucket_index,
    bucket_requests,
    low_latency_combine_s,
    low_latency_dispatch_s,
)

CONF = Path(__file__).parents[2] / "conf" / "timing"
ROOFLINE = timing_from_mapping(yaml.safe_load((CONF / "roofline.yaml").read_text("utf-8")))
LUCK = ("jitter_sigma", "jitter_grid_s", "skew_mean", "skew_sigma", "skew_rho", "skew_grid_s")
_PRINT = (
    "import json; from tests.unit.test_timing_decode import sample; print(json.dumps(sample()))"
)


def built(config=ROOFLINE, ranks=4, q_tokens=1, max_requests=256):
    return build_decode_timing(
        config, dp=ranks, ep=ranks, q_tokens=q_tokens, max_requests=max_requests
    )


def seconds(model, batch, kv, skew=1.0):
    return model.step_s(np.array(batch), np.array(kv, dtype=np.float64), skew=skew)


def alike(ranks, requests, context, **terms):
    """Return the step of ranks that hold the same."""
    model = built(ranks=ranks, **terms)
    return seconds(model, [requests] * ranks, [requests * context] * ranks)


def sample():
    """Return steps of every kind and regime."""
    kinds = (ROOFLINE, LinearTiming(), ConstantTiming())
    loads = ([1, 0, 3, 0], [64, 70, 80, 99], [63, 70, 0, 256])
    return [
        seconds(built(config, q_tokens=q), batch, np.array(batch) * 1000.5, 1.25)
        for config in kinds
        for q in (1, 2)
        for batch in loads
    ]


def test_the_same_to_the_last_bit_compiled_and_in_plain_python():
    done = subprocess.run(
        [sys.executable, "-c", _PRINT],
        env=os.environ | {"NUMBA_DISABLE_JIT": "0" if PURE_PYTHON else "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == pytest.approx(sample(), rel=1e-14)


def test_luck_of_a_decode_record_has_the_names_of_a_prefill_record():
    assert set(LUCK) <= set(COEFFICIENTS.names) & set(DECODE_COEFFICIENTS.names)
    record = built().coefficients[0]
    assert (record.skew_mean, record.skew_sigma) == (1.1, 0.3)


def test_buckets_are_1_2_4_8_and_multiples_of_8():
    buckets = [bucket_requests(i) for i in range(7)]
    assert buckets == [1, 2, 4, 8, 16, 24, 32]
    for requests in range(1, 200):
        index = bucket_index(requests)
        assert bucket_requests(index) >= requests
        assert index == 0 or bucket_requests(index - 1) < requests


def test_a_step_pads_to_the_bucket_of_the_largest_batch():
    model = built()
    kv = [1000.0] * 4
    assert seconds(model, [9, 1, 0, 0], kv) == seconds(model, [16, 16, 16, 16], kv)
    assert seconds(model, [17, 1, 0, 0], kv) > seconds(model, [16, 1, 0, 0], kv)


def test_context_counts_on_the_rank_that_has_most_of_it():
    model = built()
    even = seconds(model, [8] * 4, [4000.0] * 4)
    assert seconds(model, [8] * 4, [4000.0, 0.0, 10.0, 5.0]) == even
    assert seconds(model, [8] * 4, [4001.0, 0.0, 10.0, 5.0]) > even


def test_golden_row_a_token_of_context_costs_half_a_nanosecond_per_layer():
    # 278,528 FLOP at 0.533 of 989 TFLOPS: 0.528 ns; 61 layers: 32 ns.
    model = built()
    added = seconds(model, [8] * 4, [1e6] * 4) - seconds(model, [8] * 4, [0.0] * 4)
    assert added / 1e6 == pytest.approx(61 * 0.528e-9, rel=0.01)
    two = built(q_tokens=2)
    twice = seconds(two, [8] * 4, [1e6] * 4) - seconds(two, [8] * 4, [0.0] * 4)
    assert twice / added == pytest.approx(2.0 * 62 / 61)  # and one layer of its own


def test_golden_row_low_latency_kernels_over_64_and_128_gpus():
    # DeepEP README of 2025-06-05, H800, 128 tokens: 173 and 314 us, 192 and 369 us.
    for ep, dispatch_us, combine_us in ((64, 173, 314), (128, 192, 369), (8, 77, 114)):
        for parts, measured in (
            (low_latency_dispatch_s(ROOFLINE, ep), dispatch_us),
            (low_latency_combine_s(ROOFLINE, ep), combine_us),
        ):
            assert parts[0] + 128 * parts[1] == pytest.approx(measured * 1e-6, rel=0.12)


def test_golden_row_deepseeks_profile_takes_96_ms():
    # 128 requests of 4096 tokens on each of 128 GPUs, two tokens each.
    assert alike(128, 128, 4096, q_tokens=2) == pytest.approx(0.096, rel=0.01)


def test_golden_row_one_request_on_every_gpu_takes_about_25_ms():
    # 61 layers of about 0.3 ms: weights of attention and two experts, launches, links.
    assert 0.020 < alike(144, 1, 5120) < 0.028


def test_the_trace_puts_27_of_47_us_before_the_core():
    assert pytest.approx((2 + 2 + 16 + 7) / (2 + 2 + 16 + 7 + 15 + 5)) == BEFORE_SHARE


def test_every_busy_rank_votes_for_overlap_and_an_idle_one_does_not():
    # From 128 tokens on every busy rank; what the fullest rank holds decides all the rest.
    kv = [64000.0] * 72
    never = dataclasses.replace(ROOFLINE, decode_overlap_min_tokens=1 << 30)
    for q_tokens, enough in ((1, 128), (2, 64)):
        model, alone = (built(c, ranks=72, q_tokens=q_tokens) for c in (ROOFLINE, never))
        full, idle, small = ([128] * 71 + [last] for last in (enough, 0, enough - 1))
        assert seconds(model, idle, kv) < seconds(alone, idle, kv)
        assert seconds(model, full, kv) < seconds(alone, full, kv)
        assert seconds(model, small, kv) == seconds(alone, small, kv)


def test_overlap_loses_at_32_tokens_and_gains_at_256_as_published():
    never = dataclasses.replace(ROOFLINE, decode_overlap_min_tokens=1 << 30)
    always = dataclasses.replace(ROOFLINE, decode_overlap_min_tokens=1)
    gain = [
        alike(72, n, 2000, config=never) / alike(72, n, 2000, config=always)
        for n in (32, 64, 128, 256)
    ]
    assert gain[0] < gain[1] < 1.0 < gain[2] < gain[3]


def test_no_requests_take_no_time():
    for config in (ROOFLINE, LinearTiming(), ConstantTiming()):
        assert seconds(built(config), [0] * 4, [0.0] * 4) == 0.0


def test_the_linear_step_is_set_by_the_costliest_rank():
    config = LinearTiming(
        decode_fixed_s=0.5, decode_per_request_s=0.25, decode_per_kv_token_s=0.125
    )
    # 2 requests and 8 tokens: 0.5 + 1.0; 5 requests and 1 token: 1.25 + 0.125.
    assert seconds(built(config), [2, 5, 0, 0], [8, 1, 0, 0]) == 0.5 + 1.5
    record = built(config).coefficients[0]
    assert decode_rank_cost_s(record, 5, 1.0) == 1.375


def test_doubling_the_durations_doubles_linear_and_constant_steps_exactly():
    once = LinearTiming()
    twice = LinearTiming(
        decode_fixed_s=0.044, decode_per_request_s=0.00024, decode_per_kv_token_s=5.4e-8
    )
    for batch in ([1, 0, 0, 0], [7, 33, 128, 256]):
        kv = np.array(batch) * 777.7
        assert seconds(built(twice), batch, kv) == 2.0 * seconds(built(once), batch, kv)
    steps = [seconds(built(ConstantTiming(step_s=s)), [1] * 4, [0.0] * 4) for s in (0.03, 0.06)]
    assert steps == [0.03, 0.06]


def test_costs_are_what_a_request_and_a_token_add_to_a_full_balanced_step():
    model = built(ranks=32)
    record = model.coefficients[0]
    full, fewer = (seconds(model, [n] * 32, [0.0] * 32, skew=record.skew_mean) for n in (256, 192))
    assert record.request_cost_s == pytest.approx((full - fewer) / 64)
    assert record.kv_token_cost_s == pytest.approx(61 * 0.528e-9, rel=0.01)
    assert decode_rank_cost_s(record, 2, 3.0) == pytest.approx(
        2 * record.request_cost_s + 3 * record.kv_token_cost_s
    )
    assert built(max_requests=1).coefficients[0].request_cost_s > 0.0


def test_multi_token_prediction_runs_a_layer_of_its_own():
    one, two = (built(q_tokens=q).coefficients[0].moe_layers for q in (1, 2))
    assert (one, two) == (58, 59)


@pytest.mark.parametrize(
    ("batch", "kv"),
    [
        ([1, 1], [0.0, 0.0]),
        ([1] * 4, [0.0]),
        ([-1, 1, 1, 1], [0.0] * 4),
        ([257, 1, 1, 1], [0.0] * 4),
        ([1] * 4, [-1.0, 0, 0, 0]),
        ([1] * 4, [float("nan"), 0, 0, 0]),
    ],
)
def test_a_load_that_cannot_be_is_refused(batch, kv):
    with pytest.raises(ConfigError):
        seconds(built(), batch, kv)


def test_a_skew_below_one_is_refused():
    with pytest.raises(ConfigError, match=r"skew=0\.5"):
        seconds(built(), [1] * 4, [0.0] * 4, skew=0.5)


def test_a_batch_beyond_the_table_is_a_broken_invariant():
    model = built(max_requests=8)
    with pytest.raises(SimulationError):
        decode_step_s(model.coefficients[0], model.table, np.full(4, 9), np.zeros(4), 1.0)


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"dp": 8, "ep": 16}, ["cluster.decode_dp=8", "cluster.decode_ep=16"]),
        ({"dp": 0, "ep": 0}, ["cluster.decode_dp=0", "[1, 4096]"]),
        ({"dp": 1024, "ep": 1024}, ["cluster.decode_ep", "1024", "[1, 512]"]),
        ({"q_tokens": 0}, ["q_tokens=0", "[1, 16]"]),
        ({"max_requests": 0}, ["max_requests=0", "[1, 65536]"]),
    ],
)
def test_a_deployment_that_cannot_be_is_refused_by_field_value_and_range(terms, words):
    with pytest.raises(ConfigError) as caught:
        build_decode_timing(
            ROOFLINE, **({"dp": 8, "ep": 8, "q_tokens": 1, "max_requests": 8} | terms)
        )
    for word in words:
        assert word in str(caught.value)


def test_more_gpus_than_experts_hold_one_expert_each():
    assert built(ranks=320).coefficients[0].experts_per_gpu == 1
    assert built(ranks=72).coefficients[0].experts_per_gpu == 4


def test_a_table_without_steps_refuses_decode_with_what_to_type():
    config = TableTiming(path="example_passes.csv")
    with pytest.raises(ConfigError, match=r"timing\.steps_path=FILE.*cluster\.num_decode=0"):
        built(config)
