"""Trainings side by side: made-up directories, as trainings leave them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agents import compare as command
from agents.suite.trainings import read_training
from sbs_gym.report.curves_plot import common_steps


def training(directory, name, seed, curve, suite_ratio=None):
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(f"name: {name}\nseed: {seed}\n")
    rows = [f"{steps},{'' if ratio is None else ratio},1.0" for steps, ratio in curve]
    head = "time/total_timesteps,validation/ratio,train/loss"
    (directory / "progress.csv").write_text("\n".join([head, *rows]) + "\n")
    np.savez(directory / "policy.npz", meta=np.array("{}"))
    if suite_ratio is not None:
        told = {
            "name": "v1",
            "part": "all",
            "policies": {
                "sbs": {"tasks": [], "weights": {}},
                name: {"tasks": ["SBS/Window"], "weights": {str(directory / "policy.npz"): "0"}},
            },
            "headline": {"prefill": {"sbs": {}, name: {"ttft_ratio": suite_ratio}}},
        }
        (directory / "suite").mkdir()
        (directory / "suite" / "suite.json").write_text(json.dumps(told))
    return directory


@pytest.fixture
def runs(tmp_path):
    return [
        training(tmp_path / "a0", "ppo", 0, [(0, 1.2), (50, None), (100, 0.9)], 0.88),
        training(tmp_path / "a1", "ppo", 1, [(0, 1.0), (100, 0.8)], 0.86),
        training(tmp_path / "b0", "dqn", 0, [(10, None)]),
    ]


def test_a_training_is_read_from_its_own_files(runs):
    found = read_training(runs[0])
    assert (found.experiment, found.seed, found.num_steps) == ("ppo", 0, 100)
    assert found.curve.tolist() == [[0.0, 1.2], [100.0, 0.9]]
    assert found.validation == 0.9
    assert found.headline["ttft_ratio"] == 0.88
    bare = read_training(runs[2])
    assert bare.validation is None
    assert bare.headline is None


def test_the_table_has_a_line_per_training_and_the_files_are_written(runs, tmp_path, capsys):
    out = tmp_path / "out"
    listed = ",".join(str(run) for run in runs)
    assert command.main([f"runs=[{listed}]", f"output_dir={out}"]) == 0
    text = capsys.readouterr().out
    assert "0.900" in text
    assert "0.860" in text
    names = {path.name for path in out.iterdir()}
    assert names == {"trainings.json", "trainings.md", "curves.png", "suite.png"}
    rows = json.loads((out / "trainings.json").read_text())
    assert [row["validation_ratio"] for row in rows] == [0.9, 0.8, None]


def test_a_star_means_the_trainings_among_the_directories(runs, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    assert command.main([f"runs={tmp_path}/*"]) == 0
    assert capsys.readouterr().out.count("ppo") == 2


def test_curves_meet_at_the_decisions_that_all_seeds_cover():
    curves = [np.array([[0.0, 1.0], [100.0, 0.0]]), np.array([[50.0, 3.0], [150.0, 1.0]])]
    steps, values = common_steps(curves)
    assert steps.tolist() == [50.0, 100.0]
    assert values.tolist() == [[0.5, 0.0], [3.0, 2.0]]


def test_wrong_directories_are_named(runs, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (runs[1] / "progress.csv").write_text("no,steps\n1,2\n")
    for given, told in (
        (f"runs=[{tmp_path}/none]", "is not there"),
        (f"runs=[{tmp_path}/empty]", "missing: config.yaml, progress.csv, policy.npz"),
        (f"runs={tmp_path}/z*", "matches no directory"),
        (f"runs=[{runs[0]},{runs[0]}]", "names one twice"),
        (f"runs=[{runs[1]}]", "expected a column time/total_timesteps"),
        ("runs=", "is missing"),
        ("rnus=a", "compare: key='rnus' is not known"),
    ):
        assert command.main([given]) == 2
        assert told in capsys.readouterr().err
