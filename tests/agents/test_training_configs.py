"""Every file of conf/ that a training is made of composes and builds; mistakes are told at once."""

from __future__ import annotations

import dataclasses

import pytest
from sb3_contrib import MaskablePPO

from agents.building import build_env
from agents.config import train_config
from agents.training import train
from sbs_gym.config.groups import conf_directory
from sbs_gym.errors import ConfigError
from tests.agents.tiny import composed, model_of, tiny

pytestmark = pytest.mark.usefixtures("few_observations")

SMALL = (
    "num_envs=2",
    "agent.batch_size=16",
    "++agent.rollout_steps=16",
    "++agent.buffer_size=100",
    "wandb.mode=disabled",
)
# What a file needs beside it, where the defaults of conf/train.yaml do not fit.
BESIDE = {"agent=dqn": ("env.action=flat",), "policy=set": ("agent=maskable_ppo",)}
SEVERAL = "env.clusters=[{num_prefill:2,num_decode:0},{num_prefill:2,num_decode:0,prefill_dp:4}]"


def names(group):
    return sorted(path.stem for path in (conf_directory() / group).glob("*.yaml"))


def assert_builds(*words):
    """Build as the command would, at the size of the real clusters."""
    model, env = model_of(train_config(composed(*SMALL, *words, "output_dir=never")))
    try:
        observation = env.reset()
        masked = isinstance(model, MaskablePPO)
        masks = {"action_masks": env.action_masks()} if masked else {}
        actions, _ = model.predict(observation, deterministic=True, **masks)
        env.step(actions)
    finally:
        env.close()


@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_builds_at_its_real_size(name):
    assert_builds(f"experiment={name}")


@pytest.mark.parametrize(
    "word", [f"{group}={name}" for group in ("agent", "policy", "task") for name in names(group)]
)
def test_every_agent_policy_and_task_builds(word):
    assert_builds("experiment=window_budget_mlp", word, *BESIDE.get(word, ()))


def shortened(name, folder, *words):
    words = ("validation.suite=null", "total_steps=64", "++agent.learning_starts=16", *words)
    words += ("++imitation.decisions=64", f"experiment={name}", f"output_dir={folder / name}")
    return train_config(composed(*SMALL, *words))


@pytest.mark.slow
@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_trains_at_its_real_size(name, tmp_path):
    config = shortened(name, tmp_path)
    if (first := config.imitation.windows_experiment) is not None:  # as the command does
        train(shortened(first, tmp_path))
        config = shortened(name, tmp_path, f"imitation.windows={tmp_path / first / 'policy.npz'}")
    found = train(config)
    assert (tmp_path / name / "policy.npz").is_file()
    assert found["seed"] == 0


@pytest.mark.parametrize("name", names("experiment"))
def test_the_page_on_training_lists_every_experiment(name):
    page = (conf_directory().parent / "docs" / "training.md").read_text(encoding="utf-8")
    assert f"\n| `{name}` | " in page


MISTAKES = [
    (("+sed=1",), r"train\.sed: key='sed' is not known\. Did you mean 'seed'"),
    (("+agent.gama=0.9",), r"agent\.gama: key='gama' is not known"),
    (("imitation.at_own_arrivals=maybe",), r"at_own_arrivals='maybe' is not allowed; expected"),
    (("agent.discount_by_time=1",), r"agent\.discount_by_time=1 is not allowed; expected true"),
    (("agent.batch_size=1",), r"agent\.batch_size=1 is out of range"),
    (("seed=10000",), r"seed=10000 is out of range; expected a whole number in \[0, 9999\]"),
    (("~env.id",), r"env\.id is missing"),
    (("env.id=SBS/Windows-v0",), r"'SBS/Windows' is not known\. Did you mean 'SBS/Window'"),
    (("+env.horizon=3",), r"keyword='horizon' is not known\. Did you mean 'horizon_s'"),
    (("policy=set",), r"a set policy learns with agent\.algorithm=maskable_ppo"),
    (("+env.observation=dict",), r"policy\.kind='mlp' takes flat ones; expected set"),
    (("agent=dqn",), r"agent\.algorithm='dqn' chooses from Discrete"),
    (
        ("agent=maskable_ppo", "env.id=SBS/Window-v0", "env.action=box"),
        r"env\.action='box'.*agent\.algorithm='maskable_ppo' chooses from Discrete or Multi",
    ),
    (("+" + SEVERAL,), r"env\.cluster and env\.clusters exclude each other"),
    (
        ("env.cluster=null", "+" + SEVERAL, "num_envs=7"),
        r"num_envs=7 is no multiple of the 2 of env\.clusters",
    ),
    (
        ("env.cluster=null", "+" + SEVERAL.replace("_prefill:2", "_prefill:3", 1)),
        r"env\.clusters: .* expected clusters that look alike",
    ),
    (("imitation.rule=nobody",), r"scheduler='nobody' is not known"),
    (("total_steps=0",), r"total_steps=0 without imitation\.rule"),
    (("imitation.rivals=[sbs]",), r"imitation\.rivals=\['sbs'\] without imitation\.rule"),
    (("imitation.rounds=0",), r"imitation\.rounds=0"),
    (
        ("imitation.windows_experiment=serving_windows", "imitation.windows=net.npz"),
        r"imitation\.windows='net\.npz'; expected a path that ends with policy\.npz",
    ),
    (
        ("imitation.rule=sbs_budget", "env.id=SBS/Window-v0"),
        r"rule 'sbs_budget' has budget='backlog', which SBS/Window does not choose",
    ),
    (
        ("imitation.rule=sbs", "agent=dqn", "env.action=flat"),
        r"imitation\.rule='sbs': the Q network of agent\.algorithm='dqn' has no likelihood",
    ),
    (
        ("imitation.rule=sbs", "env.cluster=null", "+" + SEVERAL),
        r"imitation\.rule='sbs' beside env\.clusters",
    ),
    (("validation.suite=v1",), r"an mlp trained with \{'num_prefill': 2, .* plays no other"),
    (("validation.suite=v0",), r"suite='v0' is not known"),
    (("wandb.mode=on",), r"wandb\.mode='on' is not known"),
]


@pytest.mark.parametrize("words, message", MISTAKES, ids=[" ".join(w)[:40] for w, _ in MISTAKES])
def test_a_mistake_is_told_before_anything_is_written(words, message, tmp_path):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        train(tiny(tmp_path / "run", *words))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_weights_learned_on_several_clusters_play_the_suite(tmp_path):
    words = ("total_steps=32", "validation.seeds=1", "validation.num_requests=200")
    out = f"output_dir={tmp_path}"
    found = train(train_config(composed(*SMALL, *words, "experiment=window_budget_sizes", out)))
    assert found["validation/ratio"] > 0.0


def test_the_critic_of_dqn_and_of_a_task_without_baseline_sees_nothing_more(tmp_path):
    config = tiny(tmp_path)
    plain = dataclasses.replace(
        config, policy=dataclasses.replace(config.policy, critic_sees_baseline=False)
    )
    sizes = {}
    for name, one in {
        "ppo": config,
        "told not to": plain,
        "no baseline": tiny(tmp_path, "env.reward.baseline=null"),
        "dqn": tiny(tmp_path, "agent=dqn", "env.action=flat"),
    }.items():
        env = build_env(one)
        sizes[name] = env.observation_space.shape[0]
        env.close()
    assert sizes["ppo"] == sizes["told not to"] + 5
    assert sizes["no baseline"] == sizes["dqn"] == sizes["told not to"]
