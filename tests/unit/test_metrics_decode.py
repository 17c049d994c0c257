"""The summary and the tables of a run with decode, small enough to add up by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.run import SloConfig, run_from_mapping
from sbs_gym.metrics.columns import SUMMARY_KEYS, TABLES
from sbs_gym.metrics.steps import kv_std_tokens, step_numbers
from sbs_gym.metrics.summary import Demand, summarise
from sbs_gym.metrics.utilisation import Window
from sbs_gym.result import Result, result_from_records
from sbs_gym.sim.records import (
    DECODE_RECORD,
    PASS_RECORD,
    REQUEST_RECORD,
    STEP_RECORD,
    RunRecords,
)
from sbs_gym.workload.generate import backlog

NAN = float("nan")
CLUSTER = ClusterConfig(
    num_prefill=1,
    prefill_dp=2,
    chunk_tokens=10,
    num_decode=1,
    decode_dp=4,
    decode_kv_tokens=640,
    kv_block_tokens=64,
    gpus_per_node=2,
    gpu_price_per_hour=3.0,
)
TOY = {
    "cluster": "toy",
    "workload": "sbs_short",
    "arrivals": "poisson",
    "timing": {"kind": "linear", "fixed_s": 0.1, "per_token_s": 0.01, "max_weight": 1.0},
    "scheduler": "sbs",
}
SLO = SloConfig(ttft_s=2.5, ttft_per_token_s=0.0, tpot_s=1.0)
DEMAND = Demand(
    rate_per_s=0.5,
    capacity_requests_per_s=1.0,
    prefill_capacity_requests_per_s=2.0,
    decode_capacity_requests_per_s=1.0,
)


def requests_and_decode():
    """Four requests: two answers of several tokens, one of one token, one that is rejected."""
    requests = np.zeros(4, dtype=REQUEST_RECORD)
    requests["arrived_at_s"] = [0.0, 0.5, 3.0, 5.0]
    requests["dispatched_at_s"] = [0.5, 0.5, 3.5, NAN]
    requests["delivered_at_s"] = [1.0, 1.0, 4.0, NAN]
    requests["prefill_started_at_s"] = [1.0, 1.0, 4.0, NAN]
    requests["first_token_at_s"] = [2.0, 2.0, 5.0, NAN]
    requests["rejected_at_s"] = [NAN, NAN, NAN, 5.0]
    requests["input_tokens"] = [10, 5, 8, 9]
    requests["output_tokens"] = [5, 3, 1, 7]
    decode = np.zeros(4, dtype=DECODE_RECORD)
    decode["bound_at_s"] = [2.0, 2.5, NAN, NAN]
    decode["transferred_at_s"] = [2.5, 3.5, NAN, NAN]
    decode["admitted_at_s"] = [3.0, 4.0, NAN, NAN]
    decode["second_token_at_s"] = [4.0, 7.0, NAN, NAN]
    decode["finished_at_s"] = [6.0, 8.0, 5.0, NAN]
    decode["decode_instance"] = [0, 0, -1, -1]
    decode["decode_rank"] = [0, 3, -1, -1]
    decode["num_preempted"] = [0, 2, 0, 0]
    return requests, decode


def steps():
    """A step of 1 s with one busy rank, one of 3 s with four equal ranks, both of one instance."""
    table = np.zeros(2, dtype=STEP_RECORD)
    table["started_at_s"], table["ended_at_s"] = [3.0, 4.0], [4.0, 7.0]
    table["cost_sum_s"], table["cost_max_s"] = [1.0, 4.0], [1.0, 1.0]
    table["kv_sum_tokens"], table["kv_square_sum"] = [400.0, 800.0], [160_000.0, 160_000.0]
    table["kv_max_tokens"] = [400.0, 200.0]
    table["blocks"], table["batch_sum"], table["batch_max"] = [10, 20], [1, 4], [1, 1]
    return table


def run_records():
    requests, decode = requests_and_decode()
    passes = np.zeros(2, dtype=PASS_RECORD)
    passes["started_at_s"], passes["ended_at_s"] = [1.0, 4.0], [2.0, 5.0]
    passes["tokens"] = [15, 8]
    passes["cost_sum_s"], passes["cost_max_s"] = [1.5, 0.8], [1.0, 0.8]
    return RunRecords(
        requests=requests,
        passes=passes,
        rank_tokens=None,
        rank_pairs=None,
        decode=decode,
        steps=steps(),
        step_batch=np.array([[1, 0, 0, 0], [1, 1, 1, 1]], dtype=np.int32),
        step_kv_tokens=np.array([[400.0, 0, 0, 0], [200.0] * 4]),
        step_blocks=np.array([[10, 0, 0, 0], [5] * 4], dtype=np.int32),
        ended_at_s=10.0,
        num_releases=2,
        num_signals_lost=0,
        num_watchdogs=0,
        num_refusals=6,
        prefill_kv_blocked_s=1.5,
    )


def summary_of(measured):
    return summarise(run_records(), cluster=CLUSTER, slo=SLO, measured=measured, demand=DEMAND)


def assert_holds(found, expected):
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_counts_and_latencies_add_up_by_hand():
    assert_holds(
        summary_of((0, 4)),
        {
            "num_arrived": 4,
            "num_finished": 3,
            "num_rejected": 1,
            "num_preempted": 2,
            "ttft_mean_s": (2.0 + 1.5 + 2.0) / 3,
            "ttft_client_mean_s": (4.0 + 6.5 + 2.0) / 3,
            "handoff_wait_mean_s": 0.25,
            "transfer_mean_s": 0.75,
            "decode_wait_mean_s": 0.5,
            "decode_mean_s": 3.5,
            "tpot_mean_s": (1.0 + 3.0) / 2,
            "tpot_p50_s": 2.0,
            "e2e_mean_s": (6.0 + 7.5 + 2.0) / 3,
        },
    )


def test_rates_count_first_tokens_and_last_tokens_apart():
    # Window 0 to 10 s. Requests 0 and 2 met their SLO; 1 was slow, 3 rejected.
    assert_holds(
        summary_of((0, 4)),
        {
            "first_tokens_per_s": 0.3,
            "requests_per_s": 0.3,
            "input_tokens_per_s": 2.3,
            "output_tokens_per_s": 0.9,
            "goodput_per_s": 0.2,
            "slo_attainment_frac": 2 / 4,
            "ttft_attainment_frac": 3 / 4,
            "tpot_attainment_frac": 2 / 4,
        },
    )
    # Request 1 is measured, window 0.5 to 3 s: two first tokens in it and no last one.
    assert_holds(
        summary_of((1, 2)),
        {
            "first_tokens_per_s": 0.8,
            "output_tokens_per_s": 0.8,
            "requests_per_s": 0.0,
            "goodput_per_s": 0.0,
        },
    )


def test_tokens_of_an_answer_count_where_its_decode_lies():
    # Window 3 to 5 s: request 0 decodes from 3 to 6 s, request 1 from 4 to 8 s, 2 has one token.
    expected = 4 * 2 / 3 + 2 * 1 / 4 + 1
    assert summary_of((2, 3))["output_tokens_per_s"] == pytest.approx(expected / 2)


def test_steps_count_by_their_duration():
    # 4 ranks. Step 1 (1 s): tokens 400 on one of them, mean 100. Step 2 (3 s): all equal.
    assert_holds(
        summary_of((0, 4)),
        {
            "decode_bubble_frac": (1 * 0.75 + 3 * 0.0) / 4,
            "decode_idle_frac": 1 - 4 / 10,
            "kv_load_std_tokens": (1 * np.sqrt(30_000) + 3 * 0.0) / 4,
            "kv_load_max_over_mean": (1 * 4.0 + 3 * 1.0) / 4,
            "kv_use_frac": (1 * 10 / 40 + 3 * 20 / 40) / 4,
            "batch_mean": (1 * 0.25 + 3 * 1.0) / 4,
            "num_steps": 2,
            "step_mean_s": 2.0,
            "num_refusals": 6,
            "prefill_kv_blocked_s": 1.5,
        },
    )


def test_batch_that_still_grows_is_told():
    # Window 2.5 to 8.5 s: the step of batch 1 ends in the first half, that of 4 in the second.
    assert step_numbers(steps(), Window(2.5, 8.5), CLUSTER)["batch_drift_frac"] == 3.0
    assert np.isnan(step_numbers(steps(), Window(2.5, 4.5), CLUSTER)["batch_drift_frac"])


def test_only_steps_that_end_in_the_window_count():
    # Idle counts the part of the second step before 5 s: busy 3 to 5 s of 2 to 5 s.
    found = step_numbers(steps(), Window(2.0, 5.0), CLUSTER)
    assert (found["num_steps"], found["step_mean_s"], found["batch_mean"]) == (1, 1.0, 0.25)
    assert found["decode_idle_frac"] == pytest.approx(1 / 3)
    none = step_numbers(steps()[:0], Window(2.0, 5.0), CLUSTER)
    assert np.isnan(none["kv_use_frac"])
    assert none["decode_idle_frac"] == 1.0


def test_spread_of_ranks_is_that_of_their_tokens():
    luck = np.random.default_rng(0)
    tokens = luck.uniform(0, 1e6, size=(50, 4))
    table = np.zeros(50, dtype=STEP_RECORD)
    table["kv_sum_tokens"] = tokens.sum(axis=1)
    table["kv_square_sum"] = (tokens * tokens).sum(axis=1)
    assert kv_std_tokens(table, dp=4) == pytest.approx(tokens.std(axis=1))
    equal = steps()[1:]
    equal["kv_square_sum"] *= 1 - 1e-15
    assert kv_std_tokens(equal, dp=4)[0] == 0.0


def test_gpus_are_counted_by_side_and_paid_all():
    # 2 prefill and 4 decode GPUs at 3 per hour: 18 per hour, 0.005 per second.
    assert_holds(
        summary_of((0, 4)),
        {
            "num_gpus": 6,
            "num_decode_gpus": 4,
            "input_tokens_per_prefill_gpu_s": 2.3 / 2,
            "input_tokens_per_prefill_node_s": 2.3,
            "output_tokens_per_decode_gpu_s": 0.9 / 4,
            "output_tokens_per_decode_node_s": 0.9 / 2,
            "cost_per_million_input_tokens": 0.005 / 2.3 * 1e6,
            "cost_per_million_output_tokens": 0.005 / 0.9 * 1e6,
        },
    )


def test_every_documented_key_is_there_in_order():
    assert list(summary_of((0, 4))) == list(SUMMARY_KEYS)


def test_run_that_stopped_before_decode_has_no_latencies_of_it():
    records = run_records()
    for name in ("transferred", "admitted", "second_token", "finished"):
        records.decode[f"{name}_at_s"][:2] = NAN
    found = summarise(records, cluster=CLUSTER, slo=SLO, measured=(0, 2), demand=DEMAND)
    assert found["num_finished"] == 0
    assert found["handoff_wait_mean_s"] == 0.25
    for key in ("tpot_mean_s", "e2e_mean_s", "ttft_client_mean_s", "transfer_mean_s"):
        assert np.isnan(found[key])
    assert found["slo_attainment_frac"] == 0.0


def growing_answers(count=400):
    """First tokens after 0.1 s, room on a decode rank ever later, answers of 1 to 60 s."""
    requests = np.zeros(count, dtype=REQUEST_RECORD)
    decode = np.zeros(count, dtype=DECODE_RECORD)
    at = np.arange(count) * 0.1
    requests["arrived_at_s"], requests["first_token_at_s"] = at, at + 0.1
    requests["rejected_at_s"], requests["input_tokens"] = NAN, 10
    requests["output_tokens"] = 100
    decode["second_token_at_s"] = at + 0.2 + 0.1 * at
    luck = np.random.default_rng(1).uniform(1.0, 60.0, count)
    decode["finished_at_s"] = decode["second_token_at_s"] + luck
    return requests, decode


def test_queue_that_grows_behind_prefill_is_overload():
    """TTFT stays 0.1 s and answers hide the trend in their spread, but the client waits longer."""
    requests, decode = growing_answers()
    records = run_records()
    values = {name: getattr(records, name) for name in RunRecords.__slots__}
    values |= {"requests": requests, "decode": decode, "ended_at_s": 200.0}
    found = summarise(
        RunRecords(**values), cluster=CLUSTER, slo=SLO, measured=(0, 400), demand=DEMAND
    )
    assert found["ttft_growth_s_per_s"] == pytest.approx(0.0, abs=1e-12)
    assert found["ttft_client_growth_s_per_s"] == pytest.approx(0.1)
    assert found["overloaded"] is True


# Tables


@pytest.fixture(scope="module")
def result():
    config = run_from_mapping(TOY | {"cluster": dataclasses.asdict(CLUSTER), "num_requests": 4})
    config = dataclasses.replace(config, slo=SLO)
    table = backlog(config.workload, 4, 0)
    return result_from_records(run_records(), config, table, measured=(0, 4), demand=DEMAND)


def test_requests_carry_their_way_to_the_last_token(result):
    table = result.requests
    assert list(table.columns) == list(TABLES["requests"])
    assert table["finished_at_s"].tolist()[:3] == [6.0, 8.0, 5.0]
    assert table["tpot_s"].tolist()[:2] == [1.0, 3.0]
    assert table["ttft_client_s"].tolist()[:3] == [4.0, 6.5, 2.0]
    assert table["e2e_s"].tolist()[:3] == [6.0, 7.5, 2.0]
    assert table["met_slo"].tolist() == [True, False, True, False]
    assert table["decode_rank"].tolist() == [0, 3, -1, -1]


def test_steps_are_a_table_with_lists_per_rank_where_recorded(result):
    assert list(result.steps.columns) == list(TABLES["steps"])
    assert result.steps["kv_std_tokens"].tolist() == pytest.approx([np.sqrt(30_000), 0.0])
    assert result.steps["batch_per_rank"].iloc[0].tolist() == [1, 0, 0, 0]
    assert result.steps["measured"].all()


def test_result_with_decode_comes_back_from_disk_as_it_was(result, tmp_path):
    loaded = Result.load(result.save(tmp_path))
    for name in ("requests", "steps", "by_length"):
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(result, name))
    assert loaded.summary == pytest.approx(result.summary, nan_ok=True)


def test_table_of_a_run_without_decode_ends_with_the_first_token():
    values = {name: getattr(run_records(), name) for name in RunRecords.__slots__}
    values |= {"decode": None, "steps": steps()[:0]}
    values |= dict.fromkeys(("step_batch", "step_kv_tokens", "step_blocks"))
    config = run_from_mapping(TOY | {"num_requests": 4})
    found = result_from_records(
        RunRecords(**values),
        config,
        backlog(config.workload, 4, 0),
        measured=(0, 4),
        demand=Demand(rate_per_s=0.5, capacity_requests_per_s=1.0),
    )
    table = found.requests
    assert table["finished_at_s"].equals(table["first_token_at_s"].rename("finished_at_s"))
    assert table["e2e_s"].equals(table["ttft_s"].rename("e2e_s"))
    assert table[["bound_at_s", "tpot_s", "admitted_at_s"]].isna().all(axis=None)
    assert (table[["decode_instance", "decode_rank"]] == -1).all(axis=None)
    assert len(found.steps) == 0
    assert "batch_per_rank" not in found.steps
