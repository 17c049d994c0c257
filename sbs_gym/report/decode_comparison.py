"""A comparison of schedulers over prefill and decode as tables of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pandas as pd
from rich.table import Table

from sbs_gym.metrics.intervals import mean_interval
from sbs_gym.report.comparison import by_scheduler, num_seeds
from sbs_gym.report.style import ABSENT, difference, milliseconds, number, percent
from sbs_gym.report.tables import number_table

# What a request's time goes to, in order, and the key of its mean.
PARTS = {
    "buffer": "buffer_wait_mean_s",
    "engine": "engine_wait_mean_s",
    "passes": "prefill_mean_s",
    "hand-off": "handoff_wait_mean_s",
    "transfer": "transfer_mean_s",
    "decode wait": "decode_wait_mean_s",
    "decode": "decode_mean_s",
}
PAIRED = {"TTFT": "ttft_mean_s", "TPOT": "tpot_mean_s", "goodput": "goodput_per_s"}
_Format = Callable[[float], str]


def latencies_table(runs: pd.DataFrame) -> Table:
    """Return TTFT, the client's TTFT, TPOT and end-to-end time of every scheduler, in ms.

    Args:
        runs: One row per scheduler and seed: `scheduler`, `seed`, keys of the summary.
    """
    rows = []
    for name, group in by_scheduler(runs):
        ttft, tpot = (_with_half(group[key]) for key in ("ttft_mean_s", "tpot_mean_s"))
        client = (_ms(group, "ttft_client_mean_s"), _ms(group, "ttft_client_p99_s"))
        tails = _ms(group, "ttft_p99_s"), _ms(group, "tpot_p99_s")
        rows.append((name, *ttft, tails[0], *client, *tpot, tails[1], _ms(group, "e2e_mean_s")))
    columns = ("scheduler", "TTFT", "±", "p99", "client", "p99", "TPOT", "±", "p99", "E2E")
    title = f"latency (ms, mean over {num_seeds(runs)} seeds, ± half 95 % interval)"
    return number_table(title, columns, rows)


def parts_table(runs: pd.DataFrame) -> Table:
    """Return where the time of a request goes under every scheduler, in ms."""
    rows = [
        (name, *(_ms(group, key) for key in PARTS.values())) for name, group in by_scheduler(runs)
    ]
    title = "where the time goes (ms; from hand-off on: answers of several tokens)"
    return number_table(title, ("scheduler", *PARTS), rows)


def throughput_table(runs: pd.DataFrame) -> Table:
    """Return rates, goodput, attainment and overload of every scheduler."""
    table: dict[str, tuple[str, _Format]] = {
        "req/s": ("requests_per_s", number),
        "goodput": ("goodput_per_s", number),
        "ktok/s in": ("input_tokens_per_s", _thousands),
        "ktok/s out": ("output_tokens_per_s", _thousands),
        "SLO %": ("slo_attainment_frac", percent),
        "TTFT %": ("ttft_attainment_frac", percent),
        "TPOT %": ("tpot_attainment_frac", percent),
    }
    rows = [
        (*row, f"{int(group['overloaded'].eq(True).sum())} of {len(group)}")
        for row, (_, group) in zip(_rows(runs, table), by_scheduler(runs), strict=True)
    ]
    title = "throughput (mean over seeds; grew: seeds in which TTFT of the client grew)"
    return number_table(title, ("scheduler", *table, "grew"), rows)


def prefill_table(runs: pd.DataFrame) -> Table:
    """Return what the prefill engines of every scheduler did."""
    table: dict[str, tuple[str, _Format]] = {
        "util %": ("chunk_utilisation_frac", percent),
        "bubble %": ("prefill_bubble_frac", percent),
        "idle %": ("prefill_idle_frac", percent),
        "pass ms": ("pass_mean_s", milliseconds),
        "blocked s": ("prefill_kv_blocked_s", number),
    }
    return _plain_table(
        "prefill engines (mean over seeds; blocked: ranks without KV room)", runs, table
    )


def decode_table(runs: pd.DataFrame) -> Table:
    """Return what the decode engines of every scheduler did."""
    table: dict[str, tuple[str, _Format]] = {
        "batch": ("batch_mean", number),
        "step ms": ("step_mean_s", milliseconds),
        "bubble %": ("decode_bubble_frac", percent),
        "idle %": ("decode_idle_frac", percent),
        "refusals": ("num_refusals", number),
        "evictions": ("num_preempted", number),
    }
    return _plain_table("decode engines (mean over seeds; batch of a rank)", runs, table)


def kv_table(runs: pd.DataFrame) -> Table:
    """Return how evenly KV lies on the decode ranks under every scheduler, and how much it is."""
    rows = []
    for name, group in by_scheduler(runs):
        mean, _, high = mean_interval(group["kv_load_std_tokens"])
        half = ABSENT if math.isnan(high) else _thousands(high - mean, 2)
        uneven = number(float(group["kv_load_max_over_mean"].mean()), 2)
        use = percent(float(group["kv_use_frac"].mean()))
        rows.append((name, _thousands(mean, 2), half, uneven, use))
    title = "KV on the decode ranks (over the time of steps)"
    return number_table(title, ("scheduler", "std ktok", "±", "max / mean", "in use %"), rows)


def paired_table(paired: pd.DataFrame) -> Table:
    """Return relative differences of TTFT, TPOT and goodput, paired by seed, in per cent.

    A reference that is the only one stands in the title.

    Args:
        paired: One row per metric and pair: `scheduler`, `reference`, `metric`, `ratio`,
            `ratio_low`, `ratio_high`.
    """
    rows: list[tuple[str, ...]] = []
    for (reference, name), group in paired.groupby(["reference", "scheduler"], sort=False):
        found = group.set_index("metric")[["ratio", "ratio_low", "ratio_high"]]
        cells = (difference(*map(float, found.loc[metric])) for metric in PAIRED.values())
        rows.append((str(name), str(reference), *cells))
    how = "(%, paired by seed, ± half 95 % interval)"
    references = {row[1] for row in rows}
    if len(references) == 1:
        rows = [(row[0], *row[2:]) for row in rows]
        title = f"differences from {references.pop()} {how}"
        return number_table(title, ("scheduler", *PAIRED), rows)
    table = number_table(f"differences {how}", ("scheduler", "against", *PAIRED), rows)
    table.columns[1].justify = "left"
    return table


def mean_parts(runs: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return scheduler to part of a request's time to its mean over seeds, seconds."""
    return {
        name: {part: float(group[key].mean()) for part, key in PARTS.items()}
        for name, group in by_scheduler(runs)
    }


def _plain_table(
    title: str, runs: pd.DataFrame, columns: Mapping[str, tuple[str, _Format]]
) -> Table:
    return number_table(title, ("scheduler", *columns), _rows(runs, columns))


def _rows(runs: pd.DataFrame, columns: Mapping[str, tuple[str, _Format]]) -> list[tuple[str, ...]]:
    return [
        (name, *(write(float(group[key].mean())) for key, write in columns.values()))
        for name, group in by_scheduler(runs)
    ]


def _with_half(values: pd.Series) -> tuple[str, str]:
    mean, _, high = mean_interval(values)
    return milliseconds(mean), ABSENT if math.isnan(high) else milliseconds(high - mean)


def _ms(group: pd.DataFrame, key: str) -> str:
    return milliseconds(float(group[key].mean()))


def _thousands(value: float, digits: int = 1) -> str:
    return number(value / 1e3, digits)
