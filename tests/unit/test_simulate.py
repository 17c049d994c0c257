"""Runs on the toy cluster: plans, laws, what a result holds and how it comes back from disk."""

import dataclasses
import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from sbs_gym.config.groups import read_group
from sbs_gym.config.run import run_from_mapping
from sbs_gym.errors import ConfigError
from sbs_gym.metrics.columns import SUMMARY_KEYS, TABLES
from sbs_gym.simulate import (
    Result,
    capacity_requests_per_s,
    check_output_dir,
    column_docs,
    drain_rate,
    measured_run,
    simulate,
)

TOY = {
    "cluster": "toy",
    "workload": {
        "name": "toy_lengths",
        "input_tokens": {"family": "uniform", "low_tokens": 1, "high_tokens": 10},
        "output_tokens": {"family": "constant", "value_tokens": 1},
    },
    "arrivals": "poisson",
    "timing": {"kind": "linear", "fixed_s": 0.1, "per_token_s": 0.01, "max_weight": 1.0},
    "scheduler": "sbs",
    "num_requests": 200,
}


def config(**changes):
    return run_from_mapping(TOY | changes)


@pytest.fixture(scope="module")
def result():
    return simulate(config(seed=3))


def trace_config(tmp_path, rows, **changes):
    path = tmp_path / "trace.jsonl"
    lines = [
        json.dumps({"timestamp": at_ms, "input_length": 5, "output_length": 1, "hash_ids": [i]})
        for i, at_ms in enumerate(rows)
    ]
    path.write_text("\n".join(lines) + "\n")
    workload = {"kind": "trace", "name": "trace", "path": str(path)}
    return config(**({"workload": workload, "num_requests": None} | changes))


def pass_file(tmp_path, slower):
    """Write measured passes of 0.1 s + 0.01 s per token of the fullest rank, times `slower`."""
    rows = ["start_s,duration_s,tokens_0,tokens_1"]
    for k in range(40):
        most = 1 + k % 10
        rows.append(f"{10 * k},{slower * (0.1 + 0.01 * most):.6f},{most},{1 + (3 * k) % most}")
    path = tmp_path / "passes.csv"
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def test_every_request_is_measured_and_has_its_first_token(result):
    assert result.summary["num_arrived"] == result.summary["num_finished"] == 200
    assert result.requests["measured"].all()
    assert result.passes["measured"].all()


def test_instants_of_a_request_never_fall(result):
    names = ("arrived", "dispatched", "delivered", "prefill_started", "first_token")
    table = result.requests[[f"{name}_at_s" for name in names]].to_numpy()
    assert (np.diff(table, axis=1) >= 0).all()


def test_passes_hold_all_prompt_tokens_and_ranks_add_up(result):
    assert result.passes["tokens"].sum() == result.requests["input_tokens"].sum()
    per_rank = np.stack(result.passes["tokens_per_rank"])
    assert (per_rank.sum(axis=1) == result.passes["tokens"]).all()
    assert (per_rank.max(axis=1) == result.passes["max_rank_tokens"]).all()
    assert per_rank.max() <= 10


def test_little_law_holds(result):
    """Mean number of requests in the system = rate * mean TTFT, over the whole run."""
    arrived = np.sort(result.requests["arrived_at_s"])
    first = np.sort(result.requests["first_token_at_s"])
    times = np.sort(np.concatenate([arrived, first]))
    inside = np.searchsorted(arrived, times, side="right")
    inside = inside - np.searchsorted(first, times, side="right")
    area = float((inside[:-1] * np.diff(times)).sum())
    assert area == pytest.approx(result.requests["ttft_s"].sum(), rel=1e-9)


def test_same_configuration_gives_the_same_result(result):
    again = simulate(config(seed=3))
    pd.testing.assert_frame_equal(again.requests, result.requests)
    assert again.provenance == result.provenance
    other = simulate(config(seed=4))
    assert other.provenance["table_digest"] != result.provenance["table_digest"]


def test_every_column_and_key_is_documented(result):
    docs = column_docs()
    assert docs["description"].str.endswith(".").all()
    assert list(result.requests.columns) == list(TABLES["requests"])
    assert list(result.passes.columns) == list(TABLES["passes"])
    assert list(result.by_length.columns) == list(TABLES["by_length"])
    assert list(result.summary) == list(SUMMARY_KEYS)
    assert set(docs["table"]) == set(TABLES)


def test_ranks_are_left_out_on_request():
    assert "tokens_per_rank" not in simulate(config(), record_ranks=False).passes


