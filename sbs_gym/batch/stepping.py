"""One step of every environment of a batch: answer, play on, let the shadow follow, look."""

from __future__ import annotations

import math

import numpy as np

from sbs_gym.batch.forgetting import serve_and_forget
from sbs_gym.jit import compiled, inlined
from sbs_gym.schedulers.questions import answer, first_legal_from, is_legal
from sbs_gym.schedulers.release import revise_timer
from sbs_gym.schedulers.seat import let_agent_answer
from sbs_gym.sim.agent_state import TERMS, Pause, Question, Stage
from sbs_gym.sim.codes import Status
from sbs_gym.sim.encoder import observe
from sbs_gym.sim.rows import fetch, fetch_word, rows_at
from sbs_gym.sim.state import dtype_of
from sbs_gym.sim.tally import clear, let_time_pass

_ASKED, _STARTING, _RUNNING = int(Stage.ASKED), int(Stage.STARTING), int(Stage.RUNNING)
_SHADOWING, _OVER = int(Stage.SHADOWING), int(Stage.OVER)
_NOWHERE, _OUTSIDE = int(Pause.NOWHERE), int(Pause.OUTSIDE)
_RELEASE = int(Question.RELEASE)
_DONE, _DECISION_DUE = int(Status.DONE), int(Status.DECISION_DUE)

_REQUESTS_BEHIND, _REQUEST_LINES = 20, 27  # those in flight, and the next to arrive
_FETCHED_EVENTS = 3

# What a step of one environment gave.
OUTCOME = dtype_of(
    ("status", np.int64),  # Status: DECISION_DUE or DONE; else an array is full
    ("reward", np.float64),  # weighted, discounted within the step, less the shadow's
    ("elapsed_s", np.float64),
    ("discount", np.float64),  # weight of the value of what follows, exp(-beta * elapsed_s)
    *[(name, np.float64) for name in TERMS],  # undiscounted, less the shadow's
    ("num_invalid", np.int64),  # illegal actions of the episode so far
    ("terminated", np.int8),
    ("truncated", np.int8),
)


@compiled
def step_worlds(  # type: ignore[no-untyped-def]
    blocks, front_lines, rules, first, end, shadows, actions, values, outcomes, seen, legal
):
    """Bring environments [first, end) to their next question or their end.

    Returns how many did not come that far, because an array is full.

    Args:
        blocks: Of the worlds, and behind them of their shadows; see sim/rows.py.
        front_lines: Of the memory of a world, those to fetch ahead; see `Arena`.
        rules: RULES records of background and shadow, shape (2,).
        first: First environment.
        end: One past the last environment.
        shadows: Row of the first shadow; 0 for none.
        actions: int64, shape (num_envs,): legal indices or not.
        values: float64, shape (num_envs,): values of a box.
        outcomes: OUTCOME, shape (num_envs,), written.
        seen: float32, shape (num_envs, num_features), written.
        legal: bool, shape (num_envs, num_actions), written.
    """
    num_full = 0
    for e in range(first, end):
        w = rows_at(blocks, e)
        _fetch_next(blocks, e, end, front_lines)
        # Without a shadow its place is taken by the world itself, and never looked at.
        _step(w, rows_at(blocks, shadows + e), rules, e, shadows, actions[e], values[e], outcomes)
        status = outcomes[e].status
        if status in (_DECISION_DUE, _DONE):
            observe(w, seen, e)
            w.agent.asked_at_s = w.clock.now_s
            if w.agent.prefill_offset < legal.shape[1]:  # else all are always legal
                _list_legal(w, legal, e)
        else:
            num_full += 1
    return num_full


