"""Comparisons: pairing, intervals, resumption and files."""

import dataclasses
import hashlib
import json
import math
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pandas as pd
import pytest
from test_metrics_decode import CLUSTER, DEMAND, run_records
from test_simulate import config, pass_file, trace_config

from sbs_gym import cells
from sbs_gym.commands.compare import write
from sbs_gym.commands.comparison_text import show_comparison, show_loads
from sbs_gym.compare import (
    DECODE_METRICS,
    PAIRED_METRICS,
    Comparison,
    compare,
    paired_table,
    ratio_interval,
)
from sbs_gym.config.groups import read_group
from sbs_gym.errors import ConfigError, SbsGymError
from sbs_gym.load_sweep import compare_loads
from sbs_gym.result import result_from_records
from sbs_gym.workload.generate import backlog


def configs(*names, **changes):
    return {name: config(scheduler=name, num_requests=60, **changes) for name in names}


@pytest.fixture(scope="module")
def comparison():
    return compare(configs("round_robin", "sbs", "work_conserving"), 3)


@pytest.fixture
def counted(monkeypatch):
    """The configurations of the cells that are really run."""
    seen, run = [], cells.measured_run
    monkeypatch.setattr(cells, "measured_run", lambda c: (seen.append(c), run(c))[1])
    return seen


# Intervals


def test_interval_of_two_pairs_is_students():
    # Ratios 1/2 and 1/8: mean log = -2 ln 2, standard deviation sqrt(2) ln 2, t(0.975, 1) = 12.706.
    ratio, low, high, count = ratio_interval(np.array([1.0, 1.0]), np.array([2.0, 8.0]))
    assert count == 2
    assert ratio == pytest.approx(0.25)
    assert math.log(high / ratio) == pytest.approx(12.7062 * math.log(2), rel=1e-5)
    assert low * high == pytest.approx(ratio**2)


