"""What differs from episode to episode: everything is drawn from one hash of seed and number."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sbs_gym.capacity import capacities
from sbs_gym.config.arrivals import BY_CV
from sbs_gym.config.run import RunConfig
from sbs_gym.config.workload import ArrivalConfig, WorkloadConfig
from sbs_gym.envs.config import EnvConfig
from sbs_gym.errors import ConfigError, require_choice, require_number
from sbs_gym.rng import Stream, hash64, uniform
from sbs_gym.types import RequestTable
from sbs_gym.workload.generate import generate, with_arrivals
from sbs_gym.workload.trace.load import load_trace
from sbs_gym.workload.trace.scale import native_rate_per_s, scale_trace

OPTIONS = ("load", "offset_s")
MOST_SEED = 2**62
_STREAM = int(Stream.EPISODE)


# What a number of the episode stream is for.
_SEED, _LOAD, _WORKLOAD, _ARRIVALS, _TIMING, _WARM_UP, _OFFSET, _BURSTINESS = range(1, 9)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episode:
    """One episode.

    Attributes:
        seed: Of its workload, timing and policy luck.
        table: Its requests, to the horizon.
        exhausts: Whether nothing follows the last of them: the end of a trace.
        warmup_s: Length of the warm-up, seconds.
        arrivals: Which of the configuration's arrivals.
        timing: Which of the configuration's timings.
        load: Its load; NaN where a rate is given.
        rate_per_s: Its rate, requests per second.
        offset_s: Where in the trace it begins, seconds of the trace; 0 for synthetic workloads.
        workload: Name of its workload.
    """

    seed: int
    table: RequestTable
    exhausts: bool
    warmup_s: float
    arrivals: int
    timing: int
    load: float
    rate_per_s: float
    offset_s: float
    workload: str


def fresh_seed() -> int:
    """Return a seed that nobody has chosen, from the entropy of the system."""
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) % MOST_SEED


def episode_seed(seed: int, number: int, attempt: int = 0) -> int:
    """Return the seed of episode `number` of an environment that was seeded with `seed`."""
    word = int(hash64(seed, _STREAM, _SEED, number, attempt))
    return word >> 2  # seeds are below 2**62


def draw_episode(
    config: EnvConfig,
    seed: int,
    options: Mapping[str, Any],
    capacities_per_s: dict[tuple[int, int], float] | None = None,
) -> Episode:
    """Return the episode of a seed; options `load` and `offset_s` replace what would be drawn.

    `capacities_per_s` keeps the capacity of every pair of workload and timing between calls.

    Raises:
        ConfigError: If an option is not known or out of range.
    """
    _check_options(options)
    number = [
        _choice(seed, purpose, len(parts))
        for purpose, parts in (
            (_WORKLOAD, config.workloads),
            (_ARRIVALS, config.arrivals),
            (_TIMING, config.timings),
        )
    ]
    workload, arrivals = config.workloads[number[0]], config.arrivals[number[1]]
    arrivals = _with_burstiness(config, arrivals, seed)
    warmup_s = _between(seed, _WARM_UP, config.warmup_s)
    load = math.nan if config.load is None else _between(seed, _LOAD, config.load)
    if options.get("load") is not None:
        load = float(options["load"])
    rate = config.rate_per_s or math.nan
    if not math.isnan(load):
        pair, kept = (number[0], number[2]), capacities_per_s
        if kept is None:
            kept = {}
        if pair not in kept:
            kept[pair] = capacity_per_s(config, *pair)
        rate = load * kept[pair]
    if options.get("offset_s") is not None and workload.kind != "trace":
        raise ConfigError(
            f"options['offset_s']={options['offset_s']!r}: workload {workload.name!r} is no trace; "
            "expected workload=trace"
        )
    asked = (config, workload, arrivals, rate, seed, warmup_s + config.horizon_s)
    table, exhausts, offset_s = (
        _from_trace(*asked, options.get("offset_s"))
        if workload.kind == "trace"
        else (_synthetic(*asked), False, 0.0)
    )
    return Episode(
        seed=seed,
        table=table,
        exhausts=exhausts,
        warmup_s=warmup_s,
        arrivals=number[1],
        timing=number[2],
        load=load,
        rate_per_s=rate,
        offset_s=offset_s,
        workload=workload.name,
    )


def draw_again(
    config: EnvConfig,
    seed: int,
    load: float,
    offset_s: float,
    capacities_per_s: dict[tuple[int, int], float],
) -> Episode:
    """Return the episode that had this seed, load and place in its trace, drawn or given."""
    workload = config.workloads[_choice(seed, _WORKLOAD, len(config.workloads))]
    options = {
        "load": None if math.isnan(load) else load,
        "offset_s": offset_s if workload.kind == "trace" else None,
    }
    return draw_episode(config, seed, options, capacities_per_s)


def _check_options(options: Mapping[str, Any]) -> None:
    for name in options:
        require_choice("reset(options=…): key", name, OPTIONS)
    if options.get("load") is not None:
        require_number("options['load']", options["load"], 0, 10, low_open=True)
    if options.get("offset_s") is not None:
        require_number("options['offset_s']", options["offset_s"], 0, 1e9, unit="s")


def _choice(seed: int, purpose: int, count: int) -> int:
    return 0 if count == 1 else int(hash64(seed, _STREAM, purpose, 0, 0) % np.uint64(count))


def _between(seed: int, purpose: int, bounds: tuple[float, float]) -> float:
    low, high = bounds
    if low == high:
        return low
    return low + (high - low) * float(uniform(seed, _STREAM, purpose, 0, 0))


def _with_burstiness(config: EnvConfig, arrivals: ArrivalConfig, seed: int) -> ArrivalConfig:
    if config.burstiness is None or arrivals.family not in BY_CV:
        return arrivals
    low, high = config.burstiness
    drawn = _between(seed, _BURSTINESS, (math.log(low), math.log(high)))
    return dataclasses.replace(arrivals, cv=math.exp(drawn))


def capacity_per_s(config: EnvConfig, workload: int, timing: int) -> float:
    """Return the rate that is a load of 1 with these of the configuration's parts."""
    return _capacity_per_s(
        RunConfig(
            cluster=config.cluster,
            workload=config.workloads[workload],
            arrivals=config.arrivals[0],
            timing=config.timings[timing],
            scheduler=config.scheduler,
            slo=config.slo,
            load=1.0,
            load_side=config.load_side,
        )
    )


