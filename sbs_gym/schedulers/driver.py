"""The compiled loop that asks the rules, and the Python function that runs it to the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.errors import ConfigError
from sbs_gym.jit import compiled
from sbs_gym.schedulers.placement import run_placement
from sbs_gym.schedulers.release import run_round
from sbs_gym.schedulers.rules import encode_rules
from sbs_gym.sim.decode_world import grow_steps
from sbs_gym.sim.loop import advance, room_for_releases
from sbs_gym.sim.records import RunRecords
from sbs_gym.sim.rows import as_rows
from sbs_gym.sim.state import Order, Phase, Status, World
from sbs_gym.sim.world import (
    Terms,
    build_world,
    collect_records,
    grow_events,
    grow_passes,
    grow_signals,
)
from sbs_gym.timing.decode import DecodeTiming
from sbs_gym.timing.model import TimingModel
from sbs_gym.types import RequestTable

_AFTER_ROUND, _AFTER_PLACEMENT = int(Phase.AFTER_ROUND), int(Phase.AFTER_PLACEMENT)
_ROUND_DUE, _PLACEMENT_DUE = int(Status.ROUND_DUE), int(Status.PLACEMENT_DUE)
_EVENTS_FULL = int(Status.EVENTS_FULL)
_GROW = {
    Status.EVENTS_FULL: grow_events,
    Status.SIGNALS_FULL: grow_signals,
    Status.PASSES_FULL: grow_passes,
    Status.STEPS_FULL: grow_steps,
}
_SLICE_INSTANTS = 500_000
_ENDLESS = np.iinfo(np.int64).max


@compiled
def play(world, rules):  # type: ignore[no-untyped-def]
    """Advance the world, asking the rules at every round, until it is over or an array is full."""
    w = as_rows(world)
    while True:
        status = advance(w)
        if status == _ROUND_DUE:
            if not room_for_releases(w, w.buffer.num):
                return _EVENTS_FULL
            run_round(w, rules)
            w.clock.phase = _AFTER_ROUND
        elif status == _PLACEMENT_DUE:
            if not room_for_releases(w, w.clock.num_waiting):
                return _EVENTS_FULL
            run_placement(w, rules)
            w.clock.phase = _AFTER_PLACEMENT
        else:
            return status


def run(
    table: RequestTable,
    cluster: ClusterConfig,
    scheduler: SchedulerConfig,
    timing: TimingModel,
    *,
    seed: int,
    decode_timing: DecodeTiming | None = None,
    mean_luck: bool = False,
    stop_at_s: float = math.inf,
    measured: tuple[int, int] | None = None,
    record_ranks: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> RunRecords:
    """Simulate the requests of `table` under `scheduler` and return the records.

    Args:
        table: The requests, in order of arrival.
        cluster: Instances, ranks and link; `timing` must be built for its ranks and chunk.
        scheduler: The composition of rules.
        timing: From `timing.model.build_timing`.
        seed: Of timing and policy luck.
        decode_timing: From `timing.decode.build_decode_timing`, where decode is modelled.
        mean_luck: No jitter and the mean expert skew, as the scheduler predicts.
        stop_at_s: Nothing after this instant happens, seconds.
        measured: Ids [first, end); the run stops when all of them are finished or rejected.
        record_ranks: Whether to keep tokens and pairs per rank of every pass.
        progress: Called now and then with (requests done, requests in all).

    Raises:
        ConfigError: If `timing` was built for another cluster, or `measured` is out of range.
    """
    _check(table, cluster, timing, measured)
    _check_decode(cluster, decode_timing)
    first, end = measured if measured is not None else (0, len(table))
    order = "arrival" if scheduler.release == "immediate" else scheduler.order
    terms = Terms(
        seed=seed,
        order=Order[order.upper()],
        gated=scheduler.gated,
        leftovers_alone=scheduler.leftovers == "alone",
        cost_budget=scheduler.budget_unit == "cost",
        n_limit=scheduler.n_limit,
        watchdog_factor=scheduler.watchdog_factor,
        mean_luck=mean_luck,
        stop_at_s=stop_at_s,
        first_measured=first,
        end_measured=end,
        record_ranks=record_ranks,
    )
    world = build_world(table, cluster, timing, terms, decode_timing)
    rules = encode_rules(scheduler, has_context=bool(world.timing.pair_cost_s > 0.0))
    return collect_records(_play_to_the_end(world, rules, progress))


def _check(
    table: RequestTable,
    cluster: ClusterConfig,
    timing: TimingModel,
    measured: tuple[int, int] | None,
) -> None:
    if timing.dp != cluster.prefill_dp or timing.chunk_tokens != cluster.chunk_tokens:
        raise ConfigError(
            f"timing was built for dp={timing.dp}, chunk_tokens={timing.chunk_tokens}; expected "
            f"dp={cluster.prefill_dp}, chunk_tokens={cluster.chunk_tokens} of the cluster"
        )
    if measured is not None and not 0 <= measured[0] < measured[1] <= len(table):
        raise ConfigError(
            f"measured={measured} is out of range; expected 0 <= first < end <= {len(table)}"
        )


def _check_decode(cluster: ClusterConfig, timing: DecodeTiming | None) -> None:
    given = None if timing is None else (timing.dp, timing.q_tokens)
    wanted = (cluster.decode_dp, cluster.mtp_tokens) if cluster.num_decode > 0 else None
    if given != wanted:
        raise ConfigError(
            f"decode timing was built for (dp, mtp_tokens)={given}; expected {wanted} of the "
            f"cluster with num_decode={cluster.num_decode}"
        )
    if timing is not None and timing.max_requests < cluster.max_running:
        raise ConfigError(
            f"decode timing was built for max_requests={timing.max_requests}; expected at least "
            f"{cluster.max_running}, the requests that may run on a rank"
        )


def _play_to_the_end(
    world: World, rules: Any, progress: Callable[[int, int], None] | None
) -> World:
    """Play, enlarge what is full, tell how far it is; return the world when nothing is left."""
    while True:
        world.clock.instants_left = _SLICE_INSTANTS if progress else _ENDLESS
        status = Status(play(world, rules))
        if status is Status.DONE:
            break
        if status in _GROW:
            world = _GROW[status](world)
        elif progress is not None:
            progress(int(world.clock.num_done), len(world.requests))
    if progress is not None:
        progress(int(world.clock.num_done), len(world.requests))
    return world
