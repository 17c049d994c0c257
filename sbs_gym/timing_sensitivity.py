"""Whether rankings of rules survive a change of every parameter of the timing, one at a time."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbs_gym import artifacts
from sbs_gym.cells import Cell, CellStore, Finished, Progress, inputs_of, run_cells, worker_pool
from sbs_gym.compare import ratio_interval
from sbs_gym.config.run import RunConfig
from sbs_gym.config.timing import TimingConfig
from sbs_gym.errors import ConfigError, require_number
from sbs_gym.result import code_digest
from sbs_gym.timing.changes import Change, Unchanged, changes
from sbs_gym.types import FloatArray

Interval = tuple[float, float, float]  # a ratio and the ends of its 95 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Rules that are ordered by one latency, smaller being better.

    Attributes:
        name: Of the ranking, and of its folder.
        metric: Key of the summary.
        configs: Rule to its run; they differ in the scheduler only.
        subject: The rule whose ratio is followed.
        bases: The rules it is divided by: by the best of them under each timing.
    """

    name: str
    metric: str
    configs: Mapping[str, RunConfig]
    subject: str
    bases: Sequence[str]

    @property
    def config(self) -> RunConfig:
        """Return the run of the first rule."""
        return next(iter(self.configs.values()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """What the rules of a ranking did under one timing.

    Attributes:
        values: Rule to its metric, one value per seed; the same seeds in the same order.
        num_overloaded: Runs in which the queue grew.
    """

    values: Mapping[str, FloatArray]
    num_overloaded: int = 0

    def order(self) -> list[str]:
        """Return the rules, best mean first."""
        return sorted(self.values, key=lambda rule: float(self.values[rule].mean()))

    def ratio(self, rule: str, base: str) -> Interval:
        """Return rule over base, paired by seed, with its 95 % interval."""
        return ratio_interval(self.values[rule], self.values[base])[:3]

    def better(self, rule: str, other: str) -> int:
        """Return 1 if `rule` is better beyond its interval, -1 if `other` is, 0 for a tie."""
        _, low, high = self.ratio(rule, other)
        return int(high < 1.0) - int(low > 1.0)

    def followed(self, ranking: Ranking) -> Interval:
        """Return the ratio of the ranking's subject to the best of its bases."""
        base = next(rule for rule in self.order() if rule in ranking.bases)
        return self.ratio(ranking.subject, base)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """A pair that differs under both timings, in opposite directions.

    Attributes:
        ranking, parameter, factor: Where.
        was_better, was_worse: The two rules, as they are ranked without the change.
        before, after: The first over the second, without and with the change.
    """

    ranking: str
    parameter: str
    factor: float
    was_better: str
    was_worse: str
    before: Interval
    after: Interval


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sensitivity:
    """Rankings under a timing and under every change of it.

    Attributes:
        rankings: Name to what was ranked.
        frac: By how much parameters were changed.
        num_seeds: Runs of every rule and timing.
        unchanged: Ranking to what its rules did without a change.
        changed: Parameter and factor, then ranking, to what its rules did with it.
        left_out: What was not changed, and why.
        num_runs, num_reused: Runs in all, and how many of them were found on disk.
    """

    rankings: Mapping[str, Ranking]
    frac: float
    num_seeds: int
    unchanged: Mapping[str, Measured]
    changed: Mapping[tuple[str, float], Mapping[str, Measured]]
    left_out: Sequence[Unchanged]
    num_runs: int
    num_reused: int

    @property
    def parameters(self) -> list[str]:
        """Return the parameters of which at least one change was run."""
        return list(dict.fromkeys(parameter for parameter, _ in self.changed))

    def swaps(self) -> list[Swap]:
        """Return the pairs that change places, both times beyond their intervals."""
        return [swap for pair in self._pairs() if (swap := _swap(*pair)) is not None]

    def ties(self) -> dict[tuple[str, str, str], int]:
        """Return how many changes make a tie of a pair that differs without it.

        Keys are the ranking, the better rule and the worse one.
        """
        counts: dict[tuple[str, str, str], int] = {}
        for name, _, before, after, rules in self._pairs():
            ahead = before.better(*rules)
            if ahead:
                a, b = rules if ahead > 0 else rules[::-1]
                counts[name, a, b] = counts.get((name, a, b), 0) + (after.better(a, b) == 0)
        return {pair: count for pair, count in counts.items() if count}

    def num_overloaded(self) -> int:
        """Return the runs in which the queue grew."""
        every = [self.unchanged, *self.changed.values()]
        return sum(measured.num_overloaded for one in every for measured in one.values())

    def _pairs(self) -> list[_Pair]:
        return [
            (name, change, self.unchanged[name], after, (a, b))
            for change, found in self.changed.items()
            for name, after in found.items()
            for a, b in itertools.combinations(self.rankings[name].configs, 2)
        ]

    def to_mapping(self) -> dict[str, Any]:
        """Return everything as plain mappings and lists, for JSON."""
        return {
            "frac": self.frac,
            "num_seeds": self.num_seeds,
            "confidence": 0.95,
            "code_digest": code_digest(),
            "rankings": {name: self._ranking_mapping(name) for name in self.rankings},
            "changes": [
                {
                    "parameter": parameter,
                    "factor": factor,
                    **{name: self._measured_mapping(name, one) for name, one in found.items()},
                }
                for (parameter, factor), found in self.changed.items()
            ],
            "swaps": [dataclasses.asdict(swap) for swap in self.swaps()],
            "ties": [
                {"ranking": name, "was_better": a, "was_worse": b, "num_changes": count}
                for (name, a, b), count in self.ties().items()
            ],
            "left_out": [dataclasses.asdict(one) for one in self.left_out],
        }

    def _ranking_mapping(self, name: str) -> dict[str, Any]:
        ranking = self.rankings[name]
        return {
            "metric": ranking.metric,
            "ratio": {"of": ranking.subject, "to_the_best_of": list(ranking.bases)},
            "unchanged": self._measured_mapping(name, self.unchanged[name]),
            "configs": {rule: run.to_mapping() for rule, run in ranking.configs.items()},
        }

    def _measured_mapping(self, name: str, measured: Measured) -> dict[str, Any]:
        keys = ("ratio", "ratio_low", "ratio_high")
        return {
            **dict(zip(keys, measured.followed(self.rankings[name]), strict=True)),
            "order": measured.order(),
            "values": dict(measured.values),
        }


_Pair = tuple[str, tuple[str, float], Measured, Measured, tuple[str, str]]


def sensitivity(
    rankings: Sequence[Ranking],
    seeds: int,
    *,
    frac: float = 0.2,
    output_dir: str | Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Sensitivity:
    """Return the rankings under their timing and under every change of one of its parameters.

    A load is one of the capacity of the changed timing: a slower model is not simply overloaded.

    Args:
        rankings: What is ranked; all under the same timing.
        seeds: Runs per rule and timing, at config.seed, config.seed + 1, …; 2 to 10,000.
        frac: Parameters are multiplied by 1 - frac and 1 + frac, in [0.001, 0.9].
        output_dir: Where finished runs go, in one folder per ranking, and are found again.
        jobs: Processes, 1 to 256.
        progress: Called with (runs done, runs in all).

    Raises:
        ConfigError: If an argument is out of range, the timing has nothing to change, or
            `output_dir` holds something else; before any run.
    """
    require_number("seeds", seeds, 2, 10_000, integer=True)
    require_number("jobs", jobs, 1, 256, integer=True)
    timing = _common_timing(rankings)
    made, left_out = changes(timing, frac)
    if not made:
        raise ConfigError(f"timing={timing.kind}: it has no number whose change is a duration")
    done, num_runs, num_reused = _run(rankings, made, seeds, output_dir, jobs, progress)
    return Sensitivity(
        rankings={ranking.name: ranking for ranking in rankings},
        frac=frac,
        num_seeds=seeds,
        unchanged={r.name: _measured(r, None, done[r.name], seeds) for r in rankings},
        changed={
            (change.parameter, change.factor): {
                r.name: _measured(r, change, done[r.name], seeds) for r in rankings
            }
            for change in made
        },
        left_out=left_out,
        num_runs=num_runs,
        num_reused=num_reused,
    )


def _common_timing(rankings: Sequence[Ranking]) -> TimingConfig:
    timings = {config.timing for ranking in rankings for config in ranking.configs.values()}
    if len(timings) != 1:
        raise ConfigError(f"{len(timings)} timings among the rankings; expected exactly one")
    return timings.pop()


def _run(
    rankings: Sequence[Ranking],
    made: Sequence[Change],
    seeds: int,
    output_dir: str | Path | None,
    jobs: int,
    progress: Progress | None,
) -> tuple[dict[str, dict[Cell, Finished]], int, int]:
    """Return the runs of every ranking, how many there are in all, and how many were on disk."""
    per_ranking = [_cells(ranking, made, seeds) for ranking in rankings]
    stores = [_open_store(ranking, output_dir) for ranking in rankings]
    num_runs = sum(map(len, per_ranking))
    done: dict[str, dict[Cell, Finished]] = {}
    num_before = num_reused = 0
    with worker_pool(jobs) as pool:
        for ranking, cells, store in zip(rankings, per_ranking, stores, strict=True):
            done[ranking.name], reused = run_cells(
                cells,
                store,
                inputs=inputs_of(ranking.config),
                jobs=jobs,
                progress=_shifted(progress, num_before, num_runs),
                pool=pool,
            )
            num_before += len(cells)
            num_reused += reused
    return done, num_runs, num_reused


def _cells(ranking: Ranking, made: Sequence[Change], seeds: int) -> dict[Cell, RunConfig]:
    """Return every run, those of one timing together: its capacity is computed once a process."""
    return {
        (_label(change, rule), config.seed + k): dataclasses.replace(
            config,
            seed=config.seed + k,
            timing=config.timing if change is None else change.timing,
        )
        for change in (None, *made)
        for rule, config in ranking.configs.items()
        for k in range(seeds)
    }


def _label(change: Change | None, rule: str) -> str:
    return f"{rule} " + ("" if change is None else f"{change.parameter} {change.factor:g}")


def _open_store(ranking: Ranking, output_dir: str | Path | None) -> CellStore | None:
    if output_dir is None:
        return None
    directory = Path(output_dir) / ranking.name
    shared = ranking.config.to_mapping()
    del shared["scheduler"]
    artifacts.check_output_dir(directory, shared)
    artifacts.write_all(directory, {artifacts.CONFIG_FILE: artifacts.yaml_writer(shared)})
    return CellStore(directory / "cells", inputs_of(ranking.config))


def _measured(
    ranking: Ranking, change: Change | None, done: Mapping[Cell, Finished], seeds: int
) -> Measured:
    by_rule = {
        rule: [done[_label(change, rule), config.seed + k]["summary"] for k in range(seeds)]
        for rule, config in ranking.configs.items()
    }
    return Measured(
        values={
            rule: np.array([summary[ranking.metric] for summary in summaries], dtype=np.float64)
            for rule, summaries in by_rule.items()
        },
        num_overloaded=sum(bool(one["overloaded"]) for many in by_rule.values() for one in many),
    )


def _swap(
    name: str,
    change: tuple[str, float],
    before: Measured,
    after: Measured,
    rules: tuple[str, str],
) -> Swap | None:
    a, b = rules if before.better(*rules) >= 0 else rules[::-1]
    if before.better(a, b) != 1 or after.better(a, b) != -1:
        return None
    return Swap(
        ranking=name,
        parameter=change[0],
        factor=change[1],
        was_better=a,
        was_worse=b,
        before=before.ratio(a, b),
        after=after.ratio(a, b),
    )


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