@inlined
def _fetch_next(blocks, e, end, front_lines):  # type: ignore[no-untyped-def]
    """Ask the cache for the next worlds: 256 of them are larger than it.

    What says which requests are looked at has to be there first: it is asked for a world earlier.
    """
    if e + 2 < end:
        w = rows_at(blocks, e + 2)
        fetch(w.setup, front_lines)
        for event in range(_FETCHED_EVENTS):
            fetch_word(w.events, event)
    if e + 1 < end:
        w = rows_at(blocks, e + 1)
        r = max(w.clock.next_arrival - _REQUESTS_BEHIND, 0)
        fetch(w.requests[r], _REQUEST_LINES)
        fetch_word(w.keys, w.buffer.num_keys)
        fetch_word(w.keys, w.buffer.front)
        fetch_word(w.log, w.clock.num_dispatched)
        fetch_word(w.lengths, 0)


@compiled
def find_illegal(blocks, first, end, actions):  # type: ignore[no-untyped-def]
    """Return the first environment of [first, end) whose action is illegal; -1 if none is."""
    for e in range(first, end):
        w = rows_at(blocks, e)
        if not w.agent.takes_box and w.agent.stage == _ASKED and not is_legal(w, actions[e]):
            return e
    return -1


@compiled
def first_outside(actions, count):  # type: ignore[no-untyped-def]
    """Return the place of the first action outside [0, count); -1 if there is none."""
    for place in range(len(actions)):
        if actions[place] < 0 or actions[place] >= count:
            return place
    return -1


@inlined
def _step(w, shadow, rules, e, shadows, action, value, outcomes):  # type: ignore[no-untyped-def]
    agent, out = w.agent, outcomes[e]
    out.status = _DONE
    if agent.stage == _OVER:
        return
    if agent.stage == _ASKED:
        if not agent.takes_box and not is_legal(w, action):
            out.num_invalid += 1
            action = first_legal_from(w, action)
        give_answer(w, rules, action, value)
        if shadows:
            shadow.tally.discount = 1.0
            shadow.tally.beta = w.tally.beta
        agent.stage = _RUNNING
    if agent.stage != _SHADOWING:
        status = _DECISION_DUE if agent.asked else serve_and_forget(w, rules[0])
        if status != _DECISION_DUE and status != _DONE:
            out.status = status
            return
        if status == _DONE:
            _settle(w)
        let_time_pass(w, w.clock.now_s)
        agent.starts = agent.stage == _STARTING
        agent.stage = _SHADOWING
    if shadows and not _follow(w, shadow, rules, out):
        return
    _report(w, shadow, shadows, out)


@inlined
def give_answer(w, rules, action, value):  # type: ignore[no-untyped-def]
    """Answer the question that stands; from here on time is discounted.

    Args:
        w: The world.
        rules: RULES records of background and shadow, shape (2,).
        action, value: A legal index, or the value of a box.
    """
    w.tally.discount = 1.0
    w.tally.beta = w.agent.beta
    outside = w.agent.paused == _OUTSIDE
    answer(w, action, value)
    if outside:
        w.agent.paused = _NOWHERE
        revise_timer(w, rules[0])


@inlined
def _settle(w):  # type: ignore[no-untyped-def]
    """Say how far time has come: to the horizon, if the workload goes on behind it."""
    clock, agent = w.clock, w.agent
    drained = clock.num_done == w.setup.num_requests and not agent.goes_on
    if not drained:
        clock.now_s = agent.until_s


@inlined
def _follow(w, shadow, rules, out):  # type: ignore[no-untyped-def]
    """Let the shadow catch up; return whether it has, without an array getting full."""
    until_s = w.clock.now_s
    ended = w.agent.asked == 0
    if ended:
        until_s = w.agent.until_s  # if the agent has drained, the shadow still may not
    if not ended and until_s == w.agent.asked_at_s:
        return True  # it has played this instant
    shadow.setup.stop_at_s = until_s
    status = serve_and_forget(shadow, rules[1])
    if status != _DONE:
        out.status = status
        return False
    if ended and w.clock.now_s < until_s:
        drained = shadow.clock.num_done == shadow.setup.num_requests
        w.clock.now_s = max(w.clock.now_s, shadow.clock.now_s) if drained else until_s
        let_time_pass(w, w.clock.now_s)
    let_time_pass(shadow, w.clock.now_s)
    return True


