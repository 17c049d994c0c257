"""What the rules of a scheduler would answer in place of the agents of a batch."""

from __future__ import annotations

from sbs_gym.jit import compiled, inlined
from sbs_gym.schedulers.allocation import choose_rank, is_kept_out, roomiest
from sbs_gym.schedulers.placement import choose_decode_rank
from sbs_gym.schedulers.questions import may_leave
from sbs_gym.schedulers.rules import LimitAction
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.buffer import oldest_in_buffer, past_limit
from sbs_gym.sim.rows import rows_at
from sbs_gym.sim.view import begin_release

_RELEASE, _PREFILL = int(Question.RELEASE), int(Question.PREFILL)
_FORCE = int(LimitAction.FORCE)


@compiled
def rule_answers(blocks, rules, window, asked, out):  # type: ignore[no-untyped-def]
    """Write the index that answers the question of every environment that is `asked`, (num_envs,).

    A rule that counts its answers, such as round robin, has counted this one then: ask once per
    question. `window` is the index of the window segment.
    """
    for e in range(len(out)):
        if not asked[e]:
            continue
        w = rows_at(blocks, e)
        if w.agent.asked == _RELEASE:
            out[e] = window
        elif w.agent.asked == _PREFILL:
            out[e] = w.agent.prefill_offset + _prefill_rank(w, rules)
        elif w.agent.asked:
            out[e] = w.agent.decode_offset + choose_decode_rank(w, rules, w.agent.request)


@inlined
def _prefill_rank(w, rules):  # type: ignore[no-untyped-def]
    agent = w.agent
    if is_kept_out(w, rules, agent.instance, agent.request) and may_leave(w):
        return w.setup.dp
    if agent.placed == 0:
        begin_release(w, agent.instance)  # now the release is certain
    if rules.limit_action == _FORCE and past_limit(w, oldest_in_buffer(w)):
        return roomiest(w)
    return choose_rank(w, rules, agent.instance, agent.request)
