"""The mirror of an evaluation: what it is told, and by how many runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from agents import evaluate
from agents.config import WandbConfig, train_config
from agents.mirror import Mirror
from agents.suite import mirrored
from agents.suite.policies import Policy
from sbs_gym.errors import ConfigError
from tests.agents.tiny import composed

SUITE = {
    "cells": [
        {
            "part": "test",
            "path": "prefill",
            "workload": "sbs_short",
            "load": 0.5,
            "arrivals": "poisson",
            "policies": {"sbs": {"ttft_mean_s": 2.0}, "mine": {"ttft_mean_s": 1.0, "seeds": [1]}},
        }
    ],
    "headline": {"prefill": {"mine": {"ratio": 0.5, "parts": {}}, "sbs": {"ratio": 1.0}}},
}


def test_every_policy_is_a_run_of_its_own_and_rules_are_baselines(monkeypatch, tmp_path):
    told = []

    class Recorded(Mirror):
        def __init__(self, settings, **about):
            super().__init__(WandbConfig(mode="disabled"), **about)
            told.append(about | {"tables": {}, "files": []})

        def summarise(self, values):
            told[-1]["summary"] = values

        def table(self, name, rows):
            told[-1]["tables"][name] = rows

        def artifact(self, name, files, metadata, kind="model"):
            told[-1]["files"] = [path.name for path in files]

    (tmp_path / "suite.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(mirrored, "Mirror", Recorded)
    request = SimpleNamespace(
        output_dir=tmp_path,
        policies=[
            Policy(name="sbs", words=("sbs",)),
            Policy(
                name="mine",
                words=("learned:a.npz",),
                tasks=("SBS/WindowBudget",),
                weights=(Path("a.npz"),),
            ),
        ],
        suite=SimpleNamespace(name="v1", part="test"),
        split="test",
        config=lambda: {"seeds": [1]},
    )
    mirrored.mirror_evaluation(WandbConfig(mode="offline"), request, SUITE)
    assert [(run["job_type"], run["files"]) for run in told] == [
        ("baseline", []),
        ("eval", ["a.npz", "suite.json"]),
    ]
    assert told[1]["summary"] == {"prefill/ratio": 0.5}
    assert told[1]["tables"]["cells"]["ttft_mean_s"].tolist() == [1.0]
    assert {run["group"] for run in told} == {"suite-v1"}


def test_a_disabled_mirror_makes_no_run(monkeypatch):
    made = []
    monkeypatch.setattr(mirrored, "Mirror", lambda *args, **kwargs: made.append(args))
    mirrored.mirror_evaluation(WandbConfig(mode="disabled"), None, SUITE)
    assert made == []


def test_words_choose_the_mirror_over_the_environment(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert evaluate.read_wandb(["a=1"]) == (WandbConfig(mode="disabled"), ["a=1"])
    settings, rest = evaluate.read_wandb(["wandb.mode=online", "wandb.project=mine", "a=1"])
    assert (settings.mode, settings.project, rest) == ("online", "mine", ["a=1"])
    words = ("experiment=window_ppo", "output_dir=never")
    assert train_config(composed(*words)).wandb.mode == "disabled"
    assert train_config(composed(*words, "wandb.mode=online")).wandb.mode == "online"
    monkeypatch.delenv("WANDB_MODE")
    assert train_config(composed(*words)).wandb.mode == "offline"


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match=r"wandb\.mode"):
        evaluate.read_wandb(["wandb.mode=sometimes"])
