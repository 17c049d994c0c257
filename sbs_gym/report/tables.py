"""Results as tables that a person can read in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table

from sbs_gym.report.style import known, milliseconds, number, percent

_NARROWEST, _WIDEST = 80, 120


def show(*parts: RenderableType) -> None:
    """Print to stdout, between 80 and 120 columns wide; colours only in a terminal."""
    console = Console(highlight=False, soft_wrap=False)
    console.width = min(max(console.width, _NARROWEST), _WIDEST)
    for part in parts:
        if isinstance(part, str):
            console.print(part, markup=False)
        else:
            console.print(part)
            console.print()


def text_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of words: the first column is never cut, the last one wraps."""
    table = _table(title)
    for place, column in enumerate(columns):
        table.add_column(column, no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def number_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose first column is a name and whose others are numbers."""
    table = _table(title)
    for place, column in enumerate(columns):
        table.add_column(column, no_wrap=place == 0, justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def rate_line(summary: Mapping[str, Any]) -> str:
    """Return load, rate and capacity in one line."""
    rate, capacity = summary["rate_per_s"], summary["capacity_requests_per_s"]
    load = number(summary["load_prefill_frac"], 2)
    return f"load {load}: {number(rate)} requests/s of a capacity of {number(capacity)}"


def overload_line(summary: Mapping[str, Any]) -> str:
    """Return whether the queue grew over the run."""
    overloaded = summary.get("overloaded")
    if overloaded is None:
        return "overloaded: not known (too few requests)"
    return f"overloaded: {'YES, TTFT grows over the run' if overloaded else 'no'}"


def latency_table(summary: Mapping[str, Any]) -> Table:
    """Return TTFT with its percentiles and the three waits that it is the sum of, in ms."""
    ttft = [milliseconds(summary[f"ttft_{which}_s"]) for which in ("mean", "p50", "p90", "p99")]
    rows = [("TTFT", *ttft)]
    for name, key in (
        ("  waiting in the buffer", "buffer_wait_mean_s"),
        ("  waiting in the engine", "engine_wait_mean_s"),
        ("  in passes", "prefill_mean_s"),
    ):
        rows.append((name, milliseconds(summary[key]), "", "", ""))
    return number_table("latency (ms)", ("", "mean", "p50", "p90", "p99"), rows)


def engine_table(summary: Mapping[str, Any]) -> Table:
    """Return what the engines did: utilisation, bubble, passes and throughput."""
    rows = [
        ("finished requests", number(summary["num_finished"], 0)),
        ("rejected requests", number(summary["num_rejected"], 0)),
        ("throughput, requests/s", number(summary["requests_per_s"])),
        ("throughput, prompt tokens/s", number(summary["input_tokens_per_s"], 0)),
        ("met the SLO, %", percent(summary["slo_attainment_frac"])),
        ("chunk utilisation, %", percent(summary["chunk_utilisation_frac"])),
        ("bubble at the barrier, %", percent(summary["prefill_bubble_frac"])),
        ("idle between passes, %", percent(summary["prefill_idle_frac"])),
        ("passes", number(summary["num_passes"], 0)),
        ("mean pass, ms", milliseconds(summary["pass_mean_s"])),
    ]
    return number_table("engines", ("", "value"), rows)


def length_table(by_length: pd.DataFrame) -> Table:
    """Return TTFT and waits by prompt length, in ms."""
    columns = ("prompt tokens", "requests", "mean", "p50", "p99", "buffer", "engine", "SLO %")
    rows = [
        (
            str(row["input_tokens"]),
            number(row["num_requests"], 0),
            *(milliseconds(row[f"ttft_{which}_s"]) for which in ("mean", "p50", "p99")),
            milliseconds(row["buffer_wait_mean_s"]),
            milliseconds(row["engine_wait_mean_s"]),
            percent(row["slo_attainment_frac"]),
        )
        for row in by_length.to_dict("records")
    ]
    return number_table("TTFT and waits by prompt length (ms)", columns, rows)


def fact_table(title: str, facts: Mapping[str, object]) -> Table:
    """Return a mapping as rows of name and value; nested mappings are named `outer.inner`."""
    rows = [(name, _plain(value)) for name, value in _flat(facts)]
    table = text_table(title, ("", ""), rows)
    table.show_header = False
    return table


def _flat(facts: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", value))
    return rows


def _plain(value: object) -> str:
    if not known(value):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    return str(value)


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
