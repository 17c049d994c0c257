"""Everything that a training run needs to go on exactly: one file, written at rollout boundaries.

A run that is stopped and goes on has the same weights at its end, bit for bit, as one that was not.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.files import CHECKPOINT
from agents.lookahead.iteration import LookaheadIteration
from agents.observations import Statistics
from sbs_gym.artifacts import write_all
from sbs_gym.errors import ConfigError
from sbs_gym.result import code_digest

_FORMAT = 1
# What Stable-Baselines3 counts while it learns, by algorithm.
_COUNTERS = ("num_timesteps", "_episode_num", "_n_updates", "_current_progress_remaining")
_DQN_COUNTERS = ("_n_calls", "exploration_rate")
_REPLAY = (
    "observations",
    "next_observations",
    "actions",
    "rewards",
    "dones",
    "timeouts",
    "discounts",
)


def save(
    directory: Path, model: BaseAlgorithm, statistics: Statistics, notes: Mapping[str, Any]
) -> None:
    """Write the checkpoint, whole or not at all.

    Args:
        directory: Of the run.
        model: Between two rollouts.
        statistics: Of the observations, which the policy is built with.
        notes: What callbacks remember; plain values and arrays.
    """
    state = {
        "format": _FORMAT,
        "code": code_digest(),
        "statistics": dataclasses.asdict(statistics),
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "counters": {name: getattr(model, name) for name in _counters(model)},
        "last_obs": model._last_obs,
        "last_episode_starts": model._last_episode_starts,
        "env": model.get_env().state(),
        "random": _random_states(model),
        "replay": _replay_state(model),
        "lookahead": _lookahead_state(model),
        "notes": dict(notes),
    }
    write_all(directory, {CHECKPOINT: lambda path: torch.save(state, path)})


def load(directory: Path) -> dict[str, Any] | None:
    """Return the checkpoint of a run, None if there is none.

    The file is read with pickle: open checkpoints of your own only.

    Raises:
        ConfigError: If other code wrote it, whose runs would not go on exactly.
    """
    path = directory / CHECKPOINT
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=False)
    if state.get("format") != _FORMAT or state.get("code") != code_digest():
        raise ConfigError(
            f"{path} was written by another version of the code; expected the same, or another "
            "output_dir for a new run"
        )
    return state


def statistics_in(state: Mapping[str, Any]) -> Statistics:
    """Return the statistics of the observations that a checkpoint holds."""
    return Statistics(**state["statistics"])


def restore(model: BaseAlgorithm, state: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a freshly built model to where the checkpoint was written; return the notes."""
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    for name in _counters(model):
        setattr(model, name, state["counters"][name])
    model._last_obs = state["last_obs"]
    model._last_episode_starts = state["last_episode_starts"]
    model.get_env().restore(state["env"])
    _restore_replay(model, state["replay"])
    if isinstance(model, LookaheadIteration):
        model.restore_lookahead(state["lookahead"])
    _restore_random(model, state["random"])
    return dict(state["notes"])


def _counters(model: BaseAlgorithm) -> tuple[str, ...]:
    return _COUNTERS + (_DQN_COUNTERS if isinstance(model, DQN) else ())


def _random_states(model: BaseAlgorithm) -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002  what Stable-Baselines3 draws from
        "torch": torch.get_rng_state(),
        "actions": model.action_space.np_random.bit_generator.state,
    }


def _restore_random(model: BaseAlgorithm, states: Mapping[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    model.action_space.np_random.bit_generator.state = states["actions"]


def _lookahead_state(model: BaseAlgorithm) -> dict[str, Any] | None:
    return model.lookahead_state() if isinstance(model, LookaheadIteration) else None


def _replay_state(model: BaseAlgorithm) -> dict[str, Any] | None:
    if not isinstance(model, DQN):
        return None
    replay = model.replay_buffer
    filled = replay.buffer_size if replay.full else replay.pos
    kept = {name: getattr(replay, name)[:filled] for name in _REPLAY if hasattr(replay, name)}
    return {"pos": replay.pos, "full": replay.full, "arrays": kept}


def _restore_replay(model: BaseAlgorithm, state: Mapping[str, Any] | None) -> None:
    if state is None:
        return
    replay = model.replay_buffer
    for name, kept in state["arrays"].items():
        getattr(replay, name)[: len(kept)] = kept
    replay.pos, replay.full = state["pos"], state["full"]
