"""Warm start: learn the answers of a rule before learning from rewards."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import obs_as_tensor

from agents.config import ImitationConfig, TrainConfig
from agents.envs import TrainingEnv
from agents.lessons import Lessons, answers_of, collect, joined, silent
from agents.loading import load
from sbs_gym.cells import Progress
from sbs_gym.envs.play import RulePlayer
from sbs_gym.errors import ConfigError

_BATCH = 1024
_SEEDS_APART = 1_000  # of the episodes of two rounds


def require_imitable(config: TrainConfig, env: Any) -> None:
    """Raise ConfigError unless the rule to imitate, if any, can be learned from in `env`."""
    rule = config.imitation.rule
    if rule is None:
        return
    if config.agent.algorithm == "dqn":
        raise ConfigError(
            f"imitation.rule={rule!r}: the Q network of agent.algorithm='dqn' has no likelihood; "
            "expected ppo, maskable_ppo, or imitation.rule=null"
        )
    if config.env.get("clusters") is not None:
        raise ConfigError(f"imitation.rule={rule!r} beside env.clusters; expected one env.cluster")
    for name in config.imitation.teachers:
        try:
            RulePlayer(env, name)  # refuses rules whose answers the action space does not contain
        except ConfigError as problem:
            raise ConfigError(f"imitation.rule={name!r}: {problem}") from None
    if config.imitation.smoothing > 0.0 and not isinstance(env.action_space, Discrete):
        raise ConfigError(
            f"imitation.smoothing={config.imitation.smoothing:g} with {env.action_space}; expected "
            "discrete actions, or 0"
        )
    if config.imitation.windows is not None:
        _require_task(config.imitation.windows, env)


def _require_task(windows: str, env: Any) -> None:
    found, task = load(windows).meta["task"], env.core.task.id
    if found != task:
        raise ConfigError(f"imitation.windows={windows!r} acts in {found}; expected {task}")


def imitate(
    model: BaseAlgorithm,
    envs: Sequence[TrainingEnv],
    config: ImitationConfig,
    seed: int,
    tell: Callable[[str, str, int, int], None] | None = None,
) -> float:
    """Raise the probability of a rule's answers; return the share that the policy then gives.

    Args:
        model: PPO or MaskablePPO; only its actor learns.
        envs: Where the rule plays, with `windows` a second one that asks for nothing else, for
            they are few among all questions; others than the model's, so that it stands as it did.
        config: Which rule, and how long.
        seed: Of episodes and batches.
        tell: Called with the round, what is being done, how much of it, and of how much.
    """
    if config.rule is None:
        raise ConfigError("imitation.rule=None: nothing to imitate")
    collected: list[Lessons] = []
    for turn in range(config.rounds):
        player = model if turn > 0 else None
        first = seed + turn * _SEEDS_APART
        part = f"{turn + 1}/{config.rounds}"
        told = functools.partial(tell, part) if tell else silent
        for number, env in enumerate(envs):
            collected.append(collect(env, config, first + number, player, told))
        lessons = joined(collected)
        _learn(model, lessons, config, first, functools.partial(told, "learning"))
    return _agreement(model, lessons)


def _learn(
    model: Any, lessons: Lessons, config: ImitationConfig, seed: int, progress: Progress
) -> None:
    optimiser = torch.optim.Adam(model.policy.parameters(), lr=config.learning_rate)
    model.policy.set_training_mode(True)
    batches = list(_batches(len(lessons.answers), config.epochs, seed))
    for number, rows in enumerate(batches):
        optimiser.param_groups[0]["lr"] = config.learning_rate * (1.0 - number / len(batches))
        loss = _loss(model, lessons, rows, config.smoothing)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        progress(number + 1, len(batches))
    model.policy.set_training_mode(False)


def _batches(count: int, epochs: int, seed: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        yield from np.array_split(rng.permutation(count), -(-count // _BATCH))


def _loss(model: Any, lessons: Lessons, rows: Any, smoothing: float) -> torch.Tensor:
    """Return the cross entropy of the lessons."""
    observations, more = _shown(model, lessons, rows)
    if not isinstance(model.action_space, Discrete):
        given = torch.as_tensor(lessons.answers[rows])
        _, log_probs, _ = model.policy.evaluate_actions(observations, given, **more)
        return -log_probs.mean()
    logits = model.policy.get_distribution(observations, **more).distribution.logits
    aims = torch.as_tensor(_aims(lessons, rows, smoothing))
    return -(aims * torch.where(aims > 0.0, logits, 0.0)).sum(dim=1).mean()


def _aims(lessons: Lessons, rows: NDArray[np.int64], smoothing: float) -> NDArray[np.float32]:
    """Return the probability that every action shall have, shape (rows, actions)."""
    legal = lessons.masks[rows].astype(np.float32)
    aims = smoothing * legal / legal.sum(axis=1, keepdims=True)
    aims[np.arange(len(rows)), lessons.answers[rows].reshape(-1)] += 1.0 - smoothing
    place = np.searchsorted(lessons.windows, rows)
    known = place < len(lessons.windows)
    known[known] = lessons.windows[place[known]] == rows[known]
    aims[known] = lessons.chances[place[known]]
    return np.asarray(aims, dtype=np.float32)


def _shown(model: Any, lessons: Lessons, rows: Any) -> tuple[Any, dict[str, Any]]:
    """Return observations as the model takes them, and masks if it has some."""
    part = {name: values[rows] for name, values in lessons.seen.items()}
    more = {"action_masks": lessons.masks[rows]} if getattr(model, "masked", False) else {}
    return obs_as_tensor(part.get("flat", part), model.device), more


def _agreement(model: Any, lessons: Lessons) -> float:
    equal, count = 0, len(lessons.answers)
    for rows in np.array_split(np.arange(count), -(-count // _BATCH)):
        part = {name: values[rows] for name, values in lessons.seen.items()}
        chosen = answers_of(model, part, lessons.masks[rows])
        same = chosen.reshape(len(rows), -1) == lessons.answers[rows].reshape(len(rows), -1)
        equal += int(same.all(axis=1).sum())
    return equal / count
