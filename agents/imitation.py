"""Warm start: learn the answers of a rule before learning from rewards."""

from __future__ import annotations

from collections.abc import Iterator
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
from sbs_gym.envs.play import RulePlayer
from sbs_gym.errors import ConfigError
from sbs_gym.sim.features import GLOBAL

_BATCH = 1024
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
    RulePlayer(env, rule)  # refuses rules whose answers the action space does not contain
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


def imitate(model: BaseAlgorithm, env: TrainingEnv, config: ImitationConfig, seed: int) -> float:
    """Raise the probability of a rule's answers; return the share that the policy then gives.

    Args:
        model: PPO or MaskablePPO; only its actor learns.
        env: Where the rule plays; another one than the model's, so that this stands as it did.
        config: Which rule, and how long.
        seed: Of episodes and batches.
    """
    if config.rule is None:
        raise ConfigError("imitation.rule=None: nothing to imitate")
    seen, actions, masks = collect(env, config, seed)
    optimiser = torch.optim.Adam(model.policy.parameters(), lr=config.learning_rate)
    model.policy.set_training_mode(True)
    batches = list(_batches(len(actions), config.epochs, seed))
    for number, rows in enumerate(batches):
        optimiser.param_groups[0]["lr"] = config.learning_rate * (1.0 - number / len(batches))
        loss = _loss(model, seen, actions, masks, rows, config.smoothing)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return _agreement(model, seen, actions, masks)


def _batches(count: int, epochs: int, seed: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        yield from np.array_split(rng.permutation(count), -(-count // _BATCH))


def collect(
    env: TrainingEnv, config: ImitationConfig, seed: int
) -> tuple[dict[str, Any], Any, Any]:
    """Return what a rule saw by parts, its answers, and the masks: one row per decision."""
    player = RulePlayer(env, config.rule)
    windows = None if config.windows is None else load(config.windows)
    env.seed(seed)
    observation = env.reset()
    seen: dict[str, list[Any]] = {name: [] for name in parts(observation)}
    actions, masks = [], []
    for _ in range(-(-config.decisions // env.num_envs)):
        for name, part in parts(observation).items():
            seen[name].append(part)
        masks.append(env.action_masks())
        answers = player.actions()
        if windows is not None:
            answers = _with_windows(windows, observation, masks[-1], answers)
        actions.append(answers)
        observation, *_ = env.step(actions[-1])
    joined = {name: np.concatenate(rows) for name, rows in seen.items()}
    return joined, np.concatenate(actions), np.concatenate(masks)


def _with_windows(agent: LoadedAgent, observation: Any, masks: Any, answers: Any) -> Any:
    """Return the answers with those of the agent where a window is asked for."""
    asked = np.asarray(observation["global"])[:, _ASKS_RELEASE] > 0.0
    if not asked.any():
        return answers
    seen = {name: part[asked] for name, part in observation.items() if name != KEY}
    answers = answers.copy()
    answers[asked], _ = agent.predict(seen, action_masks=masks[asked])
    return answers


def _loss(
    model: Any, seen: dict[str, Any], actions: Any, masks: Any, rows: Any, smoothing: float
) -> torch.Tensor:
    """Return the cross entropy of the answers, of which a share is spread over all legal ones."""
    _, log_probs, _ = _evaluate(model, seen, actions, masks, rows)
    if smoothing == 0.0:
        return -log_probs.mean()
    part = {name: values[rows] for name, values in seen.items()}
    observations = obs_as_tensor(part.get("flat", part), model.device)
    more = {"action_masks": masks[rows]} if getattr(model, "masked", False) else {}
    logits = model.policy.get_distribution(observations, **more).distribution.logits
    legal = torch.as_tensor(masks[rows], dtype=torch.bool)
    uniform = torch.where(legal, logits, 0.0).sum(dim=1) / legal.sum(dim=1)
    return -((1.0 - smoothing) * log_probs + smoothing * uniform).mean()


def _evaluate(model: Any, seen: dict[str, Any], actions: Any, masks: Any, rows: Any) -> Any:
    part = {name: values[rows] for name, values in seen.items()}
    observations = obs_as_tensor(part.get("flat", part), model.device)
    given = torch.as_tensor(actions[rows])
    if hasattr(model.action_space, "n"):
        given = given.flatten()
    more = {"action_masks": masks[rows]} if getattr(model, "masked", False) else {}
    return model.policy.evaluate_actions(observations, given, **more)


def _agreement(model: Any, seen: dict[str, Any], actions: Any, masks: Any) -> float:
    equal = 0
    for rows in np.array_split(np.arange(len(actions)), -(-len(actions) // _BATCH)):
        part = {name: values[rows] for name, values in seen.items()}
        more = {"action_masks": masks[rows]} if getattr(model, "masked", False) else {}
        chosen, _ = model.predict(part.get("flat", part), deterministic=True, **more)
        same = chosen.reshape(len(rows), -1) == actions[rows].reshape(len(rows), -1)
        equal += int(same.all(axis=1).sum())
    return equal / len(actions)
