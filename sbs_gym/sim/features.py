"""What an agent sees: the scheduler's knowledge as numbers, in the order of the tables below.

Compiled, so that a learned rule can run inside the loop. Nothing here reads true state, the length
of an answer, or a request that has not arrived. Every number is clipped to its bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.jit import compiled, inlined
from sbs_gym.sim.agent_state import NUM_LENGTHS, Question
from sbs_gym.sim.buffer import oldest_in_buffer
from sbs_gym.sim.reports import known_blocks, known_kv_tokens, known_requests, known_waiting
from sbs_gym.sim.sight import arriving_tokens_per_s, dispersion, watch_arrivals
from sbs_gym.sim.state import Life
from sbs_gym.sim.view import leftover_cost

_BUFFERED = int(Life.BUFFERED)
_RELEASE, _PREFILL = int(Question.RELEASE), int(Question.PREFILL)
_DECODE = int(Question.DECODE)


class Group(IntFlag):
    """Parts of an observation; a set of them is what a task sees."""

    GLOBAL = 1
    INSTANCES = 2
    RANKS = 4
    DECODE_RANKS = 8
    REQUEST = 16


_INSTANCES, _RANKS = int(Group.INSTANCES), int(Group.RANKS)
_DECODE_RANKS, _REQUEST = int(Group.DECODE_RANKS), int(Group.REQUEST)


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of an observation: its name, unit, bounds and meaning."""

    name: str
    unit: str
    low: float
    high: float
    meaning: str


def _share(name: str, meaning: str) -> Feature:
    return Feature(name, "0 or 1", 0.0, 1.0, meaning)


# The unit "passes" is a full chunk on every rank of one instance; "chunks" one full chunk.
GLOBAL = (
    _share("asks_release", "the question is the window"),
    _share("asks_prefill", "the question is a prefill rank"),
    _share("asks_decode", "the question is a decode rank"),
    Feature("elapsed_s", "s", 0.0, 10.0, "since the last question"),
    Feature("buffer_requests", "per prefill rank", 0.0, 50.0, "prompts in the buffer"),
    Feature("buffer_tokens", "passes of all instances", 0.0, 50.0, "tokens in the buffer"),
    Feature("buffer_longest", "chunks", 0.0, 50.0, "longest prompt in the buffer"),
    Feature("buffer_age_max_s", "s", 0.0, 60.0, "age of the oldest prompt in the buffer"),
    Feature("buffer_age_median_s", "s", 0.0, 60.0, "age of the middle one, of two the older"),
    Feature("buffer_length_q25", "chunks", 0.0, 50.0, "quartile of the 64 oldest lengths"),
    Feature("buffer_length_q50", "chunks", 0.0, 50.0, "their median"),
    Feature("buffer_length_q75", "chunks", 0.0, 50.0, "their upper quartile"),
    Feature("pass_mean_s", "s", 0.0, 10.0, "moving average of the passes that were signalled"),
    Feature("interval_s", "s", 0.0, 10.0, "the interval at multiplier 1, not clipped"),
    Feature("since_release_s", "s", 0.0, 60.0, "since the last release, of any instance"),
    Feature("window_left_s", "s", 0.0, 10.0, "what is left of a window that stands"),
    Feature("load_1s", "of a full pass", 0.0, 10.0, "tokens arriving per pass_chunk_s, last 1 s"),
    Feature("load_10s", "of a full pass", 0.0, 10.0, "last 10 s"),
    Feature("load_60s", "of a full pass", 0.0, 10.0, "last 60 s"),
    Feature("dispersion", "", 0.0, 50.0, "variance / mean of arrivals per second, last 60 s"),
    Feature("pass_256_s", "s", 0.0, 10.0, "predicted pass of 256 tokens on every rank"),
    Feature("pass_1024_s", "s", 0.0, 10.0, "of 1024 tokens"),
    Feature("pass_chunk_s", "s", 0.0, 10.0, "of a full chunk"),
    Feature("dispatch_delay_s", "s", 0.0, 1.0, "scheduler to engine"),
    Feature("signal_delay_s", "s", 0.0, 1.0, "engine to scheduler"),
    Feature("report_age_s", "s", 0.0, 10.0, "age of the youngest decode report; 10: none yet"),
    Feature("waiting_for_decode", "per decode rank", 0.0, 50.0, "prompts without a decode rank"),
    Feature("decode_requests", "of the batch limit", 0.0, 2.0, "requests on decode ranks"),
    Feature("decode_blocks", "of the room", 0.0, 2.0, "KV blocks held on decode ranks"),
)
INSTANCE = (
    _share("running", "believed to run a pass"),
    _share("pending", "a release for its next pass is under way"),
    Feature("end_in_s", "s", -10.0, 10.0, "until the predicted end; 0 if not running"),
    Feature("idle_s", "s", 0.0, 10.0, "since the last pass ended; 0 if running"),
    Feature("error_s", "s", 0.0, 1.0, "moving average of |end - predicted end|"),
    Feature("outstanding_tokens", "passes", 0.0, 50.0, "sent and not known to be done"),
    Feature("leftover_tokens", "passes", 0.0, 50.0, "of it, behind the believed pass"),
    Feature("leftover_cost_s", "s", 0.0, 10.0, "compute time of that, mean over ranks"),
    Feature("leftover_fullest", "chunks", 0.0, 50.0, "of the rank with most of it"),
    Feature("last_budget", "chunks", 0.0, 1.0, "tokens per rank that the last release allowed"),
    _share("takes_release", "the release in question goes there"),
)
RANK = (
    Feature("room", "of the budget", -50.0, 1.0, "budget less load, before this request"),
    Feature("load", "of the budget", 0.0, 50.0, "leftover and placed in this release"),
    Feature("leftover_tokens", "chunks", 0.0, 50.0, "behind the believed pass"),
    Feature("requests", "", 0.0, 50.0, "sent and not known to be done"),
)
DECODE_RANK = (
    Feature("requests", "of the batch limit", 0.0, 2.0, "run or wait there, by the records"),
    Feature("waiting", "of the batch limit", 0.0, 2.0, "of them, waiting"),
    Feature("kv_tokens", "of the room", 0.0, 2.0, "context held, by the records"),
    Feature("blocks", "of the room", 0.0, 2.0, "KV blocks held, by the records"),
    _share("refused", "has refused a request since the last report"),
)
REQUEST = (
    Feature("tokens", "chunks", 0.0, 50.0, "prompt length"),
    Feature("age_s", "s", 0.0, 60.0, "since it arrived"),
    Feature("waited_releases", "of n_limit", 0.0, 2.0, "releases since it arrived; 0 for decode"),
    Feature("placed", "per rank", 0.0, 50.0, "requests placed or tried before in this round"),
    Feature("to_place", "per rank", 0.0, 50.0, "requests left to place, this one included"),
    Feature("budget", "chunks", 0.0, 1.0, "tokens per rank of this release; 0 for decode"),
)


