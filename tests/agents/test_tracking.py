"""The mirror in Weights & Biases: it tells what is on disk, and never ends a run."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pandas as pd
import pytest

from agents.training import train
from tests.agents.tiny import tiny, words_for

pytestmark = pytest.mark.usefixtures("few_observations")


class Mirror:
    """A run of wandb that remembers; `breaks_at` names the call that raises."""

    def __init__(self, breaks_at=None):
        self.breaks_at, self.calls, self.rows, self.summary = breaks_at, [], [], {}
        self.settings = {}

    def __call__(self, **settings):  # wandb.init
        self._note("init")
        self.settings = settings
        return self

    def log(self, values):
        self._note("log")
        self.rows.append(values)

    def log_artifact(self, artifact):
        self._note("log_artifact")
        self.artifact = artifact

    def finish(self, exit_code):
        self._note(f"finish {exit_code}")

    def _note(self, call):
        self.calls.append(call)
        if call == self.breaks_at:
            raise OSError("no connection")


class Artifact:
    def __init__(self, name, type, metadata):
        self.name, self.files = name, []

    def add_file(self, path):
        self.files.append(Path(path).name)


def mirrored(monkeypatch, mirror):
    wandb = types.SimpleNamespace(
        init=mirror, Settings=lambda **settings: settings, Artifact=Artifact
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return mirror


def test_a_disabled_mirror_is_not_even_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it raises
    assert train(tiny(tmp_path))["seed"] == 0


def test_the_mirror_is_told_what_is_on_disk(tmp_path, monkeypatch, capsys):
    mirror = mirrored(monkeypatch, Mirror())
    found = train(tiny(tmp_path, "wandb.mode=offline", "wandb.tags=[mine]", "seed=3"))
    assert mirror.settings["mode"] == "offline"
    assert mirror.settings["dir"] == str(tmp_path)
    assert mirror.settings["group"] == "window_budget_mlp"
    assert mirror.settings["name"] == "window_budget_mlp-seed3"
    assert mirror.settings["tags"][-1] == "mine"
    told = pd.DataFrame(mirror.rows)
    kept = pd.read_csv(tmp_path / "progress.csv")
    pd.testing.assert_frame_equal(told[kept.columns], kept)
    assert mirror.summary["best_loss"] == found["best_loss"]
    assert mirror.artifact.files == ["policy.npz", "config.yaml", "result.json"]
    assert mirror.calls[-1] == "finish 0"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("call", ["init", "log", "log_artifact", "finish 0"])
def test_a_mirror_that_breaks_is_left_alone_and_the_run_finishes(
    tmp_path, monkeypatch, capsys, call
):
    mirror = mirrored(monkeypatch, Mirror(breaks_at=call))
    train(tiny(tmp_path, "wandb.mode=online"))
    assert (tmp_path / "result.json").is_file()
    assert len(pd.read_csv(tmp_path / "progress.csv")) == 8
    assert mirror.calls[-1] == call  # nothing was asked of it afterwards
    told = [line for line in capsys.readouterr().err.splitlines() if "wandb" in line]
    assert told == ["wandb is left alone from here on: no connection"]


def test_a_run_without_the_library_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    train(tiny(tmp_path, "wandb.mode=offline"))
    assert (tmp_path / "result.json").is_file()
    assert "wandb is left alone from here on" in capsys.readouterr().err


@pytest.mark.slow
def test_offline_runs_lie_below_the_output_directory_and_nothing_is_printed(tmp_path):
    words = words_for(tmp_path / "run", "wandb.mode=offline", "total_steps=256")
    command = [sys.executable, "-m", "agents.train", *words]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'run'}: policy.npz, after all decisions\n"
    assert "wandb" not in done.stderr
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))) == 1
