"""Questions to an agent in place of a rule, which of its actions are legal, and its answers.

A round stops at a question (`Status.DECISION_DUE`) and goes on where it stood when it is answered.
docs/environments.md says what is asked when.
"""

from __future__ import annotations

from sbs_gym.jit import compiled, inlined
from sbs_gym.sim.agent_state import Pause, Question
from sbs_gym.sim.buffer import past_limit
from sbs_gym.sim.codes import Order
from sbs_gym.sim.handoff import blocks_for
from sbs_gym.sim.reports import known_blocks

_RELEASE, _PREFILL = int(Question.RELEASE), int(Question.PREFILL)
_DECODE = int(Question.DECODE)
_IN_RELEASE, _IN_ALLOCATION = int(Pause.RELEASE), int(Pause.ALLOCATION)
# What a window of the action space may be: multipliers are whole numbers of quarters.
NUM_MULTIPLIERS = 9
STEPS_OF_ONE = 4.0
BUDGET_SHARES = (0.4, 0.6, 0.8, 1.0, 1.4)  # of the backlog per rank; behind them the full chunk
RESERVED = (0, 1, 2)
ORDERS = (Order.AGE_LONGEST, Order.ARRIVAL, Order.SHORTEST)
_ORDERS = tuple(int(order) for order in ORDERS)


@inlined
def asks_for_window(w):  # type: ignore[no-untyped-def]
    """Return whether the agent has to choose a window now; if so, the round stops here."""
    agent = w.agent
    if agent.answered or not agent.kinds & _RELEASE or w.buffer.num == 0:
        return False
    agent.asked = _RELEASE
    agent.paused = _IN_RELEASE
    return True


@inlined
def asks_for_rank(w, i, r, placed):  # type: ignore[no-untyped-def]
    """Return whether the agent has to choose a prefill rank for request `r` of a release."""
    agent = w.agent
    if agent.answer >= 0:
        return False
    agent.asked = _PREFILL
    agent.paused = _IN_ALLOCATION
    agent.instance = i
    agent.request = r
    agent.placed = placed
    return True


@inlined
def take_answer(w):  # type: ignore[no-untyped-def]
    """Return the agent's answer, which is spent by that."""
    answer = w.agent.answer
    w.agent.answer = -1
    return answer


@compiled
def is_legal(w, action):  # type: ignore[no-untyped-def]
    """Return whether the question that stands allows this index of the action space."""
    agent, setup = w.agent, w.setup
    if agent.asked == _RELEASE:
        return 0 <= action < agent.prefill_offset
    if agent.asked == _PREFILL:
        choice = action - agent.prefill_offset
        if choice == setup.dp:
            return may_leave(w)
        return 0 <= choice < setup.dp and (not setup.gated or w.room[choice] > 0.0)
    if agent.asked == _DECODE:
        k = action - agent.decode_offset
        if k < 0 or k >= setup.num_decode_ranks or w.decode_views[k].refused:
            return False
        return not agent.has_ranks or has_room(w, agent.request, k)
    return True


@inlined
def may_leave(w):  # type: ignore[no-untyped-def]
    """Return whether the request in question may stay in the buffer.

    Not if it has waited for too many releases; nor the first of a release while nothing else is
    expected to happen, for then nobody might ask again.
    """
    agent = w.agent
    if past_limit(w, agent.request):
        return False
    if agent.placed > 0:
        return True
    for i in range(w.setup.num_prefill):
        if w.views[i].running or w.views[i].outstanding_tokens > 0:
            return True
    return False


@inlined
def has_room(w, r, k):  # type: ignore[no-untyped-def]
    """Return whether decode rank `k` has room for request `r`, by the scheduler's records."""
    need = blocks_for(w, w.requests[r].input_tokens + w.setup.reserve_tokens)
    return w.setup.decode_blocks - known_blocks(w, k) >= need


@compiled
def first_legal_from(w, index):  # type: ignore[no-untyped-def]
    """Return the k-th legal action, k being `index` modulo their number."""
    count = 0
    for action in range(w.agent.num_actions):
        if is_legal(w, action):
            count += 1
    left = index % count
    for action in range(w.agent.num_actions):
        if is_legal(w, action):
            if left == 0:
                return action
            left -= 1
    return -1


@inlined
def take_window(w, index):  # type: ignore[no-untyped-def]
    """Let the window of this index of the action space stand until the next release."""
    agent = w.agent
    rest = index
    if agent.num_reserved > 1:
        agent.reserved = RESERVED[rest % agent.num_reserved]
        rest //= agent.num_reserved
    order, rest = rest % agent.num_orders, rest // agent.num_orders
    budget = rest % agent.num_budgets
    agent.multiplier = (rest // agent.num_budgets) / STEPS_OF_ONE
    if agent.num_orders > 1:
        w.setup.order = _ORDERS[order]
    if agent.num_budgets > 1:
        agent.alpha = BUDGET_SHARES[budget] if budget < len(BUDGET_SHARES) else 0.0
    agent.answered = agent.stands = 1


@inlined
def answer(w, action, value):  # type: ignore[no-untyped-def]
    """Give the agent's answer to the question that stands: a legal index, or a box's value."""
    agent = w.agent
    if agent.asked == _RELEASE:
        if agent.takes_box:
            agent.multiplier = 1.0 + value
            agent.answered = agent.stands = 1
        else:
            take_window(w, action)
    elif agent.asked == _PREFILL:
        agent.answer = action - agent.prefill_offset
    else:
        agent.answer = action - agent.decode_offset
    agent.asked = 0
