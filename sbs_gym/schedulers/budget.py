"""Budget rules: how many tokens a rank may take in the passes that a release leads to."""

from __future__ import annotations

import math

from sbs_gym.jit import inlined
from sbs_gym.schedulers.rules import Budget

_FIXED, _BACKLOG = int(Budget.FIXED), int(Budget.BACKLOG)


@inlined
def choose_budget(w, rules, i):  # type: ignore[no-untyped-def]
    """Return the budget of a release to instance `i`, made with the buffer as it is now."""
    chunk = w.setup.chunk_tokens
    if rules.budget == _FIXED:
        return min(rules.budget_tokens, chunk)
    if rules.budget == _BACKLOG:
        backlog = w.buffer.tokens + w.views[i].leftover_tokens
        share = math.ceil(rules.alpha * backlog / w.setup.dp)
        return min(max(share, rules.floor_tokens), chunk)
    return chunk
