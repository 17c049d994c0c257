"""Building a world: arrays of the right size for a table, a cluster and a timing model."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.cluster import START_RULES, ClusterConfig
from sbs_gym.config.timing import LinearTiming
from sbs_gym.sim import agent_state, state
from sbs_gym.sim.codes import Kind, Order, StartRule
from sbs_gym.sim.decode_world import collect_decode, decode_arrays, decode_setup, longer
from sbs_gym.sim.events import push_event
from sbs_gym.sim.records import PASS_RECORD, REQUEST_RECORD, RunRecords
from sbs_gym.sim.state import World
from sbs_gym.timing.decode import DecodeTiming
from sbs_gym.timing.model import TimingModel, build_timing
from sbs_gym.types import RequestTable

_START_RULE = {name: int(StartRule[name.upper()]) for name in START_RULES}
_FIRST_CAPACITY = 256
_GROWTH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a scheduler and the caller ask of a run; names and meanings as in state.SETUP."""

    seed: int
    order: Order
    any_order: bool = False
    gated: bool
    leftovers_alone: bool
    cost_budget: bool
    n_limit: int
    long_tokens: int
    watchdog_factor: float
    mean_luck: bool
    stop_at_s: float
    first_measured: int
    end_measured: int
    record_ranks: bool


def build_world(
    table: RequestTable,
    cluster: ClusterConfig,
    timing: TimingModel,
    terms: Terms,
    decode_timing: DecodeTiming | None = None,
    *,
    capacity: int = _FIRST_CAPACITY,
) -> World:
    """Return the world at time 0, before the first arrival.

    `capacity` is the first room for events, signals and records of passes and steps.
    """
    count, num, dp = len(table), cluster.num_prefill, cluster.prefill_dp
    capacity = max(capacity, 8 * num)
    signals = 1 << (4 * num - 1).bit_length()  # few are under way at once
    recorded = capacity if terms.record_ranks else 1
    setup = _setup(count, cluster, timing, terms)
    world = World(
        setup=setup,
        clock=_clock(setup, capacity, signals),
        buffer=_one(state.BUFFER),
        requests=_requests(table),
        instances=_instances(num, cluster.chunk_tokens),
        ranks=_ranks(num * dp),
        shares=np.zeros(num * dp, dtype=state.SHARE),
        rank_kv=_rank_kv(num * dp, int(setup.prefill_kv_tokens)),
        starts=np.zeros(num, dtype=np.int64),
        views=_views(num, cluster.chunk_tokens),
        rank_views=_rank_views(num * dp),
        leftovers=np.zeros(num * dp, dtype=np.int64),
        events=np.zeros(capacity, dtype=state.EVENT),
        signals=np.zeros(signals, dtype=state.SIGNAL),
        signal_tokens=np.zeros(signals * dp, dtype=np.int64),
        keys=np.zeros(_indexed(count, terms, Order.AGE_LONGEST), dtype=np.int64),
        heap=np.zeros(_indexed(count, terms, Order.LONGEST, Order.SHORTEST), dtype=np.int64),
        log=np.zeros(count, dtype=np.int32),
        passes=np.zeros(capacity, dtype=(np.record, PASS_RECORD)),
        pass_tokens=np.zeros(recorded * dp, dtype=np.int32),
        pass_pairs=np.zeros(recorded * dp, dtype=np.int64),
        timing=timing.coefficients[0],
        table=timing.table,
        scratch_tokens=np.zeros(dp, dtype=np.int64),
        scratch_pairs=np.zeros(dp, dtype=np.int64),
        room=np.zeros(dp),
        load=np.zeros(dp),
        **decode_arrays(
            count, setup, decode_timing, capacity=capacity, record_ranks=terms.record_ranks
        ),
        agent=_one(agent_state.AGENT, answer=-1, left=-1, keeps_records=1),
        tally=_one(agent_state.TALLY),
        sight=_one(agent_state.SIGHT, report_sample_at_s=-math.inf),
        arrivals_per_s=np.zeros(agent_state.NUM_BINS, dtype=agent_state.SECOND),
        lengths=np.zeros(agent_state.NUM_LENGTHS, dtype=np.int64),
    )
    world.clock.step_capacity = len(world.steps)
    if cluster.start_rule == "free_running":
        _schedule_free_running(world)
    return world


