"""What a training run is made of; `conf/train.yaml` and conf/experiment/ fill it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.files import BEST
from sbs_gym.config.groups import section_from_mapping
from sbs_gym.errors import ConfigError, require_choice, require_number

ALGORITHMS = ("ppo", "maskable_ppo", "dqn", "lookahead")
MASKED = ("maskable_ppo", "lookahead")  # of them, those that know what is legal
POLICIES = ("mlp", "set")
SCHEDULES = ("linear", "constant")
REWARD_UNITS = ("baseline", "request", "none")
WANDB_MODES = ("offline", "online", "disabled")
TRAIN_SEEDS = 10_000  # of trainings; those above are for validation and test


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """The learning algorithm and its numbers; those of other algorithms are ignored.

    Attributes:
        algorithm: ppo; maskable_ppo (Discrete or MultiDiscrete actions); dqn (Discrete); lookahead
            (Discrete): answers are tried out under the same future, see agents/lookahead/.
        learning_rate: Of Adam, (0, 1].
        schedule: linear: the rate falls to `final_rate_frac` of itself; or constant.
        final_rate_frac: (0, 1].
        batch_size: Decisions per gradient step.
        discount_by_time: Weigh what follows by exp(-elapsed / reward.tau_s); else by `gamma`.
        gamma: Discount per decision where discount_by_time is off, (0, 1].
        tau_lambda_s: Time constant of GAE's lambda, seconds; null: `gae_lambda` per decision.
        lambda_per_decision: Factor of that lambda at every decision, also of one that takes no
            time. Below 1 the critic tells the placements of a release apart; at 1 all of them
            share what came of the release.
        gae_lambda: [0, 1].
        rollout_steps, epochs, clip, entropy, value_weight, max_grad_norm: Of PPO.
        target_kl: PPO ends an update early beyond 1.5 times this; null: never.
        buffer_size, learning_starts, train_every, gradient_steps, target_every, exploration_frac,
            exploration_final: Of DQN; counts are of decisions, train_every of steps of all
            environments. gradient_steps are lookahead's too, for every state of all environments.
        tries: Of lookahead, answers at a state, 2 to 1000.
        horizon_s: How far it looks, seconds; reward.tau_s discounts within.
        held: Questions that an answer is tried for, itself included, before the player answers.
        gap: Mean decisions of an environment between two states where answers are tried, 2 or more.
        random_frac: Share of these that are made by chance.
        refresh_every: States after which the policy becomes the player.
        lessons: States that it learns from, the newest.
    """

    algorithm: str = "ppo"
    learning_rate: float = 1e-3
    schedule: str = "linear"
    final_rate_frac: float = 0.05
    batch_size: int = 2048
    discount_by_time: bool = True
    gamma: float = 0.99
    tau_lambda_s: float | None = 2.0
    lambda_per_decision: float = 1.0
    gae_lambda: float = 0.95
    rollout_steps: int = 64
    epochs: int = 4
    clip: float = 0.2
    entropy: float = 0.0005
    value_weight: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float | None = None
    buffer_size: int = 200_000
    learning_starts: int = 20_000
    train_every: int = 4
    gradient_steps: int = 4
    target_every: int = 4_096
    exploration_frac: float = 0.3
    exploration_final: float = 0.05
    tries: int = 12
    horizon_s: float = 10.0
    held: int = 1
    gap: int = 40
    random_frac: float = 0.1
    refresh_every: int = 8_192
    lessons: int = 16_384

    def __post_init__(self) -> None:
        require_choice("agent.algorithm", self.algorithm, ALGORITHMS)
        require_choice("agent.schedule", self.schedule, SCHEDULES)
        for name in ("learning_rate", "final_rate_frac", "gamma", "clip"):
            require_number(f"agent.{name}", getattr(self, name), 0, 1, low_open=True)
        shares = ("gae_lambda", "entropy", "exploration_frac", "exploration_final", "random_frac")
        for name in (*shares, "lambda_per_decision"):
            require_number(f"agent.{name}", getattr(self, name), 0, 1)
        for name in ("value_weight", "max_grad_norm"):
            require_number(f"agent.{name}", getattr(self, name), 0, 1000, low_open=True)
        for name in ("tau_lambda_s", "target_kl"):
            if getattr(self, name) is not None:
                require_number(f"agent.{name}", getattr(self, name), 0, 1e9, low_open=True)
        require_number("agent.batch_size", self.batch_size, 2, 100_000_000, integer=True)
        for name in (
            "rollout_steps",
            "epochs",
            "buffer_size",
            "train_every",
            "gradient_steps",
            "target_every",
            "held",
            "refresh_every",
            "lessons",
        ):
            require_number(f"agent.{name}", getattr(self, name), 1, 100_000_000, integer=True)
        require_number("agent.tries", self.tries, 2, 1000, integer=True)
        require_number("agent.gap", self.gap, 2, 1_000_000, integer=True)
        require_number("agent.horizon_s", self.horizon_s, 0, 1e6, low_open=True)
        require_number("agent.learning_starts", self.learning_starts, 0, 100_000_000, integer=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """The network.

    Attributes:
        kind: mlp: flat observations; set: observations by groups, the same weights for every rank
            and instance (with maskable_ppo).
        layers: Widths of the hidden layers of an mlp.
        width: Numbers per state of a set policy.
        relative: A set policy sees every row beside the mean of its group too, and its pointers
            add a linear score of what they see: ranks differ little from each other, compared
            with how the load of all of them varies.
        windows_in_parts: Of a set policy: multiplier, budget, order and reserved instances have
            logits of their own, which add up to those of windows; not with action=multi, whose two
            choices are apart anyway.
        critic_sees_baseline: Show the critic, and it alone, how far the baseline's run is; without
            env.reward.baseline, and for dqn, nothing.
    """

    kind: str = "mlp"
    layers: tuple[int, ...] = (64, 64)
    width: int = 64
    relative: bool = False
    windows_in_parts: bool = False
    critic_sees_baseline: bool = True

    def __post_init__(self) -> None:
        require_choice("policy.kind", self.kind, POLICIES)
        for width in (*self.layers, self.width):
            require_number("policy width", width, 1, 4096, integer=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImitationConfig:
    """Supervised learning of a rule's answers before reinforcement.

    Attributes:
        rule: Preset whose answers are imitated; null: no imitation.
        rivals: Further presets: in every episode the one is imitated that costs least at its
            lengths, timing and load.
        p99_weight: A 99th percentile of TTFT 1 % above that of `rule` counts as a cost that is this
            many per cent higher, [0, 100]; one below it counts for nothing.
        at_own_arrivals: Whether rules are compared at the arrivals of the episode; else at the
            first of env.arrivals, also for episodes that arrive in bursts.
        decisions: How many answers are collected, at least.
        gap: Of how many decisions of an environment one is collected; windows, rare among
            placements, all of them.
        rounds: Times that answers are collected. In the first the rule plays, later the policy,
            while the rule says what it would do; all that was collected is learned from (DAgger:
            Ross, Gordon and Bagnell, AISTATS 2011).
        epochs: Passes over them.
        learning_rate: Of Adam; it falls to nothing.
        windows: Weights file whose answers take the place of the rule's where a window is asked
            for: an agent of the same task, trained with env.asks=[release]. null: none.
        windows_experiment: Experiment that is trained first, with the same seed, into the directory
            of `windows`, unless it has finished there; null: none.
        smoothing: Share of the probability that every legal answer gets alike, for a policy that
            is sure of a rule's answer never tries another; of discrete actions.
    """

    rule: str | None = None
    rivals: tuple[str, ...] = ()
    p99_weight: float = 0.0
    at_own_arrivals: bool = False
    decisions: int = 50_000
    gap: int = 1
    rounds: int = 1
    epochs: int = 4
    learning_rate: float = 1e-3
    windows: str | None = None
    windows_experiment: str | None = None
    smoothing: float = 0.0

    @property
    def teachers(self) -> tuple[str, ...]:
        """The presets that may be imitated, the rule first; none without a rule."""
        return () if self.rule is None else (self.rule, *self.rivals)

    @property
    def taught_by(self) -> str:
        """Who is imitated, in words."""
        return f"the best of {len(self.teachers)} rules" if self.rivals else str(self.rule)

    def __post_init__(self) -> None:
        if self.rivals and self.rule is None:
            raise ConfigError(
                f"imitation.rivals={list(self.rivals)} without imitation.rule; expected a rule"
            )
        if self.windows_experiment is not None and Path(self.windows or "").name != BEST:
            raise ConfigError(
                f"imitation.windows={self.windows!r}; expected a path that ends with {BEST}, where "
                f"imitation.windows_experiment={self.windows_experiment!r} leaves its weights"
            )
        require_number("imitation.decisions", self.decisions, 1, 100_000_000, integer=True)
        require_number("imitation.p99_weight", self.p99_weight, 0, 100)
        require_number("imitation.gap", self.gap, 1, 1_000_000, integer=True)
        require_number("imitation.rounds", self.rounds, 1, 1000, integer=True)
        require_number("imitation.smoothing", self.smoothing, 0, 1)
        require_number("imitation.epochs", self.epochs, 1, 1000, integer=True)
        require_number("imitation.learning_rate", self.learning_rate, 0, 1, low_open=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationConfig:
    """Compiled runs during training, on seeds of their own; the best weights are kept.

    Attributes:
        every_steps: Decisions of training between two validations.
        suite: Name of the suite whose train part is played; null: no validation, the last weights
            are kept.
        seeds: Seeds per cell, the first of the suite's validation split.
        num_requests: Requests per run.
    """

    every_steps: int = 250_000
    suite: str | None = "v1"
    seeds: int = 2
    num_requests: int = 4_000

    def __post_init__(self) -> None:
        require_number("validation.every_steps", self.every_steps, 1, 10**10, integer=True)
        require_number("validation.seeds", self.seeds, 1, 100, integer=True)
        require_number("validation.num_requests", self.num_requests, 100, 10**8, integer=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class WandbConfig:
    """The mirror in Weights & Biases; files on disk have the same numbers.

    Attributes:
        mode: offline (no account, no network), online or disabled.
        project, entity: Where runs go.
        tags: Further tags.
    """

    mode: str = "offline"
    project: str = "sbs_gym"
    entity: str | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_choice("wandb.mode", self.mode, WANDB_MODES)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
        name: Of the experiment.
        output_dir: Where everything goes.
        env: Keywords of the environment, with its `id`; `clusters` may list several clusters of the
            same observation.
        agent, policy, imitation, validation, wandb: Parts.
        seed: Of weights, actions and episodes.
        total_steps: Decisions, summed over environments; 0: imitation alone.
        num_envs: Environments stepped together.
        reward_scale: Factor on all rewards.
        reward_unit: See `agents.envs.TrainingEnv`.
        checkpoint_every_steps: Decisions between two checkpoints.
    """

    name: str
    output_dir: str
    env: Mapping[str, Any]
    agent: AgentConfig = field(default_factory=AgentConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    seed: int = 0
    total_steps: int = 3_000_000
    num_envs: int = 64
    reward_scale: float = 1.0
    reward_unit: str = "baseline"
    checkpoint_every_steps: int = 250_000

    def __post_init__(self) -> None:
        require_number("seed", self.seed, 0, TRAIN_SEEDS - 1, integer=True)
        require_number("total_steps", self.total_steps, 0, 10**11, integer=True)
        if self.total_steps == 0 and self.imitation.rule is None:
            raise ConfigError("total_steps=0 without imitation.rule; expected a rule, or more")
        require_number("num_envs", self.num_envs, 1, 100_000, integer=True)
        require_number("reward_scale", self.reward_scale, 0, 1e9, low_open=True)
        require_choice("reward_unit", self.reward_unit, REWARD_UNITS)
        every = self.checkpoint_every_steps
        require_number("checkpoint_every_steps", every, 1, 10**11, integer=True)
        if "id" not in self.env:
            raise ConfigError("env.id is missing; expected such as SBS/WindowBudget-v0")
        if self.policy.kind == "set" and self.agent.algorithm not in MASKED:
            raise ConfigError(
                f"agent.algorithm={self.agent.algorithm!r}: a set policy learns with "
                f"agent.algorithm={' or '.join(MASKED)}"
            )

    def to_mapping(self) -> dict[str, Any]:
        """Return the configuration as plain values, as config.yaml holds it."""
        return _plain(dataclasses.asdict(self))


_SECTIONS: dict[str, type[Any]] = {
    "agent": AgentConfig,
    "policy": PolicyConfig,
    "imitation": ImitationConfig,
    "validation": ValidationConfig,
    "wandb": WandbConfig,
}


def train_config(given: Mapping[str, Any]) -> TrainConfig:
    """Return the training run that a mapping describes.

    Raises:
        ConfigError: If a key is not known or a value not allowed.
    """
    values = dict(given)
    for name, kind in _SECTIONS.items():
        section = {k: _frozen(v) for k, v in dict(values.get(name) or {}).items()}
        values[name] = section_from_mapping(kind, name, section)
    return section_from_mapping(TrainConfig, "train", values)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
