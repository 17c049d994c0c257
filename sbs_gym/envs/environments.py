"""The five environments, one class each; what they share is in single.py and documentation.py."""

from __future__ import annotations

from sbs_gym.envs.documentation import documented
from sbs_gym.envs.single import SchedulingEnv
from sbs_gym.envs.tasks import TASKS


@documented
class WindowEnv(SchedulingEnv):
    """Choose how long to hold requests back before the next release.

    The agent is asked once per release, at the first instant at which the buffer is not empty; that
    may be the instant of the last release, before its round goes on. The answer, a multiple of the
    scheduler's interval, holds until the next release. The interval itself follows the mean pass
    and the links, and counts from the last release, so that 0 releases as soon as an instance is
    ready. With `full_batch_bypass` of the scheduler a buffer that fills a pass goes at once all the
    same. 1 is the preset `sbs`, 0 is `work_conserving`.

    `reask="signal"` or `"arrival"` asks again at every such event while a window stands, and the
    answer revises it: more steps, of which most change nothing.
    """

    task = TASKS["SBS/Window"]


@documented
class WindowBudgetEnv(SchedulingEnv):
    """Choose how long to hold requests back, and how many tokens a rank may take then.

    The agent is asked once per release, as in `SBS/Window-v0`, for the window and for the tokens
    that a rank may take in the pass of that release. The budget is a share of the backlog at the
    release (buffer and leftovers of the instance, over its ranks), at least the scheduler's
    `floor_tokens`, at most the chunk. (1 x, full chunk) is the preset `sbs`, (0 x, 0.8) is
    `sbs_budget`.

    `reask="signal"` or `"arrival"` asks again at every such event while a window stands, and the
    answer revises it.
    """

    task = TASKS["SBS/WindowBudget"]


@documented
class PrefillAllocationEnv(SchedulingEnv):
    """Choose the rank of every request of a release, or leave it in the buffer.

    The scheduler decides when to release and to which instance. The agent is asked per request, in
    the scheduler's order, while some rank of the instance has room; no time passes between the
    questions of a release. Ranks without room are masked. A request may stay in the buffer unless
    it has waited for more than `n_limit` releases; the first request of a release may not, either,
    if no signal is expected that would ask again. If all are left there is no dispatch. PBAA and
    the other allocation rules of gated schedulers are among the policies.
    """

    task = TASKS["SBS/PrefillAllocation"]


@documented
class DecodeAllocationEnv(SchedulingEnv):
    """Choose the decode rank of every prompt that is done.

    The scheduler does all the rest. The agent is asked per request of a placement round, in the
    order of the scheduler's placement rule; no time passes between the questions of a round. Legal
    are ranks that have refused nothing since their last report and have room by the scheduler's
    records; if there are none, all that have refused nothing: the request then waits there. IQR-lex
    and the other placement rules are among the policies.
    """

    task = TASKS["SBS/DecodeAllocation"]


@documented
class ServingEnv(SchedulingEnv):
    """Choose window, budget, order, prefill rank and decode rank.

    All questions of the other environments, in one index of several segments; the mask opens the
    segment of the question that stands. The order of a release comes with its window. The routing
    rule picks the instance. `sbs` with PBAA and IQR-lex is among the policies.
    """

    task = TASKS["SBS/Serving"]