def example_world() -> World:
    """Return a small world; what compiled code knows of worlds in general, it learns from this."""
    cluster = ClusterConfig(num_prefill=1, prefill_dp=1)
    table = RequestTable(
        arrived_at_s=np.zeros(1),
        input_tokens=np.ones(1, dtype=np.int32),
        output_tokens=np.ones(1, dtype=np.int32),
        name="example",
    )
    timing = build_timing(LinearTiming(), dp=1, ep=1, chunk_tokens=cluster.chunk_tokens)
    terms = Terms(
        seed=0,
        order=Order.AGE_LONGEST,
        gated=True,
        leftovers_alone=False,
        cost_budget=False,
        n_limit=1,
        long_tokens=cluster.chunk_tokens,
        watchdog_factor=3.0,
        mean_luck=True,
        stop_at_s=math.inf,
        first_measured=0,
        end_measured=1,
        record_ranks=False,
    )
    return build_world(table, cluster, timing, terms)


def _indexed(count: int, terms: Terms, *orders: Order) -> int:
    """Return the length of an index of the buffer that these orders need."""
    return count if terms.any_order or terms.order in orders else 1


def _setup(count: int, cluster: ClusterConfig, timing: TimingModel, terms: Terms) -> Any:
    return _one(
        state.SETUP,
        **dataclasses.asdict(terms),
        num_requests=count,
        num_prefill=cluster.num_prefill,
        dp=cluster.prefill_dp,
        chunk_tokens=cluster.chunk_tokens,
        start_rule=_START_RULE[cluster.start_rule],
        dispatch_delay_s=cluster.dispatch_delay_s,
        signal_delay_s=cluster.signal_delay_s,
        signal_loss_frac=cluster.signal_loss_frac,
        slow_rank_factor=cluster.slow_rank_factor,
        full_pass_s=timing.full_chunk_pass_s(),
        **decode_setup(cluster),
    )


def _clock(setup: Any, capacity: int, signals: int) -> Any:
    return _one(
        state.CLOCK,
        timer_at_s=math.inf,
        watchdog_at_s=math.inf,
        pass_avg_s=setup.full_pass_s,
        last_release_at_s=-math.inf,
        num_measured_left=setup.end_measured - setup.first_measured,
        event_capacity=capacity,
        signal_capacity=signals,
        pass_capacity=capacity,
    )


def _one(dtype: np.dtype[Any], **values: float) -> Any:
    array = np.zeros(1, dtype=dtype)
    for name, value in values.items():
        array[name] = value
    return array[0]


def _requests(table: RequestTable) -> NDArray[Any]:
    blank = np.zeros(1, dtype=state.REQUEST)
    for name in REQUEST_RECORD.names or ():
        blank[name] = math.nan if name.endswith("_at_s") else -1
    blank["next"] = -1
    requests = np.empty(len(table), dtype=state.REQUEST)
    requests[:] = blank[0]
    requests["arrived_at_s"] = table.arrived_at_s
    requests["input_tokens"] = table.input_tokens
    requests["output_tokens"] = table.output_tokens
    return requests


def _instances(num: int, chunk_tokens: int) -> NDArray[Any]:
    instances = np.zeros(num, dtype=state.INSTANCE)
    instances["budget_tokens"] = chunk_tokens
    instances["skew_k"] = -1
    return instances


def _ranks(num: int) -> NDArray[Any]:
    ranks = np.zeros(num, dtype=state.RANK)
    ranks["head"] = ranks["pass_head"] = -1
    return ranks


