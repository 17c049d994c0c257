"""Warm start: learn the answers of a rule before learning from rewards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import obs_as_tensor

from agents.config import ImitationConfig, TrainConfig
from agents.envs import TrainingEnv
from agents.observations import parts
from sbs_gym.envs.play import RulePlayer
from sbs_gym.errors import ConfigError

_BATCH = 1024


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
    seen, actions, masks = _collect(env, config.rule, config.decisions, seed)
    optimiser = torch.optim.Adam(model.policy.parameters(), lr=config.learning_rate)
    model.policy.set_training_mode(True)
    batches = list(_batches(len(actions), config.epochs, seed))
    for number, rows in enumerate(batches):
        optimiser.param_groups[0]["lr"] = config.learning_rate * (1.0 - number / len(batches))
        _, log_probs, _ = _evaluate(model, seen, actions, masks, rows)
        loss = -log_probs.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return _agreement(model, seen, actions, masks)


def _batches(count: int, epochs: int, seed: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        yield from np.array_split(rng.permutation(count), -(-count // _BATCH))


def _collect(
    env: TrainingEnv, rule: str, decisions: int, seed: int
) -> tuple[dict[str, Any], Any, Any]:
    """Return what a rule saw by parts, its answers, and the masks: one row per decision."""
    player = RulePlayer(env, rule)
    env.seed(seed)
    observation = env.reset()
    seen: dict[str, list[Any]] = {name: [] for name in parts(observation)}
    actions, masks = [], []
    for _ in range(-(-decisions // env.num_envs)):
        for name, part in parts(observation).items():
            seen[name].append(part)
        masks.append(env.action_masks())
        actions.append(player.actions())
        observation, *_ = env.step(actions[-1])
    joined = {name: np.concatenate(rows) for name, rows in seen.items()}
    return joined, np.concatenate(actions), np.concatenate(masks)


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
