"""A training that is stopped and goes on learns the same, bit for bit, as one that was not."""

from __future__ import annotations

import os
import signal

import numpy as np
import pandas as pd
import pytest

from agents import checkpoint, training
from agents.callbacks import Supervisor
from agents.time_aware.rollouts import TimeAwarePPO
from agents.training import train
from sbs_gym.errors import ConfigError
from tests.agents.tiny import arrays_in, learned_in, tiny

pytestmark = pytest.mark.usefixtures("few_observations")

CLOCK = ["time/fps", "time/time_elapsed", "time/iterations"]  # differ with the machine and the stop
STORED_AT, STOPPED_AT = 384, 700
CASES = {
    "ppo": ("window_budget_mlp", ()),
    "a policy over sets": ("window_budget_ppo", ()),
    # Fewer rows than are collected, so that the replay has gone round when it is stored, and a
    # period of the target network that does not divide what was collected.
    "dqn": (
        "window_budget_dqn",
        (
            "agent.buffer_size=320",
            "agent.learning_starts=128",
            "agent.target_every=200",
            "++agent.exploration_frac=0.8",
        ),
    ),
    # The player changes before and after the stop, and old lessons have made room for new ones.
    "answers tried out": ("serving_windows", ("agent.refresh_every=200", "agent.lessons=256")),
    "several clusters": ("window_budget_sizes", ()),
    "after imitation": ("window_budget_mlp", ("imitation.rule=sbs", "++imitation.decisions=256")),
}


class Stopped(Exception):
    """Stands for whatever ends a process half-way."""


def stop(config, monkeypatch):
    """Train until the process would have been killed, in the middle of a rollout."""

    def on_step(supervisor):
        if supervisor.num_timesteps >= STOPPED_AT:
            raise Stopped
        return True

    with monkeypatch.context() as patch:
        patch.setattr(Supervisor, "_on_step", on_step)
        with pytest.raises(Stopped):
            train(config)


def curve_of(directory):
    return pd.read_csv(directory / "progress.csv").drop(columns=CLOCK, errors="ignore")


@pytest.mark.parametrize("case", CASES)
def test_a_stopped_training_goes_on_exactly(tmp_path, monkeypatch, case):
    experiment, words = CASES[case]
    words = (f"checkpoint_every_steps={STORED_AT}", *words)
    straight, broken = (
        tiny(tmp_path / name, *words, experiment=experiment) for name in ("straight", "broken")
    )
    train(straight)
    stop(broken, monkeypatch)
    assert checkpoint.load(tmp_path / "broken")["counters"]["num_timesteps"] == STORED_AT
    half_way = learned_in(tmp_path / "broken")
    train(broken)

    expected, found = (learned_in(tmp_path / name) for name in ("straight", "broken"))
    assert expected.keys() == found.keys()
    assert [name for name in expected if not expected[name].equal(found[name])] == []
    assert any(not found[name].equal(half_way[name]) for name in half_way)
    weights = [arrays_in(tmp_path / name / "policy.npz") for name in ("straight", "broken")]
    for name, values in weights[0].items():
        np.testing.assert_array_equal(values, weights[1][name])
    curves = [curve_of(tmp_path / name) for name in ("straight", "broken")]
    pd.testing.assert_frame_equal(*curves)
    assert any(column.startswith("train/") for column in curves[0])


def test_a_training_stopped_behind_its_last_checkpoint_only_ends(tmp_path, monkeypatch):
    config = tiny(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(training, "versions", lambda: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            train(config)
    before = arrays_in(tmp_path / "run" / "policy.npz")
    assert not (tmp_path / "run" / "result.json").exists()
    assert train(config)["seed"] == 0
    for name, values in arrays_in(tmp_path / "run" / "policy.npz").items():
        np.testing.assert_array_equal(values, before[name])


def test_a_finished_training_is_read_and_not_repeated(tmp_path, monkeypatch):
    config = tiny(tmp_path / "run")
    found = train(config)
    monkeypatch.setattr(training, "build_env", lambda *_: pytest.fail("trains again"))
    assert train(config) == found


def test_a_checkpoint_of_other_code_is_refused(tmp_path, monkeypatch):
    config = tiny(tmp_path / "run", f"checkpoint_every_steps={STORED_AT}")
    stop(config, monkeypatch)
    monkeypatch.setattr(checkpoint, "code_digest", lambda: "other")
    with pytest.raises(ConfigError, match="written by another version of the code"):
        train(config)


def test_the_directory_of_another_configuration_is_refused_and_the_difference_named(tmp_path):
    train(tiny(tmp_path / "run"))
    with pytest.raises(ConfigError, match=r"differs in: agent\.epochs, total_steps"):
        train(tiny(tmp_path / "run", "agent.epochs=1", "total_steps=2048"))


def test_an_interrupt_stores_the_run_behind_its_rollout(tmp_path, monkeypatch):
    config = tiny(tmp_path / "run", "total_steps=2000")
    collect = TimeAwarePPO.collect_rollouts

    def interrupted(self, *args, **kwargs):
        done = collect(self, *args, **kwargs)
        if self.num_timesteps == 2 * 8 * 16:  # in the middle of the second turn
            os.kill(os.getpid(), signal.SIGINT)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(TimeAwarePPO, "collect_rollouts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    train(config)
    train(tiny(tmp_path / "whole", "total_steps=2000"))
    stopped, whole = (arrays_in(tmp_path / name / "policy.npz") for name in ("run", "whole"))
    assert all(np.array_equal(stopped[name], whole[name]) for name in whole)
