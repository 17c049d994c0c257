"""Rules that play an environment through its action space: parity, baselines, imitation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.batch.answers import rule_answers
from sbs_gym.config.scheduler import ALLOCATIONS, PLACEMENTS, SchedulerConfig
from sbs_gym.envs.config import EnvConfig, scheduler_named
from sbs_gym.envs.tasks import NUM_BUDGETS, ORDERS, Task, asked_of
from sbs_gym.errors import ConfigError, require_number
from sbs_gym.schedulers.questions import BUDGET_SHARES, NUM_MULTIPLIERS, RESERVED, STEPS_OF_ONE
from sbs_gym.schedulers.rules import LONGEST_FIRST, Placement
from sbs_gym.sim.agent_state import Question

_PLACEMENT = {
    "placement",
    "placement_kv",
    "placement_iqr_k",
    "placement_min_safe_ranks",
    "placement_horizon_steps",
    "placement_decay",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Playback:
    """What a rule did in some episodes, one row per step.

    Attributes:
        observations: What was seen before each answer: (steps, …), or a mapping of such.
        actions: The answers, (steps, …), in the form of the action space.
        masks: Legal actions, bool, (steps, num_actions); empty for a box.
        rewards: float64, (steps,).
        discounts: float64, (steps,), weight of the value of what follows.
        episodes: int64, (steps,), number of the episode from 0.
        returns: float64, (episodes,), sum of the rewards of each episode: discounted within steps
            and not between them. To compare rules, sum `info["reward_terms"]`, or use tau_s=None.
    """

    observations: Any
    actions: NDArray[Any]
    masks: NDArray[np.bool_]
    rewards: NDArray[np.float64]
    discounts: NDArray[np.float64]
    episodes: NDArray[np.int64]
    returns: NDArray[np.float64]


class RulePlayer:
    """A rule in the place of the agents of an environment, vector environment or VecEnv.

    Args:
        env: One of this package, wrapped or not.
        rule: A scheduler preset, also changed ("sbs:multiplier=0"), or a SchedulerConfig; where
            ranks are chosen also just the rule, such as "pbaa" or "iqr_lex". What a rule keeps out
            of a release (`reserved`) is left; where all is left the environment's round is over,
            the rule itself would look at the next instance.

    Raises:
        ConfigError: If the action space does not contain the rule's answers; says what is missing.
    """

    def __init__(self, env: Any, rule: str | SchedulerConfig) -> None:
        base = env.unwrapped if hasattr(env, "unwrapped") else env
        self._core, self._actions = base.core, base.actions
        task, config = self._core.task, self._core.config
        self.scheduler = named_rule(task, config.scheduler, rule)
        background, asked = config.scheduler, asked_of(task, config)
        if config.reserves and asked & Question.RELEASE:
            most = RESERVED[-1]
            require_number("rule.reserved", self.scheduler.reserved, 0, most, integer=True)
            background = dataclasses.replace(background, reserved=self.scheduler.reserved)
        require_playable(task, background, self.scheduler, asked)
        _require_shares(task, config, self.scheduler)
        self._box = self._core.layout.form == "box"
        self._value = self.scheduler.multiplier - 1.0
        if self._box and float(np.float32(self._value)) != self._value:
            raise ConfigError(
                f"rule {self.scheduler.name!r} has multiplier={self.scheduler.multiplier!r}; the "
                "32-bit numbers of action='box' do not contain it"
            )
        self._window = 0 if self._box else _window_index(task, config, self.scheduler)
        self._rules = self._core.encode(self.scheduler)

    def answers(
        self, asked: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the answers to all standing questions, as the core takes them; ask once each.

        Args:
            asked: Which environments ask, bool, shape (num_envs,); others get 0. None: all.
        """
        out = np.zeros(self._core.num_envs, dtype=np.int64)
        if asked is None:
            asked = np.ones(len(out), dtype=np.bool_)
        rule_answers(self._core.blocks, self._rules, self._window, asked, out)
        return out, np.full(len(out), self._value)

    def actions(self) -> NDArray[Any]:
        """Return the same as actions, shape (num_envs, …)."""
        return self.encoded(*self.answers())

    def encoded(self, indices: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[Any]:
        """Return as actions what `answers` returned."""
        encode = self._actions.encode
        return np.array([encode(int(i), float(v)) for i, v in zip(indices, values, strict=True)])


def play(
    env: Any, rule: str | SchedulerConfig, *, episodes: int = 1, seed: int | None = None
) -> Playback:
    """Let a rule play whole episodes of a single environment through its action space.

    Args:
        env: A single environment of this package, wrapped or not.
        rule: See RulePlayer.
        episodes: How many.
        seed: Of the first reset.
    """
    require_number("episodes", episodes, 1, 1_000_000, integer=True)
    if hasattr(env, "num_envs"):
        raise ConfigError(
            f"play() of a {type(env).__name__}; expected a single environment (RulePlayer answers "
            "for many)"
        )
    player = RulePlayer(env, rule)
    has_mask = player._core.layout.form != "box"
    seen, rows, returns = [], [], []
    for number in range(episodes):
        observation, _ = env.reset(seed=seed if number == 0 else None)
        over, total = False, 0.0
        while not over:
            mask = env.unwrapped.action_masks() if has_mask else np.zeros(0, dtype=np.bool_)
            action = player.actions()[0]
            seen.append(observation)
            observation, reward, terminated, truncated, info = env.step(action)
            rows.append((action, mask, reward, info["discount"], number))
            total += float(reward)
            over = terminated or truncated
        returns.append(total)
    actions, masks, rewards, discounts, numbers = zip(*rows, strict=True)
    return Playback(
        observations=_stacked(seen),
        actions=np.array(actions),
        masks=np.array(masks),
        rewards=np.array(rewards),
        discounts=np.array(discounts),
        episodes=np.array(numbers, dtype=np.int64),
        returns=np.array(returns),
    )


def _stacked(seen: list[Any]) -> Any:
    if isinstance(seen[0], dict):
        return {name: np.array([one[name] for one in seen]) for name in seen[0]}
    return np.array(seen)


def named_rule(
    task: Task, background: SchedulerConfig, rule: str | SchedulerConfig
) -> SchedulerConfig:
    """Return the scheduler that a rule's name means in a task with this background."""
    if isinstance(rule, SchedulerConfig):
        return rule
    if task.answers == Question.PREFILL and rule in ALLOCATIONS:
        return dataclasses.replace(background, name=rule, allocation=rule)
    if task.answers == Question.DECODE and rule in PLACEMENTS:
        return dataclasses.replace(background, name=rule, placement=rule)
    return scheduler_named(rule)


def require_playable(
    task: Task, background: SchedulerConfig, rule: SchedulerConfig, asked: Question | None = None
) -> None:
    """Raise ConfigError, saying what is missing, unless the task's actions contain the answers.

    Args:
        task: The task.
        background: Who answers what is not asked.
        rule: Who shall play.
        asked: What is asked; None: all of the task's questions.
    """
    asked = task.answers if asked is None else asked
    if rule.learned is not None:
        raise ConfigError(
            f"rule {rule.name!r} is a network, which answers what it sees; expected a rule. An "
            f"agent plays by agents.load({rule.learned!r}).predict(observation, action_masks=…)"
        )
    _require_answered(task, background, rule, asked)
    if asked & Question.RELEASE:
        _require_window(task, rule)
    if asked & Question.DECODE:
        first = [Placement[s.placement.upper()] in LONGEST_FIRST for s in (background, rule)]
        if first[0] != first[1]:
            raise ConfigError(
                f"rule {rule.name!r} places {_turns(first[1])}, the environment asks "
                f"{_turns(first[0])}; expected scheduler='…:placement={rule.placement}'"
            )


def _turns(longest_first: bool) -> str:
    return "longest first" if longest_first else "in order"


def _require_answered(
    task: Task, background: SchedulerConfig, rule: SchedulerConfig, asked: Question
) -> None:
    answered = {"name"}
    if asked & Question.RELEASE:
        answered |= _of_windows(task, rule)
    if asked & Question.PREFILL:
        answered |= {"allocation"}
        if background.reserved <= rule.reserved:
            answered |= {"reserved"}  # what the rule keeps out is left
    if asked & Question.DECODE:
        answered |= _PLACEMENT
    for field in dataclasses.fields(SchedulerConfig):
        mine, theirs = getattr(background, field.name), getattr(rule, field.name)
        if field.name not in answered and mine != theirs:
            changed = f"{rule.name}:{field.name}={theirs}"
            wanted = rule.name if rule.name != background.name else changed
            expected = f"an environment with scheduler={wanted!r}"
            if field.name == "release" and asked & Question.RELEASE:
                expected = f"a rule with release={mine!r}"
            raise ConfigError(
                f"rule {rule.name!r} has {field.name}={theirs!r}, which {task.id} does not choose; "
                f"its scheduler has {mine!r}. Expected {expected}"
            )


def _of_windows(task: Task, rule: SchedulerConfig) -> set[str]:
    """Return the fields of a scheduler that windows of the task stand for."""
    fields = {"multiplier"}
    if task.num_budgets > 1:
        fields |= {"budget", "alpha"} | ({"floor_tokens"} if rule.budget == "full" else set())
    if task.num_orders > 1:
        fields |= {"order"}
    return fields


def _require_shares(task: Task, config: EnvConfig, rule: SchedulerConfig) -> None:
    if task.num_budgets > 1 and config.budget_of != "backlog" and rule.budget != "full":
        raise ConfigError(
            f"rule {rule.name!r} has budget={rule.budget!r}; with budget_of={config.budget_of!r} "
            "only the full chunk is a rule's. Expected budget_of='backlog'"
        )


def _require_window(task: Task, rule: SchedulerConfig) -> None:
    quarters = rule.multiplier * STEPS_OF_ONE
    if not 0 <= quarters <= NUM_MULTIPLIERS - 1 or (
        task.num_budgets > 1 and quarters != int(quarters)
    ):
        raise ConfigError(
            f"rule {rule.name!r} has multiplier={rule.multiplier!r}; {task.id} has 0, 0.25 … 2"
        )
    if task.num_budgets > 1 and rule.budget != "full":
        if rule.budget != "backlog" or rule.alpha not in BUDGET_SHARES:
            raise ConfigError(
                f"rule {rule.name!r} has budget={rule.budget!r}, alpha={rule.alpha!r}; {task.id} "
                f"has full, and backlog with alpha of {', '.join(map(str, BUDGET_SHARES))}"
            )
    if task.num_orders > 1 and rule.order not in ORDERS:
        raise ConfigError(
            f"rule {rule.name!r} has order={rule.order!r}; {task.id} has {', '.join(ORDERS)}"
        )


def _window_index(task: Task, config: EnvConfig, rule: SchedulerConfig) -> int:
    """Return the index of the window segment that is the rule's answer."""
    if not asked_of(task, config) & Question.RELEASE:
        return 0
    quarters = rule.multiplier * STEPS_OF_ONE
    if quarters != int(quarters):
        raise ConfigError(
            f"rule {rule.name!r} has multiplier={rule.multiplier!r}; the discrete actions have 0, "
            "0.25 … 2. Expected action='box'"
        )
    index = int(quarters)
    if task.num_budgets > 1:
        full = NUM_BUDGETS - 1
        index = index * NUM_BUDGETS + (
            full if rule.budget == "full" else BUDGET_SHARES.index(rule.alpha)
        )
    if task.num_orders > 1:
        index = index * len(ORDERS) + ORDERS.index(rule.order)
    if config.reserves:
        index = index * len(RESERVED) + RESERVED.index(rule.reserved)
    return index