def _rank_kv(num: int, kv_tokens: int) -> NDArray[Any]:
    rank_kv = np.zeros(num, dtype=state.RANK_KV)
    rank_kv["kv_free_tokens"] = kv_tokens
    rank_kv["blocked_since_s"] = math.inf
    return rank_kv


def _views(num: int, chunk_tokens: int) -> NDArray[Any]:
    views = np.zeros(num, dtype=state.VIEW)
    views["last_at_s"] = -math.inf
    views["last_budget"] = views["budget_before"] = chunk_tokens
    views["known_index"] = -1
    views["watchdog_at_s"] = math.inf
    return views


def _rank_views(num: int) -> NDArray[Any]:
    rank_views = np.zeros(num, dtype=state.RANK_VIEW)
    rank_views["head"] = rank_views["tail"] = -1
    return rank_views


def _schedule_free_running(world: World) -> None:
    """Space the first passes evenly: instance i starts at i * pass_s / num_prefill."""
    num = int(world.setup.num_prefill)
    for i in range(num):
        world.instances[i]["start_scheduled"] = 1
        start_s = i * float(world.timing.pass_s) / num
        push_event(world, start_s, int(Kind.PASS_START), i, 0, 0, 0)


def grow_events(world: World) -> World:
    """Return the world with a larger event heap that takes a round of the whole buffer."""
    old = int(world.clock.event_capacity)
    waiting = int(world.buffer.num) + int(world.clock.num_waiting)
    wanted = max(_GROWTH * old, old + waiting + 64)
    world.clock.event_capacity = wanted
    return world._replace(events=longer(world.events, wanted))


def grow_passes(world: World) -> World:
    """Return the world with room for more pass records."""
    wanted = _GROWTH * int(world.clock.pass_capacity)
    world.clock.pass_capacity = wanted
    world = world._replace(passes=longer(world.passes, wanted))
    if world.setup.record_ranks:
        per_rank = wanted * int(world.setup.dp)
        world = world._replace(
            pass_tokens=longer(world.pass_tokens, per_rank),
            pass_pairs=longer(world.pass_pairs, per_rank),
        )
    return world


def grow_signals(world: World) -> World:
    """Return the world with a larger ring of signals under way, unrolled from its start."""
    old, dp = int(world.clock.signal_capacity), int(world.setup.dp)
    new = _GROWTH * old
    first, after = int(world.clock.first_signal), int(world.clock.next_signal)
    slots = np.arange(first, after)
    signals = np.zeros(new, dtype=state.SIGNAL)
    tokens = np.zeros((new, dp), dtype=np.int64)
    signals[slots % new] = world.signals[slots % old]
    tokens[slots % new] = world.signal_tokens.reshape(old, dp)[slots % old]
    for event in world.events[: world.clock.num_events]:
        if event.kind == int(Kind.SIGNAL):
            event.first = (first + (int(event.first) - first) % old) % new
    world.clock.signal_capacity = new
    return world._replace(signals=signals, signal_tokens=tokens.reshape(-1))


def collect_records(world: World) -> RunRecords:
    """Return what the run left behind; requests still buffered lose their working value."""
    requests, clock = world.requests, world.clock
    if clock.num_dispatched < len(requests):
        requests["waited_releases"][np.isnan(requests["dispatched_at_s"])] = -1
    done = int(clock.num_passes)
    recorded, dp = bool(world.setup.record_ranks), int(world.setup.dp)
    decode = collect_decode(world)
    return RunRecords(
        requests=requests[list(REQUEST_RECORD.names or ())],
        passes=np.asarray(world.passes[:done]),
        rank_tokens=world.pass_tokens.reshape(-1, dp)[:done] if recorded else None,
        rank_pairs=world.pass_pairs.reshape(-1, dp)[:done] if recorded else None,
        ended_at_s=float(clock.now_s),
        num_releases=int(clock.release_number),
        num_signals_lost=int(clock.num_signals_lost),
        num_watchdogs=int(clock.num_watchdogs),
        **{field.name: getattr(decode, field.name) for field in dataclasses.fields(decode)},
    )
