"""What stands beside the suite: overload, scored by goodput, and shifts that nobody trained for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from agents.suite.cells import SuiteCell, setting
from agents.suite.definition import Change, Suite
from agents.suite.policies import STATIC_CELL, Policy
from agents.suite.runs import Job, job_of
from agents.suite.scores import logs_of, ratio_of, score_ratios, values_of
from agents.suite.swapped import swapped_run
from sbs_gym.config.run import RunConfig
from sbs_gym.config.timing import LinearTiming
from sbs_gym.errors import ConfigError

_NOT_TUNED = "not applicable: tuned for each cell of the suite, and this is none"


def overload_cells(suite: Suite) -> list[SuiteCell]:
    """Return the cells of the overload part, in the order of the file."""
    part = suite.overload
    if part is None:
        return []
    path = suite.path_named(part.path)
    found = []
    for name in part.workloads:
        for cell in part.cells:
            config = dataclasses.replace(
                setting(path.words, suite.workload(name).words, cell.words),
                load=cell.load,
                num_requests=None,
                horizon_s=cell.horizon_s,
            )
            found.append(_cell("overload", part.path, name, cell.load, cell.name, config))
    return found


def shift_cells(suite: Suite) -> list[tuple[SuiteCell, Change]]:
    """Return the cells of the shift table with their changes, changes outside."""
    part = suite.shifts
    if part is None:
        return []
    path, arrivals = suite.path_named(part.path), suite.arrival(part.arrivals)
    levels = {level.load: level.num_requests for level in path.loads}
    found = []
    for change in part.changes:
        for name in part.workloads:
            machine = (*path.words, *change.words)
            config = setting(machine, suite.workload(name).words, arrivals.words)
            for load in part.loads:
                if load not in levels:
                    raise ConfigError(f"suite.shifts.loads: {load:g} is no load of {path.name!r}")
                at_load = dataclasses.replace(
                    _changed(config, change), load=load, num_requests=levels[load]
                )
                cell = _cell("shift", part.path, name, load, part.arrivals, at_load)
                cell = dataclasses.replace(cell, change=change.name, fixed_s=change.fixed_s)
                found.append((cell, change))
    return found


def shift_jobs(
    suite: Suite,
    cell: SuiteCell,
    change: Change,
    players: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    folder: Path,
) -> list[Job]:
    """Return the runs of one shift; a swapped mix is a trace file for every seed, so a job each.

    Args:
        suite: For the other workload of a swap.
        cell: Where.
        change: Which shift it is.
        players: Policy to the words of its trainings.
        seeds: Workload seeds.
        folder: Where traces go.
    """
    if not change.swap:
        return [job_of(cell, players, seeds)]
    others = [
        name for name in (suite.shifts.workloads if suite.shifts else ()) if name != cell.workload
    ]
    if not others:
        raise ConfigError("suite.shifts: a swap needs two workloads")
    path, arrivals = suite.path_named(cell.path), suite.arrival(cell.arrivals)
    lengths = setting(path.words, suite.workload(others[0]).words, arrivals.words).workload
    other = dataclasses.replace(cell.config, workload=lengths)
    jobs = []
    for seed in seeds:
        config = swapped_run(cell.config, other, seed, folder / f"{cell.key}-{seed}.parquet")
        jobs.append(job_of(dataclasses.replace(cell, config=config), players, [seed]))
    return jobs


def players_of(
    policies: Sequence[Policy], suite: Suite, cell: SuiteCell
) -> tuple[dict[str, Sequence[str]], dict[str, str]]:
    """Return who plays a cell beside the suite, and why the others do not."""
    players: dict[str, Sequence[str]] = {}
    left_out: dict[str, str] = {}
    for policy in policies:
        if cell.path not in policy.paths(suite, [cell.path]):
            continue
        reason = policy.cannot_play(cell.config.cluster)
        if policy.name == STATIC_CELL:
            reason = _NOT_TUNED
        if reason:
            left_out[policy.name] = reason
        else:
            players[policy.name] = policy.words
    return players, left_out


def score_overload(runs: pd.DataFrame, suite: Suite) -> dict[str, Any]:
    """Return a cell of overload.json: goodput and SLO attainment, never mean TTFT."""
    metrics = suite.overload.metrics if suite.overload else ()
    policies: dict[str, Any] = {}
    for policy in dict.fromkeys(runs["policy"]):
        told: dict[str, Any] = {}
        for metric in metrics:
            found = ratio_of(logs_of(runs, policy, suite.baseline, metric))
            told[metric] = float(values_of(runs, policy, metric).mean())
            told |= {
                f"{metric}_ratio": found.ratio,
                f"{metric}_ratio_low": found.low,
                f"{metric}_ratio_high": found.high,
            }
        policies[policy] = told
    return {**_where(runs), "policies": policies}


def score_shift(runs: pd.DataFrame, cell: SuiteCell, suite: Suite) -> dict[str, Any]:
    """Return a cell of shift.json: ratios to the baseline under the same shift."""
    policies = {
        policy: score_ratios(runs, policy, suite.baseline)
        for policy in dict.fromkeys(runs["policy"])
    }
    return {**_where(runs), "change": cell.change, "fixed_s": cell.fixed_s, "policies": policies}


def _where(runs: pd.DataFrame) -> dict[str, Any]:
    first = runs.iloc[0]
    return {name: first[name] for name in ("cell", "path", "workload", "load", "arrivals")}


def _cell(
    part: str, path: str, workload: str, load: float, arrivals: str, config: RunConfig
) -> SuiteCell:
    return SuiteCell(
        part=part, path=path, workload=workload, load=load, arrivals=arrivals, config=config
    )


def _changed(config: RunConfig, change: Change) -> RunConfig:
    """Return the run with the changes of its timing that words cannot say."""
    timing = config.timing
    if change.fixed_s is None and change.per_token_factor is None:
        return config
    if not isinstance(timing, LinearTiming):
        raise ConfigError(f"suite.shifts: {change.name!r} needs timing=linear, not {timing.kind!r}")
    per_token_s = timing.per_token_s * (change.per_token_factor or 1.0)
    fixed_s = timing.fixed_s
    if change.fixed_s is not None:
        chunk = config.cluster.chunk_tokens
        per_token_s = (timing.fixed_s + per_token_s * chunk - change.fixed_s) / chunk
        fixed_s = change.fixed_s
    return dataclasses.replace(
        config, timing=dataclasses.replace(timing, fixed_s=fixed_s, per_token_s=per_token_s)
    )
