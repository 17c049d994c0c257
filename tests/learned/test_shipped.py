"""The agents that ship: they load, play without torch, and do what their card says they do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import agents
import sbs_gym  # noqa: F401  registers the environments
from sbs_gym import load_config
from sbs_gym.config.learned import learned_names, read_weights_file, weights_path
from sbs_gym.envs.config import scheduler_named
from sbs_gym.errors import ConfigError
from sbs_gym.simulate import measured_run

WORDS = ["cluster=h800_3p1d", "cluster.num_decode=0", "timing=linear", "num_requests=6000"]
MOST_BYTES = 500_000


def ttft_mean_s(scheduler, *words):
    config = load_config([*WORDS, *words])
    config = dataclasses.replace(config, scheduler=scheduler_named(scheduler), seed=20_500)
    return measured_run(config).summary["ttft_mean_s"]


def test_the_agents_of_the_readme_ship():
    assert {"serving_ppo", "window_budget_ppo", "window_budget_reserve", "window_ppo"} <= set(
        learned_names()
    )


@pytest.mark.parametrize("name", learned_names())
def test_a_shipped_agent_is_small_and_has_a_card(name):
    path = weights_path(name)
    assert path.stat().st_size < MOST_BYTES
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    for part in ("experiment=", "seed", "git revision", "## Configuration"):
        assert part in card


@pytest.mark.parametrize("name", learned_names())
def test_a_shipped_agent_says_how_it_was_trained(name):
    training = read_weights_file(name).meta["training"]
    assert training["seed"] < 10_000
    assert training["env"]["id"].startswith("SBS/")
    assert not Path(training["output_dir"]).is_absolute()


@pytest.mark.parametrize("name", learned_names())
def test_a_shipped_agent_loads_in_one_line(name):
    agent = agents.load(name)
    assert agent.scheduler.learned == name
    assert agent.meta["task"] == agent.meta["training"]["env"]["id"].removesuffix("-v0")


@pytest.mark.parametrize("name", learned_names())
def test_a_shipped_agent_plays_an_environment_made_with_its_options(name):
    agent = agents.load(f"learned:{name}")
    env = gym.make(f"{agent.meta['task']}-v0", horizon_s=5.0, warmup_s=0.0, **agent.options)
    observation, info = env.reset(seed=0)
    for _ in range(3):
        action, _ = agent.predict(observation, action_masks=info["action_mask"])
        observation, _, _, _, info = env.step(action)
    if "action_mask" in info and agent.meta["action"] != "multi":
        with pytest.raises(
            ConfigError, match=rf"action_masks of shape \(3,\).*{agent.meta['task']}"
        ):
            agent.predict(observation, action_masks=[True, False, True])


@pytest.mark.parametrize("load", [0.5, 0.85])
def test_the_window_and_budget_agent_beats_sbs_on_short_prompts(load):
    words = ("workload=sbs_short", f"load={load}")
    assert ttft_mean_s("learned:window_budget_ppo", *words) < 0.9 * ttft_mean_s("sbs", *words)


def test_the_window_and_budget_agent_beats_the_rules_on_lengths_it_never_saw():
    words = ("workload=deepseek_r1_like", "load=0.7")
    mine = ttft_mean_s("learned:window_budget_ppo", *words)
    assert mine < 0.95 * min(ttft_mean_s(rule, *words) for rule in ("sbs", "sbs_budget"))


def test_the_agent_that_reserves_instances_does_so_where_it_pays():
    name = "learned:window_budget_reserve"
    some_long = ("workload=deepseek_r1_like", "load=0.7")
    rules = [ttft_mean_s(rule, *some_long) for rule in ("sbs", "sbs_budget")]
    assert ttft_mean_s(name, *some_long) < 0.9 * min(rules)
    all_long = ("workload=sbs_long", "load=0.85")
    assert ttft_mean_s(name, *all_long) < ttft_mean_s("sbs", *all_long)
    assert ttft_mean_s("sbs_reserve", *all_long) > 1.3 * ttft_mean_s("sbs", *all_long)


def test_the_joint_agent_beats_the_rules_on_the_whole_path_on_lengths_it_never_saw():
    words = ("workload=deepseek_r1_like", "load=0.85", "timing=roofline", "cluster.num_decode=1")
    mine = ttft_mean_s("learned:serving_ppo", *words)
    assert mine < 0.9 * ttft_mean_s("sbs", *words)
    assert mine < ttft_mean_s("sbs_budget", *words)


def test_the_command_line_plays_a_shipped_agent_without_torch(tmp_path):
    code = (
        "import sys; from sbs_gym.cli import main; code = main(sys.argv[1:]); "
        "loaded = {'torch', 'stable_baselines3'} & set(sys.modules); sys.exit(code or len(loaded))"
    )
    words = ["simulate", "scheduler=learned:window_budget_ppo", *WORDS, "num_requests=500"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, f"output_dir={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert found["num_finished"] == 500


def test_an_observation_of_another_form_is_refused_in_words():
    agent = agents.load("window_budget_ppo")
    with pytest.raises(ConfigError, match="observation='dict'"):
        agent.predict(np.zeros(62))
    with pytest.raises(ConfigError, match="expected"):
        agent.predict({"global": np.zeros(3), "instances": np.zeros((3, 2))})
    assert len(repr(agent)) < 3_000


@pytest.mark.parametrize("agent", ["serving_reserve", "prefill_allocation_reserve"])
def test_agents_of_the_whole_path_that_reserve_instances_do_so_where_it_pays(agent):
    name, full = f"learned:{agent}", ("cluster=h800_3p1d", "cluster.num_decode=1")
    some_long = ("workload=deepseek_r1_like", "load=0.7", "timing=roofline", *full)
    rules = [ttft_mean_s(rule, *some_long) for rule in ("sbs", "sbs_budget")]
    assert ttft_mean_s(name, *some_long) < 0.9 * min(rules)
    all_long = ("workload=sbs_long", "load=0.85", "timing=roofline", *full)
    assert ttft_mean_s(name, *all_long) < 1.05 * ttft_mean_s("sbs", *all_long)
    assert ttft_mean_s("sbs_reserve", *all_long) > 1.1 * ttft_mean_s("sbs", *all_long)
