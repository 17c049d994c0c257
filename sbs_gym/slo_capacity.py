"""The largest rate at which a scheduler keeps its SLO, by simulation: one search per seed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sbs_gym import artifacts
from sbs_gym.capacity import capacities, decode_fill_frac
from sbs_gym.cells import (
    Cell,
    CellStore,
    Finished,
    Progress,
    inputs_of,
    run_cells,
    sources_of,
    worker_pool,
)
from sbs_gym.compare import ratio_interval
from sbs_gym.config.run import DEFAULT_NUM_REQUESTS, RunConfig
from sbs_gym.errors import ConfigError, require_number
from sbs_gym.metrics.intervals import mean_interval
from sbs_gym.rate_search import LEAST_FRAC, RateSearch
from sbs_gym.result import code_digest

FULL_FRAC = 0.95  # of its steady state: from here on decode counts as full
_FILE = "capacity.json"
_NONE = (math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class SloCapacity:
    """The largest rates at which schedulers keep the SLO of the same run.

    Attributes:
        configs: The run of every scheduler, at the first seed and without a rate.
        num_seeds: Searches per scheduler, at seed, seed + 1, ….
        tolerance_frac: A rate this fraction above a result missed the target.
        fluid_per_s: The capacity that a load of 1 means, requests per second.
        searches: Every search, whole.
        summaries: Summary of the run at `RateSearch.shown_per_s` of every search.
        inputs: The files that the configurations name, path to sha256 of the content.
        num_runs: Runs of all searches.
        num_reused: Those that were taken from `output_dir`.
    """

    configs: Mapping[str, RunConfig]
    num_seeds: int
    tolerance_frac: float
    fluid_per_s: float
    searches: Mapping[Cell, RateSearch]
    summaries: Mapping[Cell, Mapping[str, Any]]
    inputs: Mapping[str, str] = field(default_factory=dict)
    num_runs: int = 0
    num_reused: int = 0

    def of(self, scheduler: str) -> list[RateSearch]:
        """Return the searches of a scheduler, by seed."""
        return [one for (name, _), one in self.searches.items() if name == scheduler]

    def interval(self, scheduler: str) -> tuple[float, float, float]:
        """Return mean rate over seeds and its 95 % interval; NaN unless every seed has a rate."""
        rates = [one.rate_per_s for one in self.of(scheduler)]
        found = [rate for rate in rates if rate is not None]
        return mean_interval(found) if len(found) == len(rates) else _NONE

    def ratio(self, scheduler: str, base: str) -> tuple[float, float, float]:
        """Return rate / rate of `base`, paired by seed, with its 95 % interval; NaN as above."""
        pairs = [
            (math.nan if a.rate_per_s is None else a.rate_per_s, b.rate_per_s)
            for a, b in zip(self.of(scheduler), self.of(base), strict=True)
        ]
        if any(math.isnan(a) or b is None for a, b in pairs):
            return _NONE
        frame = pd.DataFrame(pairs, dtype=float)
        return ratio_interval(frame[0].to_numpy(), frame[1].to_numpy())[:3]

    def mean(self, scheduler: str, key: str) -> float:
        """Return a number of the summaries at the found rates, mean over seeds; NaN if absent."""
        values = [
            summary.get(key, math.nan)
            for (name, _), summary in self.summaries.items()
            if name == scheduler
        ]
        return mean_interval(math.nan if v is None else float(v) for v in values)[0]

    def decode_fill(self) -> tuple[float, int]:
        """Return how full decode was in the measured windows, and the requests that would fill it.

        Returns:
            The share of its steady state (`capacity.decode_fill_frac`) at the largest rate found,
            and the smallest doubling of num_requests with at least 0.95. NaN, and what was asked
            for, where there is no decode, no rate, a trace or a horizon.
        """
        config = next(iter(self.configs.values()))
        count = config.num_requests or DEFAULT_NUM_REQUESTS
        rates = [one.rate_per_s for one in self.searches.values() if one.rate_per_s is not None]
        if not rates or config.workload.kind == "trace" or config.horizon_s is not None:
            return math.nan, count
        filled = decode_fill_frac(config, max(rates), count)
        enough = count
        while decode_fill_frac(config, max(rates), enough) < FULL_FRAC:
            enough *= 2
        return filled, enough

    def save(self, directory: str | Path) -> Path:
        """Write capacity.json, whole or not at all, and return the directory."""
        artifacts.write_all(directory, {_FILE: artifacts.json_writer(self.to_mapping())})
        return Path(directory)

    def to_mapping(self) -> dict[str, Any]:
        """Return what capacity.json holds: rates with intervals, and every rate tried by seed."""
        first = next(iter(self.configs))
        return {
            "num_seeds": self.num_seeds,
            "tolerance_frac": self.tolerance_frac,
            "fluid_requests_per_s": self.fluid_per_s,
            "decode_fill_frac": self.decode_fill()[0],
            "reference": first,
            "schedulers": {name: self._scheduler(name, first) for name in self.configs},
            "code_digest": code_digest(),
            "inputs": dict(self.inputs),
            "configs": {name: config.to_mapping() for name, config in self.configs.items()},
        }

    def _scheduler(self, name: str, first: str) -> dict[str, Any]:
        named = ("requests_per_s", "low", "high")
        return {
            **dict(zip(named, self.interval(name), strict=True)),
            "ratio": dict(zip(("ratio", "low", "high"), self.ratio(name, first), strict=True)),
            "seeds": [
                {
                    "seed": cell[1],
                    "outcome": search.outcome,
                    "requests_per_s": search.rate_per_s,
                    "tried": [{"rate_per_s": r, "attained_frac": a} for r, a in search.tried],
                    "summary": dict(self.summaries[cell]),
                }
                for cell, search in self.searches.items()
                if cell[0] == name
            ],
        }


def find_capacity(
    configs: Mapping[str, RunConfig],
    seeds: int,
    *,
    tolerance_frac: float = 0.01,
    output_dir: str | Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    pool: ProcessPoolExecutor | None = None,
) -> SloCapacity:
    """Return the largest rate at which each scheduler keeps the SLO.

    For every scheduler and seed the rate is searched at which `measured_run` still has
    `slo_attainment_frac >= slo.attainment_frac`. Seeds are paired: with equal seeds two schedulers
    meet the same prompts and answers in the same order, and arrivals whose gaps are to each other
    as the rates are. With `output_dir` finished runs are kept and not run again, as in `compare`.

    Args:
        configs: One run per scheduler name, without load and rate; they may differ in the
            scheduler only.
        seeds: Searches per scheduler, at config.seed, config.seed + 1, …; 1 to 10,000.
        tolerance_frac: How far a rate that misses the target may be above the result, as a
            fraction of it, 0.0001 to 0.5.
        output_dir: Where finished runs go; None keeps everything in memory.
        jobs: Processes that run them, 1 to 256.
        progress: Called with (runs done, runs expected in all).
        pool: Those processes, if the caller keeps them for several calls.

    Raises:
        ConfigError: If a run names its load or rate, or `output_dir` holds something else.
    """
    require_number("seeds", seeds, 1, 10_000, integer=True)
    require_number("jobs", jobs, 1, 256, integer=True)
    require_number("tolerance", tolerance_frac, 1e-4, 0.5)
    one = _any_without_rate(configs)
    inputs = inputs_of(one)
    store = None if output_dir is None else _open_store(output_dir, one, inputs)
    guess = capacities(one).requests_per_s
    start = RateSearch(
        guess_per_s=guess, target_frac=one.slo.attainment_frac, tolerance_frac=tolerance_frac
    )
    course = _Course({(name, one.seed + k): start for name in configs for k in range(seeds)})
    with contextlib.nullcontext(pool) if pool is not None else worker_pool(jobs) as workers:
        play = functools.partial(run_cells, store=store, inputs=inputs, jobs=jobs, pool=workers)
        course.finish(configs, play, progress)
    return SloCapacity(
        configs=dict(configs),
        num_seeds=seeds,
        tolerance_frac=tolerance_frac,
        fluid_per_s=guess,
        searches=course.searches,
        summaries=course.shown(),
        inputs={**inputs, **sources_of(configs)},
        num_runs=course.num_runs,
        num_reused=course.num_reused,
    )


def why_not(search: RateSearch, summary: Mapping[str, Any]) -> str | None:
    """Return why a search found no rate, in a sentence; None if it did.

    Args:
        search: A finished one.
        summary: Of its run at `shown_per_s`.
    """
    target, rate = 100 * search.target_frac, f"{search.shown_per_s:.4g} requests/s"
    if search.outcome == "infeasible":
        parts = [
            f"{word} is met by {100 * frac:.1f} %"
            for word, key in (("TTFT", "ttft_attainment_frac"), ("TPOT", "tpot_attainment_frac"))
            if not math.isnan(frac := float(summary.get(key, math.nan)))
        ]
        attained = 100 * float(summary["slo_attainment_frac"])
        return (
            f"no rate meets the SLO: at {rate}, {LEAST_FRAC:g} of capacity, {attained:.1f} % of "
            f"requests meet it and {target:g} % are asked for"
            + f" ({', '.join(parts)})" * bool(parts)
            + _rejections(summary)
        )
    if search.outcome == "unbounded":
        return (
            f"the SLO is still met at {rate}, {search.shown_per_s / search.guess_per_s:.0f} times "
            "capacity: the run is too short for queues to grow up to it; give more num_requests"
        )
    return None


def _rejections(summary: Mapping[str, Any]) -> str:
    """Return that requests are rejected at any rate, which no SLO survives; empty if none is."""
    rejected, arrived = int(summary.get("num_rejected", 0)), int(summary.get("num_arrived", 0))
    if not rejected:
        return ""
    return f"; {rejected} of {arrived} requests are rejected"


@dataclass(slots=True)
class _Course:
    """All searches on their way."""

    searches: dict[Cell, RateSearch]
    num_runs: int = 0
    num_reused: int = 0
    _summaries: dict[tuple[Cell, float], Mapping[str, Any]] = field(default_factory=dict)

    def finish(
        self,
        configs: Mapping[str, RunConfig],
        play: Callable[..., tuple[dict[Cell, Finished], int]],
        progress: Progress | None,
    ) -> None:
        """Play what the searches ask for until they are over; `play` is `run_cells` of a store."""
        while asked := self.next_runs(configs):
            done, num_reused = play(asked, progress=self.progress(progress))
            self.take(asked, done, num_reused)

    def next_runs(self, configs: Mapping[str, RunConfig]) -> dict[Cell, RunConfig]:
        return {
            cell: dataclasses.replace(configs[cell[0]], seed=cell[1], rate_per_s=rate)
            for cell, search in self.searches.items()
            if (rate := search.next_per_s) is not None
        }

    def take(
        self, asked: Mapping[Cell, RunConfig], done: Mapping[Cell, Finished], num_reused: int
    ) -> None:
        for cell, finished in done.items():
            rate, summary = asked[cell].rate_per_s or math.nan, finished["summary"]
            attained = float(summary["slo_attainment_frac"])
            self.searches[cell] = self.searches[cell].told(rate, attained)
            self._summaries[cell, rate] = summary
        self.num_runs += len(done)
        self.num_reused += num_reused

    def shown(self) -> dict[Cell, Mapping[str, Any]]:
        return {
            cell: self._summaries[cell, search.shown_per_s]
            for cell, search in self.searches.items()
        }

    def progress(self, report: Progress | None) -> Progress | None:
        if report is None:
            return None
        before = self.num_runs
        expected = before + sum(search.num_left for search in self.searches.values())
        return lambda done, total: report(before + done, max(expected, before + total))


def _any_without_rate(configs: Mapping[str, RunConfig]) -> RunConfig:
    """Return one of the runs; an error if they name a rate or differ beyond the scheduler."""
    if not configs:
        raise ConfigError("configs is empty; expected at least one scheduler")
    first = next(iter(configs.values()))
    for config in configs.values():
        if config.load is not None or config.rate_per_s is not None:
            raise ConfigError(
                f"load={config.load!r}, rate_per_s={config.rate_per_s!r}: the rate is what is "
                "searched; leave both out"
            )
        if dataclasses.replace(config, scheduler=first.scheduler) != first:
            raise ConfigError(
                "the runs differ in more than the scheduler; expected one SLO and "
                "cluster, workload, timing for all"
            )
    return first


def _open_store(output_dir: str | Path, config: RunConfig, inputs: Mapping[str, str]) -> CellStore:
    shared = {"capacity": "rates are searched", **config.to_mapping()}
    del shared["scheduler"], shared["load"], shared["rate_per_s"]
    artifacts.check_output_dir(output_dir, shared)
    artifacts.write_all(output_dir, {artifacts.CONFIG_FILE: artifacts.yaml_writer(shared)})
    return CellStore(Path(output_dir) / "cells", inputs)
