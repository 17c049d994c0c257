"""The five tasks: what the agent is asked, what it sees, what it is paid by default."""

from __future__ import annotations

from dataclasses import dataclass

from sbs_gym.envs.config import EnvConfig
from sbs_gym.errors import ConfigError, require_choice
from sbs_gym.schedulers.questions import BUDGET_SHARES, RESERVED
from sbs_gym.schedulers.seat import ORDER_NAMES, ActionLayout, Role, layout_for
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.features import Group

NUM_BUDGETS = len(BUDGET_SHARES) + 1  # the last is the full chunk
ORDERS = ORDER_NAMES
_BOTH = (("ttft", 1.0), ("tpot", 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What distinguishes one environment from another.

    Attributes:
        id: The environment's name without version.
        answers: The questions that the agent is asked.
        sees: The groups of its observation.
        actions: Forms of its action space, the default first.
        num_budgets, num_orders: Choices of budget and order that come with a window.
        weights: Default weights of the reward terms.
    """

    id: str
    answers: Question
    sees: Group
    actions: tuple[str, ...] = ("discrete",)
    num_budgets: int = 1
    num_orders: int = 1
    weights: tuple[tuple[str, float], ...] = (("ttft", 1.0),)

    def role(self, form: str, config: EnvConfig) -> Role:
        """Return the part of an agent whose action has this form."""
        return Role(
            told=self.id,
            answers=self.answers,
            sees=self.sees,
            form=form,
            num_budgets=self.num_budgets,
            budget_of=config.budget_of,
            num_orders=self.num_orders,
            num_reserved=len(RESERVED) if config.reserves else 1,
        )


_WINDOW_SEES = Group.GLOBAL | Group.INSTANCES
TASKS = {
    task.id: task
    for task in (
        Task(
            id="SBS/Window",
            answers=Question.RELEASE,
            sees=_WINDOW_SEES,
            actions=("discrete", "box"),
        ),
        Task(
            id="SBS/WindowBudget",
            answers=Question.RELEASE,
            sees=_WINDOW_SEES,
            actions=("multi", "flat"),
            num_budgets=NUM_BUDGETS,
        ),
        Task(
            id="SBS/PrefillAllocation",
            answers=Question.PREFILL,
            sees=_WINDOW_SEES | Group.RANKS | Group.REQUEST,
        ),
        Task(
            id="SBS/DecodeAllocation",
            answers=Question.DECODE,
            sees=Group.GLOBAL | Group.DECODE_RANKS | Group.REQUEST,
            weights=(("tpot", 1.0),),
        ),
        Task(
            id="SBS/Serving",
            answers=Question.RELEASE | Question.PREFILL | Question.DECODE,
            sees=_WINDOW_SEES | Group.RANKS | Group.DECODE_RANKS | Group.REQUEST,
            num_budgets=NUM_BUDGETS,
            num_orders=len(ORDERS),
            weights=_BOTH,
        ),
    )
}


def task_of(id: str) -> str:
    """Return the task of an environment's id, which may end with its version.

    Raises:
        ConfigError: If there is no such task.
    """
    name = id.removesuffix("-v0")
    require_choice("environment", name, TASKS)
    return name


def asked_of(task: Task, config: EnvConfig) -> Question:
    """Return the questions that an agent is asked in an environment.

    Raises:
        ConfigError: If the task does not have one of them.
    """
    asked = Question(0)
    for name in config.asks:
        question = Question[name.upper()]
        if not question & task.answers:
            known = ", ".join(str(one.name).lower() for one in Question if one & task.answers)
            raise ConfigError(f"asks: {task.id} does not ask {name!r}; expected some of: {known}")
        asked |= question
    return asked or task.answers


def action_layout(task: Task, config: EnvConfig) -> ActionLayout:
    """Return the action space of a task in an environment.

    Raises:
        ConfigError: If the task cannot be played there.
    """
    asked = asked_of(task, config)  # refuses questions that the task does not have
    form = config.action
    if form == "discrete" and "discrete" not in task.actions:
        form = task.actions[0]
    if form not in task.actions:
        raise ConfigError(
            f"action={config.action!r} is not a form of {task.id}; expected one of: "
            f"{', '.join(task.actions)}"
        )
    if config.reserves:
        _require_reserves(task, asked, form)
    return layout_for(task.role(form, config), config.cluster, config.scheduler)


def _require_reserves(task: Task, asked: Question, form: str) -> None:
    """Raise ConfigError unless windows are asked for, in a form that can say what is reserved."""
    if not asked & Question.RELEASE:
        raise ConfigError(
            f"reserves=True: {task.id} does not ask for windows here; expected reserves=False"
        )
    able = [name for name in task.actions if name not in ("box", "multi")]
    if form not in able:
        raise ConfigError(
            f"reserves=True with action={form!r} of {task.id}; expected action={' or '.join(able)}"
        )
