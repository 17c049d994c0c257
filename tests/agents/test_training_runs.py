"""What a training leaves, and that the same configuration leaves the same."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from agents.building import build_env
from agents.files import LOCK, RESULT
from agents.loading import load
from agents.only_one import only_one
from agents.training import train
from agents.validation import rules_within
from sbs_gym.artifacts import json_writer, write_all
from sbs_gym.envs.play import RulePlayer
from sbs_gym.errors import ConfigError
from tests.agents.tiny import arrays_in, tiny, words_for

pytestmark = pytest.mark.usefixtures("few_observations")


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, few_observations):
    directory = tmp_path_factory.mktemp("trained") / "run"
    train(tiny(directory))
    return directory


def run_main(monkeypatch, *words):
    """Run `python -m agents.train` in this process."""
    monkeypatch.setattr(sys, "argv", ["train", *map(str, words)])
    runpy.run_module("agents.train", run_name="__main__")


def test_a_training_leaves_its_configuration_curve_weights_checkpoint_and_result(trained):
    assert {path.name for path in trained.iterdir()} - {".lock"} == {
        "config.yaml",
        "progress.csv",
        "policy.npz",
        "last.npz",
        "checkpoint.pt",
        "result.json",
    }
    curve = pd.read_csv(trained / "progress.csv")
    # A rollout is 8 environments x 16 steps; the last update is told with no rollout behind it.
    assert curve["time/total_timesteps"].tolist() == list(range(128, 1025, 128))
    with np.load(trained / "policy.npz") as file:
        meta = json.loads(str(file["meta"]))
    assert meta["task"] == "SBS/WindowBudget"
    assert meta["steps"] == 1024
    assert meta["training"] == yaml.safe_load((trained / "config.yaml").read_text())


def test_imitation_alone_leaves_the_same_files_and_what_it_learned(tmp_path):
    words = ("imitation.rule=sbs_budget", "imitation.decisions=1000", "imitation.epochs=20")
    found = train(tiny(tmp_path / "run", "total_steps=0", *words))
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    assert found["spent_s"] > 0.0
    agent = load(str(tmp_path / "run"))
    env = build_env(tiny(tmp_path / "other", "policy.critic_sees_baseline=false"))
    env.seed(123)
    seen, rule = env.reset(), RulePlayer(env, "sbs_budget")
    mine, _ = agent.predict(seen)
    env.close()
    assert (mine == rule.actions()).all(axis=1).mean() > 0.9
    assert train(tiny(tmp_path / "run", "total_steps=0", *words)) == found


def test_a_second_process_in_the_same_directory_is_refused(tmp_path):
    directory = tmp_path / "run"
    with only_one(directory / LOCK), pytest.raises(ConfigError, match="another process works"):
        train(tiny(directory))
    assert not (directory / "config.yaml").exists()
    with only_one(directory / LOCK):  # given back
        pass


def test_the_same_seed_gives_the_same_weights_and_another_one_others(trained, tmp_path):
    for seed in (0, 1):
        train(tiny(tmp_path / str(seed), f"seed={seed}"))
    first = arrays_in(trained / "policy.npz")
    assert same(first, arrays_in(tmp_path / "0" / "policy.npz"))
    other = arrays_in(tmp_path / "1" / "policy.npz")
    assert all(not np.array_equal(first[name], other[name]) for name in first)


def test_a_training_is_repeated_from_its_saved_configuration_alone(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_main(
        monkeypatch,
        "--config-path",
        trained,
        "--config-name",
        "config",
        f"output_dir={tmp_path / 'again'}",
    )
    assert same(arrays_in(trained / "policy.npz"), arrays_in(tmp_path / "again" / "policy.npz"))


def test_a_sweep_trains_every_seed_in_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = words_for("outputs/${name}/seed${seed}", "hydra.sweep.dir=outputs/sweep")
    run_main(monkeypatch, "--multirun", "seed=0,1", *words)
    runs = [tmp_path / "outputs" / "window_budget_mlp" / f"seed{seed}" for seed in (0, 1)]
    assert all((run / "result.json").is_file() for run in runs)
    assert not same(*(arrays_in(run / "policy.npz") for run in runs))


def test_the_training_that_another_one_begins_with_is_made_first_unless_it_is_there(
    tmp_path, monkeypatch
):
    made = []

    def note(config):
        made.append((config.name, config.seed, config.output_dir, config.wandb.mode))
        write_all(Path(config.output_dir), {RESULT: json_writer({})})
        return {}

    monkeypatch.setattr("agents.training.train", note)
    monkeypatch.chdir(tmp_path)
    for seed in (3, 3, 4):
        run_main(monkeypatch, "experiment=serving_ppo", f"seed={seed}", "wandb.mode=disabled")
    windows, all_of_it = "outputs/train/serving_windows", "outputs/train/serving_ppo"
    assert made == [
        ("serving_windows", 3, f"{windows}/seed3", "disabled"),
        ("serving_ppo", 3, f"{all_of_it}/seed3", "disabled"),
        ("serving_ppo", 3, f"{all_of_it}/seed3", "disabled"),
        ("serving_windows", 4, f"{windows}/seed4", "disabled"),
        ("serving_ppo", 4, f"{all_of_it}/seed4", "disabled"),
    ]


def test_a_mistake_on_the_command_line_is_one_line_and_exits_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        run_main(monkeypatch, "experiment=window_budget_ppo", "seed=10000")
    assert left.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "error: seed=10000 is out of range; expected a whole number in [0, 9999]"
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_validation_keeps_the_weights_of_the_smallest_loss(tmp_path):
    words = ("validation.suite=v1", "validation.every_steps=256", "validation.num_requests=200")
    cluster = ("env.cluster.num_prefill=3", "env.cluster.prefill_dp=16")  # the suite's
    found = train(tiny(tmp_path, *words, *cluster, "validation.seeds=1"))
    curve = pd.read_csv(tmp_path / "progress.csv").set_index("time/total_timesteps")
    losses = curve["validation/loss"].dropna()
    assert len(losses) >= 4
    assert found["best_loss"] == losses.min()
    assert found["best_steps"] == losses.idxmin()
    with np.load(tmp_path / "policy.npz") as file:
        assert json.loads(str(file["meta"]))["steps"] == found["best_steps"]


def test_an_agent_is_held_to_rules_that_it_could_play():
    rules = ("sbs", "sbs_budget")
    assert rules_within("SBS/WindowBudget", rules) == rules
    assert rules_within("SBS/Window", rules) == ("sbs",)
