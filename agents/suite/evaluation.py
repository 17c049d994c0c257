"""An evaluation from its request to its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pandas as pd

from agents.suite import beside, static_search
from agents.suite.cells import SuiteCell, suite_cells
from agents.suite.policies import STATIC_CELL, STATIC_GLOBAL, Policy, with_references
from agents.suite.request import Request, check, chosen_cells
from agents.suite.runs import Job, job_of, play
from agents.suite.scores import headline, score_cell
from sbs_gym import artifacts
from sbs_gym.cells import Progress
from sbs_gym.result import code_digest, versions_of

_PACKAGES = ("sbs-gym", "numpy", "numba", "scipy", "pandas")
Told = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        suite, overload, shift: Contents of suite.json, overload.json and shift.json; None where
            it was not asked for.
        runs: One row per cell, policy, training and seed, with the keys of the summary.
    """

    suite: dict[str, Any] | None
    overload: dict[str, Any] | None
    shift: dict[str, Any] | None
    runs: pd.DataFrame


def evaluate(request: Request, told: Told) -> Evaluation:
    """Return the evaluation; finished runs and searches are kept in its directories.

    Args:
        request: What is asked for.
        told: Makes the progress report of a stage from its name.

    Raises:
        ConfigError: As `check`, before any run.
    """
    check(request)
    config = artifacts.yaml_writer(request.config())
    artifacts.write_all(request.output_dir, {artifacts.CONFIG_FILE: config})
    policies, chosen = _with_constants(request, told)
    shared = _shared(request, policies, chosen)
    suite = overload = shift = None
    runs: list[pd.DataFrame] = []
    if "suite" in request.tables:
        suite, found = _suite(request, policies, chosen, told)
        suite = shared | suite
        runs.append(found)
    if "overload" in request.tables and request.suite.overload is not None:
        overload, found = _overload(request, policies, told)
        overload = shared | overload
        runs.append(found)
    if "shift" in request.tables and request.suite.shifts is not None:
        shift, found = _shift(request, policies, told)
        shift = shared | shift
        runs.append(found)
    together = pd.concat(runs, ignore_index=True) if runs else pd.DataFrame()
    return Evaluation(suite=suite, overload=overload, shift=shift, runs=together)


def _with_constants(
    request: Request, told: Told
) -> tuple[list[Policy], static_search.Chosen | None]:
    """Return all policies, static_global with its word, and what the search found if it ran."""
    policies = with_references(request.policies, request.suite)
    asked = {policy.name for policy in policies if policy.is_static}
    if not asked:
        return policies, None
    suite, search = request.suite, request.suite.static
    train = suite_cells(suite, [search.path], "train")
    wanted = {cell.key: cell for cell in train if STATIC_GLOBAL in asked}
    if STATIC_CELL in asked and "suite" in request.tables:
        wanted |= {cell.key: cell for cell in chosen_cells(request, [search.path])}
    first, last = suite.splits["validation"]
    seeds = range(first, min(first + search.num_seeds, last + 1))
    words = static_search.candidates(search)
    with told("tuning constants") as progress:
        found = static_search.search_cells(
            list(wanted.values()),
            words,
            seeds,
            request.static_dir,
            jobs=request.jobs,
            progress=progress,
        )
    keys = [cell.key for cell in train if cell.key in found]
    chosen = static_search.choose(found, keys, seeds)
    named = [
        dataclasses.replace(policy, words=(chosen.overall,))
        if policy.name == STATIC_GLOBAL
        else policy
        for policy in policies
    ]
    return named, chosen


def _suite(
    request: Request,
    policies: Sequence[Policy],
    chosen: static_search.Chosen | None,
    told: Told,
) -> tuple[dict[str, Any], pd.DataFrame]:
    cells = chosen_cells(request, request.paths)
    jobs = [
        job_of(cell, _players(policies, request, cell, chosen), request.seeds) for cell in cells
    ]
    runs = _play(request, jobs, "suite", told)
    by_cell = dict(list(runs.groupby("cell", sort=False)))
    scored = [score_cell(by_cell[cell.key], request.suite) for cell in cells]
    return {
        "part": request.suite.part,
        "paths": request.paths,
        "num_not_admitted": sum(not cell["admitted"] for cell in scored),
        "headline": headline(runs, scored, request.suite),
        "cells": scored,
    }, runs


def _players(
    policies: Sequence[Policy],
    request: Request,
    cell: SuiteCell,
    chosen: static_search.Chosen | None,
) -> dict[str, Sequence[str]]:
    here = [policy for policy in policies if policy.paths(request.suite, [cell.path])]
    return {
        policy.name: (chosen.per_cell[cell.key],)
        if policy.name == STATIC_CELL and chosen is not None
        else policy.words
        for policy in here
    }


def _overload(
    request: Request, policies: Sequence[Policy], told: Told
) -> tuple[dict[str, Any], pd.DataFrame]:
    jobs, left_out = [], {}
    for cell in beside.overload_cells(request.suite):
        players, reasons = beside.players_of(policies, request.suite, cell)
        left_out[cell.key] = reasons
        jobs.append(job_of(cell, players, request.seeds))
    runs = _play(request, jobs, "overload", told)
    scored = [
        {**beside.score_overload(rows, request.suite), "not_applicable": left_out[str(key)]}
        for key, rows in runs.groupby("cell", sort=False)
    ]
    return {"cells": scored}, runs


def _shift(
    request: Request, policies: Sequence[Policy], told: Told
) -> tuple[dict[str, Any], pd.DataFrame]:
    jobs: list[Job] = []
    cells, left_out = {}, {}
    for cell, change in beside.shift_cells(request.suite):
        players, left_out[cell.key] = beside.players_of(policies, request.suite, cell)
        cells[cell.key] = cell
        traces = request.output_dir / "traces"
        jobs += beside.shift_jobs(request.suite, cell, change, players, request.seeds, traces)
    runs = _play(request, jobs, "shift", told)
    scored = [
        {
            **beside.score_shift(rows, cells[str(key)], request.suite),
            "not_applicable": left_out[str(key)],
        }
        for key, rows in runs.groupby("cell", sort=False)
    ]
    return {"cells": scored}, runs


def _play(request: Request, jobs: Sequence[Job], what: str, told: Told) -> pd.DataFrame:
    with told(what) as progress:
        return play(jobs, request.output_dir / "runs", jobs=request.jobs, progress=progress)


def _shared(
    request: Request, policies: Sequence[Policy], chosen: static_search.Chosen | None
) -> dict[str, Any]:
    """Return what all three files begin with."""
    static = None if chosen is None else dataclasses.asdict(chosen)
    return {
        "name": request.suite.name,
        "split": request.split,
        "seeds": list(request.seeds),
        "policies": {policy.name: _described(policy) for policy in policies},
        "static": static,
        "versions": {**versions_of(_PACKAGES), "code_digest": code_digest()},
        "config": request.config(),
    }


def _described(policy: Policy) -> Mapping[str, Any]:
    return {
        "words": list(policy.words),
        "tasks": list(policy.tasks),
        "weights": {str(path): artifacts.file_digest(path) for path in policy.weights},
    }
