"""Durations and luck, shared with the compiled core: thin calls into `sbs_gym.timing`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sbs_gym.timing.decode import decode_step_s
from sbs_gym.timing.luck import pass_jitter, signal_lost, skew_factor, skew_next, skew_start
from sbs_gym.timing.model import empty_pass_s, prefill_pass_s
from tests.reference.forming import Chunk, pairs_of, tokens_of
from tests.reference.scenario import FREE_RUNNING, Scenario


class Clock:
    """How long passes take in one scenario, in truth and at mean luck."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._record = scenario.timing.coefficients[0]
        walk = (self._record, scenario.seed)
        self._skews = [SkewWalk(*walk, i) for i in range(scenario.num_prefill)]
        chunk = scenario.chunk_tokens
        self.full_pass_s = self.predicted_pass_s([[(-1, 0, chunk)]] * scenario.dp)

    def predicted_pass_s(self, chunks: list[list[Chunk]]) -> float:
        """Return the duration at mean luck: jitter 1, skew at its mean."""
        return self._pass_s(chunks, float(self._record["skew_mean"]))

    def true_pass_s(self, chunks: list[list[Chunk]], instance: int, start_s: float) -> float:
        jitter = float(pass_jitter(self._record, self._scenario.seed, instance, start_s))
        skew, factor = self._skews[instance].at(start_s), self._scenario.slow_rank_factor
        pass_s = self._pass_s(chunks, skew)
        if instance == 0 and factor > 1.0:
            pass_s = max(pass_s, factor * self._pass_s([chunks[0]] * len(chunks), skew))
        return pass_s * jitter

    def is_signal_lost(self, instance: int, pass_index: int) -> bool:
        lost_frac = self._scenario.signal_loss_frac
        return bool(signal_lost(self._scenario.seed, instance, pass_index, lost_frac))

    def first_free_start_s(self, instance: int) -> float:
        """Return when a free-running instance starts its first pass: evenly spaced phases."""
        return instance * float(self._record["pass_s"]) / self._scenario.num_prefill

    def _pass_s(self, chunks: list[list[Chunk]], skew: float) -> float:
        tokens = [tokens_of(of_rank) for of_rank in chunks]
        if sum(tokens) == 0 and self._scenario.start_rule == FREE_RUNNING:
            return float(empty_pass_s(self._record))
        pairs = [pairs_of(of_rank) for of_rank in chunks]
        arrays = (np.array(tokens, dtype=np.int64), np.array(pairs, dtype=np.int64))
        return float(prefill_pass_s(self._record, self._scenario.timing.table, *arrays, skew))


class DecodeClock:
    """How long decode steps take; the instances are numbered after the prefill ones."""

    def __init__(self, scenario: Scenario) -> None:
        self._timing, self._seed = scenario.decode_timing, scenario.seed
        self._record = self._timing.coefficients[0]
        self._first = scenario.num_prefill
        self._skews = [
            SkewWalk(self._record, self._seed, self._first + j) for j in range(scenario.num_decode)
        ]

    def true_step_s(
        self, batch: list[int], kv_tokens: list[float], instance: int, start_s: float
    ) -> float:
        number = self._first + instance
        jitter = float(pass_jitter(self._record, self._seed, number, start_s))
        arrays = (np.array(batch, dtype=np.int64), np.array(kv_tokens, dtype=np.float64))
        skew = self._skews[instance].at(start_s)
        step_s = decode_step_s(self._record, self._timing.table, *arrays, skew)
        return float(step_s) * jitter


class SkewWalk:
    """The AR(1) walk of one instance's expert skew on its grid (section 3)."""

    def __init__(self, record: Any, seed: int, instance: int) -> None:
        self._record, self._seed, self._instance = record, seed, instance
        self._states = [float(skew_start(record, seed, instance))]

    def at(self, start_s: float) -> float:
        k = math.floor(start_s / float(self._record["skew_grid_s"]))
        while len(self._states) <= k:
            step = (self._instance, len(self._states), self._states[-1])
            self._states.append(float(skew_next(self._record, self._seed, *step)))
        return float(skew_factor(self._record, self._states[k]))
