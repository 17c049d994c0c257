"""A comparison at several loads as tables of 80 columns: schedulers down, loads across."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from rich.table import Table

from sbs_gym.report.style import difference, milliseconds, number
from sbs_gym.report.tables import number_table

BETTER, OVERLOADED = "†", "*"
TTFT = "ttft_mean_s"
# Key of the summary: how it is called, its unit in a table, how a number is written.
METRICS: dict[str, tuple[str, str, Callable[[float], str]]] = {
    TTFT: ("mean TTFT", "ms", milliseconds),
    "tpot_mean_s": ("mean TPOT", "ms", milliseconds),
    "goodput_per_s": ("goodput", "requests/s that met the SLO", number),
}
Ratio = Callable[[float, str, str], tuple[float, float, float]]


def means_table(
    table: pd.DataFrame,
    better: Mapping[float, str | None],
    num_seeds: int,
    metric: str = TTFT,
) -> Table:
    """Return a metric of every scheduler at every load, mean over seeds; a latency in ms.

    Args:
        table: One row per load and scheduler: `load`, `scheduler`, the metric, `overloaded_frac`.
        better: Load to the immediate scheduler that gets the mark of the better one.
        num_seeds: Seeds that the means are taken over.
        metric: One of METRICS.
    """
    name_of_metric, unit, write = METRICS[metric]
    rows = []
    for name in dict.fromkeys(table["scheduler"]):
        cells = []
        for load in better:
            at = (table["scheduler"] == name) & (table["load"] == load)
            row = table[at].iloc[0]
            marks = OVERLOADED * bool(row["overloaded_frac"] > 0) + BETTER * (better[load] == name)
            cells.append(write(float(row[metric])) + marks)
        rows.append((str(name), *cells))
    title = f"{name_of_metric} ({unit}, mean over {num_seeds} seeds)"
    return number_table(title, ("scheduler", *_headings(better)), rows)


def legend(table: pd.DataFrame, better: Mapping[float, str | None]) -> list[str]:
    """Return what the marks of `means_table` mean, as far as they occur."""
    lines = []
    if any(better.values()):
        by = ", by mean TTFT" if has_decode(table) else ""
        lines.append(
            f"{BETTER} the better of the schedulers that dispatch at once, at that load{by}"
        )
    if (table["overloaded_frac"] > 0).any():
        lines.append(f"{OVERLOADED} TTFT grows over the run in at least one seed: overloaded")
    return lines


def has_decode(table: pd.DataFrame) -> bool:
    """Return whether the rows hold TPOT, so that decode was modelled."""
    return "tpot_mean_s" in table and bool(table["tpot_mean_s"].notna().any())


def differences_table(
    title: str, schedulers: Sequence[str], bases: Mapping[float, str], ratio: Ratio
) -> Table:
    """Return differences of a metric in per cent, each ± half of its 95 % interval.

    Args:
        title: Whom the schedulers are compared with.
        schedulers: Rows.
        bases: Load to the scheduler that is compared with there.
        ratio: Returns the ratio (load, scheduler, base) and its interval.
    """
    rows = []
    for name in schedulers:
        rows.append((name, *(difference(*ratio(at, name, base)) for at, base in bases.items())))
    return number_table(title, ("scheduler", *_headings(bases)), rows)


def _headings(loads: Mapping[float, object]) -> list[str]:
    return [f"load {load:g}" for load in loads]
