"""The worlds of a batch: templates to begin episodes from, memory that grows, episodes put in."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.batch.arena import Arena, Blank
from sbs_gym.batch.blank_requests import BlankRequests
from sbs_gym.batch.stepping import announce, begin_episode, warm_up
from sbs_gym.capacity import decode_timing_for, timing_for
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.envs.config import EnvConfig
from sbs_gym.envs.episodes import Episode
from sbs_gym.envs.slots import lengths_of, stretched, without_empty_slots
from sbs_gym.envs.stored_rows import packed_rows, unpack_row
from sbs_gym.envs.tasks import Task, asked_of
from sbs_gym.errors import ConfigError, SimulationError
from sbs_gym.schedulers.driver import GROW, has_context, terms_of
from sbs_gym.schedulers.rules import RULES, encode_rules
from sbs_gym.schedulers.seat import ActionLayout, seat_agent
from sbs_gym.sim.agent_state import Reask
from sbs_gym.sim.codes import Status
from sbs_gym.sim.records import RunRecords
from sbs_gym.sim.state import World
from sbs_gym.sim.world import Terms, build_world, collect_records
from sbs_gym.timing.model import TimingModel
from sbs_gym.types import RequestTable

_CAPACITY = 16  # first room for events and signals: small, so that it stays in the cache
WORLD_ENTRIES = ("num_slots", "grown", "lengths", "rows", "row_ends")  # of a stored state


class Worlds:
    """`num_envs` worlds, and their shadows behind them.

    Attributes:
        rules: RULES records of background and baseline, shape (2,).
        shadows: Row of the first shadow; 0 if there are none.
    """

    def __init__(self, task: Task, config: EnvConfig, layout: ActionLayout, num_envs: int) -> None:
        self._task, self._config, self._layout, self._num_envs = task, config, layout, num_envs
        self.shadows = num_envs if config.reward.baseline is not None else 0
        self._timings = [timing_for(config.cluster, timing) for timing in config.timings]
        self.rules = self._encode_rules()
        self._grown: list[Status] = []
        self._slots = 0
        self._arena: Arena | None = None

    @property
    def arena(self) -> Arena:
        """The memory; another one after every growth."""
        if self._arena is None:
            raise ConfigError("step() before the first reset(); expected reset() first")
        return self._arena

    def install(self, e: int, episode: Episode) -> None:
        """Put an episode into environment `e` and play its warm-up."""
        arena = self._with_room_for(len(episode.table))
        arena.restore(e, self._blanks[episode.timing])
        self._blank_requests.put(arena.worlds[e], episode.table)
        count = len(episode.table)
        announce(arena.blocks, e, episode.seed, count, not episode.exhausts)
        self._warm_up(e, episode.warmup_s)
        row = self.shadows + e if self.shadows else 0
        if row:
            self.arena.copy(e, row, count)
            self._make_shadow(self.arena.worlds[row])
        until_s = episode.warmup_s + self._config.horizon_s
        begin_episode(self.arena.blocks, e, row, until_s, self.rules)

    def _warm_up(self, e: int, warmup_s: float) -> None:
        if warmup_s == 0.0:
            return
        while True:
            status = Status(warm_up(self.arena.blocks, e, warmup_s, self.rules))
            if status is Status.DONE:
                return
            self.grow(status)

    def _make_shadow(self, world: World) -> None:
        """Let a copy of an environment go on under the baseline's rules."""
        baseline = self._config.reward.baseline or self._config.scheduler
        terms = terms_of(baseline, self._config.cluster, seed=0, num_requests=0)
        for name in (
            "order",
            "gated",
            "leftovers_alone",
            "cost_budget",
            "n_limit",
            "long_tokens",
            "watchdog_factor",
        ):
            setattr(world.setup, name, getattr(terms, name))
        world.setup.any_order = world.agent.answers = world.agent.keeps_records = 0

    def records(self, e: int) -> RunRecords:
        """Return the records of the running episode; needs `record`."""
        if not self._config.record:
            raise ConfigError("record=False keeps no records; expected record=True")
        copied = {
            name: value.copy() if isinstance(value, np.ndarray) else value
            for name, value in self.arena.worlds[e]._asdict().items()
        }
        return collect_records(without_empty_slots(World(**copied)))

    def privileged(self) -> NDArray[np.float32]:
        """Return what only a critic may see of the shadows, float32, shape (num_envs, 3).

        Requests without first token, tokens sent and not done, busy instances; 0 without shadow.
        """
        out = np.zeros((self._num_envs, 3), dtype=np.float32)
        if self.shadows:
            shadows = slice(self.shadows, None)
            out[:, 0] = self.arena.column("tally")["num_waiting"][shadows]
            views = self.arena.rows("views")[shadows]
            out[:, 1] = views["outstanding_tokens"].sum(axis=1)
            out[:, 2] = self.arena.rows("instances")["busy"][shadows].sum(axis=1)
        return out

    def _with_room_for(self, num_requests: int) -> Arena:
        if self._arena is None or num_requests > self._slots:
            self._slots = max(64, math.ceil(1.3 * num_requests))
            self._rebuild()
        return self.arena

    def grow(self, status: Status) -> None:
        """Enlarge what is full, in all environments."""
        if status not in GROW:
            raise SimulationError(f"an environment came back with {status!r}")
        self._grown.append(status)
        arena = self.arena
        arena.worlds = [GROW[status](world) for world in arena.worlds]
        self._rebuild()

    def _rebuild(self) -> None:
        templates = [self._template(timing) for timing in self._timings]
        if self._arena is None:
            rows = self._num_envs * (2 if self.shadows else 1)
            self._arena = Arena(templates[0], rows)
        else:
            self._arena = self._arena.moved_to(templates[0])
            lengths = lengths_of(self._arena.worlds[0])
            templates = [stretched(template, lengths) for template in templates]
        self._keep_blanks(templates)

    def _keep_blanks(self, templates: Sequence[World]) -> None:
        self._blanks = [Blank(template) for template in templates]
        self._blank_requests = BlankRequests(templates[0])

    def state(self) -> dict[str, Any]:
        """Return what `restore` goes on from: arrays and plain values."""
        lengths = lengths_of(self.arena.worlds[0])
        return {
            "num_slots": self._slots,
            "grown": np.array(self._grown, dtype=np.int64),
            "lengths": np.array(list(lengths.values())),
            **packed_rows(self.arena.worlds),
        }

    def restore(self, state: Mapping[str, Any], episodes: Sequence[Episode | None]) -> None:
        """Go on where `state` was taken; `episodes` are those that ran then, None before any."""
        self._slots = int(state["num_slots"])
        self._grown = [Status(int(status)) for status in state["grown"]]
        templates = [self._template(timing) for timing in self._timings]
        lengths = dict(zip(lengths_of(templates[0]), state["lengths"].tolist(), strict=True))
        templates = [stretched(template, lengths) for template in templates]
        self._keep_blanks(templates)
        rows, ends = state["rows"], state["row_ends"]
        arena = Arena(templates[0], len(ends))
        for row, packed in enumerate(np.split(rows, ends[:-1])):
            episode = episodes[row % self._num_envs]
            if episode is not None:
                arena.restore(row, self._blanks[episode.timing])
                self._blank_requests.put(arena.worlds[row], episode.table)
            unpack_row(arena, row, packed)
        self._arena = arena

    def _template(self, timing: TimingModel) -> World:
        """Return a world at time 0 with all slots, to begin episodes from."""
        config, layout = self._config, self._layout
        empty = RequestTable(
            arrived_at_s=np.zeros(self._slots),
            input_tokens=np.ones(self._slots, dtype=np.int32),
            output_tokens=np.ones(self._slots, dtype=np.int32),
            name="slots",
        )
        decode = None
        if config.cluster.num_decode > 0:
            number = self._timings.index(timing)
            decode = decode_timing_for(config.cluster, config.timings[number])
        world = build_world(
            empty, config.cluster, timing, self._terms(), decode, capacity=_CAPACITY
        )
        for status in self._grown:
            world = GROW[status](world)
        role = self._task.role(layout.form, self._config)
        seat_agent(world, role, layout, timing)
        self._prepare_agent(world)
        return world

    def _terms(self) -> Terms:
        """Return the terms of the background, with both indices of the buffer."""
        terms = terms_of(
            self._config.scheduler, self._config.cluster, seed=0, num_requests=self._slots
        )
        return dataclasses.replace(terms, any_order=True, record_ranks=self._config.record)

    def _prepare_agent(self, world: World) -> None:
        config, agent, tally = self._config, world.agent, world.tally
        agent.answers = int(asked_of(self._task, config))
        agent.reask = Reask[config.reask.upper()]
        agent.beta = config.reward.beta
        agent.keeps_records = config.record
        world.clock.instants_left = np.iinfo(np.int64).max
        tally.on = 1
        for name, weight in config.reward.weights or self._task.weights:
            setattr(tally, f"weight_{name}", weight)
        tally.slo_ttft_s, tally.slo_tpot_s = config.slo.ttft_s, config.slo.tpot_s
        tally.slo_ttft_per_token_s = config.slo.ttft_per_token_s
        tally.slo_ttft_free_tokens = config.slo.ttft_free_tokens
        tally.tpot_target_s = config.reward.tpot_target_s

    def encode(self, scheduler: SchedulerConfig) -> Any:
        """Return the RULES record of another scheduler in this environment."""
        return _encoded(scheduler, self._timings)

    def _encode_rules(self) -> NDArray[Any]:
        rules = np.zeros(2, dtype=RULES)
        baseline = self._config.reward.baseline or self._config.scheduler
        for place, scheduler in enumerate((self._config.scheduler, baseline)):
            rules[place] = _encoded(scheduler, self._timings)
        return rules


def _encoded(scheduler: SchedulerConfig, timings: Sequence[TimingModel]) -> Any:
    charges = {has_context(timing) for timing in timings}
    if scheduler.charge == "cost" and len(charges) > 1:
        raise ConfigError(
            "scheduler.charge='cost' with timings of which only some have a cost of context; "
            "expected timings of one kind, or charge='tokens'"
        )
    return encode_rules(scheduler, has_context=True in charges)