@inlined
def _report(w, shadow, shadows, out):  # type: ignore[no-untyped-def]
    """Write the outcome, unless the environment has just begun: then it belongs to what follows."""
    agent, tally, now = w.agent, w.tally, w.clock.now_s
    ended = agent.asked == 0
    out.status = _DONE if ended else _DECISION_DUE
    out.terminated = ended and now < agent.until_s
    out.truncated = ended and not out.terminated
    agent.stage = _OVER if ended else _ASKED
    if agent.starts:
        out.reward, out.elapsed_s, out.discount = 0.0, 0.0, 1.0
        _write_terms(out, tally, tally, False)  # nothing yet
        agent.starts = 0
        agent.asked_at_s = now
        return
    out.reward = tally.reward - shadow.tally.reward if shadows else tally.reward
    out.elapsed_s = now - agent.asked_at_s
    out.discount = math.exp(-tally.beta * out.elapsed_s)
    _write_terms(out, tally, shadow.tally, shadows == 0)
    clear(w)
    if shadows:
        clear(shadow)


@inlined
def _write_terms(out, tally, less, alone):  # type: ignore[no-untyped-def]
    share = 0.0 if alone else 1.0
    out.ttft = tally.ttft - share * less.ttft
    out.tpot = tally.tpot - share * less.tpot
    out.slo_miss = tally.slo_miss - share * less.slo_miss
    out.rejection = tally.rejection - share * less.rejection
    out.prefill_bubble = tally.prefill_bubble - share * less.prefill_bubble
    out.decode_bubble = tally.decode_bubble - share * less.decode_bubble
    out.input_tokens = tally.input_tokens - share * less.input_tokens
    out.output_tokens = tally.output_tokens - share * less.output_tokens


@inlined
def _list_legal(w, legal, e):  # type: ignore[no-untyped-def]
    agent = w.agent
    if agent.asked == 0:
        for action in range(legal.shape[1]):
            legal[e, action] = True
    elif agent.asked == _RELEASE:
        for action in range(legal.shape[1]):
            legal[e, action] = action < agent.prefill_offset
    else:
        for action in range(legal.shape[1]):
            legal[e, action] = is_legal(w, action)


@compiled
def announce(blocks, e, seed, num_requests, goes_on):  # type: ignore[no-untyped-def]
    """Tell environment `e`, at time 0, of the requests of its episode."""
    w = rows_at(blocks, e)
    w.setup.seed = seed
    w.setup.num_requests = w.setup.end_measured = num_requests
    w.clock.num_measured_left = num_requests
    w.agent.goes_on = goes_on


@compiled
def warm_up(blocks, e, until_s, rules):  # type: ignore[no-untyped-def]
    """Let the background play environment `e` up to `until_s`; return the status."""
    w = rows_at(blocks, e)
    w.setup.stop_at_s = until_s
    status = serve_and_forget(w, rules[0])
    if status == _DONE:
        w.clock.now_s = until_s  # also if nothing was left to happen before
    return status


@compiled
def begin_episode(blocks, e, row, until_s, rules):  # type: ignore[no-untyped-def]
    """End the warm-up of environment `e`, whose shadow, if any, stands at `row`.

    Costs count from here on; if requests wait, the agent is asked at once.
    """
    w = rows_at(blocks, e)
    agent = w.agent
    _count_from_now(w, until_s)
    let_agent_answer(w, rules[0])
    agent.until_s = until_s
    agent.stage = _STARTING
    if agent.kinds & _RELEASE and w.buffer.num > 0:
        agent.asked = _RELEASE
        agent.paused = _OUTSIDE
    if row:
        _count_from_now(rows_at(blocks, row), until_s)


@inlined
def _count_from_now(w, until_s):  # type: ignore[no-untyped-def]
    clear(w)
    w.tally.discount = 1.0  # costs before the first question count in full
    w.tally.since_s = w.clock.now_s
    w.tally.until_s = until_s
    w.setup.stop_at_s = until_s
