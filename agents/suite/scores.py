"""What the runs of a suite say: ratios per cell, which cells count, and the headline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from agents.statistics import (
    Array,
    Ratio,
    log_ratios,
    mean_ratio,
    median_place,
    nested_ratio,
    share_above,
    tail_ratio,
    variation,
)
from agents.suite.definition import Admission, Suite
from agents.suite.policies import STATIC_GLOBAL
from sbs_gym.metrics.columns import SUMMARY_KEYS

RATIOS = {
    "ttft": "ttft_mean_s",
    "ttft_p99": "ttft_p99_s",
    "throughput": "requests_per_s",
    "tpot": "tpot_mean_s",
    "goodput": "goodput_per_s",
}
WORSE_BY = 0.01
BETTER_RIVAL = "better_rival"


def values_of(runs: pd.DataFrame, policy: str, metric: str) -> Array:
    """Return a metric of a policy in one cell, shape (trainings, seeds), seeds in order."""
    rows = runs[runs["policy"] == policy]
    grid = rows.pivot(index="training", columns="seed", values=metric)
    return grid.to_numpy(dtype=float)


def logs_of(runs: pd.DataFrame, policy: str, base: str, metric: str) -> Array:
    """Return log ratios of a policy to another in one cell, shape (trainings, seeds)."""
    return log_ratios(values_of(runs, policy, metric), values_of(runs, base, metric)[:1])


def ratio_of(logs: Array, *, tail: bool = False) -> Ratio:
    """Return a ratio with the interval that its kind asks for: see `agents.statistics`."""
    if len(logs) > 1:
        return nested_ratio(logs)
    return tail_ratio(logs[0]) if tail else mean_ratio(logs[0])


def score_cell(runs: pd.DataFrame, suite: Suite) -> dict[str, Any]:
    """Return a cell of suite.json.

    Args:
        runs: The rows of one cell.
        suite: Names of the baseline and the rule of admission.
    """
    first = runs.iloc[0]
    reasons, facts = admission(runs, suite.baseline, suite.blind, suite.admission)
    return {
        **{name: first[name] for name in ("cell", "part", "path", "workload", "load", "arrivals")},
        "admitted": not reasons,
        "reasons": reasons,
        **facts,
        "policies": {
            policy: _policy(runs, policy, suite.baseline)
            for policy in dict.fromkeys(runs["policy"])
        },
    }


def admission(
    runs: pd.DataFrame, baseline: str, blind: str, rule: Admission
) -> tuple[list[str], dict[str, float]]:
    """Return why a cell does not count, nothing if it does, and the two numbers this rests on."""
    cv = variation(values_of(runs, baseline, "ttft_mean_s")[0])
    ratio = mean_ratio(logs_of(runs, blind, baseline, "ttft_mean_s")[0]).ratio
    reasons = []
    if not cv < rule.cv_below:
        told = "one seed shows no spread" if math.isnan(cv) else f"spread {cv:.3f} over seeds"
        reasons.append(f"{told}; expected below {rule.cv_below:g}")
    if not abs(ratio - 1.0) > rule.differs_by_frac:
        reasons.append(
            f"{blind} is at {ratio:.3f} of {baseline}; expected more than "
            f"{rule.differs_by_frac:g} away"
        )
    return reasons, {"baseline_cv": cv, "blind_ratio": ratio}


def score_ratios(runs: pd.DataFrame, policy: str, baseline: str) -> dict[str, float]:
    """Return the ratios of a policy to the baseline in one cell, with their intervals."""
    told: dict[str, float] = {}
    for name, metric in RATIOS.items():
        logs = logs_of(runs, policy, baseline, metric)
        told |= _named(f"{name}_ratio", ratio_of(logs, tail=name == "ttft_p99"))
    return told


def _policy(runs: pd.DataFrame, policy: str, baseline: str) -> dict[str, Any]:
    rows = runs[runs["policy"] == policy]
    means = rows[[key for key in SUMMARY_KEYS if rows[key].dtype.kind in "bif"]].mean()
    return {
        "num_seeds": int(rows["seed"].nunique()),
        "num_trainings": int(rows["training"].nunique()),
        **score_ratios(runs, policy, baseline),
        **{str(key): float(value) for key, value in means.items()},
    }


def headline(
    runs: pd.DataFrame, cells: Sequence[Mapping[str, Any]], suite: Suite
) -> dict[str, Any]:
    """Return path -> policy -> what it is over the admitted cells, and over each part of them.

    A ratio over cells is the geometric mean; its interval rests on seeds: per seed the mean over
    cells first, because a seed means the same luck in every cell.
    """
    by_cell = dict(list(runs.groupby("cell", sort=False)))
    told: dict[str, Any] = {}
    for path in dict.fromkeys(cell["path"] for cell in cells):
        here = [cell for cell in cells if cell["path"] == path and cell["admitted"]]
        policies = dict.fromkeys(p for c in cells if c["path"] == path for p in c["policies"])
        told[path] = {
            policy: {
                **_over(policy, here, by_cell, suite),
                "parts": {
                    part: _over(policy, [c for c in here if c["part"] == part], by_cell, suite)
                    for part in dict.fromkeys(cell["part"] for cell in here)
                },
            }
            for policy in policies
        }
    return told


def _over(
    policy: str,
    cells: Sequence[Mapping[str, Any]],
    by_cell: Mapping[Any, pd.DataFrame],
    suite: Suite,
) -> dict[str, Any]:
    if not cells:
        return {"num_cells": 0}
    runs = [by_cell[cell["cell"]] for cell in cells]
    told: dict[str, Any] = {"num_cells": len(cells)}
    for name, prefix in (("ttft", ""), ("tpot", "tpot_")):
        told |= _worst(cells, policy, name, prefix, suite.baseline)
    for name, metric in RATIOS.items():
        grid = _mean_over_cells([logs_of(one, policy, suite.baseline, metric) for one in runs])
        told |= _named(f"{name}_ratio", ratio_of(grid, tail=name == "ttft_p99"))
        if name == "ttft" and len(grid) > 1:
            told["median_training"] = _median(grid)
    rivals = {BETTER_RIVAL: [_better(one, suite) for one in runs]}
    if policy != STATIC_GLOBAL and STATIC_GLOBAL in cells[0]["policies"]:
        rivals[STATIC_GLOBAL] = [STATIC_GLOBAL] * len(runs)
    for rival, bases in rivals.items():
        logs = [
            logs_of(one, policy, base, "ttft_mean_s") for one, base in zip(runs, bases, strict=True)
        ]
        told |= _named(f"ttft_ratio_to_{rival}", ratio_of(_mean_over_cells(logs)))
        per_cell = [ratio_of(one).ratio for one in logs]
        told[f"share_worse_than_{rival}"] = share_above(per_cell, WORSE_BY)
    return told


def _worst(
    cells: Sequence[Mapping[str, Any]], policy: str, name: str, prefix: str, baseline: str
) -> dict[str, Any]:
    """Return the worst cell and the share that is worse than the baseline; nothing without both."""
    ratios = np.array([cell["policies"][policy][f"{name}_ratio"] for cell in cells])
    if np.isnan(ratios).all():
        return {}
    worst = int(np.nanargmax(ratios))
    return {
        f"{prefix}worst_cell": cells[worst]["cell"],
        f"{prefix}worst_ratio": float(ratios[worst]),
        f"{prefix}share_worse_than_{baseline}": share_above(list(ratios), WORSE_BY),
    }


def _better(runs: pd.DataFrame, suite: Suite) -> str:
    """Return the better of the baseline and its rival in a cell; the baseline where they tie."""
    mean = np.nanmean(logs_of(runs, suite.budget_rival, suite.baseline, "ttft_mean_s"))
    return suite.budget_rival if mean < 0.0 else suite.baseline


def _median(grid: Array) -> dict[str, Any]:
    means = np.nanmean(grid, axis=1)
    place = median_place(list(means))
    return {"training": place, **_named("ttft_ratio", mean_ratio(grid[place]))}


def _mean_over_cells(logs: Sequence[Array]) -> Array:
    return np.asarray(np.mean(np.stack(logs), axis=0))


def _named(name: str, found: Ratio) -> dict[str, float]:
    return {name: found.ratio, f"{name}_low": found.low, f"{name}_high": found.high}