def test_progress_ends_with_everything_done():
    seen = []
    simulate(config(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (200, 200)


# Load and capacity


def test_capacity_of_one_request_per_rank_and_pass_is_known():
    # Prompts fill a chunk exactly: 2 instances of 2 ranks finish 4 requests per pass of 0.2 s.
    lengths = {"family": "constant", "value_tokens": 10}
    one = config(
        workload=TOY["workload"] | {"input_tokens": lengths},
        cluster={"num_prefill": 2, "prefill_dp": 2, "prefill_ep": 2, "chunk_tokens": 10,
                 "dispatch_delay_s": 0.0, "signal_delay_s": 0.0},
    )  # fmt: skip
    capacity = capacity_requests_per_s(one.cluster, one.workload, one.timing)
    assert capacity == pytest.approx(4 / 0.2, rel=0.01)


def test_drain_rate_of_the_reference_rule_is_the_capacity():
    one = config(scheduler=read_group("scheduler", "work_conserving") | {"order": "arrival"})
    capacity = capacity_requests_per_s(one.cluster, one.workload, one.timing)
    assert drain_rate(one) == capacity


def test_capacity_does_not_depend_on_lost_signals():
    one = config(scheduler="round_robin", load=0.7)
    lossy = dataclasses.replace(one.cluster, signal_loss_frac=0.5)
    rates = {
        simulate(dataclasses.replace(one, cluster=cluster)).summary["rate_per_s"]
        for cluster in (one.cluster, lossy)
    }
    assert rates == {0.7 * capacity_requests_per_s(one.cluster, one.workload, one.timing)}


def test_a_slow_rank_slows_its_instance_and_so_the_capacity():
    one = config()
    slow = dataclasses.replace(one.cluster, slow_rank_factor=2.0)
    fast_rate, slow_rate = (
        capacity_requests_per_s(cluster, one.workload, one.timing)
        for cluster in (one.cluster, slow)
    )
    num = one.cluster.num_prefill  # of these, one runs at half the speed
    assert slow_rate == pytest.approx(fast_rate * (num - 0.5) / num, rel=0.03)


def test_a_slow_rank_is_refused_where_all_passes_are_alike():
    words = {"start_rule": "free_running", "slow_rank_factor": 1.5, "num_decode": 0}
    links = {"dispatch_delay_s": 0.0, "signal_delay_s": 0.0}
    one = config(timing={"kind": "constant", "pass_s": 1.0})
    with pytest.raises(ConfigError, match=r"slow_rank_factor=1\.5 is not allowed with"):
        dataclasses.replace(one, cluster=dataclasses.replace(one.cluster, **links, **words))


def test_capacity_follows_the_content_of_the_timing_file(tmp_path):
    one = config(timing={"kind": "table", "path": pass_file(tmp_path, 1.0)})
    fast = capacity_requests_per_s(one.cluster, one.workload, one.timing)
    pass_file(tmp_path, 2.0)
    slow = capacity_requests_per_s(one.cluster, one.workload, one.timing)
    assert slow == pytest.approx(fast / 2.0, rel=0.02)


def test_provenance_names_the_files_by_content(tmp_path):
    one = trace_config(tmp_path, range(0, 1000, 100))
    path = tmp_path / "trace.jsonl"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert simulate(one).provenance["inputs"] == {str(path): digest}
    assert simulate(config(num_requests=5)).provenance["inputs"] == {}


@pytest.mark.parametrize("scheduler", ["work_conserving", "sbs"])
def test_overloaded_cluster_gives_what_capacity_says(scheduler):
    summary = simulate(config(scheduler=scheduler, load=1.5, num_requests=5000)).summary
    assert summary["requests_per_s"] == pytest.approx(summary["capacity_requests_per_s"], rel=0.05)


def test_load_is_rate_over_capacity():
    one = config(load=0.5)
    capacity = capacity_requests_per_s(one.cluster, one.workload, one.timing)
    summary = simulate(one).summary
    assert summary["load_prefill_frac"] == 0.5
    assert summary["rate_per_s"] == 0.5 * capacity
    assert summary["arrivals_per_s"] == pytest.approx(0.5 * capacity, rel=0.3)


def test_load_is_seven_tenths_unless_something_is_said():
    assert simulate(config()).summary["load_prefill_frac"] == pytest.approx(0.7)
    assert simulate(config(rate_per_s=1.0)).summary["rate_per_s"] == 1.0


def test_load_counts_the_peak_of_modulated_arrivals():
    summary = simulate(config(arrivals="mmpp2_half", load=0.8, num_requests=2000)).summary
    assert summary["load_prefill_frac"] == pytest.approx(0.8)
    assert summary["arrivals_per_s"] < 0.95 * summary["rate_per_s"]


@pytest.mark.parametrize("load, overloaded", [(0.5, False), (1.3, True)])
def test_overload_is_told(load, overloaded):
    assert simulate(config(load=load, num_requests=3000)).summary["overloaded"] is overloaded


# Measured runs


def test_measured_run_leaves_out_a_tenth_and_adds_a_tail():
    result = measured_run(config(num_requests=100))
    assert len(result.requests) == 190
    assert np.flatnonzero(result.requests["measured"]).tolist() == list(range(10, 100))
    assert result.summary["num_finished"] == 90


def test_measured_run_stops_with_the_last_measured_first_token():
    requests = measured_run(config(num_requests=100)).requests
    last = requests.loc[requests["measured"], "first_token_at_s"].max()
    assert requests["first_token_at_s"].max() == last
    assert requests["first_token_at_s"].isna().any()


def test_first_part_of_a_measured_run_is_that_of_the_plain_run():
    # The tail comes later and cannot reach back: who is done before it arrives sees no difference.
    measured, plain = measured_run(config()).requests, simulate(config()).requests
    tail_from_s = measured["arrived_at_s"].iloc[200]
    early = plain["first_token_at_s"] < tail_from_s
    assert early.sum() > 150
    same = measured["first_token_at_s"][:200][early] == plain["first_token_at_s"][early]
    assert same.all()


def test_measured_run_over_a_horizon_measures_by_arrival():
    result = measured_run(config(num_requests=None, horizon_s=20.0, rate_per_s=5.0))
    requests = result.requests
    inside = (requests["arrived_at_s"] >= 2.0) & (requests["arrived_at_s"] < 20.0)
    assert (requests["measured"] == inside).all()
    assert 30.0 < requests["arrived_at_s"].max() < 38.0


def test_horizon_without_arrivals_is_refused():
    with pytest.raises(ConfigError, match=r"horizon_s=1e-06"):
        simulate(config(num_requests=None, horizon_s=1e-6, rate_per_s=1.0))


# Traces


def test_trace_runs_at_its_own_rate(tmp_path):
    summary = simulate(trace_config(tmp_path, [0, 500, 1000, 2000])).summary
    assert summary["num_finished"] == 4
    assert summary["rate_per_s"] == pytest.approx(3 / 2.0)


def test_trace_is_scaled_to_the_rate_asked_for(tmp_path):
    result = simulate(trace_config(tmp_path, range(0, 100_000, 1000), rate_per_s=4.0))
    span_s = result.requests["arrived_at_s"].max()
    assert result.summary["rate_per_s"] == 4.0
    assert len(result.requests) / span_s == pytest.approx(4.0, rel=0.05)


def test_middle_of_a_trace_is_measured_and_its_rest_is_the_tail(tmp_path):
    result = measured_run(trace_config(tmp_path, range(0, 190_000, 1000)))
    assert len(result.requests) == 190
    assert np.flatnonzero(result.requests["measured"]).tolist() == list(range(10, 100))


def test_first_requests_of_a_trace_and_no_more_than_it_has(tmp_path):
    rows = range(0, 20_000, 1000)
    assert len(simulate(trace_config(tmp_path, rows, num_requests=7)).requests) == 7
    with pytest.raises(ConfigError, match=r"num_requests=21 .* at most 20"):
        simulate(trace_config(tmp_path, rows, num_requests=21))


# Disk


def test_result_comes_back_from_disk_as_it_was(result, tmp_path):
    loaded = Result.load(result.save(tmp_path / "run"))
    assert loaded.config == result.config
    assert loaded.summary == pytest.approx(result.summary, nan_ok=True)
    assert loaded.provenance == result.provenance
    for table in ("requests", "passes", "by_length"):
        mine, its = getattr(result, table), getattr(loaded, table)
        pd.testing.assert_frame_equal(its, mine, check_dtype=table != "by_length")


def test_nan_is_null_on_disk_and_unknown_stays_none(result, tmp_path):
    small = dataclasses.replace(result, summary=result.summary | {"overloaded": None})
    text = (small.save(tmp_path) / "summary.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["tpot_mean_s"] is None
    summary = Result.load(tmp_path).summary
    assert np.isnan(summary["tpot_mean_s"])
    assert summary["overloaded"] is None


def test_same_configuration_overwrites_itself_and_another_is_refused(result, tmp_path):
    result.save(tmp_path)
    result.save(tmp_path)
    check_output_dir(tmp_path, config(seed=3))
    with pytest.raises(ConfigError, match=r"differs in: scheduler\.multiplier, seed"):
        check_output_dir(tmp_path, config(scheduler={"name": "sbs", "multiplier": 2.0}))


def test_failed_save_leaves_nothing_half_written(result, tmp_path):
    broken = dataclasses.replace(result, passes=None)
    with pytest.raises(AttributeError):
        broken.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_directory_without_a_result_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing: config\.yaml"):
        Result.load(tmp_path)
