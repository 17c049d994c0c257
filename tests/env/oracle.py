"""An observation by name, in plain Python, written from the meanings in sim/features.py.

It reads the episode's table, the records, and of the world only the scheduler's own state (`views`,
`rank_views`, `decode_views`, the clock of its releases, the question). Windows over arrivals, what
is outstanding and the mean pass are computed anew each time. No signal may be lost, and engines
start by themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sbs_gym.capacity import timing_for
from sbs_gym.sim.codes import Life
from sbs_gym.sim.features import DECODE_RANK, GLOBAL, INSTANCE, RANK, REQUEST, Feature, Group

RELEASE, PREFILL, DECODE = 1, 2, 4
Rows = list[dict[str, float]]


@dataclass(slots=True)
class History:
    """What only somebody who was there from the start knows.

    Attributes:
        asked_at_s: Instant of the last question; None before the first.
        multiplier: Of the window that stands; None if none does.
    """

    asked_at_s: float | None = None
    multiplier: float | None = None


class Oracle:
    """What the agent of environment 0 should see now."""

    def __init__(self, env: Any, history: History) -> None:
        self.world, self.history = env.core.world(0), history
        self.table, self.config = env.core.episodes[0].table, env.config
        self.cluster = cluster = env.config.cluster
        self.task = env.core.task
        self.timing = timing_for(cluster, env.config.timings[0])
        self.now = float(self.world.clock.now_s)
        self.question = int(self.world.agent.asked)
        self.chunk, self.dp = float(cluster.chunk_tokens), cluster.prefill_dp
        self.ranks = cluster.num_prefill * cluster.prefill_dp
        self.requests = self.world.requests[: len(self.table)]
        self.on = self.requests["instance"].tolist()
        self.rank_of = (self.requests["instance"] * self.dp + self.requests["rank"]).tolist()
        self.input = self.table.input_tokens.tolist()
        self.sent = [int(r) for r in self.world.log[: self.world.clock.num_dispatched]]
        # Of the release that is being made.
        self.placed = self.sent[int(self.world.agent.first) :] if self.question == PREFILL else []
        self.fifos: dict[int, list[int]] = {}
        for r in self.sent:
            self.fifos.setdefault(self.rank_of[r], []).append(r)
        passes = self.world.passes[: self.world.clock.num_passes]
        self.signalled = passes[passes["ended_at_s"] + cluster.signal_delay_s <= self.now]

    def numbers(self) -> np.ndarray:
        """Return the observation, clipped, in the order of the tables."""
        parts = (
            (Group.GLOBAL, GLOBAL, [self.overall]),
            (Group.INSTANCES, INSTANCE, [self.instance] * self.cluster.num_prefill),
            (Group.RANKS, RANK, [self.rank] * self.dp),
            (Group.DECODE_RANKS, DECODE_RANK, [self.decode_rank] * self.cluster.num_decode_ranks),
            (Group.REQUEST, REQUEST, [self.request]),
        )
        values: list[float] = []
        for group, features, rows in parts:
            if not group & self.task.sees:
                continue
            for number, row in enumerate(rows):
                named = row() if group in (Group.GLOBAL, Group.REQUEST) else row(number)
                assert set(named) == {feature.name for feature in features}
                values += [_clipped(feature, named[feature.name]) for feature in features]
        return np.array(values)

    def names(self) -> list[str]:
        """Return a name for every number, with its row."""
        sees = self.task.sees
        found = [feature.name for feature in GLOBAL]
        for group, count, features in (
            (Group.INSTANCES, self.cluster.num_prefill, INSTANCE),
            (Group.RANKS, self.dp, RANK),
            (Group.DECODE_RANKS, self.cluster.num_decode_ranks, DECODE_RANK),
        ):
            if group & sees:
                label = group.name.lower()
                found += [f"{label}[{n}].{f.name}" for n in range(count) for f in features]
        if Group.REQUEST & sees:
            found += [f"request.{feature.name}" for feature in REQUEST]
        return found

    # One row of each table

    def overall(self) -> dict[str, float]:
        asked_at_s = self.history.asked_at_s
        return {
            "asks_release": self.question == RELEASE,
            "asks_prefill": self.question == PREFILL,
            "asks_decode": self.question == DECODE,
            "elapsed_s": 0.0 if asked_at_s is None else self.now - asked_at_s,
            **self._buffer(),
            **self._clock(),
            **self._arrivals(),
            **self._predictions(),
            **self._decode(),
        }

    def instance(self, i: int) -> dict[str, float]:
        view, full = self.world.views[i], self.dp * self.chunk
        running = bool(view.running)
        rows = range(i * self.dp, (i + 1) * self.dp)
        left = [self._leftover(k) for k in rows]
        to_it = sum(self.input[r] for r in self.sent if self.on[r] == i)
        done = int(self.signalled["tokens"][self.signalled["instance"] == i].sum())
        return {
            "running": running,
            "pending": bool(view.pending),
            "end_in_s": view.run_end_s - self.now if running else 0.0,
            "idle_s": 0.0 if running else self.now - view.idle_since_s,
            "error_s": float(view.error_s),
            "outstanding_tokens": (to_it - done) / full,
            "leftover_tokens": sum(left) / full,
            "leftover_cost_s": sum(self._leftover_cost_s(k) for k in rows) / self.dp,
            "leftover_fullest": max(left) / self.chunk,
            "last_budget": view.last_budget / self.chunk,
            "takes_release": self.question == PREFILL and int(self.world.agent.instance) == i,
        }

    def rank(self, d: int) -> dict[str, float]:
        if self.question != PREFILL:
            return dict.fromkeys(("room", "load", "leftover_tokens", "requests"), 0.0)
        i = int(self.world.agent.instance)
        k = i * self.dp + d
        placed = [self.input[r] for r in self.placed if self.rank_of[r] == k]
        budget = int(self.world.agent.budget)
        if self.config.scheduler.charge == "cost":
            whole = self._cost_s(budget, 0)
            load = self._leftover_cost_s(k) + sum(self._cost_s(q, 0) for q in placed)
        else:
            whole, load = float(budget), float(self._leftover(k) + sum(placed))
        return {
            "room": (whole - load) / whole,
            "load": load / whole,
            "leftover_tokens": self._leftover(k) / self.chunk,
            "requests": sum(1 for r in self._fifo(k) if not self._is_known_done(r)),
        }

    def decode_rank(self, k: int) -> dict[str, float]:
        view = self.world.decode_views[k]
        room_tokens = self._blocks() * self.cluster.kv_block_tokens
        waiting, kv = self._known_waiting(k), view.granted_tokens - view.granted_tokens_before
        return {
            "requests": (view.running + waiting) / self._batch(),
            "waiting": waiting / self._batch(),
            "kv_tokens": (view.kv_tokens + kv) / room_tokens,
            "blocks": self._known_blocks(k) / self._blocks(),
            "refused": bool(view.refused),
        }

    def request(self) -> dict[str, float]:
        if self.question not in (PREFILL, DECODE):
            names = ("tokens", "age_s", "waited_releases", "placed", "to_place", "budget")
            return dict.fromkeys(names, 0.0)
        agent = self.world.agent
        r = int(agent.request)
        same = {
            "tokens": self.table.input_tokens[r] / self.chunk,
            "age_s": self.now - self.table.arrived_at_s[r],
        }
        if self.question == PREFILL:
            limit = max(self.config.scheduler.n_limit, 1)
            return same | {
                "waited_releases": self._releases_since(r) / limit,
                "placed": len(self.placed) / self.dp,
                "to_place": len(self._in_buffer()) / self.dp,
                "budget": agent.budget / self.chunk,
            }
        ranks, position = self.cluster.num_decode_ranks, int(agent.position)
        return same | {
            "waited_releases": 0.0,
            "placed": position / ranks,
            "to_place": (int(self.world.clock.num_waiting) - position) / ranks,
            "budget": 0.0,
        }

    # Parts of the first table

    def _buffer(self) -> dict[str, float]:
        ids = self._in_buffer()
        lengths = self.table.input_tokens[ids].astype(np.int64)
        found = {
            "buffer_requests": len(ids) / self.ranks,
            "buffer_tokens": lengths.sum() / (self.ranks * self.chunk),
        }
        if not ids:
            names = ("longest", "age_max_s", "age_median_s", "length_q25", "length_q50")
            return found | {f"buffer_{name}": 0.0 for name in (*names, "length_q75")}
        ages = self.now - self.table.arrived_at_s[ids]  # oldest first
        found["buffer_longest"] = lengths.max() / self.chunk
        found["buffer_age_max_s"] = ages.max()
        found["buffer_age_median_s"] = ages[(len(ids) - 1) // 2]
        for percent in (25, 50, 75):
            quantile = np.quantile(lengths[:64], percent / 100, method="lower")
            found[f"buffer_length_q{percent}"] = quantile / self.chunk
        return found

    def _clock(self) -> dict[str, float]:
        cluster, rule = self.cluster, self.config.scheduler
        full_s = self._even_pass_s(cluster.chunk_tokens)
        mean_s = full_s
        for row in self.signalled:
            mean_s += 0.2 * (row["ended_at_s"] - row["started_at_s"] - mean_s)
        link_s = cluster.dispatch_delay_s + cluster.signal_delay_s
        since_s = self.now - self._last_release_at_s()
        left_s = 0.0
        if self.history.multiplier is not None:
            wanted_s = self.history.multiplier * (mean_s + link_s) / cluster.num_prefill
            most_s = 2.0 * full_s if rule.max_interval_s is None else rule.max_interval_s
            left_s = min(max(wanted_s, rule.min_interval_s), most_s) - since_s
        return {
            "pass_mean_s": mean_s,
            "interval_s": (mean_s + link_s) / cluster.num_prefill,
            "since_release_s": since_s,
            "window_left_s": left_s,
        }

    def _arrivals(self) -> dict[str, float]:
        arrived_at_s = self.table.arrived_at_s
        per_pass = self._even_pass_s(self.cluster.chunk_tokens) / (self.ranks * self.chunk)
        found = {}
        whole = math.floor(self.now)
        for window_s, since_s in (
            (1, self.now - 1.0),
            (10, max(0.0, whole - 10.0)),  # whole seconds, and the one that runs
            (60, max(0.0, whole - 60.0)),
        ):
            inside = (arrived_at_s >= since_s) & (arrived_at_s <= self.now)
            passed_s = max(self.now - since_s, 1.0)
            rate = self.table.input_tokens[inside].astype(np.int64).sum() / passed_s
            found[f"load_{window_s}s"] = rate * per_pass
        last = math.floor(self.now)
        seconds = range(max(0, last - 60), last)
        counts = [int((np.floor(arrived_at_s) == second).sum()) for second in seconds]
        found["dispersion"] = float(np.var(counts) / np.mean(counts)) if sum(counts) else 1.0
        return found

    def _predictions(self) -> dict[str, float]:
        cluster = self.cluster
        return {
            "pass_256_s": self._even_pass_s(min(256, cluster.chunk_tokens)),
            "pass_1024_s": self._even_pass_s(min(1024, cluster.chunk_tokens)),
            "pass_chunk_s": self._even_pass_s(cluster.chunk_tokens),
            "dispatch_delay_s": cluster.dispatch_delay_s,
            "signal_delay_s": cluster.signal_delay_s,
        }

    def _decode(self) -> dict[str, float]:
        cluster, names = self.cluster, ("waiting_for_decode", "decode_requests", "decode_blocks")
        if cluster.num_decode == 0:
            return {"report_age_s": 10.0} | dict.fromkeys(names, 0.0)
        ranks = cluster.num_decode_ranks
        held = range(ranks)
        requests = sum(self.world.decode_views[k].running + self._known_waiting(k) for k in held)
        return {
            "report_age_s": self.now - self._youngest_sample_s(),
            "waiting_for_decode": self._num_unbound() / ranks,
            "decode_requests": requests / (ranks * self._batch()),
            "decode_blocks": sum(map(self._known_blocks, held)) / (ranks * self._blocks()),
        }

    # What a scheduler can look up

    def _in_buffer(self) -> list[int]:
        """Return those in the buffer by arrival; not what the agent has just left there."""
        return np.flatnonzero(self.requests["life"] == int(Life.BUFFERED)).tolist()

    def _fifo(self, k: int) -> list[int]:
        return self.fifos.get(k, [])

    def _fifo_before(self, k: int) -> list[int]:
        """Return what was sent before the release that is being made."""
        return [r for r in self._fifo(k) if r not in self.placed]

    def _is_known_done(self, r: int) -> bool:
        first = float(self.requests[r].first_token_at_s)
        return first + self.cluster.signal_delay_s <= self.now  # not if NaN

    def _leftover(self, k: int) -> int:
        """Return what was sent before this release and is not done, nor in the believed pass."""
        known = self.world.rank_views[k]
        sent = sum(self.input[r] for r in self._fifo_before(k))
        left = sent - int(known.acked_tokens)
        if self.config.scheduler.gated:
            left = max(0, left - int(known.run_tokens) - int(known.assumed_tokens))
        return left

    def _leftover_cost_s(self, k: int) -> float:
        """Return the cost of the last tokens sent before this release, prompt by prompt."""
        left, total = self._leftover(k), 0.0
        for r in reversed(self._fifo_before(k)):
            whole = self.input[r]
            q = min(whole, left)
            total += self._cost_s(q, whole - q)
            left -= q
        return total

    def _cost_s(self, q: int, context: int) -> float:
        a = float(self.timing.coefficients["token_cost_s"][0])
        c = float(self.timing.coefficients["pair_cost_s"][0])
        return a * q + c * q * (context + q / 2)

    def _even_pass_s(self, tokens: int) -> float:
        each = np.full(self.dp, tokens, dtype=np.int64)
        return self.timing.prefill_pass_s(each, np.zeros_like(each))

    def _release_instants(self) -> list[float]:
        """Return the instants of the releases: one message each to an instance."""
        made = self.sent[: len(self.sent) - len(self.placed)]
        at_s = self.requests["dispatched_at_s"][made].tolist()
        if self.config.scheduler.release == "immediate":
            return list(at_s)
        return [instant_s for instant_s, _ in {*zip(at_s, (self.on[r] for r in made), strict=True)}]

    def _last_release_at_s(self) -> float:
        return max(self._release_instants(), default=-math.inf)

    def _releases_since(self, r: int) -> int:
        return sum(at_s >= self.table.arrived_at_s[r] for at_s in self._release_instants())

    def _num_unbound(self) -> int:
        """Return the prompts that have to be bound, and are not."""
        decodes = self.world.decodes[: len(self.table)]
        unbound = np.isnan(decodes["bound_at_s"])
        if self.cluster.decode_binding == "at_dispatch":
            made = self.sent[: len(self.sent) - len(self.placed)]
            return int(unbound[made].sum())
        goes_on = self.requests["output_tokens"] > 1
        return int((unbound & goes_on & (self.requests["first_token_at_s"] <= self.now)).sum())

    def _youngest_sample_s(self) -> float:
        """Return the last sampling instant whose report is here: there are some while work is."""
        cluster, period_s = self.cluster, self.cluster.report_period_s
        decodes = self.world.decodes[: len(self.table)]
        for m in range(math.floor(self.now / period_s), 0, -1):
            if m * period_s + cluster.signal_delay_s > self.now:
                continue
            bound = decodes["bound_at_s"] < m * period_s
            held = bound & ~(decodes["finished_at_s"] <= (m - 1) * period_s)
            if held.any():
                return m * period_s
        return -math.inf

    def _batch(self) -> int:
        return int(self.cluster.max_running)

    def _blocks(self) -> int:
        return int(self.cluster.decode_kv_tokens) // self.cluster.kv_block_tokens

    def _known_waiting(self, k: int) -> int:
        view = self.world.decode_views[k]
        return int(view.waiting + view.granted - view.granted_before)

    def _known_blocks(self, k: int) -> int:
        view = self.world.decode_views[k]
        return int(view.blocks + view.granted_blocks - view.granted_blocks_before)


def _clipped(feature: Feature, value: float) -> float:
    return min(max(float(value), feature.low), feature.high)
