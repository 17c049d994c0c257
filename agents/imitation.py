"""Warm start: learn the answers of a rule before learning from rewards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import obs_as_tensor

from agents.config import ImitationConfig, TrainConfig
from agents.critic_sight import KEY
from agents.envs import TrainingEnv
from agents.loading import LoadedAgent, load
from agents.observations import parts
from sbs_gym.cells import Progress
from sbs_gym.envs.play import RulePlayer
from sbs_gym.errors import ConfigError
from sbs_gym.sim.features import GLOBAL

_BATCH = 1024
_SEEDS_APART = 1_000  # of the episodes of two rounds
_TEMPERATURE = 0.02  # of an agent's windows: what it holds for nearly as good stays so
_ASKS_RELEASE = [feature.name for feature in GLOBAL].index("asks_release")


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


def imitate(
    model: BaseAlgorithm,
    envs: Sequence[TrainingEnv],
    config: ImitationConfig,
    seed: int,
    progress: Progress | None = None,
) -> float:
    """Raise the probability of a rule's answers; return the share that the policy then gives.

    Args:
        model: PPO or MaskablePPO; only its actor learns.
        envs: Where the rule plays, with `windows` a second one that asks for nothing else, for
            they are few among all questions; others than the model's, so that it stands as it did.
        config: Which rule, and how long.
        seed: Of episodes and batches.
        progress: Called with the steps that have been played, and all of them.
    """
    if config.rule is None:
        raise ConfigError("imitation.rule=None: nothing to imitate")
    collected: list[Lessons] = []
    count = config.rounds * len(envs)

    def told(done: int, total: int) -> None:
        if progress is not None:
            progress(len(collected) * total + done, count * total)

    for turn in range(config.rounds):
        player = model if turn > 0 else None
        first = seed + turn * _SEEDS_APART
        for number, env in enumerate(envs):
            collected.append(collect(env, config, first + number, player, told))
        lessons = joined(collected)
        _learn(model, lessons, config, first)
    return _agreement(model, lessons)


def _learn(model: Any, lessons: Lessons, config: ImitationConfig, seed: int) -> None:
    optimiser = torch.optim.Adam(model.policy.parameters(), lr=config.learning_rate)
    model.policy.set_training_mode(True)
    batches = list(_batches(len(lessons.answers), config.epochs, seed))
    for number, rows in enumerate(batches):
        optimiser.param_groups[0]["lr"] = config.learning_rate * (1.0 - number / len(batches))
        loss = _loss(model, lessons, rows, config.smoothing)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.policy.set_training_mode(False)


def _batches(count: int, epochs: int, seed: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        yield from np.array_split(rng.permutation(count), -(-count // _BATCH))


class _Teachers:
    """Several rules, of which in every episode the best one answers."""

    def __init__(self, env: TrainingEnv, rules: Sequence[str], p99_limit: float | None) -> None:
        self._env, self._players = env, [RulePlayer(env, rule) for rule in rules]
        self._p99_limit = p99_limit
        self.choose()

    def choose(self) -> None:
        """Choose for the running episodes."""
        rules = [player.scheduler for player in self._players]
        alone = np.zeros(self._env.num_envs, dtype=np.int64)
        self._chosen = alone if len(rules) == 1 else self._env.cheapest(rules, self._p99_limit)

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
    progress: Progress | None = None,
) -> Lessons:
    """Return what was seen and what rules answered, with an agent's windows if there is one.

    Args:
        env: Where it is played.
        config: Which rules, and how much.
        seed: Of the first episode.
        player: Plays in the place of those who are asked; None: they play.
        progress: Called with the steps that have been played, and all of them.
    """
    agent = None if config.windows is None else load(config.windows)
    env.seed(seed)
    observation = env.reset()
    teachers = _Teachers(env, config.teachers, config.p99_limit)
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
            answers = _answers_of(player, seen, masks)
        observation, _, dones, _ = env.step(answers)
        if dones.any():
            teachers.choose()
        if progress is not None:
            progress(step + 1, num_steps)
    return joined(found)


def _answers_of(model: Any, seen: dict[str, Any], masks: Any) -> NDArray[Any]:
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
        chosen = _answers_of(model, part, lessons.masks[rows])
        same = chosen.reshape(len(rows), -1) == lessons.answers[rows].reshape(len(rows), -1)
        equal += int(same.all(axis=1).sum())
    return equal / count
