"""The rates that bisection found, as a table: one row per panel, scheduler and seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from sbs_gym.report.style import ABSENT, number, percent
from sbs_gym.reproduce.panels import Panel
from sbs_gym.reproduce.ratios import named, ratio_over_loads
from sbs_gym.reproduce.study import Sheet
from sbs_gym.reproduce.text import change
from sbs_gym.slo_capacity import SloCapacity

RATE, UTILISATION = "capacity_per_s", "chunk_utilisation_frac"
_KEPT = (UTILISATION, "ttft_attainment_frac", "tpot_attainment_frac", "kv_load_std_tokens")


def capacity_rows(panel: Panel, found: SloCapacity) -> pd.DataFrame:
    """Return the rates of a panel; NaN where a search found none."""
    rows = []
    for (name, seed), search in found.searches.items():
        summary = found.summaries[name, seed]
        rows.append(
            {
                "panel": panel.name,
                "load": math.nan,
                "scheduler": name,
                "seed": seed,
                "immediate": found.configs[name].scheduler.release == "immediate",
                "overloaded": False,
                RATE: math.nan if search.rate_per_s is None else search.rate_per_s,
                "outcome": search.outcome,
                "fluid_per_s": found.fluid_per_s,
                **{key: summary.get(key, math.nan) for key in _KEPT},
            }
        )
    return pd.DataFrame(rows)


def complete_rows(panel: Panel, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a panel of schedulers that have a rate in every seed."""
    of = rows[rows["panel"] == panel.name]
    without = set(of.loc[of[RATE].isna(), "scheduler"])
    return of[~of["scheduler"].isin(without)]


def capacity_sheet(panel: Panel, rows: pd.DataFrame) -> Sheet:
    """Return rates, their loads and what holds at them, one line per scheduler."""
    of = rows[rows["panel"] == panel.name]
    first = str(of["scheduler"].iloc[0])
    lines = []
    for name, group in of.groupby("scheduler", sort=False):
        one = ratio_over_loads(complete_rows(panel, rows), str(name), named(first), RATE)
        known = group[RATE].notna().all()
        lines.append(
            (
                str(name),
                number(float(group[RATE].mean())) if known else ABSENT,
                number(float((group[RATE] / group["fluid_per_s"]).mean()), 2) if known else ABSENT,
                ABSENT if name == first else change(one.value, one.low, one.high),
                percent(float(group["ttft_attainment_frac"].mean())),
                percent(float(group["tpot_attainment_frac"].mean())),
                percent(float(group[UTILISATION].mean())),
            )
        )
    return Sheet(
        name=f"capacity_{panel.name}",
        title=f"largest rate within the SLO, {panel.title}, mean over {panel.seeds} seeds; change "
        f"against {first} in % with half its 95 % interval; the other columns are at that rate",
        columns=("scheduler", "requests/s", "load", "change %", "TTFT %", "TPOT %", "chunk use %"),
        rows=lines,
        frame=of,
    )


def without_rate(panels: Sequence[Panel], rows: pd.DataFrame) -> list[str]:
    """Return a line for every scheduler that has no rate in some seed, with the reason."""
    titles = {panel.name: panel.title for panel in panels}
    missing = rows[rows[RATE].isna()]
    return [
        f"{titles[str(panel)]}: {name}, {len(of)} seeds without a rate ({outcome})"
        for (panel, name, outcome), of in missing.groupby(
            ["panel", "scheduler", "outcome"], sort=False
        )
    ]
