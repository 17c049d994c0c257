"""The command that evaluates policies, on a suite of four cells of 300 requests."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import yaml

from agents import evaluate as command
from agents.suite.definition import Admission
from agents.suite.reading import load_suite
from agents.suite.request import Request
from agents.suite.scores import admission, headline, score_cell
from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.groups import conf_directory
from tests.learned.networks import Writer

POLICIES = "[sbs,work_conserving,static_global,static_cell]"


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory):
    suite = yaml.safe_load((conf_directory() / "suite" / "v1.yaml").read_text())
    suite["name"] = "tiny"
    suite["paths"] = suite["paths"][:1]
    suite["paths"][0]["words"] += ["cluster.num_prefill=2", "cluster.prefill_dp=4"]
    suite["paths"][0]["loads"] = [{"load": 0.7, "num_requests": 300}]
    suite["workloads"] = [
        {"name": "sbs_short", "words": ["workload=sbs_short"], "trained": True},
        {"name": "sbs_long", "words": ["workload=sbs_long"], "trained": False},
    ]
    suite["arrivals"] = suite["arrivals"][:2]
    suite["static"] |= {"multipliers": [0, 1], "shares": [0.8]}
    suite["overload"] |= {"workloads": ["sbs_short"], "cells": suite["overload"]["cells"][:1]}
    suite["overload"]["cells"][0]["horizon_s"] = 60
    suite["shifts"] |= {"workloads": ["sbs_short", "sbs_long"], "loads": [0.7]}
    wanted = ("fixed time 0.02 s", "base (fixed time 0.06 s)", "DP32", "length mix swapped")
    suite["shifts"]["changes"] = [c for c in suite["shifts"]["changes"] if c["name"] in wanted]
    path = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    path.write_text(yaml.safe_dump(suite))
    return path


def words(suite_file, directory, *more):
    asked = [f"suite={suite_file}", f"policies={POLICIES}", "seeds=3"]
    return [*asked, f"output_dir={directory}", *more]


@pytest.fixture(scope="module")
def evaluated(suite_file, tmp_path_factory):
    directory = tmp_path_factory.mktemp("evaluated")
    assert command.main(words(suite_file, directory)) == 0
    return directory


def told(directory, name="suite"):
    return json.loads((directory / f"{name}.json").read_text())


def test_every_cell_says_what_every_policy_did_and_the_headline_follows(evaluated):
    suite = told(evaluated)
    assert [(cell["part"], cell["workload"]) for cell in suite["cells"]] == [
        ("train", "sbs_short"),
        ("train", "sbs_short"),
        ("test", "sbs_long"),
        ("test", "sbs_long"),
    ]
    assert suite["seeds"] == [20000, 20001, 20002]
    for cell in suite["cells"]:
        policies = cell["policies"]
        assert set(policies) == {
            "round_robin",
            "sbs_budget",
            "sbs",
            "work_conserving",
            "static_global",
            "static_cell",
        }
        assert policies["sbs"]["ttft_ratio"] == 1.0
        found = policies["work_conserving"]
        assert found["ttft_ratio_low"] < found["ttft_ratio"] < found["ttft_ratio_high"]
        assert found["ttft_mean_s"] > 0.0
    admitted = [cell for cell in suite["cells"] if cell["admitted"]]
    ratios = [cell["policies"]["sbs_budget"]["ttft_ratio"] for cell in admitted]
    one = suite["headline"]["prefill"]["sbs_budget"]
    assert one["num_cells"] == len(admitted) > 0
    assert one["ttft_ratio"] == pytest.approx(math.prod(ratios) ** (1 / len(ratios)))
    assert one["worst_ratio"] == max(ratios)
    assert suite["num_not_admitted"] == 4 - len(admitted)


def test_the_constants_chosen_are_told_and_are_what_was_played(evaluated):
    suite = told(evaluated)
    overall = suite["static"]["overall"]
    assert overall.startswith("sbs:multiplier=")
    assert suite["policies"]["static_global"]["words"] == [overall]
    assert suite["static"]["seeds"] == [10000, 10001]
    runs = pd.read_parquet(evaluated / "runs.parquet")
    for cell in suite["cells"]:
        ours = runs[runs["cell"] == cell["cell"]].set_index(["policy", "seed"])["ttft_mean_s"]
        if suite["static"]["per_cell"][cell["cell"]] == overall:
            assert (ours["static_cell"] == ours["static_global"]).all()


def test_overload_is_scored_without_mean_ttft_and_shifts_against_the_baseline_there(evaluated):
    overload = told(evaluated, "overload")["cells"]
    assert [cell["arrivals"] for cell in overload] == ["peak_each_minute"]
    for found in overload[0]["policies"].values():
        assert 0.0 <= found["slo_attainment_frac"] <= 1.0
        assert not any("ttft" in key for key in found)
    shift = told(evaluated, "shift")["cells"]
    assert len(shift) == 8
    for cell in shift:
        assert cell["policies"]["sbs"]["ttft_ratio"] == 1.0
        assert set(cell["not_applicable"]) == {"static_cell"}
    base = next(c for c in shift if c["change"].startswith("base") and c["workload"] == "sbs_short")
    unshifted = told(evaluated)["cells"][0]
    assert base["policies"]["sbs_budget"]["ttft_ratio"] == pytest.approx(
        unshifted["policies"]["sbs_budget"]["ttft_ratio"], rel=1e-6
    )


def test_a_swapped_mix_has_the_lengths_of_one_workload_and_then_of_the_other(evaluated):
    for name, short_first in (("sbs_short", True), ("sbs_long", False)):
        table = pd.read_parquet(next((evaluated / "traces").glob(f"shift_prefill_{name}_*")))
        assert (table["arrived_at_s"].diff().dropna() >= 0.0).all()
        change_at_s = table["arrived_at_s"].iloc[-1] * 0.55 / 1.9  # of warm-up, measured and tail
        early = table["arrived_at_s"] < 0.9 * change_at_s
        late = table["arrived_at_s"] > 1.1 * change_at_s
        first, then = ("max", "min") if short_first else ("min", "max")
        # sbs_short ends and sbs_long begins at 3,000 tokens.
        assert getattr(table["input_tokens"][early], first)() in _side(short_first)
        assert getattr(table["input_tokens"][late], then)() in _side(not short_first)


def _side(is_short):
    return range(1, 3001) if is_short else range(3000, 64_001)


def test_files_are_complete_and_the_markdown_says_what_is_not_admitted(evaluated):
    names = {path.name for path in evaluated.iterdir() if path.is_file()}
    assert names >= {
        "suite.json",
        "overload.json",
        "shift.json",
        "runs.parquet",
        "suite.md",
        "heat_prefill.png",
        "cells_prefill.png",
        "fixed_time.png",
    }
    assert not any(name.endswith(".part") for name in names)
    text = (evaluated / "suite.md").read_text()
    assert f"{told(evaluated)['num_not_admitted']} of 4 cells are not admitted" in text
    assert "static_global is sbs:multiplier=" in text


def test_the_same_command_runs_nothing_again(suite_file, evaluated, monkeypatch):
    before = told(evaluated)
    monkeypatch.setattr("sbs_gym.cells.measured_run", None)
    assert command.main(words(suite_file, evaluated)) == 0
    assert told(evaluated) == before


def test_an_interrupted_evaluation_goes_on_where_it_stopped(
    suite_file, evaluated, tmp_path, monkeypatch, capsys
):
    from sbs_gym import cells as runs

    real, done = runs.measured_run, []

    def interrupted(config):
        if len(done) == 30:
            raise KeyboardInterrupt
        done.append(config)
        return real(config)

    asked = words(suite_file, tmp_path, "tables=[suite]", f"static_dir={evaluated / 'static'}")
    monkeypatch.setattr(runs, "measured_run", interrupted)
    assert command.main(asked) == 130
    assert "30 finished runs" in capsys.readouterr().err
    assert not (tmp_path / "suite.json").exists()
    done.clear()
    done.extend([None] * 31)  # never interrupted again
    assert command.main(asked) == 0
    total = len(list((tmp_path / "runs").rglob("cells/*.json")))
    assert len(done) - 31 == total - 30
    assert told(tmp_path)["cells"] == told(evaluated)["cells"]


def test_another_split_or_suite_does_not_write_over_an_evaluation(suite_file, evaluated, capsys):
    assert command.main(words(suite_file, evaluated, "split=validation")) == 2
    message = capsys.readouterr().err
    assert "holds the results of another configuration" in message
    assert "split" in message


@pytest.mark.parametrize(
    "changed, told",
    (
        ("suite=v9", "suite='v9' is not known"),
        ("suite.part=none", "suite.part='none' is not known"),
        ("policies=[sbz]", "Did you mean 'sbs'"),
        ("policies=", "policies=… is missing"),
        ("seeds=0", "seeds=0 is out of range; expected a whole number in [1, 10000]"),
        ("seeds=[1]", "seeds (split=test)=1 is out of range"),
        ("split=tst", "split='tst' is not known"),
        ("tables=[all]", "tables='all' is not known"),
        ("jobs=none", "jobs='none' is not allowed"),
        ("sead=3", "evaluate: key='sead' is not known"),
    ),
)
def test_mistakes_are_told_before_any_work(suite_file, tmp_path, capsys, changed, told):
    directory = tmp_path / "out"
    given = {word.partition("=")[0]: word for word in words(suite_file, directory)}
    given[changed.partition("=")[0]] = changed
    assert command.main(list(given.values())) == 2
    assert told in capsys.readouterr().err
    assert not directory.exists()


def test_a_policy_that_acts_nowhere_in_the_call_is_refused(capsys, tmp_path):
    asked = ["policies=[static_global]", "suite.path=full", f"output_dir={tmp_path / 'out'}"]
    assert command.main(asked) == 2
    assert "does not act on the path full" in capsys.readouterr().err


def test_help_names_every_word(capsys):
    assert command.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {word} " in text for word in (*command.OWN, "suite.part", "suite.path"))
    assert command.main([]) == 2


def runs_of(sbs, round_robin, agent=(1.0, 1.0)):
    """Return the rows of one cell: mean TTFT per seed of each policy."""
    values = {
        ("sbs", 0): sbs,
        ("round_robin", 0): round_robin,
        ("sbs_budget", 0): sbs,
        **{("agent", k): [level * value for value in sbs] for k, level in enumerate(agent)},
    }
    rows = [
        {
            "cell": "c",
            "part": "train",
            "path": "prefill",
            "workload": "w",
            "load": 0.7,
            "arrivals": "a",
            "policy": policy,
            "training": training,
            "seed": seed,
            "ttft_mean_s": value,
            "ttft_p99_s": value,
            "requests_per_s": 1.0,
            "tpot_mean_s": math.nan,
            "goodput_per_s": 1.0,
        }
        for (policy, training), seeds in values.items()
        for seed, value in enumerate(seeds)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "sbs, round_robin, reasons",
    (
        ([1.0, 1.1, 0.9], [1.04, 1.15, 0.94], []),
        ([1.0, 1.5, 0.5], [2.0, 3.0, 1.0], ["spread 0.500 over seeds; expected below 0.15"]),
        ([1.0, 1.1, 0.9], [1.02, 1.12, 0.92], ["round_robin is at 1.020 of sbs"]),
        ([1.0, 1.1, 0.9], [0.9, 0.99, 0.81], []),
        ([1.0], [2.0], ["one seed shows no spread"]),
    ),
)
def test_a_cell_counts_if_seeds_agree_and_schedulers_do_not(sbs, round_robin, reasons):
    rule = Admission(cv_below=0.15, differs_by_frac=0.03)
    found, _ = admission(runs_of(sbs, round_robin), "sbs", "round_robin", rule)
    assert len(found) == len(reasons)
    assert all(one.startswith(reason) for one, reason in zip(found, reasons, strict=True))


def test_several_trainings_are_one_policy_and_the_median_one_is_named():
    suite = load_suite("v1")
    runs = runs_of([1.0, 1.1, 0.9], [2.0, 2.2, 1.8], agent=(0.5, 0.9, 0.8))
    runs = runs.reindex(columns=[*runs.columns, *_missing_keys(runs)])
    cell = score_cell(runs, suite)
    one = headline(runs, [cell], suite)["prefill"]["agent"]
    assert one["ttft_ratio"] == pytest.approx((0.5 * 0.9 * 0.8) ** (1 / 3))
    assert one["median_training"]["training"] == 2
    assert one["median_training"]["ttft_ratio"] == pytest.approx(0.8)
    assert one["ttft_ratio_low"] < 0.6 < 0.8 < one["ttft_ratio_high"]
    assert cell["policies"]["agent"]["num_trainings"] == 3


def _missing_keys(runs):
    from sbs_gym.metrics.columns import SUMMARY_KEYS

    return [key for key in SUMMARY_KEYS if key not in runs.columns]


@pytest.mark.slow
def test_networks_play_the_suite_and_the_shifts_that_fit_their_shape(suite_file, tmp_path):
    cluster = ClusterConfig(num_prefill=2, prefill_dp=4, num_decode=0)
    for name, seed in (("a", 0), ("b", 1)):
        Writer("SBS/WindowBudget-v0", "multi", cluster, seed=seed).write(tmp_path / f"{name}.npz")
    pair = f"policies=[{{pair: [{tmp_path}/a.npz, {tmp_path}/b.npz]}}]"
    asked = [f"suite={suite_file}", pair, "seeds=3", "tables=[suite,shift]"]
    assert command.main([*asked, f"output_dir={tmp_path / 'out'}"]) == 0
    text = (tmp_path / "out" / "suite.md").read_text()
    assert f"pair: the median training is learned:{tmp_path}" in text
    one = told(tmp_path / "out")["headline"]["prefill"]["pair"]
    assert one["ttft_ratio_low"] < one["ttft_ratio"] < one["ttft_ratio_high"]
    left_out = {c["change"]: c["not_applicable"] for c in told(tmp_path / "out", "shift")["cells"]}
    assert "prefill_dp=4, not 32" in left_out["DP32"]["pair"]
    assert not left_out["fixed time 0.02 s"]


def test_paths_of_a_call_are_those_of_its_agents():
    suite = load_suite("v1")
    request = Request(
        suite=suite,
        policies=command.read_policies("[sbs]"),
        split="test",
        seeds=[20000],
        output_dir=Path("out"),
        static_dir=Path("out"),
    )
    assert request.paths == ["prefill"]
