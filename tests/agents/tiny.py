"""Trainings that fit into a test: two instances of four ranks, one workload, one load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from agents import checkpoint
from agents.building import build_env, build_model, env_seed, measure_statistics
from agents.config import TrainConfig, train_config
from sbs_gym.config.groups import conf_directory

SIZES = (
    "total_steps=1024",
    "num_envs=8",
    "agent.batch_size=64",
    "++agent.rollout_steps=16",
    "++agent.epochs=2",
    "++agent.horizon_s=1.0",
    "++agent.gap=4",
    "++agent.tries=3",
    "++policy.layers=[16,16]",
    "wandb.mode=disabled",
    "validation.suite=null",
    "imitation.windows=null",
    "++imitation.windows_experiment=null",
    "checkpoint_every_steps=100000",
)
SET_SIZES = tuple("++policy.width=16" if "layers" in word else word for word in SIZES)
WORLD = (
    "++env.cluster.num_prefill=2",
    "++env.cluster.prefill_dp=4",
    "env.workload=[sbs_short]",
    "env.arrivals=[poisson]",
    "~env.burstiness",
    "env.timing=linear",
    "env.load=0.8",
    "env.horizon_s=6.0",
    "env.warmup_s=[0.0,2.0]",
)
SEVERAL = (
    *WORLD[2:],
    "env.clusters=[{num_prefill:2,num_decode:0,prefill_dp:4},"
    "{num_prefill:2,num_decode:0,prefill_dp:8}]",
)
DECODING = (
    *WORLD,
    "++env.cluster.num_decode=2",
    "++env.cluster.decode_dp=2",
    "++env.cluster.prefill_kv_tokens=100000",
    "++env.cluster.decode_kv_tokens=100000",
)


def words_for(directory: Path, *words: str, experiment: str = "window_budget_mlp") -> list[str]:
    """Return the command line of a tiny training; later words win."""
    sizes = SET_SIZES if _plays_sets(experiment) else SIZES
    return [
        f"experiment={experiment}",
        *sizes,
        *_world_of(experiment),
        *words,
        f"output_dir={directory}",
    ]


def _world_of(experiment: str) -> tuple[str, ...]:
    if experiment == "window_budget_sizes":
        return SEVERAL
    decodes = experiment.startswith(("prefill", "decode", "serving"))
    return DECODING if decodes else WORLD


def _plays_sets(experiment: str) -> bool:
    path = conf_directory() / "experiment" / f"{experiment}.yaml"
    return "/policy: set" in path.read_text(encoding="utf-8")


def composed(*words: str) -> dict[str, Any]:
    """Return what Hydra makes of a command line, as plain values."""
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        given = OmegaConf.to_container(compose("train", list(words)), resolve=True)
    assert isinstance(given, dict)
    return given


def tiny(directory: Path, *words: str, experiment: str = "window_budget_mlp") -> TrainConfig:
    """Return the configuration of a tiny training."""
    return train_config(composed(*words_for(directory, *words, experiment=experiment)))


def model_of(config: TrainConfig) -> tuple[Any, Any]:
    """Return an untrained model and its environments, which the caller closes."""
    env = build_env(config)
    env.seed(env_seed(config))
    return build_model(config, env, measure_statistics(config)), env


def arrays_in(path: Path) -> dict[str, np.ndarray]:
    """Return the weights in a file of weights, by name."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != "meta"}


def learned_in(directory: Path) -> dict[str, torch.Tensor]:
    """Return all that the last checkpoint says was learned: actor, critic, state of Adam."""
    state = checkpoint.load(directory)
    assert state is not None
    found = dict(state["policy"])
    for number, one in state["optimizer"]["state"].items():
        found |= {f"adam {number} {name}": torch.as_tensor(value) for name, value in one.items()}
    return found