def test_equal_ratios_have_the_point_as_interval():
    assert ratio_interval(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == (0.5, 0.5, 0.5, 2)


def test_one_pair_has_no_interval_and_nan_is_left_out():
    ratio, low, high, count = ratio_interval(np.array([1.0, np.nan]), np.array([4.0, 1.0]))
    assert (ratio, count) == (0.25, 1)
    assert np.isnan(low)
    assert np.isnan(high)
    assert ratio_interval(np.array([np.nan]), np.array([1.0]))[3] == 0


def test_seed_without_goodput_gives_no_ratio_to_it_and_zero_over_the_others():
    nothing = np.array([0.0, 2.0])
    assert ratio_interval(nothing, np.array([4.0, 1.0]))[0::3] == (0.0, 2)
    assert np.isnan(ratio_interval(nothing, np.array([4.0, 1.0]))[1])
    assert np.isnan(ratio_interval(np.array([4.0, 1.0]), nothing)[0])
    assert ratio_interval(nothing, np.array([0.0, 4.0]))[0::3] == (0.5, 1)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(1000):
        noise = np.exp(rng.normal(0.1, 0.3, size=5))
        _, low, high, _ = ratio_interval(noise, np.ones(5))
        hits += low <= math.exp(0.1) <= high
    assert abs(hits / 1000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 1000)


def test_pairs_are_matched_by_seed_not_by_place():
    runs = pd.DataFrame(
        {"scheduler": ["a", "a", "b", "b"], "seed": [0, 1, 1, 0], "ttft_mean_s": [1, 2, 4, 2]}
    )
    for name in ("ttft_p50_s", "ttft_p90_s", "ttft_p99_s"):
        runs[name] = 1.0
    row = paired_table(runs, [("a", "b")]).iloc[0]
    assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == (0.5, 0.5, 0.5)


# Comparisons


def decode_cells(monkeypatch):
    """Let every cell be a hand-made run of the whole path, 10 % slower per scheduler."""
    places = {"sbs": 0, "round_robin": 1, "lpt": 2}

    def hand_made(config):
        slower = 1.1 ** places[config.scheduler.name]
        found = result_from_records(
            run_records(), config, backlog(config.workload, 4, 0), measured=(0, 4), demand=DEMAND
        )
        for key in ("ttft_mean_s", "tpot_mean_s", "goodput_per_s"):
            found.summary[key] *= slower
        return found

    monkeypatch.setattr(cells, "measured_run", hand_made)
    monkeypatch.setattr("sbs_gym.commands.compare.measured_run", hand_made)


def decode_configs(*names):
    cluster = dataclasses.asdict(CLUSTER)
    return configs(*names, cluster=cluster, slo={"ttft_s": 2.5})


def test_decode_pairs_client_ttft_tpot_and_goodput_too(monkeypatch):
    decode_cells(monkeypatch)
    found = compare(decode_configs("sbs", "round_robin"), 2)
    assert found.has_decode
    ratios = found.paired[found.paired["scheduler"] == "round_robin"].set_index("metric")["ratio"]
    assert list(ratios.index) == [*PAIRED_METRICS, *DECODE_METRICS]
    for metric in ("ttft_mean_s", "tpot_mean_s", "goodput_per_s"):
        assert ratios[metric] == pytest.approx(1.1)
    assert ratios["e2e_mean_s"] == pytest.approx(1.0)


def test_decode_is_shown_and_its_figures_are_written(monkeypatch, tmp_path, capsys):
    decode_cells(monkeypatch)
    found = compare(decode_configs("sbs", "round_robin", "lpt"), 2, output_dir=tmp_path)
    show_comparison(found)
    text = capsys.readouterr().out
    for words in ("1 x 2 prefill and 1 x 4 decode ranks", "client", "KV on the decode", "+10.0"):
        assert words in text
    assert "decode not steady: its batch changed by +300.0 %" in text
    assert max(len(line) for line in text.splitlines()) <= 100
    write(found, tmp_path)
    for name in ("comparison.png", "comparison.svg", "parts.png", "parts.svg"):
        assert (tmp_path / name).stat().st_size > 0


def test_loads_with_decode_show_three_metrics(monkeypatch, capsys):
    decode_cells(monkeypatch)
    found = compare_loads(decode_configs("sbs", "round_robin"), [0.4, 0.8], 2)
    assert found.ratio(0.4, "round_robin", "sbs", "goodput_per_s")[0] == pytest.approx(1.1)
    show_loads(found)
    text = capsys.readouterr().out
    for words in ("mean TTFT (ms", "mean TPOT (ms", "goodput (requests/s", "goodput against sbs"):
        assert words in text
    assert "capacity 1.0 (prefill 2.0, decode 1.0) requests/s" in text
    assert "at that load, by mean TTFT" in " ".join(text.split())
    assert "decode not steady" in text


def test_prefill_alone_pairs_ttft_alone():
    alone = dict(read_group("cluster", "toy"), num_decode=0)
    found = compare(configs("round_robin", "sbs", cluster=alone), 1)
    assert not found.has_decode
    assert list(dict.fromkeys(found.paired["metric"])) == list(PAIRED_METRICS)


def test_every_scheduler_meets_the_same_requests_at_every_seed(comparison):
    assert len(comparison.runs) == 9
    assert set(comparison.runs["seed"]) == {0, 1, 2}
    spread = comparison.runs.groupby("seed")["arrivals_per_s"].nunique()
    assert (spread == 1).all()


def test_reference_is_sbs_and_every_immediate_rule_is_one_too(comparison):
    assert comparison.reference == "sbs"
    pairs = comparison.paired[["scheduler", "reference"]].drop_duplicates()
    assert [tuple(pair) for pair in pairs.to_numpy()] == [
        ("round_robin", "sbs"),
        ("work_conserving", "sbs"),
        ("sbs", "round_robin"),
        ("work_conserving", "round_robin"),
    ]


def test_ratio_and_its_reverse_multiply_to_one(comparison):
    means = comparison.paired[comparison.paired["metric"] == "ttft_mean_s"]
    ratio = means.set_index(["scheduler", "reference"])["ratio"]
    product = ratio["round_robin", "sbs"] * ratio["sbs", "round_robin"]
    assert product == pytest.approx(1.0)


def test_buckets_add_up_to_the_measured_requests(comparison):
    per_run = comparison.by_length.groupby(["scheduler", "seed"])["num_requests"].sum()
    assert (per_run == 54).all()


def test_first_scheduler_is_the_reference_where_sbs_is_not():
    assert compare(configs("round_robin", "lpt"), 1).reference == "round_robin"


def test_unknown_reference_and_no_scheduler_are_refused():
    with pytest.raises(ConfigError, match=r"reference='sbx' is not known.*sbs"):
        compare(configs("sbs"), 1, reference="sbx")
    with pytest.raises(ConfigError, match="at least one scheduler"):
        compare({}, 1)


def test_runs_that_differ_in_more_than_the_scheduler_are_refused():
    two = configs("sbs", "round_robin")
    two["sbs"] = dataclasses.replace(two["sbs"], load=0.9)
    with pytest.raises(ConfigError, match="differ in: load"):
        compare(two, 1)


@pytest.mark.slow  # each process imports and loads the compiled loop
def test_same_cells_in_two_processes(comparison):
    both = compare(configs("round_robin", "sbs", "work_conserving"), 3, jobs=2)
    pd.testing.assert_frame_equal(both.runs, comparison.runs)


def test_worker_that_dies_is_told_with_what_to_do(monkeypatch):
    class DeadPool:
        def __init__(self, *args, **kwargs):
            pass

        def submit(self, *args):
            raise BrokenProcessPool("gone")

        def shutdown(self, **kwargs):
            pass

    monkeypatch.setattr(cells, "ProcessPoolExecutor", DeadPool)
    with pytest.raises(SbsGymError, match=r"jobs=2.*__main__"):
        compare(configs("sbs", "lpt"), 1, jobs=2)


# Disk


def test_finished_cells_are_not_run_again(tmp_path, counted):
    first = compare(configs("sbs", "lpt"), 2, output_dir=tmp_path)
    assert len(counted) == 4
    again = compare(configs("sbs", "lpt"), 2, output_dir=tmp_path)
    assert len(counted) == 4
    pd.testing.assert_frame_equal(again.runs, first.runs)
    pd.testing.assert_frame_equal(again.by_length, first.by_length)


def test_runs_taken_from_disk_are_counted(tmp_path):
    assert compare(configs("sbs"), 1, output_dir=tmp_path).num_reused == 0
    assert compare(configs("sbs", "lpt"), 2, output_dir=tmp_path).num_reused == 1
    assert compare(configs("sbs", "lpt"), 2, output_dir=tmp_path).num_reused == 4


def test_another_trace_under_the_same_name_is_run_again(tmp_path, counted):
    out = tmp_path / "out"
    path = tmp_path / "trace.jsonl"
    one = {"sbs": trace_config(tmp_path, range(0, 40_000, 1000))}
    before = path.read_bytes()
    first = compare(one, 1, output_dir=out)
    first.save(out)
    trace_config(tmp_path, range(0, 4000, 100))
    second = compare(one, 1, output_dir=out)
    second.save(out)
    assert (len(counted), second.num_reused) == (2, 0)
    assert second.runs["ttft_mean_s"][0] != first.runs["ttft_mean_s"][0]
    saved = json.loads((out / "comparison.json").read_text())
    assert saved["inputs"] == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
    assert Comparison.load(out).inputs == second.inputs != first.inputs
    path.write_bytes(before)  # the first content again: its run is still there
    third = compare(one, 1, output_dir=out)
    assert (len(counted), third.num_reused) == (2, 1)
    pd.testing.assert_frame_equal(third.runs, first.runs)


def test_another_timing_file_under_the_same_name_is_run_again(tmp_path, counted):
    out = tmp_path / "out"
    timing = {"kind": "table", "path": pass_file(tmp_path, 1.0)}
    alone = dict(read_group("cluster", "toy"), num_decode=0)  # the file holds passes, no steps
    one = configs("sbs", cluster=alone, timing=timing, load=None, rate_per_s=5.0)
    first = compare(one, 1, output_dir=out)
    pass_file(tmp_path, 2.0)
    second = compare(one, 1, output_dir=out)
    assert (len(counted), second.num_reused) == (2, 0)
    assert second.runs["ttft_mean_s"][0] > 1.5 * first.runs["ttft_mean_s"][0]
    assert compare(one, 1, output_dir=out).num_reused == 1


def test_file_that_changes_during_a_comparison_is_an_error(tmp_path):
    two = {
        name: trace_config(tmp_path, range(0, 4000, 100), scheduler=name) for name in ("sbs", "lpt")
    }

    def change(done, total):
        if done == 1:
            trace_config(tmp_path, range(0, 8000, 200))

    with pytest.raises(SbsGymError, match=r"trace\.jsonl changed while the comparison ran"):
        compare(two, 1, output_dir=tmp_path / "out", progress=change)
    assert len(list((tmp_path / "out" / "cells").iterdir())) == 1


def test_more_seeds_and_schedulers_run_only_what_is_new(tmp_path, counted):
    compare(configs("sbs"), 1, output_dir=tmp_path)
    compare(configs("sbs", "lpt"), 2, output_dir=tmp_path)
    assert [(c.scheduler.name, c.seed) for c in counted[1:]] == [("sbs", 1), ("lpt", 0), ("lpt", 1)]


def test_interrupted_comparison_keeps_what_was_finished(tmp_path, counted):
    def stop_after_two(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(configs("sbs", "lpt"), 2, output_dir=tmp_path, progress=stop_after_two)
    assert len(counted) == 2
    seen = []
    compare(configs("sbs", "lpt"), 2, output_dir=tmp_path, progress=lambda *a: seen.append(a))
    assert len(counted) == 4
    assert seen == [(2, 4), (3, 4), (4, 4)]


def test_directory_of_another_comparison_is_refused_before_any_run(tmp_path, counted):
    compare(configs("sbs"), 1, output_dir=tmp_path)
    with pytest.raises(ConfigError, match="differs in: load"):
        compare(configs("sbs", load=0.9), 1, output_dir=tmp_path)
    assert len(counted) == 1


def test_comparison_comes_back_from_disk_as_it_was(comparison, tmp_path):
    loaded = Comparison.load(comparison.save(tmp_path))
    assert loaded.configs == comparison.configs
    assert (loaded.reference, loaded.num_seeds) == ("sbs", 3)
    for table in ("runs", "paired", "by_length"):
        pd.testing.assert_frame_equal(getattr(loaded, table), getattr(comparison, table))


def test_one_seed_is_saved_with_null_intervals(tmp_path):
    one = compare(configs("sbs", "lpt"), 1)
    text = (one.save(tmp_path) / "comparison.json").read_text()
    assert "NaN" not in text
    assert '"ratio_low": null' in text
    assert Comparison.load(tmp_path).paired["ratio_low"].isna().all()
