"""Python's side of the questions to an agent: what is legal, what is known, and the answers."""

from __future__ import annotations

from sbs_gym.jit import compiled
from sbs_gym.schedulers.questions import answer, has_room, is_legal
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.reports import known_blocks, known_kv_tokens, known_requests, known_waiting
from sbs_gym.sim.rows import rows_at

_DECODE = int(Question.DECODE)


@compiled
def list_legal(blocks, e, out):  # type: ignore[no-untyped-def]
    """Write which choices the question that stands in world `e` allows, bool.

    Place d of `out` is rank d; of a prefill rank, place dp is to leave the request. The segments of
    the action space must begin at 0, as they do in a world that no environment has touched.
    """
    w = rows_at(blocks, e)
    for choice in range(len(out)):
        out[choice] = is_legal(w, choice)


@compiled
def list_known(blocks, e, requests, waiting, held, kv_tokens, room):  # type: ignore[no-untyped-def]
    """Write what is known of every decode rank of world `e`, shape (num_decode_ranks,) each.

    `held` are blocks; `room` says who has room for the request in question, False without one.
    """
    w = rows_at(blocks, e)
    asked = w.agent.asked == _DECODE
    for k in range(len(requests)):
        requests[k] = known_requests(w, k)
        waiting[k] = known_waiting(w, k)
        held[k] = known_blocks(w, k)
        kv_tokens[k] = known_kv_tokens(w, k)
        room[k] = asked and has_room(w, w.agent.request, k)


@compiled
def answer_rank(blocks, e, choice):  # type: ignore[no-untyped-def]
    """Answer the question for a rank in world `e` by a legal choice of `list_legal`."""
    answer(rows_at(blocks, e), choice, 0.0)


@compiled
def answer_window(blocks, e, multiplier, order):  # type: ignore[no-untyped-def]
    """Answer the question for a window in world `e`: any multiplier, and an Order."""
    w = rows_at(blocks, e)
    w.agent.multiplier = multiplier
    w.setup.order = order
    w.agent.answered = 1
    w.agent.asked = 0
