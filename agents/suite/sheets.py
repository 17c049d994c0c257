"""Tables of an evaluation, each once: printed in the terminal and written as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from agents.suite.policies import STATIC_GLOBAL
from agents.suite.scores import BETTER_RIVAL
from sbs_gym.report.style import ABSENT, number, percent
from sbs_gym.report.tables import number_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table of words: a title, headings, rows whose first cell is a name.

    `is_long` keeps it out of the terminal.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_long: bool = False

    def rich(self) -> Table:
        """Return the table for a terminal."""
        return number_table(self.title, self.columns, self.rows)

    def markdown(self) -> str:
        """Return the table with its title as Markdown."""
        head = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)]]
        lines = ["| " + " | ".join(row) + " |" for row in [*head, *self.rows]]
        return "\n".join([f"**{self.title}**", "", *lines, ""])


def headline_sheet(path: str, told: Mapping[str, Mapping[str, Any]], baseline: str) -> Sheet:
    """Return what every policy is over the admitted cells of a path."""
    rows = []
    for policy, one in told.items():
        if not one["num_cells"]:
            rows.append((policy, *[ABSENT] * 9))
            continue
        rows.append(
            (
                policy,
                interval(one, "ttft_ratio"),
                ratio(one["worst_ratio"]),
                percent(one[f"share_worse_than_{baseline}"], 0),
                ratio(one.get(f"ttft_ratio_to_{BETTER_RIVAL}")),
                ratio(one.get(f"ttft_ratio_to_{STATIC_GLOBAL}")),
                ratio(one["ttft_p99_ratio"]),
                ratio(one["throughput_ratio"]),
                interval(one, "tpot_ratio"),
                ratio(one.get("tpot_worst_ratio")),
            )
        )
    num_cells = max((one["num_cells"] for one in told.values()), default=0)
    columns = (
        "policy",
        f"TTFT / {baseline}",
        "worst cell",
        "worse %",
        "vs rival",
        "vs static",
        "p99",
        "throughput",
        "TPOT",
        "worst TPOT",
    )
    title = f"{path}: geometric means over {num_cells} admitted cells, 95 % interval over seeds"
    return Sheet(title=title, columns=columns, rows=rows)


def median_lines(
    told: Mapping[str, Mapping[str, Any]], policies: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return which training is the median one of every policy that has several."""
    lines = []
    for name, one in told.items():
        median = one.get("median_training")
        if median is not None:
            word = policies[name]["words"][median["training"]]
            lines.append(f"{name}: the median training is {word}: {interval(median, 'ttft_ratio')}")
    return lines


def metrics_of(path: str, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the cells of a path are told by: ttft, and tpot where decode is modelled."""
    here = [one for cell in cells if cell["path"] == path for one in cell["policies"].values()]
    decodes = any(not math.isnan(one["tpot_ratio"]) for one in here)
    return ["ttft", "tpot"] if decodes else ["ttft"]


def load_sheet(
    path: str, cells: Sequence[Mapping[str, Any]], baseline: str, metric: str = "ttft"
) -> Sheet:
    """Return the ratio of every policy by workload and load, geometric mean over arrivals."""
    here = [cell for cell in cells if cell["path"] == path]
    policies = [p for p in dict.fromkeys(p for c in here for p in c["policies"]) if p != baseline]
    rows = []
    for workload, load in dict.fromkeys((cell["workload"], cell["load"]) for cell in here):
        group = [cell for cell in here if (cell["workload"], cell["load"]) == (workload, load)]
        means = [
            _geometric([cell["policies"][p][f"{metric}_ratio"] for cell in group]) for p in policies
        ]
        left_out = sum(not cell["admitted"] for cell in group)
        name = f"{workload} {load:g}" + ("*" * left_out)
        rows.append((name, *(ratio(mean) for mean in means)))
    title = (
        f"{path}: mean {metric.upper()} / {baseline}, mean over arrivals (* per cell not admitted)"
    )
    return Sheet(title=title, columns=("workload load", *policies), rows=rows)


def cell_sheet(
    path: str, cells: Sequence[Mapping[str, Any]], baseline: str, metric: str = "ttft"
) -> Sheet:
    """Return the ratio of every policy in every cell, with its interval."""
    here = [cell for cell in cells if cell["path"] == path]
    policies = [p for p in dict.fromkeys(p for c in here for p in c["policies"]) if p != baseline]
    rows = [
        (
            f"{cell['workload']} {cell['load']:g} {cell['arrivals']}",
            cell["part"],
            "yes" if cell["admitted"] else "no",
            *(interval(cell["policies"][policy], f"{metric}_ratio") for policy in policies),
        )
        for cell in here
    ]
    columns = ("cell", "part", "admitted", *policies)
    title = f"{path}: mean {metric.upper()} / {baseline} in every cell"
    return Sheet(title=title, columns=columns, rows=rows, is_long=True)


def refused_lines(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how many cells do not count, and why each does not."""
    refused = [cell for cell in cells if not cell["admitted"]]
    head = f"{len(refused)} of {len(cells)} cells are not admitted and not in the geometric means"
    return [head, *(f"  {cell['cell']}: {'; '.join(cell['reasons'])}" for cell in refused)]


def interval(told: Mapping[str, Any], name: str) -> str:
    """Return `0.912 [0.905, 0.919]`, or the point alone where there is no interval."""
    low, high = told.get(f"{name}_low"), told.get(f"{name}_high")
    point = ratio(told.get(name))
    if low is None or math.isnan(low) or low == high:
        return point
    return f"{point} [{ratio(low)}, {ratio(high)}]"


def ratio(value: float | None) -> str:
    """Return a ratio with three digits."""
    return number(value, 3)


def _geometric(ratios: Sequence[float]) -> float:
    known = [math.log(one) for one in ratios if one is not None and one > 0.0]
    return math.exp(math.fsum(known) / len(known)) if known else math.nan


def overload_sheet(cells: Sequence[Mapping[str, Any]]) -> Sheet:
    """Return goodput and SLO attainment of every policy in the cells with times above capacity."""
    policies = list(dict.fromkeys(policy for cell in cells for policy in cell["policies"]))
    rows = [
        (f"{cell['workload']} {cell['arrivals']}", *(_goodput(cell, one) for one in policies))
        for cell in cells
    ]
    title = "overload: goodput (requests/s) and SLO attainment (%)"
    return Sheet(title=title, columns=("cell", *policies), rows=rows)


def shift_sheet(cells: Sequence[Mapping[str, Any]], baseline: str) -> Sheet:
    """Return the TTFT ratio of every policy under every shift."""
    names = dict.fromkeys(p for c in cells for p in [*c["policies"], *c["not_applicable"]])
    policies = [policy for policy in names if policy != baseline]
    rows = [
        (
            f"{cell['change']}, {cell['workload']} {cell['load']:g}",
            *(ratio(cell["policies"].get(one, {}).get("ttft_ratio")) for one in policies),
        )
        for cell in cells
    ]
    title = f"shifts: mean TTFT / {baseline} under the same shift (- not applicable)"
    return Sheet(title=title, columns=("shift", *policies), rows=rows)


def _goodput(cell: Mapping[str, Any], policy: str) -> str:
    told = cell["policies"].get(policy)
    if told is None:
        return ABSENT
    return f"{number(told['goodput_per_s'])} ({percent(told['slo_attainment_frac'])})"
