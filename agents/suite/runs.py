"""The runs of an evaluation: what is finished is on disk, what is missing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from agents.suite.cells import SuiteCell
from sbs_gym.cells import CellStore, Progress, inputs_of, run_cells, worker_pool
from sbs_gym.config.run import RunConfig
from sbs_gym.envs.config import scheduler_named
from sbs_gym.metrics.columns import SUMMARY_KEYS

CELL_COLUMNS = ("part", "path", "workload", "load", "arrivals", "change")
RUN_COLUMNS = ("cell", *CELL_COLUMNS, "policy", "training", "seed", *SUMMARY_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The runs of one cell.

    Attributes:
        cell: Where.
        players: Policy to the words of its trainings, one for a preset.
        configs: The run of every word and seed; they name the same files.
    """

    cell: SuiteCell
    players: Mapping[str, Sequence[str]]
    configs: Mapping[tuple[str, int], RunConfig]


def play(
    jobs_to_do: Sequence[Job], folder: Path, *, jobs: int, progress: Progress | None
) -> pd.DataFrame:
    """Return one row per cell, policy, training and seed, with the keys of the summary.

    Args:
        jobs_to_do: What is run.
        folder: Gets a folder per cell with its finished runs; those found there are not run again
            if configuration, files and code are the same.
        jobs: Processes.
        progress: Called with (runs done, runs in all).
    """
    total = sum(len(job.configs) for job in jobs_to_do)
    rows: list[dict[str, object]] = []
    done = 0
    with worker_pool(jobs) as pool:
        for job in jobs_to_do:
            inputs = inputs_of(next(iter(job.configs.values())))
            finished, _ = run_cells(
                job.configs,
                CellStore(folder / job.cell.key / "cells", inputs),
                inputs=inputs,
                jobs=jobs,
                progress=shifted(progress, done, total),
                pool=pool,
            )
            done += len(job.configs)
            rows += _rows(job, {run: one["summary"] for run, one in finished.items()})
    return pd.DataFrame(rows, columns=list(RUN_COLUMNS))


def job_of(cell: SuiteCell, players: Mapping[str, Sequence[str]], seeds: Sequence[int]) -> Job:
    """Return the runs of all players at all seeds; equal words are run once."""
    words = dict.fromkeys(word for words in players.values() for word in words)
    schedulers = {word: scheduler_named(word) for word in words}
    configs = {(w, s): cell.run(schedulers[w], s) for w in words for s in seeds}
    return Job(cell=cell, players=players, configs=configs)


def _rows(
    job: Job, summaries: Mapping[tuple[str, int], Mapping[str, object]]
) -> list[dict[str, object]]:
    where = {"cell": job.cell.key, **{name: getattr(job.cell, name) for name in CELL_COLUMNS}}
    return [
        {**where, "policy": policy, "training": place, "seed": seed, **summary}
        for policy, words in job.players.items()
        for place, word in enumerate(words)
        for (played, seed), summary in summaries.items()
        if played == word
    ]


def shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Return a report of a part of a job: `before` is done of `total` when it begins."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
