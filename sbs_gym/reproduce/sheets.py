"""Tables of a chapter that several studies share: means by load, changes against a base."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from sbs_gym.report.style import ABSENT, milliseconds, percent
from sbs_gym.report.sweep_plot import SweepPanel
from sbs_gym.reproduce.panels import Panel
from sbs_gym.reproduce.ratios import (
    TTFT,
    Base,
    by_load,
    means,
    ratio_over_loads,
    steady_rows,
)
from sbs_gym.reproduce.study import Sheet
from sbs_gym.reproduce.text import change

Write = Callable[[float], str]
GREW = "*"


def level_rows(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return mean and interval over seeds for every panel, load and scheduler, with its rate."""
    by = ["panel", "load", "scheduler"]
    found = means(runs, metric, by)
    beside = runs.groupby(by, sort=False)[["rate_per_s", "overloaded"]].mean().reset_index()
    return found.merge(beside, on=by).rename(columns={"overloaded": "overloaded_frac"})


def sweep_panels(
    panels: Sequence[Panel], runs: pd.DataFrame, metric: str, over: str = "rate_per_s"
) -> list[SweepPanel]:
    """Return what `sweeps_figure` draws: a metric against the rate, or another column."""
    rows = level_rows(runs, metric).assign(x=lambda found: found[over])
    rows["family"] = rows["scheduler"].map(
        dict(zip(runs["scheduler"], runs["family"], strict=True))
    )
    label = "arrivals (requests/s)" if over == "rate_per_s" else "load (fraction of capacity)"
    return [
        SweepPanel(title=panel.title, x_label=label, rows=rows[rows["panel"] == panel.name])
        for panel in panels
    ]


def level_sheet(
    panel: Panel, runs: pd.DataFrame, metric: str, name: str, title: str, write: Write
) -> Sheet:
    """Return a metric of every scheduler of a panel, loads across; `*` where TTFT still grew."""
    frame = level_rows(runs[runs["panel"] == panel.name], metric)
    loads = list(dict.fromkeys(frame["load"]))
    rates = {load: frame.loc[frame["load"] == load, "rate_per_s"].mean() for load in loads}
    rows = []
    for scheduler, of in frame.groupby("scheduler", sort=False):
        cells = [
            write(mean) + GREW * (grew > 0)
            for mean, grew in zip(of["mean"], of["overloaded_frac"], strict=True)
        ]
        rows.append((str(scheduler), *cells))
    columns = ["scheduler", *(f"load {load:.2g} ({rates[load]:.0f}/s)" for load in loads)]
    return Sheet(name=name, title=title, columns=columns, rows=rows, frame=frame)


def changes_frame(
    runs: pd.DataFrame, base: Base, metric: str = TTFT, steady: bool = True
) -> pd.DataFrame:
    """Return the ratio of every scheduler to the base, for every panel and load and over them.

    Columns: `panel`, `scheduler`, `load` (NaN: the geometric mean over loads), `base`, `ratio`,
    `low`, `high`. A load without a steady mean of both is left out, unless `steady` is False.
    """
    rows: list[tuple[object, ...]] = []
    for panel, of in runs.groupby("panel", sort=False):
        for scheduler in dict.fromkeys(of["scheduler"]):
            for load, at in by_load(of):
                one = ratio_over_loads(at, str(scheduler), base, metric, steady)
                name = next(iter(one.bases.values()), None)
                rows.append((panel, scheduler, load, name, one.value, one.low, one.high))
            whole = ratio_over_loads(of, str(scheduler), base, metric, steady)
            rows.append((panel, scheduler, None, None, whole.value, whole.low, whole.high))
    columns = ["panel", "scheduler", "load", "base", "ratio", "low", "high"]
    return pd.DataFrame(rows, columns=columns).astype({"load": float})


def changes_sheet(
    panels: Sequence[Panel],
    frame: pd.DataFrame,
    name: str,
    title: str,
    leave_out: Callable[[str], bool],
) -> Sheet:
    """Return changes in per cent, panel and scheduler down, loads across, the mean last."""
    loads = sorted(frame["load"].dropna().unique())
    rows = []
    for panel in panels:
        for scheduler, of in frame[frame["panel"] == panel.name].groupby("scheduler", sort=False):
            if leave_out(str(scheduler)):
                continue
            at = {float(row["load"]): row for _, row in of.iterrows() if row["load"] == row["load"]}
            cells = [_change(at[load]) if load in at else ABSENT for load in loads]
            whole = _change(of[of["load"].isna()].iloc[0])
            rows.append((f"{panel.title}: {scheduler}", *cells, whole))
    columns = ["setting: scheduler", *(f"load {load:.2g}" for load in loads), "over loads"]
    return Sheet(name=name, title=title, columns=columns, rows=rows, frame=frame)


def overloaded_places(panels: Sequence[Panel], runs: pd.DataFrame) -> list[str]:
    """Return a line for every panel and load at which schedulers have no steady mean."""
    lines = []
    titles = {panel.name: panel.title for panel in panels}
    for panel, of in runs.groupby("panel", sort=False):
        for load, rows in by_load(of):
            steady = set(steady_rows(rows)["scheduler"])
            grew = [name for name in dict.fromkeys(rows["scheduler"]) if name not in steady]
            if grew:
                lines.append(
                    f"{titles[str(panel)]}, load {load:.2g}: {', '.join(grew)} (TTFT grew in at "
                    "least half of the seeds: no steady mean, left out of ratios)"
                )
    return lines


def write_ms(seconds: float) -> str:
    """Return seconds in ms."""
    return milliseconds(seconds)


def write_percent(fraction: float) -> str:
    """Return a fraction in per cent."""
    return percent(fraction)


def _change(row: pd.Series) -> str:
    return change(float(row["ratio"]), float(row["low"]), float(row["high"]))
