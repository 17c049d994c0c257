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
_UNLIMITED = 10_000
_GAP = 2  # between two columns, where there is room
_SIDES = ("prefill", "decode")


def show(*parts: RenderableType) -> None:
    """Print to stdout, between 80 and 120 columns wide; colours only in a terminal.

    A table that needs more columns gets them: nothing is cut.
    """
    console = Console(highlight=False, soft_wrap=False)
    width = min(max(console.width, _NARROWEST), _WIDEST)
    unlimited = console.options.update(width=_UNLIMITED)
    for part in parts:
        if isinstance(part, str):
            console.width = width
            console.print(part, markup=False)
        else:
            console.width = max(width, console.measure(part, options=unlimited).minimum)
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
    """Return a table whose first column is a name and whose others are numbers.

    Nothing is ever cut: where the table does not fit 80 columns, headings wrap, then the name of a
    changed preset, `sbs:placement=jsq`, takes a line per change, then columns move closer.
    """
    columns, cells = _wrapped(columns, rows), rows
    if not _fits(columns, cells):
        cells = [[_in_lines(cell) for cell in row] for row in rows]
        columns = _wrapped([column.replace("\n", " ") for column in columns], cells)
    table = _table(title)
    if not _fits(columns, cells):
        table.padding = (0, 0, 0, 0)
    for k, (column, width) in enumerate(zip(columns, _widths(columns, cells), strict=True)):
        table.add_column(
            column, no_wrap=True, justify="left" if k == 0 else "right", min_width=width
        )
    for row in cells:
        table.add_row(*row)
    return table


def _wrapped(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return headings with a word per line in as few columns as the table needs to fit."""
    found = list(columns)
    while not _fits(found, rows):
        widths = _widths(found, rows)
        tries = [[*found[:k], c.replace(" ", "\n"), *found[k + 1 :]] for k, c in enumerate(found)]
        best = min(tries, key=lambda headings: sum(_widths(headings, rows)))
        if sum(_widths(best, rows)) == sum(widths):
            break
        found = best
    return found


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return how wide the columns are, all their lines uncut."""
    cells = [[column, *(row[k] for row in rows)] for k, column in enumerate(columns)]
    return [max(len(line) for cell in column for line in cell.split("\n")) for column in cells]


def _fits(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    return sum(_widths(columns, rows)) + _GAP * len(columns) - 1 <= _NARROWEST


def _in_lines(cell: str) -> str:
    return cell.replace(":", "\n  ") if "=" in cell else cell


def rate_line(summary: Mapping[str, Any]) -> str:
    """Return load, rate and capacity in one line; with decode, the loads of both sides too."""
    rate, capacity = summary["rate_per_s"], summary["capacity_requests_per_s"]
    load = number(rate / capacity, 2)
    line = f"load {load}: {number(rate)} requests/s of a capacity of {number(capacity)}"
    if not known(summary["load_decode_frac"]):
        return line
    sides = ", ".join(f"{side} {number(summary[f'load_{side}_frac'], 2)}" for side in _SIDES)
    return f"{line} ({sides})"


def overload_line(summary: Mapping[str, Any]) -> str:
    """Return whether the queue grew over the run."""
    overloaded = summary.get("overloaded")
    if overloaded is None:
        return "overloaded: not known (too few requests)"
    return f"overloaded: {'YES, TTFT grows over the run' if overloaded else 'no'}"


def latency_table(summary: Mapping[str, Any]) -> Table:
    """Return TTFT with its percentiles and the three waits that it is the sum of, in ms.

    With decode: the client's TTFT, TPOT and the time to the end too, with their parts.
    """
    rows = [
        _spread_row("TTFT", "ttft", summary),
        _mean_row("  waiting in the buffer", "buffer_wait_mean_s", summary),
        _mean_row("  waiting in the engine", "engine_wait_mean_s", summary),
        _mean_row("  in passes", "prefill_mean_s", summary),
    ]
    if has_decode(summary):
        rows += [
            _mean_row("waiting for a decode rank", "handoff_wait_mean_s", summary),
            _mean_row("KV on its way", "transfer_mean_s", summary),
            _mean_row("waiting for a step", "decode_wait_mean_s", summary),
            _mean_row("in decode", "decode_mean_s", summary),
            _mean_row("E2E", "e2e_mean_s", summary),
            _spread_row("TTFT of the client", "ttft_client", summary),
            _spread_row("TPOT", "tpot", summary),
        ]
    return number_table("latency (ms)", ("", "mean", "p50", "p90", "p99"), rows)


def has_decode(summary: Mapping[str, Any]) -> bool:
    """Return whether the run modelled decode."""
    return bool(summary["num_decode_gpus"] > 0)


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


def decode_table(summary: Mapping[str, Any]) -> Table:
    """Return what the decode engines did, and what it means per GPU and in money."""
    rows = [
        ("throughput, generated tokens/s", number(summary["output_tokens_per_s"], 0)),
        ("goodput, requests/s", number(summary["goodput_per_s"])),
        ("TTFT within the SLO, %", percent(summary["ttft_attainment_frac"])),
        ("TPOT within the SLO, %", percent(summary["tpot_attainment_frac"])),
        ("prefill without KV room, rank seconds", number(summary["prefill_kv_blocked_s"])),
        ("refused placements", number(summary["num_refusals"], 0)),
        ("evictions", number(summary["num_preempted"], 0)),
        ("steps", number(summary["num_steps"], 0)),
        ("mean step, ms", milliseconds(summary["step_mean_s"])),
        ("running requests per rank", number(summary["batch_mean"])),
        ("KV room in use, %", percent(summary["kv_use_frac"])),
        ("KV per rank, standard deviation, tokens", number(summary["kv_load_std_tokens"], 0)),
        ("KV of the fullest rank / mean", number(summary["kv_load_max_over_mean"], 2)),
        ("bubble at the barrier, %", percent(summary["decode_bubble_frac"])),
        ("idle between steps, %", percent(summary["decode_idle_frac"])),
    ]
    return number_table("decode", ("", "value"), rows)


def gpu_table(summary: Mapping[str, Any]) -> Table:
    """Return throughput per GPU and node of each side, and the cost of tokens."""
    rows = []
    for label, side, tokens in (("prompt", "prefill", "input"), ("generated", "decode", "output")):
        key = f"{tokens}_tokens_per_{side}"
        rows += [
            (f"{label} tokens/s per {side} GPU", number(summary[f"{key}_gpu_s"], 0)),
            (f"{label} tokens/s per {side} node", number(summary[f"{key}_node_s"], 0)),
        ]
    for label, tokens in (("prompt", "input"), ("generated", "output")):
        cost = summary[f"cost_per_million_{tokens}_tokens"]
        rows.append((f"all GPUs, price per million {label} tokens", number(cost, 2)))
    return number_table(f"{number(summary['num_gpus'], 0)} GPUs", ("", "value"), rows)


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


def _spread_row(name: str, prefix: str, summary: Mapping[str, Any]) -> tuple[str, ...]:
    which = ("mean", "p50", "p90", "p99")
    return (name, *(milliseconds(summary[f"{prefix}_{one}_s"]) for one in which))


def _mean_row(name: str, key: str, summary: Mapping[str, Any]) -> tuple[str, ...]:
    return (name, milliseconds(summary[key]), "", "", "")


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
