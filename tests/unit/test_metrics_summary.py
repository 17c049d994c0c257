"""The summary of a run small enough to add up by hand."""

import numpy as np
import pytest

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.run import SloConfig
from sbs_gym.metrics.columns import SUMMARY_KEYS
from sbs_gym.metrics.summary import Demand, measured_window, summarise
from sbs_gym.sim.records import PASS_RECORD, REQUEST_RECORD, STEP_RECORD, RunRecords

NAN = float("nan")
CLUSTER = ClusterConfig(num_prefill=1, prefill_dp=2, prefill_ep=2, chunk_tokens=10)
SLO = SloConfig(ttft_s=2.0, ttft_per_token_s=0.0)
DEMAND = Demand(rate_per_s=0.5, capacity_requests_per_s=2.0)


def run_records():
    """Four requests: 0 and 1 in the pass 1 to 2 s, 2 in the pass 4 to 7 s, 3 rejected at 6 s."""
    requests = np.zeros(4, dtype=REQUEST_RECORD)
    requests["arrived_at_s"] = [0.0, 0.5, 3.0, 5.0]
    requests["dispatched_at_s"] = [0.5, 0.5, 3.5, NAN]
    requests["delivered_at_s"] = [1.0, 1.0, 4.0, NAN]
    requests["prefill_started_at_s"] = [1.0, 1.0, 4.0, NAN]
    requests["first_token_at_s"] = [2.0, 2.0, 7.0, NAN]
    requests["rejected_at_s"] = [NAN, NAN, NAN, 6.0]
    requests["input_tokens"] = [10, 5, 8, 9]
    passes = np.zeros(2, dtype=PASS_RECORD)
    passes["started_at_s"], passes["ended_at_s"] = [1.0, 4.0], [2.0, 7.0]
    passes["tokens"] = [15, 8]
    passes["cost_sum_s"], passes["cost_max_s"] = [1.5, 0.8], [1.0, 0.8]
    return RunRecords(
        requests=requests,
        passes=passes,
        rank_tokens=None,
        rank_pairs=None,
        decode=None,
        steps=np.zeros(0, dtype=STEP_RECORD),
        step_batch=None,
        step_kv_tokens=None,
        step_blocks=None,
        ended_at_s=7.0,
        num_releases=2,
        num_signals_lost=0,
        num_watchdogs=0,
        num_refusals=0,
        prefill_kv_blocked_s=0.0,
    )


def summary_of(measured, demand=DEMAND):
    return summarise(run_records(), cluster=CLUSTER, slo=SLO, measured=measured, demand=demand)


def test_summary_of_the_whole_run_adds_up_by_hand():
    found = summary_of((0, 4))
    expected = {
        "num_arrived": 4,
        "num_finished": 3,
        "num_rejected": 1,
        "num_preempted": 0,
        "ttft_mean_s": (2.0 + 1.5 + 4.0) / 3,
        "ttft_p50_s": 2.0,
        "buffer_wait_mean_s": (0.5 + 0.0 + 0.5) / 3,
        "engine_wait_mean_s": 0.5,
        "prefill_mean_s": (1.0 + 1.0 + 3.0) / 3,
        "arrivals_per_s": 3 / 5,
        "requests_per_s": 3 / 7,
        "input_tokens_per_s": 23 / 7,
        "goodput_per_s": 2 / 7,
        "slo_attainment_frac": 2 / 4,
        "chunk_utilisation_frac": 23 / 40,
        "prefill_bubble_frac": (1 * 0.25 + 3 * 0.5) / 4,
        "prefill_idle_frac": 3 / 7,
        "load_prefill_frac": 0.25,
        "num_passes": 2,
        "pass_mean_s": 2.0,
        "tokens_per_pass_mean": 11.5,
        "num_releases": 2,
        "first_tokens_per_s": 3 / 7,
        "ttft_attainment_frac": 2 / 4,
        "e2e_mean_s": (2.0 + 1.5 + 4.0) / 3,
        "num_steps": 0,
        "num_gpus": 2,
        "num_decode_gpus": 0,
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_summary_has_every_documented_key_in_order():
    assert list(summary_of((0, 4))) == list(SUMMARY_KEYS)


def test_parts_of_the_mean_ttft_add_up_to_it():
    found = summary_of((0, 4))
    parts = ("buffer_wait_mean_s", "engine_wait_mean_s", "prefill_mean_s")
    assert sum(found[part] for part in parts) == pytest.approx(found["ttft_mean_s"])


def test_decode_keys_are_nan_and_the_client_sees_the_same_ttft():
    found = summary_of((0, 4))
    unknown = [key for key in found if isinstance(found[key], float) and np.isnan(found[key])]
    of_decode = ("tpot", "decode", "kv_load", "kv_use", "handoff", "transfer", "output", "batch")
    assert set(unknown) > {"tpot_mean_s", "tpot_p99_s", "output_tokens_per_s", "kv_use_frac"}
    for key in found:
        if key.startswith(of_decode) and not key.startswith("tpot_attainment"):
            assert key in unknown, key
    for which in ("mean", "p50", "p90", "p99"):
        assert found[f"ttft_client_{which}_s"] == found[f"ttft_{which}_s"]


def test_window_ends_with_the_next_arrival_or_with_the_run():
    requests = run_records().requests
    window = measured_window(requests, (1, 2), 7.0)
    assert (window.start_at_s, window.end_at_s) == (0.5, 3.0)
    assert measured_window(requests, (1, 4), 7.0).end_at_s == 7.0


def test_rates_count_what_happens_in_the_window_latencies_who_arrived_in_it():
    # Request 1 is measured, window 0.5 to 3 s: the first tokens of 0 and 1 lie in it.
    found = summary_of((1, 2))
    assert found["num_arrived"] == 1
    assert found["ttft_mean_s"] == 1.5
    assert found["requests_per_s"] == pytest.approx(2 / 2.5)
    assert found["num_passes"] == 1
    assert found["prefill_idle_frac"] == pytest.approx(1.5 / 2.5)


def test_few_requests_cannot_tell_overload():
    assert summary_of((0, 4))["overloaded"] is None


def test_bottleneck_is_the_side_with_the_higher_load():
    demand = Demand(
        rate_per_s=3.0,
        capacity_requests_per_s=4.0,
        prefill_capacity_requests_per_s=6.0,
        decode_capacity_requests_per_s=4.0,
    )
    found = summary_of((0, 4), demand)
    assert (found["load_prefill_frac"], found["load_decode_frac"]) == (0.5, 0.75)
    assert found["bottleneck"] == "decode"
    assert found["capacity_decode_requests_per_s"] == 4.0


def test_without_decode_the_load_is_that_of_prefill():
    found = summary_of((0, 4))
    assert (found["load_prefill_frac"], found["bottleneck"]) == (0.25, "prefill")
    assert found["capacity_prefill_requests_per_s"] == found["capacity_requests_per_s"] == 2.0
    assert np.isnan(found["load_decode_frac"])
    assert np.isnan(found["capacity_decode_requests_per_s"])
