"""Sessions with think times, as a stationary open-loop stream.

A session has a geometric number of turns. The next turn arrives `service_s` plus a lognormal think
time after the previous turn's arrival: an open table cannot wait for the simulated answer, so a
slow scheduler is not relieved by its users waiting, as it would be in a closed loop.
"""

from __future__ import annotations

import heapq
import math

import numpy as np

from sbs_gym.config.arrivals import ArrivalConfig
from sbs_gym.jit import compiled
from sbs_gym.rng import normal, uniform
from sbs_gym.types import FloatArray, IntArray
from sbs_gym.workload.purposes import (
    RESIDUAL,
    SESSION_CONTINUES,
    SESSION_START,
    STARTED_SESSIONS,
    STREAM,
    THINK,
)
from sbs_gym.workload.renewal import unit_exponential

SessionColumns = tuple[FloatArray, IntArray, IntArray, IntArray, FloatArray]


@compiled
def _think_s(seed, mu, sigma, session, turn):  # type: ignore[no-untyped-def]
    return math.exp(mu + sigma * normal(seed, STREAM, THINK, session, turn))


@compiled
def _residual_gap_s(seed, service_s, mu, sigma, session):  # type: ignore[no-untyped-def]
    # What is left at time 0 of a gap in progress: a uniform part of a length-biased gap, where
    # the bias weighs service_s + think; a length-biased lognormal has mu + sigma**2.
    think_mean_s = math.exp(mu + 0.5 * sigma * sigma)
    biased = uniform(seed, STREAM, RESIDUAL, session, 0) * (service_s + think_mean_s) > service_s
    think_s = _think_s(seed, mu + sigma * sigma if biased else mu, sigma, session, 0)
    return uniform(seed, STREAM, RESIDUAL, session, 1) * (service_s + think_s)


@compiled
def _started_sessions(seed, mean):  # type: ignore[no-untyped-def]
    # A Poisson number: arrivals of a process at rate 1 within `mean`.
    count = 0
    total = unit_exponential(seed, STARTED_SESSIONS, 0)
    while total < mean:
        count += 1
        total += unit_exponential(seed, STARTED_SESSIONS, count)
    return count


@compiled
def _session_rows(seed, rate, mean_turns, service_s, mu, sigma, count):  # type: ignore[no-untyped-def]
    times = np.empty(count)
    sessions = np.empty(count, dtype=np.int64)
    parents = np.empty(count, dtype=np.int64)
    turns = np.empty(count, dtype=np.int64)
    thinks = np.empty(count)
    again = 1.0 - 1.0 / mean_turns
    mean_gap_s = service_s + math.exp(mu + 0.5 * sigma * sigma)
    started = _started_sessions(seed, rate * again * mean_gap_s)
    waiting = [
        (unit_exponential(seed, SESSION_START, 0) * mean_turns / rate, started, 0, -1, np.nan)
    ]
    for session in range(started):
        gap_s = _residual_gap_s(seed, service_s, mu, sigma, session)
        heapq.heappush(waiting, (gap_s, session, 0, -1, np.nan))
    for row in range(count):
        now_s, session, turn, parent, think_s = heapq.heappop(waiting)
        times[row], sessions[row], turns[row] = now_s, session, turn
        parents[row], thinks[row] = parent, think_s
        if turn == 0 and session >= started:
            gap_s = unit_exponential(seed, SESSION_START, session + 1 - started)
            opens_at_s = now_s + gap_s * mean_turns / rate
            heapq.heappush(waiting, (opens_at_s, session + 1, 0, -1, np.nan))
        if uniform(seed, STREAM, SESSION_CONTINUES, session, turn) < again:
            think_s = _think_s(seed, mu, sigma, session, turn + 1)
            next_at_s = now_s + (service_s + think_s)
            heapq.heappush(waiting, (next_at_s, session, turn + 1, row, think_s))
    return times, sessions, parents, turns, thinks


def session_rows(config: ArrivalConfig, rate_per_s: float, seed: int, count: int) -> SessionColumns:
    """Return arrival times, session, parent row, turn and think time of the first `count` rows.

    The stream is stationary from time 0: sessions already under way then are drawn too, and their
    first visible turn counts as turn 0 without a parent (parent -1, think time NaN).
    """
    sigma = config.think_sigma or 0.0
    mu = math.log(config.think_mean_s or math.nan) - 0.5 * sigma * sigma
    mean_turns, service_s = float(config.mean_turns or 1.0), float(config.service_s or 0.0)
    return _session_rows(seed, rate_per_s, mean_turns, service_s, mu, sigma, count)  # type: ignore[no-any-return]
