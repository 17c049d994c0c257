"""From a table and a scheduler to the records of a run, at once or piece by piece."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.errors import ConfigError
from sbs_gym.schedulers.cluster_view import Standing
from sbs_gym.schedulers.deciding import Decider, decider_for
from sbs_gym.schedulers.learned.playing import learner_for
from sbs_gym.schedulers.rules import encode_rules
from sbs_gym.schedulers.serve import play
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.codes import Order, Status
from sbs_gym.sim.decode_world import grow_steps
from sbs_gym.sim.records import RunRecords
from sbs_gym.sim.rows import blocks_of, write_block
from sbs_gym.sim.state import World
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

GROW = {
    Status.EVENTS_FULL: grow_events,
    Status.SIGNALS_FULL: grow_signals,
    Status.PASSES_FULL: grow_passes,
    Status.STEPS_FULL: grow_steps,
}
_SLICE_INSTANTS = 500_000
_SLICE_INSTANTS_OF_PYTHON = 5_000
_ENDLESS = np.iinfo(np.int64).max


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
    decider: Decider | None = None,
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
        decider: Who answers some questions instead of the rules; None: the class of
            `scheduler.custom` or the network of `scheduler.learned`, if there is one.

    Raises:
        ConfigError: If `timing` was built for another cluster, `measured` is out of range, or
            `scheduler.custom` is not registered, or the network of `scheduler.learned` cannot be
            read or played on this cluster.
        SchedulerError: If a user's scheduler gives an answer that is not allowed.
    """
    session = Session(
        table,
        cluster,
        scheduler,
        timing,
        seed=seed,
        decode_timing=decode_timing,
        mean_luck=mean_luck,
        measured=measured,
        record_ranks=record_ranks,
        decider=decider,
    )
    session.play_until(stop_at_s, progress)
    return collect_records(session.world)


class Session:
    """A run that is played piece by piece.

    Attributes:
        world: The arrays of the run as they are now; other arrays after the next piece.
    """

    def __init__(
        self,
        table: RequestTable,
        cluster: ClusterConfig,
        scheduler: SchedulerConfig,
        timing: TimingModel,
        *,
        seed: int,
        decode_timing: DecodeTiming | None = None,
        mean_luck: bool = False,
        measured: tuple[int, int] | None = None,
        record_ranks: bool = True,
        decider: Decider | None = None,
    ) -> None:
        _check(table, cluster, timing, measured)
        _check_decode(cluster, decode_timing)
        self._decider = decider_for(scheduler, cluster) if decider is None else decider
        self._learner = learner_for(scheduler, cluster) if decider is None else None
        first, end = measured if measured is not None else (0, len(table))
        terms = dataclasses.replace(
            terms_of(scheduler, cluster, seed=seed, num_requests=len(table)),
            mean_luck=mean_luck,
            first_measured=first,
            end_measured=end,
            record_ranks=record_ranks,
            any_order=self._order_may_change(),
        )
        self.world = build_world(table, cluster, timing, terms, decode_timing)
        self._rules = encode_rules(scheduler, has_context=has_context(timing))
        self._blocks = blocks_of([self.world])
        if self._decider is not None:
            self.world.agent.kinds = int(self._decider.kinds)
            self.world.agent.multiplier = scheduler.multiplier
            self._decider.begin(Standing(self.world, self._blocks), self._rules)
        if self._learner is not None:
            self._learner.begin(self.world, self._blocks, self._rules, timing)

    def play_until(
        self, instant_s: float, progress: Callable[[int, int], None] | None = None
    ) -> bool:
        """Go on with everything up to `instant_s`, that instant included.

        Returns:
            Whether the run is over; if not, the clock stands at `instant_s`.
        """
        self.world.setup.stop_at_s = instant_s
        slice_instants = _ENDLESS if progress is None else _SLICE_INSTANTS
        if progress is not None and self._decider is not None:
            slice_instants = _SLICE_INSTANTS_OF_PYTHON
        self.world.clock.instants_left = slice_instants
        while True:
            status = self._play()
            if status is Status.DECISION_DUE and self._decider is not None:
                self._decider.answer(Standing(self.world, self._blocks), self._rules)
                continue
            if status in GROW:
                self.world = GROW[status](self.world)
                write_block(self._blocks, 0, self.world)
                continue
            clock = self.world.clock
            if progress is not None:
                progress(int(clock.num_done), len(self.world.requests))
            if status is Status.DONE:
                return bool(clock.now_s < instant_s or is_over(self.world))
            clock.instants_left = slice_instants

    def _play(self) -> Status:
        if self._learner is not None:
            return Status(self._learner.play(self._blocks, self._rules))
        return Status(play(self._blocks, 0, self._rules))

    def _order_may_change(self) -> bool:
        if self._learner is not None:
            return self._learner.chooses_order
        return self._decider is not None and Question.RELEASE in self._decider.kinds


def is_over(world: World) -> bool:
    """Return whether all that counts is finished or rejected."""
    clock, setup = world.clock, world.setup
    return bool(clock.num_done == setup.num_requests or clock.num_measured_left == 0)


def has_context(timing: TimingModel) -> bool:
    """Return whether a pass costs more with tokens before it, so that cost is not just tokens."""
    return bool(timing.coefficients[0].pair_cost_s > 0.0)


def terms_of(
    scheduler: SchedulerConfig, cluster: ClusterConfig, *, seed: int, num_requests: int
) -> Terms:
    """Return what a scheduler asks of a world with everything measured, until the end."""
    order = "arrival" if scheduler.release == "immediate" else scheduler.order
    return Terms(
        seed=seed,
        order=Order[order.upper()],
        gated=scheduler.gated,
        leftovers_alone=scheduler.leftovers == "alone",
        cost_budget=scheduler.budget_unit == "cost",
        n_limit=scheduler.n_limit,
        long_tokens=scheduler.long_tokens or cluster.chunk_tokens,
        watchdog_factor=scheduler.watchdog_factor,
        mean_luck=False,
        stop_at_s=math.inf,
        first_measured=0,
        end_measured=num_requests,
        record_ranks=True,
    )


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
