"""Budget rules: how many tokens a rank may take in the passes that a release leads to."""

from __future__ import annotations

import math

from sbs_gym.jit import inlined
from sbs_gym.schedulers.rules import Budget
from sbs_gym.sim.agent_state import Question

_BY_AGENT = int(Question.RELEASE)
_FIXED, _BACKLOG = int(Budget.FIXED), int(Budget.BACKLOG)


@inlined
def choose_budget(w, rules, i):  # type: ignore[no-untyped-def]
    """Return the budget of a release to instance `i`, made with the buffer as it is now."""
    chunk = w.setup.chunk_tokens
    if w.agent.num_budgets > 1 and w.agent.kinds & _BY_AGENT and w.agent.alpha >= 0.0:
        return _chosen(w, rules, i) if w.agent.alpha > 0.0 else chunk
    if rules.budget == _FIXED:
        return min(rules.budget_tokens, chunk)
    if rules.budget == _BACKLOG:
        return _share(w, rules, i, rules.alpha)
    return chunk


@inlined
def _chosen(w, rules, i):  # type: ignore[no-untyped-def]
    """Return the budget of the agent's share; of the chunk, half of it, for 1.4 is beyond one."""
    if w.agent.budget_of_chunk:
        return max(math.ceil(0.5 * w.agent.alpha * w.setup.chunk_tokens), 1)
    return _share(w, rules, i, w.agent.alpha)


@inlined
def _share(w, rules, i, alpha):  # type: ignore[no-untyped-def]
    backlog = w.buffer.tokens + w.views[i].leftover_tokens
    share = math.ceil(alpha * backlog / w.setup.dp)
    return min(max(share, rules.floor_tokens), w.setup.chunk_tokens)