@functools.lru_cache(maxsize=256)
def _capacity_per_s(config: RunConfig) -> float:
    return capacities(config).requests_per_s


def _synthetic(
    config: EnvConfig,
    workload: WorkloadConfig,
    arrivals: ArrivalConfig,
    rate_per_s: float,
    seed: int,
    length_s: float,
) -> RequestTable:
    return generate(
        workload,
        arrivals,
        rate_per_s=rate_per_s,
        seed=seed,
        horizon_s=length_s,
        with_answers=config.cluster.num_decode > 0,
    )


@functools.lru_cache(maxsize=16)
def _trace(workload: WorkloadConfig) -> tuple[RequestTable, bool]:
    """Return a trace and whether it has arrival times; answers it lacks are those of seed 0."""
    table, report = load_trace(workload, seed=0)
    return table, report.has_arrivals


def _from_trace(
    config: EnvConfig,
    workload: WorkloadConfig,
    arrivals: ArrivalConfig,
    rate_per_s: float,
    seed: int,
    length_s: float,
    offset_s: float | None,
) -> tuple[RequestTable, bool, float]:
    """Return a window of a trace at a rate, whether the trace ends in it, and where it begins."""
    table, has_arrivals = _trace(workload)
    pace = 1.0  # seconds of the trace per second of the episode
    if not has_arrivals:
        if math.isnan(rate_per_s):
            raise ConfigError(f"trace {table.name!r} has no rate of its own; give a load")
        table = with_arrivals(table, arrivals, rate_per_s=rate_per_s, seed=seed)
    elif not math.isnan(rate_per_s) and workload.scaling == "compress":
        pace = rate_per_s / native_rate_per_s(table)
    elif not math.isnan(rate_per_s):
        table = scale_trace(table, rate_per_s=rate_per_s, scaling=workload.scaling, seed=seed)
    last_s = float(table.arrived_at_s[-1])
    window_s = length_s * pace
    if offset_s is None:
        offset_s = _between(seed, _OFFSET, (0.0, max(0.0, last_s - window_s)))
    if offset_s > last_s:
        raise ConfigError(
            f"options['offset_s']={offset_s!r} is out of range; expected a number in [0, "
            f"{last_s:g}] s of trace {table.name!r}"
        )
    first, end = np.searchsorted(table.arrived_at_s, [offset_s, offset_s + window_s])
    rows = slice(int(first), int(end))
    window = RequestTable(
        arrived_at_s=(table.arrived_at_s[rows] - offset_s) / pace,
        input_tokens=table.input_tokens[rows],
        output_tokens=table.output_tokens[rows],
        name=table.name,
    )
    return window, int(end) == len(table), offset_s
