"""What `python -m agents.train` says of its words."""

from __future__ import annotations

import subprocess
import sys

import hydra
import pytest
from hydra.errors import HydraException

from agents.train_words import help_text, refused
from sbs_gym.config.groups import conf_directory


def called(*words):
    command = [sys.executable, "-m", "agents.train", *words]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=conf_directory().parent, check=False
    )


def test_help_names_every_experiment_and_which_ships():
    told = help_text()
    for path in (conf_directory() / "experiment").glob("*.yaml"):
        assert f"\n  {path.stem} " in told
    line = next(line for line in told.splitlines() if line.startswith("  window_ppo "))
    assert line.split() == ["window_ppo", "The", "window", "alone;", "ships"]
    assert max(map(len, told.splitlines())) <= 100


def test_help_asks_for_no_experiment():
    found = called("--help")
    assert found.returncode == 0
    assert found.stdout.strip() == help_text().strip()


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("agent.gama=0.5", "agent: key='gama' is not known. Did you mean 'gamma'? Known: "),
        ("totl_steps=4", "key='totl_steps' is not known. Did you mean 'total_steps'? Known: "),
        ("experiment=window_pp", "experiment='window_pp' is not known. Did you mean 'window_ppo'?"),
        ("policy=sett", "policy='sett' is not known. Did you mean 'set'? Known: mlp, set"),
        ("env.foo=4", "Could not override 'env.foo'. To append to your config use +env."),
        ("seed", "Error parsing override 'seed' missing EQUAL"),
    ],
)
def test_a_mistyped_word_is_refused_in_one_line(word, told):
    words = [word] if word.startswith("experiment=") else ["experiment=window_ppo", word]
    directory = str(conf_directory())
    with (
        hydra.initialize_config_dir(directory, version_base="1.3"),
        pytest.raises(HydraException) as problem,
    ):
        hydra.compose("train", overrides=words)
    assert refused(problem.value).startswith(told)
    assert "\n" not in refused(problem.value)


def test_a_mistyped_word_ends_with_2_before_any_work(tmp_path):
    found = called("experiment=window_ppo", f"output_dir={tmp_path / 'run'}", "agent.gama=0.5")
    assert found.returncode == 2
    assert found.stderr.startswith("error: agent: key='gama' is not known.")
    assert found.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
