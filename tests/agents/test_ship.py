"""Shipping: the median training, with a card, and nothing unfinished."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import agents
from agents.ship import main, median_of, ship
from agents.training import train
from sbs_gym.errors import ConfigError
from tests.agents.tiny import arrays_in, tiny

pytestmark = pytest.mark.usefixtures("few_observations")

LOSSES = (-0.10, -0.30, -0.20)  # of seeds 0, 1 and 2: the median is that of seed 2


def edited(path, **changes):
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | changes))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, few_observations):
    directory = tmp_path_factory.mktemp("runs")
    for seed, loss in enumerate(LOSSES):
        run = directory / f"seed{seed}"
        train(tiny(run, f"seed={seed}", "total_steps=128"))
        ratios = {f"validation/{name}": 1.0 + loss for name in ("ratio", "rival", "rival_worst")}
        edited(run / "result.json", best_loss=loss, best_steps=128, **ratios)
    return [directory / f"seed{seed}" for seed in range(3)]


def test_the_median_is_between_and_of_two_the_worse_one():
    assert median_of([3.0, 1.0, 2.0]) == 2
    assert median_of([1.0, 2.0]) == 1
    assert median_of([2.0, 1.0, 4.0, 3.0]) == 3
    assert median_of([None, 1.0]) == 0


def test_the_median_training_ships_with_its_card(runs, tmp_path):
    words = [f"runs=[{','.join(map(str, runs))}]", "name=mine", f"output_dir={tmp_path}"]
    assert main(words) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"mine.npz", "mine.md", "mine.curves.csv"}
    shipped, median = arrays_in(tmp_path / "mine.npz"), arrays_in(runs[2] / "policy.npz")
    assert shipped.keys() == median.keys()
    assert all(np.array_equal(shipped[name], median[name]) for name in median)
    card = (tmp_path / "mine.md").read_text()
    assert "experiment=window_budget_mlp seed=2" in card
    assert "| 1 | 128 | 0.700 | 0.700 | 0.700 |" in card
    saved = yaml.safe_load(card.split("```yaml")[1].split("```")[0])
    trained = yaml.safe_load((runs[2] / "config.yaml").read_text())
    anywhere = {"output_dir": "outputs/train/window_budget_mlp/seed2"}  # no folder of this machine
    assert saved == trained | anywhere


def test_the_validations_of_all_trainings_ship_as_one_table(runs, tmp_path):
    copies = [shutil.copytree(run, tmp_path / run.name) for run in runs]
    head = "time/total_timesteps,train/loss,validation/ratio,validation/worst"
    for place, run in enumerate(copies):
        rows = ["64,0.5,,", f"128,0.4,0.9{place}00049,1.1", "192,0.3,0.87654,"]
        (run / "progress.csv").write_text("\n".join([head, *rows]) + "\n")
    ship(copies[::-1], "mine", (), tmp_path / "out")
    lines = (tmp_path / "out" / "mine.curves.csv").read_text().splitlines()
    assert lines[:3] == ["seed,steps,ratio,worst", "0,128,0.9,1.1", "0,192,0.8765,"]
    assert [line.split(",")[:2] for line in lines[3:]] == [
        ["1", "128"],
        ["1", "192"],
        ["2", "128"],
        ["2", "192"],
    ]


def test_trainings_without_validations_ship_an_empty_table(runs, tmp_path):
    without = shutil.copytree(runs[0], tmp_path / "run")
    (without / "progress.csv").write_text("time/total_timesteps,train/loss\n64,0.5\n")
    ship([without], "mine", (), tmp_path / "out")
    assert (tmp_path / "out" / "mine.curves.csv").read_text() == "seed,steps,ratio,worst\n"


def test_what_ships_is_loaded_and_answers(runs, tmp_path):
    agent = agents.load(str(ship(runs, "mine", (), tmp_path)))
    assert agent.meta["about"] == (
        "mine: SBS/WindowBudget-v0, trained with timing=linear only; median of 3 trainings"
    )
    actions, _ = agent.predict(np.zeros((5, len(agent.arrays["mean"]))))
    assert actions.shape == (5, 2)
    assert agent.scheduler.learned == str(tmp_path / "mine.npz")


def test_the_tables_of_an_evaluation_go_into_the_card(runs, tmp_path):
    evaluated(tmp_path, runs[1] / "policy.npz")
    (tmp_path / "suite.md").write_text(f"| cell | ratio |\n\nthe median is {runs[1]}\n")
    ship(runs, "mine", [tmp_path], tmp_path / "out")
    card = (tmp_path / "out" / "mine.md").read_text()
    assert "| cell | ratio |" in card
    assert "the median is outputs/train/window_budget_mlp/seed1" in card
    assert str(runs[1]) not in card


def test_a_card_names_runs_as_on_any_machine_also_if_they_are_named_from_here(
    runs, tmp_path, monkeypatch
):
    evaluated(tmp_path, runs[1] / "policy.npz")
    (tmp_path / "suite.md").write_text(f"the median is learned:{runs[1]}/policy.npz\n")
    monkeypatch.chdir(runs[0].parent)
    ship([Path(run.name) for run in runs], "mine", [tmp_path], tmp_path / "out")
    card = (tmp_path / "out" / "mine.md").read_text()
    assert "the median is learned:outputs/train/window_budget_mlp/seed1/policy.npz\n" in card


def evaluated(directory, weights):
    """Write what an evaluation says of the weights that it played."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    told = {"policies": {"sbs": {"weights": {}}, "mine": {"weights": {str(weights): digest}}}}
    (directory / "suite.json").write_text(json.dumps(told))


def test_an_evaluation_of_other_weights_is_refused(runs, tmp_path):
    evaluated(tmp_path, runs[0] / "policy.npz")
    with pytest.raises(ConfigError, match="played none of the runs"):
        ship(runs[1:], "mine", [tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unfinished_training_does_not_ship(runs, tmp_path, capsys):
    unfinished = tmp_path / "unfinished"
    shutil.copytree(runs[0], unfinished)
    (unfinished / "result.json").unlink()
    words = [f"runs=[{runs[1]},{unfinished}]", f"output_dir={tmp_path / 'out'}"]
    assert main(words) == 2
    assert "holds no finished result; missing: result.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_trainings_of_two_experiments_have_no_median(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs[0], other)
    config = yaml.safe_load((other / "config.yaml").read_text()) | {"name": "another"}
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="several experiments: another, window_budget_mlp"):
        ship([runs[0], other], None, (), tmp_path / "out")


@pytest.mark.parametrize(
    "words, message", [(["seeds=3"], "'seeds' is not known"), (["name=mine"], "runs is missing")]
)
def test_a_mistake_on_the_command_line_is_one_line_and_exits_with_2(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err
