"""What a policy learns from rules: what was seen where they answered, and their answers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import obs_as_tensor

from agents.config import ImitationConfig
from agents.critic_sight import KEY
from agents.envs import TrainingEnv
from agents.loading import LoadedAgent, load
from agents.observations import parts
from sbs_gym.cells import Progress
from sbs_gym.envs.play import RulePlayer
from sbs_gym.sim.features import GLOBAL

Tell = Callable[[str, int, int], None]  # what is being done, how much of it, of how much
_TEMPERATURE = 0.02  # of an agent's windows: what it holds for nearly as good stays so
_ASKS_RELEASE = [feature.name for feature in GLOBAL].index("asks_release")


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lessons:
    """What is learned from, one row per decision.

    Attributes:
        seen: Observations by parts.
        answers: Of the teacher.
        masks: Legal actions.
        windows: Rows in which an agent chose the window.
        chances: Probabilities of all actions in those rows, shape (windows, actions).
    """

    seen: dict[str, Any]
    answers: NDArray[Any]
    masks: NDArray[Any]
    windows: NDArray[np.int64]
    chances: NDArray[np.float32]


class _Teachers:
    """Several rules, of which in every episode the best one answers."""

    def __init__(self, env: TrainingEnv, config: ImitationConfig, tell: Tell) -> None:
        self._env, self._config = env, config
        self._players = [RulePlayer(env, rule) for rule in config.teachers]
        self.choose(functools.partial(tell, "comparing rules"))

    def choose(self, progress: Progress | None = None) -> None:
        """Choose for the running episodes."""
        rules = [player.scheduler for player in self._players]
        if len(rules) == 1:
            self._chosen = np.zeros(self._env.num_envs, dtype=np.int64)
        else:
            compared = self._config.p99_weight, self._config.at_own_arrivals
            self._chosen = self._env.cheapest(rules, *compared, progress=progress)

    def actions(self) -> NDArray[Any]:
        """Return the answers to all standing questions; ask once each."""
        answers = np.zeros(self._env.num_envs, dtype=np.int64)
        values = np.zeros(self._env.num_envs)
        for number in np.unique(self._chosen):
            asked = self._chosen == number
            found, value = self._players[number].answers(asked)
            answers[asked], values[asked] = found[asked], value[asked]
        return self._players[0].encoded(answers, values)


def collect(
    env: TrainingEnv,
    config: ImitationConfig,
    seed: int,
    player: BaseAlgorithm | None = None,
    tell: Tell = silent,
) -> Lessons:
    """Return what was seen and what rules answered, with an agent's windows if there is one.

    Args:
        env: Where it is played.
        config: Which rules, and how much.
        seed: Of the first episode.
        player: Plays in the place of those who are asked; None: they play.
        tell: Called with what is being done, how much of it, and of how much.
    """
    agent = None if config.windows is None else load(config.windows)
    env.seed(seed)
    observation = env.reset()
    teachers = _Teachers(env, config, tell)
    found = []
    num_steps = -(-config.decisions // env.num_envs) * config.gap
    num_windows = env.core.layout.num_windows
    mixed = 0 < num_windows < env.core.layout.num_actions
    for step in range(num_steps):
        answers, masks = teachers.actions(), env.action_masks()
        seen = {name: part.copy() for name, part in parts(observation).items()}
        asked = np.zeros(0, dtype=np.int64)
        chances = np.zeros((0, masks.shape[1]), dtype=np.float32)
        if agent is not None:
            asked = np.flatnonzero(seen["global"][:, _ASKS_RELEASE])
            answers, chances = _with_windows(agent, seen, masks, asked, answers)
        lessons = Lessons(seen=seen, answers=answers, masks=masks, windows=asked, chances=chances)
        if step % config.gap == 0:
            found.append(lessons)
        elif mixed:
            found.append(_at(lessons, np.flatnonzero(masks[:, :num_windows].any(axis=1))))
        if player is not None:
            answers = answers_of(player, seen, masks)
        observation, _, dones, _ = env.step(answers)
        if dones.any():
            teachers.choose()
        tell("playing", step + 1, num_steps)
    return joined(found)


def answers_of(model: Any, seen: dict[str, Any], masks: Any) -> NDArray[Any]:
    """Return the deterministic answers of a policy."""
    if getattr(model, "masked", False) and isinstance(model.action_space, Discrete):
        with torch.no_grad():  # predict() makes two distributions more
            shown = obs_as_tensor(seen.get("flat", seen), model.device)
            logits = model.policy.get_distribution(shown).distribution.logits.cpu().numpy()
        return np.asarray(np.where(masks, logits, -np.inf).argmax(axis=1))
    more = {"action_masks": masks} if getattr(model, "masked", False) else {}
    chosen, _ = model.predict(seen.get("flat", seen), deterministic=True, **more)
    return np.asarray(chosen)


def _at(lessons: Lessons, rows: NDArray[np.int64]) -> Lessons:
    """Return some rows, all windows of agents among them."""
    return Lessons(
        seen={name: part[rows] for name, part in lessons.seen.items()},
        answers=lessons.answers[rows],
        masks=lessons.masks[rows],
        windows=np.searchsorted(rows, lessons.windows),
        chances=lessons.chances,
    )


def joined(lessons: Sequence[Lessons]) -> Lessons:
    """Return several lessons as one, in their order."""
    ends = np.cumsum([0, *(len(one.answers) for one in lessons)])
    return Lessons(
        seen={
            name: np.concatenate([one.seen[name] for one in lessons]) for name in lessons[0].seen
        },
        answers=np.concatenate([one.answers for one in lessons]),
        masks=np.concatenate([one.masks for one in lessons]),
        windows=np.concatenate(
            [one.windows + end for one, end in zip(lessons, ends, strict=False)]
        ),
        chances=np.concatenate([one.chances for one in lessons]),
    )


def _with_windows(
    agent: LoadedAgent, seen: dict[str, Any], masks: Any, asked: NDArray[np.int64], answers: Any
) -> tuple[Any, NDArray[np.float32]]:
    """Return the answers with those of the agent in the rows `asked`, and its probabilities."""
    logits = agent.logits({name: part[asked] for name, part in seen.items() if name != KEY})
    logits = np.where(masks[asked], logits, -np.inf)
    answers = answers.copy()
    answers[asked] = logits.argmax(axis=1)
    weights = np.exp((logits - logits.max(axis=1, keepdims=True, initial=-np.inf)) / _TEMPERATURE)
    return answers, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
