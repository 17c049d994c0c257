"""A comparison of schedulers as tables of 80 columns."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from rich.table import Table

from sbs_gym.metrics.intervals import mean_interval
from sbs_gym.report.style import ABSENT, milliseconds, number, percent, signed_percent
from sbs_gym.report.tables import number_table


def ttft_table(runs: pd.DataFrame) -> Table:
    """Return TTFT and the waits of every scheduler, means over seeds in ms.

    Args:
        runs: One row per scheduler and seed: `scheduler`, `seed`, keys of the summary.
    """
    keys = ("p50", "p90", "p99")
    waits = ("buffer_wait_mean_s", "engine_wait_mean_s", "prefill_mean_s")
    rows = []
    for name, group in by_scheduler(runs):
        mean, _, high = mean_interval(group["ttft_mean_s"])
        half = ABSENT if math.isnan(high) else milliseconds(high - mean)
        columns = [*(f"ttft_{key}_s" for key in keys), *waits]
        rows.append((name, milliseconds(mean), half, *(_mean_ms(group, c) for c in columns)))
    title = f"TTFT and its parts (ms, mean over {num_seeds(runs)} seeds, ± half 95 % interval)"
    return number_table(
        title, ("scheduler", "mean", "±", *keys, "buffer", "engine", "passes"), rows
    )


def engines_table(runs: pd.DataFrame) -> Table:
    """Return throughput, SLO, utilisation, bubble and overload of every scheduler."""
    rows = []
    for name, group in by_scheduler(runs):
        fractions = (
            "slo_attainment_frac",
            "chunk_utilisation_frac",
            "prefill_bubble_frac",
            "prefill_idle_frac",
        )
        rows.append(
            (
                name,
                number(group["requests_per_s"].mean()),
                number(group["input_tokens_per_s"].mean() / 1e3),
                *(percent(group[key].mean()) for key in fractions),
                f"{int(group['overloaded'].eq(True).sum())} of {len(group)}",
            )
        )
    columns = ("scheduler", "req/s", "ktok/s", "SLO %", "util %", "bubble %", "idle %", "overload")
    return number_table(
        "engines (mean over seeds; overload: seeds in which TTFT grew)", columns, rows
    )


def paired_table(paired: pd.DataFrame) -> Table:
    """Return relative differences of TTFT between schedulers, paired by seed, in per cent.

    Args:
        paired: One row per metric and pair: `scheduler`, `reference`, `metric`, `ratio`,
            `ratio_low`, `ratio_high`.
    """
    metrics = ("ttft_mean_s", "ttft_p99_s")
    rows = []
    for (reference, name), group in paired.groupby(["reference", "scheduler"], sort=False):
        found = group.set_index("metric")
        rows.append((str(name), str(reference), *(_difference(found.loc[m]) for m in metrics)))
    title = "TTFT against another (%, paired by seed, 95 % interval; negative is faster)"
    table = number_table(title, ("scheduler", "against", "mean", "p99"), rows)
    table.columns[1].justify = "left"
    return table


def lengths_table(by_length: pd.DataFrame) -> Table:
    """Return the mean TTFT of every scheduler by prompt length, in ms, mean over seeds."""
    buckets = list(dict.fromkeys(by_length["input_tokens"]))
    buckets.sort(key=_bucket_start)
    rows = []
    for name, group in by_scheduler(by_length):
        means = group.groupby("input_tokens")["ttft_mean_s"].mean()
        rows.append((name, *(milliseconds(means.get(bucket, math.nan)) for bucket in buckets)))
    return number_table("mean TTFT by prompt tokens (ms)", ("scheduler", *buckets), rows)


def mean_by_length(by_length: pd.DataFrame, scheduler: str) -> dict[str, float]:
    """Return prompt-length bucket to mean TTFT over seeds, shortest first, seconds."""
    means = by_length[by_length["scheduler"] == scheduler].groupby("input_tokens")["ttft_mean_s"]
    found = {str(bucket): float(value) for bucket, value in means.mean().items()}
    return dict(sorted(found.items(), key=lambda item: _bucket_start(item[0])))


def by_scheduler(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return every scheduler with its rows, in the order of the table."""
    return [(str(name), group) for name, group in table.groupby("scheduler", sort=False)]


def num_seeds(runs: pd.DataFrame) -> int:
    """Return how many seeds the rows are of."""
    return int(runs["seed"].nunique())


def _mean_ms(group: pd.DataFrame, column: str) -> str:
    return milliseconds(float(group[column].mean()))


def _difference(row: Any) -> str:
    if math.isnan(row["ratio"]):
        return ABSENT
    middle = signed_percent(row["ratio"] - 1)
    if math.isnan(row["ratio_low"]):
        return middle
    low, high = (signed_percent(row[end] - 1) for end in ("ratio_low", "ratio_high"))
    return f"{middle} [{low}, {high}]"


def _bucket_start(bucket: str) -> int:
    start = bucket.partition("-")[0].removesuffix("+")
    return int(start.removesuffix("K")) * (1024 if start.endswith("K") else 1)
