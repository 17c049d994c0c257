"""The five tasks: what the agent is asked, what it sees, what it is paid by default."""

from __future__ import annotations

from dataclasses import dataclass

from sbs_gym.envs.config import EnvConfig
from sbs_gym.errors import ConfigError, require_choice
from sbs_gym.schedulers import questions
from sbs_gym.schedulers.questions import BUDGET_SHARES, NUM_MULTIPLIERS
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.features import Group

NUM_BUDGETS = len(BUDGET_SHARES) + 1  # the last is the full chunk
ORDERS = tuple(order.name.lower() for order in questions.ORDERS)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionLayout:
    """The segments of the index that an action is.

    Attributes:
        form: discrete, box, multi or flat.
        num_windows: Indices of the window segment, which comes first.
        num_prefill: Indices of the prefill segment: the ranks of an instance, and to leave it.
        num_decode: Indices of the decode segment.
    """

    form: str
    num_windows: int
    num_prefill: int
    num_decode: int

    @property
    def decode_offset(self) -> int:
        """First index of the decode segment."""
        return self.num_windows + self.num_prefill

    @property
    def num_actions(self) -> int:
        """All indices."""
        return self.decode_offset + self.num_decode


def action_layout(task: Task, config: EnvConfig) -> ActionLayout:
    """Return the action space of a task in an environment.

    Raises:
        ConfigError: If the task cannot be played there.
    """
    form = config.action
    if form == "discrete" and "discrete" not in task.actions:
        form = task.actions[0]
    if form not in task.actions:
        raise ConfigError(
            f"action={config.action!r} is not a form of {task.id}; expected one of: "
            f"{', '.join(task.actions)}"
        )
    cluster, scheduler, answers = config.cluster, config.scheduler, task.answers
    if answers & Question.RELEASE and scheduler.release != "sbs":
        raise ConfigError(
            f"scheduler.release={scheduler.release!r}: {task.id} chooses multiples of the interval "
            "of release='sbs'; expected a scheduler with it, such as sbs or work_conserving"
        )
    if answers & Question.DECODE and cluster.num_decode == 0:
        raise ConfigError(f"cluster.num_decode=0: {task.id} needs at least 1 decode instance")
    if task.num_orders > 1:
        require_choice("scheduler.order", scheduler.order, ORDERS)
    windows = NUM_MULTIPLIERS * task.num_budgets * task.num_orders
    return ActionLayout(
        form=form,
        num_windows=windows if answers & Question.RELEASE else 0,
        num_prefill=cluster.prefill_dp + 1 if answers & Question.PREFILL else 0,
        num_decode=cluster.num_decode_ranks if answers & Question.DECODE else 0,
    )
