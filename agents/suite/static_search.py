"""The best constants: one window and budget for all cells, and one for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.suite.cells import SuiteCell
from agents.suite.definition import StaticSearch
from agents.suite.runs import shifted
from sbs_gym import artifacts
from sbs_gym.cells import Progress, inputs_of, run_cells, worker_pool
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.envs.config import scheduler_named
from sbs_gym.errors import ConfigError
from sbs_gym.result import code_digest

Found = dict[str, list[float]]  # candidate to mean TTFT per seed, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a search found.

    Attributes:
        overall: The word of static_global.
        per_cell: Cell key to the word of static_cell.
        seeds: Seeds it was tuned on.
    """

    overall: str
    per_cell: Mapping[str, str]
    seeds: Sequence[int]


def candidates(search: StaticSearch) -> list[str]:
    """Return the words of all pairs of window and budget, budgets inside windows, full chunk last.

    A pair is what a constant action of SBS/WindowBudget does: the budget is that share of the
    buffer and the instance's leftovers per rank at the release.
    """
    budgets = [
        f":budget=backlog:alpha={share:g}:floor_tokens={search.floor_tokens}"
        for share in search.shares
    ]
    return [
        f"{search.scheduler}:multiplier={multiplier:g}{budget}"
        for multiplier in search.multipliers
        for budget in [*budgets, ""]
    ]


def search_cells(
    cells: Sequence[SuiteCell],
    words: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    *,
    jobs: int,
    progress: Progress | None,
) -> dict[str, Found]:
    """Return the mean TTFT of every candidate in every cell, one file per finished cell.

    Args:
        cells: Where to search.
        words: The candidates.
        seeds: Of the validation split.
        folder: Where finished cells are kept.
        jobs: Processes.
        progress: Called with (runs done, runs in all).
    """
    schedulers = {word: scheduler_named(word) for word in words}
    per_cell = len(words) * len(seeds)
    found: dict[str, Found] = {}
    with worker_pool(jobs) as pool:
        for place, cell in enumerate(cells):
            path = folder / f"{cell.key}-{_digest(cell, schedulers, seeds)}.json"
            if not path.is_file():
                configs = {(w, s): cell.run(schedulers[w], s) for w in words for s in seeds}
                finished, _ = run_cells(
                    configs,
                    None,
                    inputs=inputs_of(cell.config),
                    jobs=jobs,
                    progress=shifted(progress, place * per_cell, len(cells) * per_cell),
                    pool=pool,
                )
                means = {
                    w: [finished[w, s]["summary"]["ttft_mean_s"] for s in seeds] for w in words
                }
                artifacts.write_all(folder, {path.name: artifacts.json_writer(means)})
            found[cell.key] = artifacts.read_json(path)
    if progress is not None:
        progress(len(cells) * per_cell, len(cells) * per_cell)
    return found


def choose(found: Mapping[str, Found], train: Sequence[str], seeds: Sequence[int]) -> Chosen:
    """Return the pair with the smallest geometric mean over the train cells, and the best per cell.

    Args:
        found: Cell key to candidate to mean TTFT per seed, seconds.
        train: Keys of the train part.
        seeds: What was searched.

    Raises:
        ConfigError: If there is no train cell to tune on.
    """
    if not train:
        raise ConfigError("static_global is tuned on the train part, and the suite has none there")
    logs = {key: _mean_logs(found[key]) for key in found}
    overall = {word: float(np.mean([logs[key][word] for key in train])) for word in logs[train[0]]}
    best = min(overall, key=overall.__getitem__)
    return Chosen(
        overall=best,
        per_cell={key: min(one, key=one.__getitem__) for key, one in logs.items()},
        seeds=list(seeds),
    )


def _mean_logs(found: Found) -> dict[str, float]:
    # A candidate with a seed without any first token is worse than every other.
    means = {word: float(np.mean(np.log(np.asarray(v, dtype=float)))) for word, v in found.items()}
    return {word: np.inf if np.isnan(mean) else mean for word, mean in means.items()}


def _digest(
    cell: SuiteCell, schedulers: Mapping[str, SchedulerConfig], seeds: Sequence[int]
) -> str:
    runs = [cell.run(scheduler, seeds[0]).digest() for scheduler in schedulers.values()]
    told = [runs, list(seeds), inputs_of(cell.config), code_digest()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
