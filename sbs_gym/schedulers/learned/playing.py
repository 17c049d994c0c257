"""A network that plays a run inside the compiled loop: observe, think, choose, answer, go on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.jit import compiled, inlined
from sbs_gym.schedulers.learned.forward import forward
from sbs_gym.schedulers.learned.network import MLP, lay_out
from sbs_gym.schedulers.learned.weights import layout_on, read_weights
from sbs_gym.schedulers.questions import NUM_MULTIPLIERS, answer, is_legal
from sbs_gym.schedulers.seat import let_agent_answer, seat_agent
from sbs_gym.schedulers.serve import serve
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.codes import Status
from sbs_gym.sim.encoder import observe
from sbs_gym.sim.rows import rows_at
from sbs_gym.sim.state import World
from sbs_gym.timing.model import TimingModel

_RELEASE, _PREFILL = int(Question.RELEASE), int(Question.PREFILL)
_DECISION_DUE = int(Status.DECISION_DUE)
_MULTIPLIERS = int(NUM_MULTIPLIERS)


class Learner:
    """The network of a scheduler on a cluster, in a run of its own.

    Raises:
        ConfigError: If its file cannot be read, or it cannot play on this cluster.
    """

    def __init__(self, scheduler: SchedulerConfig, cluster: ClusterConfig) -> None:
        self._weights = read_weights(str(scheduler.learned))
        self._layout = layout_on(self._weights, scheduler, cluster)
        self._net = lay_out(self._weights, self._layout, cluster)

    @property
    def chooses_order(self) -> bool:
        """Whether the order of a release may be another one each time."""
        return self._weights.role.num_orders > 1

    def begin(self, world: World, blocks: Any, rules: Any, timing: TimingModel) -> None:
        """Take the agent's seat in a world at time 0, the first of `blocks`."""
        seat_agent(world, self._weights.role, self._layout, timing)
        begin_learned(blocks, 0, rules)

    def play(self, blocks: Any, rules: Any) -> int:
        """Serve the first world of `blocks`; return its status, never DECISION_DUE."""
        status: int = play_learned(blocks, 0, rules, self._net)
        return status


def learner_for(scheduler: SchedulerConfig, cluster: ClusterConfig) -> Learner | None:
    """Return who plays a learned scheduler; None for any other.

    Raises:
        ConfigError: As Learner.
    """
    return None if scheduler.learned is None else Learner(scheduler, cluster)


@compiled
def begin_learned(blocks, e, rules):  # type: ignore[no-untyped-def]
    """Let the agent of world `e` answer from here on."""
    let_agent_answer(rows_at(blocks, e), rules)


@compiled
def play_learned(blocks, e, rules, net):  # type: ignore[no-untyped-def]
    """Serve world `e`, all questions to its agent answered by a network."""
    w = rows_at(blocks, e)
    while True:
        status = serve(w, rules)
        if status != _DECISION_DUE:
            return status
        let_network_answer(w, net)


@inlined
def let_network_answer(w, net):  # type: ignore[no-untyped-def]
    """Answer the question that stands in world `w`."""
    _look(w, net)
    forward(net, w.agent.asked)
    if w.agent.takes_box:
        answer(w, 0, _box_value(net))
    else:
        answer(w, _choice(w, net), 0.0)


@inlined
def _look(w, net):  # type: ignore[no-untyped-def]
    """Add what the agent sees to the moments; the first fills them all."""
    agent, last = w.agent, net.header.history - 1
    is_first = math.isnan(agent.asked_at_s)
    if is_first:
        agent.asked_at_s = w.clock.now_s
    for t in range(last):
        net.moments[t, :] = net.moments[t + 1, :]
    observe(w, net.moments, last)
    if is_first:
        for t in range(last):
            net.moments[t, :] = net.moments[last, :]
    agent.asked_at_s = w.clock.now_s


@inlined
def _box_value(net):  # type: ignore[no-untyped-def]
    return min(max(np.float64(net.logits[0]), -1.0), 1.0)


@inlined
def _choice(w, net):  # type: ignore[no-untyped-def]
    """Return the legal index with the largest logit, the lowest of equals."""
    agent, header, logits = w.agent, net.header, net.logits
    if agent.asked == _RELEASE:
        if header.is_multi:
            budgets = logits[_MULTIPLIERS : header.num_windows]
            return _largest(logits[:_MULTIPLIERS]) * len(budgets) + _largest(budgets)
        return _largest(logits[: header.num_windows])
    first, end = agent.prefill_offset, agent.decode_offset
    if agent.asked != _PREFILL:
        first, end = agent.decode_offset, agent.num_actions
    shift = 0 if header.kind == MLP else first  # a set writes one segment only
    best = -1
    for action in range(first, end):
        if is_legal(w, action) and (best < 0 or logits[action - shift] > logits[best - shift]):
            best = action
    return best


@inlined
def _largest(logits):  # type: ignore[no-untyped-def]
    best = 0
    for n in range(1, len(logits)):
        if logits[n] > logits[best]:
            best = n
    return best
