"""From a configuration to an environment and a model of Stable-Baselines3."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.config import MASKED, AgentConfig, TrainConfig
from agents.envs import TrainingEnv
from agents.lookahead.iteration import LookaheadIteration
from agents.mixed_env import MixedEnv
from agents.observations import Statistics, measure
from agents.policies.flat import FlatPolicy, MaskableFlatPolicy, Standardise
from agents.policies.sets import Heads, SetPolicy
from agents.time_aware.replay import TimeAwareReplayBuffer
from agents.time_aware.rollouts import (
    TimeAwareMaskableDictRolloutBuffer,
    TimeAwareMaskablePPO,
    TimeAwareMaskableRolloutBuffer,
    TimeAwarePPO,
    TimeAwareRolloutBuffer,
)
from sbs_gym.errors import ConfigError
from sbs_gym.schedulers.questions import NUM_MULTIPLIERS
from sbs_gym.schedulers.seat import ActionLayout

_SEEDS_APART = 1_000_000  # environments of two training seeds never share one
_FLAT_POLICIES = {
    "ppo": FlatPolicy,
    "maskable_ppo": MaskableFlatPolicy,
    "lookahead": MaskableFlatPolicy,
    "dqn": "MlpPolicy",
}
# By (algorithm, whether observations come by groups).
_BUFFERS = {
    ("ppo", False): TimeAwareRolloutBuffer,
    ("maskable_ppo", False): TimeAwareMaskableRolloutBuffer,
    ("maskable_ppo", True): TimeAwareMaskableDictRolloutBuffer,
}


def build_env(config: TrainConfig) -> TrainingEnv | MixedEnv:
    """Return the environments of a run: one batch, or one for each of `env.clusters`."""
    options = env_options(config)
    id, clusters = options.pop("id"), options.pop("clusters", None)
    count = config.num_envs
    if clusters is None:
        return _batch(config, id, count, options)
    if options.pop("cluster", None) is not None:
        raise ConfigError("env.cluster and env.clusters exclude each other; give one")
    if count % len(clusters) != 0:
        raise ConfigError(f"num_envs={count} is no multiple of the {len(clusters)} of env.clusters")
    share = count // len(clusters)
    return MixedEnv([_batch(config, id, share, options | {"cluster": one}) for one in clusters])


def _batch(config: TrainConfig, id: str, count: int, options: dict[str, Any]) -> TrainingEnv:
    return TrainingEnv(
        id,
        count,
        reward_scale=config.reward_scale,
        reward_unit=config.reward_unit,
        sees_baseline=_critic_sees_baseline(config),
        time_in_infos=config.agent.algorithm == "dqn",  # all that its replay is told
        **options,
    )


def _critic_sees_baseline(config: TrainConfig) -> bool:
    has_baseline = (config.env.get("reward") or {}).get("baseline") is not None
    has_critic = config.agent.algorithm in ("ppo", "maskable_ppo")
    return config.policy.critic_sees_baseline and has_baseline and has_critic


def without_pay(config: TrainConfig, questions: Sequence[str] | None) -> TrainConfig:
    """Return a configuration for environments whose rewards nobody reads.

    Args:
        config: Of a training.
        questions: What its agent is asked there; None: all of its task.
    """
    asked = {**config.env, "asks": questions}
    return dataclasses.replace(config, env=asked, reward_unit="none")  # no unit is measured


def env_options(config: TrainConfig) -> dict[str, Any]:
    """Return the keywords of the environment; a set policy sees groups."""
    options = dict(config.env)
    if config.policy.kind == "set":
        options["observation"] = "dict"
    if options.get("observation", "flat") == "dict" and config.policy.kind == "mlp":
        raise ConfigError("env.observation='dict': policy.kind='mlp' takes flat ones; expected set")
    return {"invalid_action": "error", **options} if _has_masks(config) else options


def _has_masks(config: TrainConfig) -> bool:
    return config.agent.algorithm in MASKED


def require_learnable(config: TrainConfig, env: TrainingEnv | MixedEnv) -> None:
    """Raise ConfigError unless the algorithm can choose actions of this form."""
    space, algorithm = env.action_space, config.agent.algorithm
    allowed: tuple[type[gym.Space[Any]], ...] = {
        "dqn": (Discrete,),
        "maskable_ppo": (Discrete, MultiDiscrete),
        "lookahead": (Discrete,),
        "ppo": (Discrete, MultiDiscrete, Box),
    }[algorithm]
    if not isinstance(space, allowed):
        names = " or ".join(kind.__name__ for kind in allowed)
        raise ConfigError(
            f"env.action={config.env.get('action')!r} gives {space}; agent.algorithm="
            f"{algorithm!r} chooses from {names} (such as env.action=flat of SBS/WindowBudget)"
        )
    if algorithm == "lookahead":
        _require_tries(config, env)


def _require_tries(config: TrainConfig, env: TrainingEnv | MixedEnv) -> None:
    """Raise ConfigError unless answers can be tried out."""
    horizon_s = config.agent.horizon_s
    if isinstance(env, MixedEnv):
        raise ConfigError("env.clusters with agent.algorithm='lookahead'; expected one env.cluster")
    if env.config.history != 1:
        raise ConfigError(
            f"env.history={env.config.history} with agent.algorithm='lookahead'; expected 1"
        )
    if env.config.reward.baseline is not None:
        raise ConfigError(
            f"env.reward.baseline={env.config.reward.baseline.name!r} with "
            "agent.algorithm='lookahead': what is compared met the same baseline; expected null"
        )
    if horizon_s > env.config.horizon_s:
        raise ConfigError(
            f"agent.horizon_s={horizon_s:g} looks beyond the episodes of env.horizon_s="
            f"{env.config.horizon_s:g}; expected less"
        )


def env_seed(config: TrainConfig) -> int:
    """Return the seed of the first environment of a run; the others follow it."""
    return config.seed * _SEEDS_APART


def measure_statistics(config: TrainConfig) -> Statistics:
    """Return mean and spread of what the environments of a run show, at all questions."""
    policy = dataclasses.replace(config.policy, critic_sees_baseline=False)
    env = build_env(dataclasses.replace(without_pay(config, None), policy=policy))
    try:
        parts = env.parts if isinstance(env, MixedEnv) else [env]
        return measure(parts, seed=env_seed(config) + _SEEDS_APART // 2)
    finally:
        env.close()


def build_model(
    config: TrainConfig, env: TrainingEnv | MixedEnv, statistics: Statistics
) -> BaseAlgorithm:
    """Return an untrained model; the same configuration gives the same weights."""
    torch.set_num_threads(1)
    agent = config.agent
    shared: dict[str, Any] = {
        "policy": _FLAT_POLICIES[agent.algorithm],
        "env": env,
        "learning_rate": learning_rate(agent),
        "batch_size": agent.batch_size,
        "gamma": agent.gamma,
        "seed": config.seed,
        "device": "cpu",
        "policy_kwargs": _flat_policy(config, statistics),
    }
    if config.policy.kind == "set":
        shared |= {"policy": SetPolicy, "policy_kwargs": _set_policy(config, env, statistics)}
    if agent.algorithm == "dqn":
        return _dqn(agent, shared)
    if agent.algorithm == "lookahead":
        return _lookahead(agent, shared)
    by_groups = config.policy.kind == "set"
    kind = TimeAwareMaskablePPO if agent.algorithm == "maskable_ppo" else TimeAwarePPO
    return kind(
        **shared,
        n_steps=agent.rollout_steps,
        n_epochs=agent.epochs,
        gae_lambda=agent.gae_lambda,
        clip_range=agent.clip,
        ent_coef=agent.entropy,
        vf_coef=agent.value_weight,
        max_grad_norm=agent.max_grad_norm,
        target_kl=agent.target_kl,
        discount_by_time=agent.discount_by_time,
        rollout_buffer_class=_BUFFERS[agent.algorithm, by_groups],
        rollout_buffer_kwargs={
            "tau_lambda_s": agent.tau_lambda_s,
            "lambda_per_decision": agent.lambda_per_decision,
        },
    )


def _dqn(agent: AgentConfig, shared: Mapping[str, Any]) -> DQN:
    return DQN(
        **shared,
        buffer_size=agent.buffer_size,
        learning_starts=agent.learning_starts,
        train_freq=agent.train_every,
        gradient_steps=agent.gradient_steps,
        target_update_interval=agent.target_every,
        exploration_fraction=agent.exploration_frac,
        exploration_final_eps=agent.exploration_final,
        max_grad_norm=agent.max_grad_norm,
        replay_buffer_class=TimeAwareReplayBuffer if agent.discount_by_time else None,
    )


def _lookahead(agent: AgentConfig, shared: Mapping[str, Any]) -> LookaheadIteration:
    return LookaheadIteration(
        **shared,
        max_grad_norm=agent.max_grad_norm,
        tries=agent.tries,
        horizon_s=agent.horizon_s,
        held=agent.held,
        gap=agent.gap,
        random_frac=agent.random_frac,
        refresh_every=agent.refresh_every,
        lessons=agent.lessons,
        gradient_steps=agent.gradient_steps,
    )


def learning_rate(agent: AgentConfig) -> float | Callable[[float], float]:
    """Return the rate as Stable-Baselines3 takes it: a number, or a function of what is left."""
    if agent.schedule == "constant":
        return agent.learning_rate
    return functools.partial(_falling, agent.learning_rate, agent.final_rate_frac)


def _falling(rate: float, least: float, progress_left: float) -> float:
    return rate * (least + (1.0 - least) * max(progress_left, 0.0))


def _flat_policy(config: TrainConfig, statistics: Statistics) -> dict[str, Any]:
    # DQN's hidden layers are ReLU by default, PPO's tanh; both are kept as they are known.
    return {
        "net_arch": list(config.policy.layers),
        "features_extractor_class": Standardise,
        "features_extractor_kwargs": {"statistics": statistics},
    }


def _set_policy(
    config: TrainConfig, env: TrainingEnv | MixedEnv, statistics: Statistics
) -> dict[str, Any]:
    return {
        "heads": heads_of(env.core.layout, parts_of(env) if config.policy.windows_in_parts else ()),
        "width": config.policy.width,
        "relative": config.policy.relative,
        "statistics": statistics,
    }


def parts_of(env: TrainingEnv | MixedEnv) -> tuple[int, ...]:
    """Return how many choices of every kind make the windows of an environment."""
    role = env.core.task.role(env.core.layout.form, env.core.config)
    parts = (NUM_MULTIPLIERS, role.num_budgets, role.num_orders, role.num_reserved)
    return () if role.form == "multi" else tuple(count for count in parts if count > 1)


def heads_of(layout: ActionLayout, parts: tuple[int, ...] = ()) -> Heads:
    """Return which answers the action space of an environment asks of a set policy."""
    if layout.form == "box":
        raise ConfigError("env.action='box': a set policy chooses; expected 'discrete'")
    windows = layout.num_windows
    if layout.form == "multi":
        windows = NUM_MULTIPLIERS + windows // NUM_MULTIPLIERS  # one choice behind the other
    return Heads(
        windows=windows, parts=parts, prefill=layout.num_prefill > 0, decode=layout.num_decode > 0
    )