def sizes(cluster: ClusterConfig) -> dict[Group, tuple[int, tuple[Feature, ...]]]:
    """Return rows and features of every group, in the order of an observation."""
    return {
        Group.GLOBAL: (1, GLOBAL),
        Group.INSTANCES: (cluster.num_prefill, INSTANCE),
        Group.RANKS: (cluster.prefill_dp, RANK),
        Group.DECODE_RANKS: (cluster.num_decode_ranks, DECODE_RANK),
        Group.REQUEST: (1, REQUEST),
    }


def num_features(sees: Group, cluster: ClusterConfig) -> int:
    """Return the numbers of an observation that shows the groups `sees`."""
    return sum(
        rows * len(columns) for group, (rows, columns) in sizes(cluster).items() if group & sees
    )


@inlined
def _put(out, e, n, value, low, high):  # type: ignore[no-untyped-def]
    """Write one number, clipped, and return the place of the next."""
    out[e, n] = min(max(value, low), high)
    return n + 1


@inlined
def _put_flag(out, e, n, holds):  # type: ignore[no-untyped-def]
    out[e, n] = 1.0 if holds else 0.0
    return n + 1


@compiled
def observe(w, out, e):  # type: ignore[no-untyped-def]
    """Write what the agent sees into out[e, :], float32."""
    sees = w.agent.sees
    watch_arrivals(w)
    n = _put_question(w, out, e)
    n = _put_buffer(w, out, e, n)
    n = _put_clock(w, out, e, n)
    n = _put_arrivals(w, out, e, n)
    n = _put_links(w, out, e, n)
    if sees & _INSTANCES:
        for i in range(w.setup.num_prefill):
            n = _put_instance(w, out, e, n, i)
    if sees & _RANKS:
        for d in range(w.setup.dp):
            n = _put_rank(w, out, e, n, d)
    if sees & _DECODE_RANKS:
        for k in range(w.setup.num_decode_ranks):
            n = _put_decode_rank(w, out, e, n, k)
    if sees & _REQUEST:
        _put_request(w, out, e, n)


@inlined
def _put_question(w, out, e):  # type: ignore[no-untyped-def]
    agent = w.agent
    n = _put_flag(out, e, 0, agent.asked == _RELEASE)
    n = _put_flag(out, e, n, agent.asked == _PREFILL)
    n = _put_flag(out, e, n, agent.asked == _DECODE)
    return _put(out, e, n, w.clock.now_s - agent.asked_at_s, 0.0, 10.0)


