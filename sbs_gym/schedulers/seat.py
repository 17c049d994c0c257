"""The agent's seat in a world: the same in an environment and in a run that a network plays."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.errors import ConfigError, require_choice, require_number
from sbs_gym.jit import inlined
from sbs_gym.schedulers.questions import NUM_MULTIPLIERS, ORDERS, RESERVED
from sbs_gym.schedulers.release import interval_s, most_interval_s
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.features import Group
from sbs_gym.sim.state import World
from sbs_gym.timing.model import TimingModel

BUDGETS_OF = ("backlog", "chunk")
ORDER_NAMES = tuple(order.name.lower() for order in ORDERS)
_PROBES = {"pass_256_s": 256, "pass_1024_s": 1024}


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What an agent is asked and what it sees.

    Attributes:
        told: Who it is, for messages.
        answers: The questions that it is asked.
        sees: The groups of its observation.
        form: Of its action: discrete, box, multi or flat.
        num_budgets, num_orders, num_reserved: Choices of budget, order and instances kept free of
            long prompts that come with a window.
        budget_of: What budgets are shares of: backlog or chunk.
    """

    told: str
    answers: Question
    sees: Group
    form: str
    num_budgets: int = 1
    budget_of: str = "backlog"
    num_orders: int = 1
    num_reserved: int = 1


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


def layout_for(role: Role, cluster: ClusterConfig, scheduler: SchedulerConfig) -> ActionLayout:
    """Return the action space of an agent on a cluster, above the rules of a scheduler.

    Raises:
        ConfigError: If it cannot play there.
    """
    answers = role.answers
    if answers & Question.RELEASE and scheduler.release != "sbs":
        raise ConfigError(
            f"scheduler.release={scheduler.release!r}: {role.told} chooses multiples of the "
            "interval of release='sbs'; expected a scheduler with it, such as sbs or "
            "work_conserving"
        )
    if answers & Question.DECODE and cluster.num_decode == 0:
        raise ConfigError(f"cluster.num_decode=0: {role.told} needs at least 1 decode instance")
    if role.num_orders > 1:
        require_choice("scheduler.order", scheduler.order, ORDER_NAMES)
    if role.num_reserved > 1:
        most = RESERVED[-1]
        require_number("scheduler.reserved", scheduler.reserved, 0, most, integer=True)
    windows = NUM_MULTIPLIERS * role.num_budgets * role.num_orders * role.num_reserved
    return ActionLayout(
        form=role.form,
        num_windows=windows if answers & Question.RELEASE else 0,
        num_prefill=cluster.prefill_dp + 1 if answers & Question.PREFILL else 0,
        num_decode=cluster.num_decode_ranks if answers & Question.DECODE else 0,
    )


def seat_agent(world: World, role: Role, layout: ActionLayout, timing: TimingModel) -> None:
    """Write what an agent answers and sees into a world; it is asked from `let_agent_answer` on."""
    agent = world.agent
    agent.answers, agent.sees = int(role.answers), int(role.sees)
    agent.num_budgets, agent.num_orders = role.num_budgets, role.num_orders
    agent.num_reserved = role.num_reserved
    agent.budget_of_chunk = role.budget_of == "chunk"
    agent.takes_box = layout.form == "box"
    agent.prefill_offset = layout.num_windows
    agent.decode_offset = layout.decode_offset
    agent.num_actions = layout.num_actions
    world.setup.any_order = role.num_orders > 1
    chunk = timing.chunk_tokens
    for name, tokens in {**_PROBES, "pass_chunk_s": chunk}.items():
        setattr(world.sight, name, timing.even_pass_s(min(tokens, chunk)))


@inlined
def let_agent_answer(w, rules):  # type: ignore[no-untyped-def]
    """Ask the agent what it answers from here on; until its first window the rules' own holds."""
    agent = w.agent
    agent.multiplier, agent.alpha = rules.multiplier, -1.0
    agent.reserved = rules.reserved
    agent.interval_s = interval_s(w, rules)
    agent.least_interval_s = rules.min_interval_s
    agent.most_interval_s = most_interval_s(w, rules)
    agent.kinds = agent.answers
    agent.asked_at_s = math.nan
