"""Ratios over tables of runs: paired by seed, over the loads at which both sides are steady."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sbs_gym.metrics.intervals import mean_interval
from sbs_gym.reproduce.claims import Measured

TTFT = "ttft_mean_s"
BLIND = "round_robin"  # the immediate scheduler that looks at nothing
_NO_LOAD = 0.0  # where the rate is searched or given
_GREW = 0.5  # of the seeds: from here on a scheduler counts as overloaded at a load
Base = Callable[[pd.DataFrame], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A geometric mean of ratios over loads, with Student's 95 % interval over seeds.

    Attributes:
        value, low, high: The ratio and the ends of its interval; NaN where there is none.
        bases: Load to the scheduler divided by.
        left_out: Loads at which a side is overloaded or missing, so that no mean is steady.
    """

    value: float
    low: float
    high: float
    bases: dict[float, str]
    left_out: tuple[float, ...]

    @property
    def loads(self) -> list[float]:
        """Return the loads that count."""
        return list(self.bases)

    def reduction(self) -> Measured:
        """Return 1 - ratio."""
        return Measured(value=1 - self.value, low=1 - self.high, high=1 - self.low)

    def rise(self) -> Measured:
        """Return ratio - 1."""
        return Measured(value=self.value - 1, low=self.low - 1, high=self.high - 1)


def ratio_over_loads(
    runs: pd.DataFrame, scheduler: str, base: Base, metric: str = TTFT, steady: bool = True
) -> Ratio:
    """Return the ratio of a metric, scheduler over base, as the mean of its logarithm over loads.

    For every seed the logarithms are averaged over the loads; the interval is that of these means,
    so that it holds what loads of one seed share.

    Args:
        runs: Rows of one panel: `load`, `scheduler`, `seed`, `immediate`, `overloaded`, metrics.
        scheduler: Whose metric is divided.
        base: Names the scheduler divided by, from the rows of one load; None leaves the load out.
        metric: Column.
        steady: Whether loads count only where both are steady.
    """
    bases: dict[float, str] = {}
    logs: list[pd.Series] = []
    left_out = []
    for load, rows in by_load(runs):
        known = steady_rows(rows) if steady else rows
        name = base(known)
        if name is None or scheduler not in set(known["scheduler"]):
            left_out.append(load)
            continue
        bases[load] = name
        logs.append(_log_ratio(known, scheduler, name, metric))
    value, low, high = _interval(logs)
    return Ratio(value=value, low=low, high=high, bases=bases, left_out=tuple(left_out))


def by_load(runs: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    """Return the loads of the rows with their rows, in order; a load that is NaN is 0."""
    loads = dict.fromkeys(runs["load"].fillna(_NO_LOAD).tolist())
    known = runs["load"].fillna(_NO_LOAD)
    return [(float(load), runs[known == load]) for load in loads]


def steady_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows, of one load, of schedulers that are not overloaded there."""
    grew = rows.groupby("scheduler")["overloaded"].mean()
    return rows[rows["scheduler"].map(grew) < _GREW]


def best_immediate(rows: pd.DataFrame, metric: str = TTFT, highest: bool = False) -> str | None:
    """Return the immediate scheduler with the best mean of a metric; None without any.

    Args:
        rows: Of one load.
        metric: Column; the lowest mean is the best,
        highest: unless this is set.
    """
    means = rows[rows["immediate"]].groupby("scheduler", sort=False)[metric].mean().dropna()
    if means.empty:
        return None
    return str(means.idxmax() if highest else means.idxmin())


def best_of(names: Sequence[str]) -> Base:
    """Return the base that is the immediate scheduler with the lowest mean TTFT among the names."""
    return lambda rows: best_immediate(rows[rows["scheduler"].isin(names)])


def named(scheduler: str) -> Base:
    """Return the base that is always the same scheduler, where it is among the rows."""
    return lambda rows: scheduler if scheduler in set(rows["scheduler"]) else None


def means(runs: pd.DataFrame, metric: str, by: Sequence[str]) -> pd.DataFrame:
    """Return mean, low and high of a metric over seeds, one row per group, in order of runs."""
    rows = [
        (*(key if isinstance(key, tuple) else (key,)), *mean_interval(group[metric]))
        for key, group in runs.groupby(list(by), sort=False, dropna=False)
    ]
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high"])


def _log_ratio(rows: pd.DataFrame, scheduler: str, base: str, metric: str) -> pd.Series:
    values = rows.pivot(index="seed", columns="scheduler", values=metric)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values[scheduler].to_numpy(float) / values[base].to_numpy(float))
    return pd.Series(logs, index=values.index)


def _interval(logs: Sequence[pd.Series]) -> tuple[float, float, float]:
    if not logs:
        return math.nan, math.nan, math.nan
    per_seed = pd.concat(logs, axis=1).mean(axis=1, skipna=False)
    mean, low, high = mean_interval(per_seed.to_numpy())
    return math.exp(mean), math.exp(low), math.exp(high)
