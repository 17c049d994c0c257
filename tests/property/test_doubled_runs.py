"""Twice all durations at half of all rates: every latency of a configured run doubles, exactly.

`test_laws.py` holds the engine to it; here capacities, load, the warm-up and the summary are part.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from sbs_gym.config.run import RunConfig
from sbs_gym.metrics.columns import SUMMARY_KEYS
from sbs_gym.schema import load_config
from sbs_gym.simulate import measured_run

WORDS = [
    "cluster=toy", "cluster.chunk_tokens=3000", "cluster.prefill_kv_tokens=9000",
    "cluster.decode_kv_tokens=12000", "timing=linear", "num_requests=300", "load=0.9",
]  # fmt: skip
TIMES = {
    "cluster": ("dispatch_delay_s", "signal_delay_s", "report_period_s", "transfer_latency_s"),
    "timing": (
        "fixed_s", "per_token_s", "decode_fixed_s", "decode_per_request_s",
        "decode_per_kv_token_s", "jitter_grid_s", "skew_grid_s",
    ),
    "slo": ("ttft_s", "ttft_per_token_s", "tpot_s"),
    "scheduler": ("min_interval_s", "timeout_s", "window_s"),
}  # fmt: skip
RATES = {"cluster": ("nic_bytes_per_s", "host_bytes_per_s", "recompute_tokens_per_s")}
# What doubles, what halves; all other keys stay as they are.
SECONDS = ("_s", "cost_per_million_input_tokens", "cost_per_million_output_tokens")
PER_SECOND = ("_per_s", "_gpu_s", "_node_s")
RATIOS = ("ttft_growth_s_per_s", "ttft_client_growth_s_per_s")


def doubled(config: RunConfig) -> RunConfig:
    sections = {}
    for group in ("cluster", "timing", "slo", "scheduler"):
        section = getattr(config, group)
        changes = {name: 2.0 * getattr(section, name) for name in TIMES[group]}
        changes |= {name: 0.5 * getattr(section, name) for name in RATES.get(group, ())}
        sections[group] = dataclasses.replace(section, **changes)
    return dataclasses.replace(config, **sections)


def factor(key: str) -> float:
    if key in RATIOS:
        return 1.0
    if key.endswith(PER_SECOND):
        return 0.5
    return 2.0 if key.endswith(SECONDS) else 1.0


@pytest.mark.parametrize(
    "words",
    [
        ["scheduler=sbs"],
        ["scheduler=sbs_budget:placement=bf_io", "cluster.preempt=recompute"],
        ["scheduler=round_robin:placement=exp_weighted", "cluster.transfer_overlap=none"],
        ["scheduler=size_or_timeout", "timing.jitter_cv=0.3", "cluster.signal_loss_frac=0.1"],
        ["scheduler=sbs", "cluster.decode_binding=at_dispatch", "load_side=decode"],
    ],
)
def test_every_number_of_a_measured_run_doubles_halves_or_stays(words):
    fast = load_config([*WORDS, *words])
    once, twice = measured_run(fast), measured_run(doubled(fast))
    assert once.summary["num_steps"] > 100
    for key in SUMMARY_KEYS:
        a, b = once.summary[key], twice.summary[key]
        if isinstance(a, float) and not math.isnan(a):
            assert b == factor(key) * a, key
        else:
            assert b == a or math.isnan(b), key
    for table in ("requests", "passes", "steps"):
        before, after = getattr(once, table), getattr(twice, table)
        for name in before.columns:
            if before[name].dtype == float:
                expected = factor(name) * before[name].to_numpy()
                np.testing.assert_array_equal(after[name].to_numpy(), expected, name)