@inlined
def _put_buffer(w, out, e, n):  # type: ignore[no-untyped-def]
    setup, num = w.setup, w.buffer.num
    ranks, chunk = float(setup.num_prefill * setup.dp), float(setup.chunk_tokens)
    n = _put(out, e, n, num / ranks, 0.0, 50.0)
    n = _put(out, e, n, w.buffer.tokens / (ranks * chunk), 0.0, 50.0)
    if num == 0:
        for _ in range(6):
            n = _put(out, e, n, 0.0, 0.0, 0.0)
        return n
    now, oldest = w.clock.now_s, oldest_in_buffer(w)
    longest, count, kept, middle_at_s = np.int64(0), 0, 0, 0.0
    for r in range(oldest, w.clock.next_arrival):
        request = w.requests[r]
        if request.life != _BUFFERED:
            continue
        tokens = np.int64(request.input_tokens)
        longest = max(longest, tokens)
        if count == (num - 1) // 2:
            middle_at_s = request.arrived_at_s
        count += 1
        if kept < NUM_LENGTHS:
            _insert(w.lengths, kept, tokens)
            kept += 1
        if count == num:
            break
    n = _put(out, e, n, longest / chunk, 0.0, 50.0)
    n = _put(out, e, n, now - w.requests[oldest].arrived_at_s, 0.0, 60.0)
    n = _put(out, e, n, now - middle_at_s, 0.0, 60.0)
    for quarter in range(1, 4):
        n = _put(out, e, n, w.lengths[(quarter * (kept - 1)) // 4] / chunk, 0.0, 50.0)
    return n


@inlined
def _insert(lengths, count, tokens):  # type: ignore[no-untyped-def]
    """Insert a length into the sorted lengths[:count]."""
    j = count
    while j > 0 and lengths[j - 1] > tokens:
        lengths[j] = lengths[j - 1]
        j -= 1
    lengths[j] = tokens


@inlined
def _put_clock(w, out, e, n):  # type: ignore[no-untyped-def]
    clock, setup, agent = w.clock, w.setup, w.agent
    link = setup.dispatch_delay_s + setup.signal_delay_s
    interval = (clock.pass_avg_s + link) / setup.num_prefill
    since = clock.now_s - clock.last_release_at_s
    n = _put(out, e, n, clock.pass_avg_s, 0.0, 10.0)
    n = _put(out, e, n, interval, 0.0, 10.0)
    n = _put(out, e, n, since, 0.0, 60.0)
    left = agent.multiplier * interval - since if agent.answered else 0.0
    return _put(out, e, n, left, 0.0, 10.0)


@inlined
def _put_arrivals(w, out, e, n):  # type: ignore[no-untyped-def]
    setup, sight, now = w.setup, w.sight, w.clock.now_s
    full = float(setup.num_prefill * setup.dp * setup.chunk_tokens)
    for k in range(3):
        rate = arriving_tokens_per_s(sight, now, k)
        n = _put(out, e, n, rate * sight.pass_chunk_s / full, 0.0, 10.0)
    return _put(out, e, n, dispersion(sight), 0.0, 50.0)


@inlined
def _put_links(w, out, e, n):  # type: ignore[no-untyped-def]
    setup, sight = w.setup, w.sight
    n = _put(out, e, n, sight.pass_256_s, 0.0, 10.0)
    n = _put(out, e, n, sight.pass_1024_s, 0.0, 10.0)
    n = _put(out, e, n, sight.pass_chunk_s, 0.0, 10.0)
    n = _put(out, e, n, setup.dispatch_delay_s, 0.0, 1.0)
    n = _put(out, e, n, setup.signal_delay_s, 0.0, 1.0)
    n = _put(out, e, n, w.clock.now_s - sight.report_sample_at_s, 0.0, 10.0)
    ranks = setup.num_decode_ranks
    if ranks == 0:
        for _ in range(3):
            n = _put(out, e, n, 0.0, 0.0, 0.0)
        return n
    requests, blocks = np.int64(0), np.int64(0)
    for k in range(ranks):
        requests += known_requests(w, k)
        blocks += known_blocks(w, k)
    n = _put(out, e, n, w.clock.num_waiting / float(ranks), 0.0, 50.0)
    n = _put(out, e, n, requests / float(ranks * setup.max_running), 0.0, 2.0)
    return _put(out, e, n, blocks / float(ranks * setup.decode_blocks), 0.0, 2.0)


@inlined
def _put_instance(w, out, e, n, i):  # type: ignore[no-untyped-def]
    view, setup, now = w.views[i], w.setup, w.clock.now_s
    chunk = float(setup.chunk_tokens)
    full = setup.dp * chunk
    cost_s, fullest = 0.0, np.int64(0)
    if view.leftover_tokens > 0:
        cost_s, fullest = _leftovers(w, i)
    running = view.running != 0
    n = _put_flag(out, e, n, running)
    n = _put_flag(out, e, n, view.pending)
    n = _put(out, e, n, view.run_end_s - now if running else 0.0, -10.0, 10.0)
    n = _put(out, e, n, 0.0 if running else now - view.idle_since_s, 0.0, 10.0)
    n = _put(out, e, n, view.error_s, 0.0, 1.0)
    n = _put(out, e, n, view.outstanding_tokens / full, 0.0, 50.0)
    n = _put(out, e, n, view.leftover_tokens / full, 0.0, 50.0)
    n = _put(out, e, n, cost_s / setup.dp, 0.0, 10.0)
    n = _put(out, e, n, fullest / chunk, 0.0, 50.0)
    n = _put(out, e, n, view.last_budget / chunk, 0.0, 1.0)
    chosen = w.agent.asked == _PREFILL and w.agent.instance == i
    return _put_flag(out, e, n, chosen)


@inlined
def _leftovers(w, i):  # type: ignore[no-untyped-def]
    """Return the cost of what is left on instance `i`, and the tokens left on its fullest rank."""
    cost_s, fullest = 0.0, np.int64(0)
    by_tokens = w.timing.pair_cost_s == 0.0
    for k in range(i * w.setup.dp, (i + 1) * w.setup.dp):
        left = w.rank_views[k].leftover_tokens
        fullest = max(fullest, left)
        cost_s += w.timing.token_cost_s * left if by_tokens else leftover_cost(w, k)
    return cost_s, fullest


@inlined
def _put_rank(w, out, e, n, d):  # type: ignore[no-untyped-def]
    asked = w.agent.asked == _PREFILL
    known = w.rank_views[w.agent.instance * w.setup.dp + d]
    room, load = 0.0, 0.0
    if asked:
        budget = max(w.room[d] + w.load[d], 1e-12)  # in the unit of both
        room, load = w.room[d] / budget, w.load[d] / budget
    chunk = float(w.setup.chunk_tokens)
    n = _put(out, e, n, room, -50.0, 1.0)
    n = _put(out, e, n, load, 0.0, 50.0)
    n = _put(out, e, n, known.leftover_tokens / chunk if asked else 0.0, 0.0, 50.0)
    return _put(out, e, n, float(known.num_unacked) if asked else 0.0, 0.0, 50.0)


@inlined
def _put_decode_rank(w, out, e, n, k):  # type: ignore[no-untyped-def]
    setup = w.setup
    limit, room = float(setup.max_running), float(setup.decode_blocks)
    n = _put(out, e, n, known_requests(w, k) / limit, 0.0, 2.0)
    n = _put(out, e, n, known_waiting(w, k) / limit, 0.0, 2.0)
    n = _put(out, e, n, known_kv_tokens(w, k) / (room * setup.block_tokens), 0.0, 2.0)
    n = _put(out, e, n, known_blocks(w, k) / room, 0.0, 2.0)
    return _put_flag(out, e, n, w.decode_views[k].refused)


@inlined
def _put_request(w, out, e, n):  # type: ignore[no-untyped-def]
    agent, setup = w.agent, w.setup
    if agent.asked != _PREFILL and agent.asked != _DECODE:
        for _ in range(6):
            n = _put(out, e, n, 0.0, 0.0, 0.0)
        return
    request, chunk = w.requests[agent.request], float(setup.chunk_tokens)
    n = _put(out, e, n, request.input_tokens / chunk, 0.0, 50.0)
    n = _put(out, e, n, w.clock.now_s - request.arrived_at_s, 0.0, 60.0)
    if agent.asked == _PREFILL:
        waited = w.clock.release_number - request.waited_releases
        n = _put(out, e, n, waited / float(max(setup.n_limit, 1)), 0.0, 2.0)
        n = _put(out, e, n, agent.placed / float(setup.dp), 0.0, 50.0)
        n = _put(out, e, n, w.buffer.num / float(setup.dp), 0.0, 50.0)
        _put(out, e, n, agent.budget / chunk, 0.0, 1.0)
        return
    ranks = float(setup.num_decode_ranks)
    n = _put(out, e, n, 0.0, 0.0, 2.0)
    n = _put(out, e, n, agent.position / ranks, 0.0, 50.0)
    n = _put(out, e, n, (w.clock.num_waiting - agent.position) / ranks, 0.0, 50.0)
    _put(out, e, n, 0.0, 0.0, 1.0)
