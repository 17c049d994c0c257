"""What comes of an answer: a world is played on, and a network answers what is asked later."""

from __future__ import annotations

from sbs_gym.batch.forgetting import serve_and_forget
from sbs_gym.batch.stepping import give_answer
from sbs_gym.jit import compiled
from sbs_gym.schedulers.learned.playing import let_network_answer
from sbs_gym.schedulers.questions import answer, is_legal
from sbs_gym.sim.codes import Status
from sbs_gym.sim.rows import rows_at
from sbs_gym.sim.tally import clear, let_time_pass

_DONE, _DECISION_DUE = int(Status.DONE), int(Status.DECISION_DUE)


@compiled
def play_on(blocks, e, rules, net, action, held, until_s):  # type: ignore[no-untyped-def]
    """Answer the question of environment `e` and play on to `until_s`; return the status.

    DONE: the reward of that time, discounted from now, stands in `tally.reward`. Else an array is
    full, and the world no longer where it was.

    Args:
        blocks: Of the worlds; see sim/rows.py.
        e: Environment.
        rules: RULES records of background and shadow, shape (2,).
        net: Network that answers what is asked later.
        action: A legal index of the action space.
        held: How many questions of the same kind it answers, itself included, where it is legal.
        until_s: Instant at which to stop.
    """
    w = rows_at(blocks, e)
    kind, given = w.agent.asked, 1
    clear(w)
    give_answer(w, rules, action, 0.0)
    w.setup.stop_at_s = until_s
    while True:
        status = serve_and_forget(w, rules[0])
        if status != _DECISION_DUE:
            break
        if given < held and w.agent.asked == kind and is_legal(w, action):
            given += 1
            w.agent.asked_at_s = w.clock.now_s
            answer(w, action, 0.0)
        else:
            let_network_answer(w, net)
    if status == _DONE:
        let_time_pass(w, until_s)
    return status
