"""Who answers the questions of a run from Python: a protocol, and a user's class behind it."""

from __future__ import annotations

import operator
from typing import Any, Protocol

import numpy as np

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.errors import ConfigError, SchedulerError
from sbs_gym.schedulers.asking import answer_rank, answer_window
from sbs_gym.schedulers.cluster_view import ClusterView, Standing, legal_choices, request_view
from sbs_gym.schedulers.custom import Scheduler, Window
from sbs_gym.schedulers.registry import QUESTIONS, custom_scheduler, questions_of
from sbs_gym.schedulers.rules import Budget
from sbs_gym.schedulers.views import BoolArray
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.codes import Order

_METHODS = {question: method for method, question in QUESTIONS.items()}


class Decider(Protocol):
    """Answers some of a run's questions instead of the rules."""

    @property
    def kinds(self) -> Question:
        """The questions that it answers."""

    def begin(self, standing: Standing, rules: Any) -> None:
        """Begin a run at time 0; `rules` is the RULES record that the run reads."""

    def answer(self, standing: Standing, rules: Any) -> None:
        """Answer the question that stands in `world.agent` (schedulers/asking.py)."""


def decider_for(scheduler: SchedulerConfig, cluster: ClusterConfig) -> Decider | None:
    """Return who answers for a user's scheduler; None if it is made of rules alone.

    Raises:
        ConfigError: If the class is not registered, or has a `release` and no interval.
    """
    if scheduler.custom is None:
        return None
    kind = custom_scheduler(scheduler.custom)
    if questions_of(kind) & Question.RELEASE and scheduler.release != "sbs":
        raise ConfigError(
            f"scheduler.release={scheduler.release!r}: release() of {scheduler.name!r} chooses "
            "multiples of the interval of release='sbs'; expected a base with it, such as sbs"
        )
    return ClassDecider(scheduler, cluster, kind)


class ClassDecider:
    """A user's scheduler that answers, and the check of what it answers."""

    def __init__(
        self, config: SchedulerConfig, cluster: ClusterConfig, kind: type[Scheduler]
    ) -> None:
        self.kinds = questions_of(kind)
        self._name, self._cluster = config.name, cluster
        self._order = Order[config.order.upper()]
        self._scheduler = kind()
        self._base_budget = (0, 0)

    def begin(self, standing: Standing, rules: Any) -> None:
        """Show the user's scheduler the cluster at time 0."""
        self._base_budget = (int(rules["budget"]), int(rules["budget_tokens"]))
        view = ClusterView(standing, self._cluster)
        self._scheduler.reset(view)
        view.close()

    def answer(self, standing: Standing, rules: Any) -> None:
        """Ask the user's scheduler, and hand on its answer if it is allowed."""
        asked = Question(int(standing.world.agent["asked"]))
        view = ClusterView(standing, self._cluster)
        if asked == Question.RELEASE:
            self._answer_window(standing, rules, self._scheduler.release(view))
        else:
            request = request_view(standing)
            method = getattr(self._scheduler, _METHODS[asked])
            self._answer_rank(standing, asked, method(view, request))
        view.close()

    def _answer_window(self, standing: Standing, rules: Any, window: Window) -> None:
        if not isinstance(window, Window):
            raise SchedulerError(
                f"scheduler {self._name!r}: release() answered {window!r}; expected a Window"
            )
        order = self._order if window.order is None else Order[window.order.upper()]
        if self._order is Order.LONGEST and order is not self._order:
            raise SchedulerError(  # the heap of the buffer is kept in one direction
                f"scheduler {self._name!r}: release() answered order={window.order!r} above a base "
                "with order=longest, which cannot change; expected None, or another base"
            )
        budget, tokens = self._base_budget
        if window.budget_tokens is not None:
            budget, tokens = int(Budget.FIXED), window.budget_tokens
        rules["budget"], rules["budget_tokens"] = budget, tokens
        answer_window(standing.blocks, 0, float(window.multiplier), int(order))

    def _answer_rank(self, standing: Standing, asked: Question, chosen: object) -> None:
        legal = legal_choices(standing)
        choice = _as_choice(chosen, len(legal), asked)
        if choice is None or not legal[choice]:
            raise SchedulerError(self._illegal(standing, asked, chosen, legal))
        answer_rank(standing.blocks, 0, choice)

    def _illegal(
        self, standing: Standing, asked: Question, chosen: object, legal: BoolArray
    ) -> str:
        ranks, leave = legal, ""
        if asked == Question.PREFILL:
            ranks = legal[:-1]
            leave = ", or None" if legal[-1] else "; None is not allowed here (may_leave is False)"
        return (
            f"scheduler {self._name!r}: {_METHODS[asked]}() answered {chosen!r} for request "
            f"{int(standing.world.agent['request'])} at {float(standing.world.clock['now_s']):.6g} "
            f"s; expected one of the ranks {_told(ranks)}{leave}"
        )


def _as_choice(chosen: object, num: int, asked: Question) -> int | None:
    """Return the index of an answer among the choices; None if it is none of them."""
    if chosen is None:
        return num - 1 if asked == Question.PREFILL else None
    if isinstance(chosen, bool | np.bool_):
        return None
    try:
        rank = operator.index(chosen)  # type: ignore[arg-type]
    except TypeError:
        return None
    num_ranks = num - 1 if asked == Question.PREFILL else num
    return rank if 0 <= rank < num_ranks else None


def _told(ranks: BoolArray) -> str:
    """Return the numbers of the legal ranks, runs of them as 3-7."""
    numbers = np.flatnonzero(ranks)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in runs if len(r))
