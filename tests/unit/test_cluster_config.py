"""What a cluster may say: the range of every field, and what a refusal names."""

from __future__ import annotations

import dataclasses
import math

import pytest

from sbs_gym.config.cluster import ClusterConfig, cluster_from_mapping
from sbs_gym.config.groups import group_names, read_group
from sbs_gym.errors import ConfigError

WHOLE = {
    "num_prefill": (1, 64),
    "num_decode": (0, 64),
    "prefill_dp": (1, 512),
    "decode_dp": (1, 512),
    "prefill_ep": (1, 1024),
    "decode_ep": (1, 1024),
    "gpus_per_node": (1, 1024),
    "chunk_tokens": (1, 1_000_000),
    "kv_bytes_per_token": (1, 100_000_000),
    "prefill_redundant_experts": (0, 4096),
    "decode_redundant_experts": (0, 4096),
    "prefill_kv_tokens": (1, 1_000_000_000),
    "decode_kv_tokens": (64, 1_000_000_000),  # at least a block
    "kv_block_tokens": (1, 4096),
    "max_requests_per_rank": (1, 4096),
    "max_step_tokens": (1, 32_768),
    "decode_reserve_tokens": (0, 1_000_000),
    "mtp_tokens": (2, 8),  # at least the 1.7 tokens that come out of a step
}
REAL = {
    "dispatch_delay_s": (0.0, 60.0),
    "signal_delay_s": (0.0, 60.0),
    "transfer_latency_s": (0.0, 60.0),
    "signal_loss_frac": (0.0, 1.0),
    "slow_rank_factor": (1.0, 10.0),
    "report_period_s": (0.001, 3600.0),
    "nic_bytes_per_s": (1e6, 1e14),
    "host_bytes_per_s": (1e6, 1e14),
    "gpu_memory_bytes": (1e6, 1e13),
    "reserve_bytes": (0.0, 1e13),
    "recompute_tokens_per_s": (1.0, 1e9),
    "gpu_price_per_hour": (0.0, 1e6),
    "tokens_per_step": (1.0, 2.0),  # mtp_tokens
}
CHOICES = {
    "start_rule": ("on_release", "eagr", "Did you mean 'eager'"),
    "decode_binding": ("at_dispatch", "at_dispach", "Did you mean 'at_dispatch'"),
    "transfer_overlap": ("none", "chunkd", "Did you mean 'chunked'"),
    "preempt": ("recompute", "swop", "Did you mean 'swap'"),
}
NULLABLE = ("prefill_ep", "decode_ep", "prefill_kv_tokens", "decode_kv_tokens")
RANGES = [(name, *bounds) for name, bounds in (WHOLE | REAL).items()]


def built(name, value):
    return getattr(ClusterConfig(**{name: value}), name)


def refusal(name, value):
    with pytest.raises(ConfigError) as caught:
        ClusterConfig(**{name: value})
    message = str(caught.value)
    assert f"cluster.{name}={value!r}" in message
    assert "expected" in message or "Known: " in message
    return message


def test_every_field_is_tested_here():
    names = {field.name for field in dataclasses.fields(ClusterConfig)}
    assert names == {"name", *WHOLE, *REAL, *CHOICES}


@pytest.mark.parametrize("name, low, high", RANGES)
def test_both_ends_of_a_range_are_allowed_and_nothing_beyond(name, low, high):
    assert built(name, low) == low
    assert built(name, high) == high
    below, above = (low - 1, high + 1) if name in WHOLE else (low - 0.0005, high * 1.001)
    for value in (below, above):
        refusal(name, value)


@pytest.mark.parametrize("name, low, high", RANGES)
def test_what_is_no_number_is_refused(name, low, high):
    for value in (math.nan, math.inf, "3", True):
        refusal(name, value)
    if name in WHOLE:
        assert "whole number" in refusal(name, low + 0.5)
    if name in NULLABLE:
        assert built(name, None) is None
    else:
        refusal(name, None)


@pytest.mark.parametrize("name, good, bad, told", [(k, *v) for k, v in CHOICES.items()])
def test_a_word_is_one_of_those_known(name, good, bad, told):
    assert built(name, good) == good
    assert told in refusal(name, bad)


def test_fields_that_exclude_each_other_are_refused_together():
    with pytest.raises(ConfigError, match=r"free_running.*cluster\.num_decode=1.*eager"):
        ClusterConfig(num_decode=1, start_rule="free_running")
    with pytest.raises(ConfigError, match=r"decode_kv_tokens=10 holds no block.*kv_block_tokens=6"):
        ClusterConfig(decode_kv_tokens=10)
    with pytest.raises(ConfigError, match=r"tokens_per_step=1\.7 is more.*mtp_tokens=1;.*\[1, 1\]"):
        ClusterConfig(mtp_tokens=1)
    assert ClusterConfig(mtp_tokens=1, tokens_per_step=1.0).max_running == 256


def test_a_rank_runs_as_many_requests_as_fit_a_step():
    assert ClusterConfig().max_running == 128  # 256 tokens, two each
    assert ClusterConfig(max_requests_per_rank=7).max_running == 7
    assert ClusterConfig(max_step_tokens=1).max_running == 1


@pytest.mark.parametrize("name", group_names("cluster"))
def test_every_preset_builds_and_decodes(name):
    cluster = cluster_from_mapping(read_group("cluster", name))
    assert cluster.name == name
    assert cluster.num_decode >= 1
