"""Whether rankings of rules survive a change of every parameter of the timing, one at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sbs_gym import artifacts
from sbs_gym.cells import Cell, CellStore, Finished, Progress, inputs_of, run_cells, worker_pool
from sbs_gym.config.run import RunConfig
from sbs_gym.config.timing import TimingConfig
from sbs_gym.errors import ConfigError, require_number
from sbs_gym.rankings import Measured, Ranking, Sensitivity
from sbs_gym.timing.changes import Change, changes


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


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
