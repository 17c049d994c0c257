"""Figures of a comparison, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sbs_gym.report import style
from sbs_gym.types import FloatArray

_SHARE_SHOWN = 0.995
_MOST_STEPS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerFigures:
    """What one scheduler puts into the figure.

    Attributes:
        name: Name of the scheduler.
        ttft_mean_s: Mean over seeds of the mean TTFT, seconds.
        ttft_interval_s: Lower and upper end of its 95 % interval, seconds.
        ttft_s: TTFT of the measured requests of one seed, seconds.
        by_length_s: Prompt-length bucket to mean TTFT, seconds.
    """

    name: str
    ttft_mean_s: float
    ttft_interval_s: tuple[float, float]
    ttft_s: FloatArray
    by_length_s: Mapping[str, float]


def comparison_figure(schedulers: Sequence[SchedulerFigures], title: str) -> Figure:
    """Return TTFT by scheduler, its cumulative distribution, and TTFT by prompt length."""
    with rc_context(style.RC):
        figure = Figure(figsize=(10.5, 7.2), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(2, 2)
        _draw_means(figure.add_subplot(grid[0, 0]), schedulers)
        _draw_distribution(figure.add_subplot(grid[0, 1]), schedulers)
        _draw_lengths(figure.add_subplot(grid[1, :]), schedulers)
        figure.suptitle(title, fontsize=11)
        return figure


def loads_figure(table: pd.DataFrame, title: str) -> Figure:
    """Return mean TTFT against load, one line per scheduler with its 95 % band.

    Args:
        table: One row per load and scheduler: `load`, `scheduler`, `ttft_mean_s`, `ttft_low_s`,
            `ttft_high_s`, seconds.
        title: Stands above the figure.
    """
    with rc_context(style.RC):
        figure = Figure(figsize=(7.0, 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for place, (name, rows) in enumerate(table.groupby("scheduler", sort=False)):
            _draw_load_line(axes, place, str(name), rows.sort_values("load"))
        axes.set_xlabel("load (fraction of capacity)")
        axes.set_ylabel("mean TTFT (ms), 95 % band over seeds")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left")
        figure.suptitle(title, fontsize=10)
        return figure


def save_figure(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Write the figure as PNG and SVG, the same bytes for the same figure; return the paths."""
    paths = [directory / f"{name}.{kind}" for kind in ("png", "svg")]
    with rc_context(style.RC):
        figure.savefig(paths[0], metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths


def _draw_load_line(axes: Axes, place: int, name: str, rows: pd.DataFrame) -> None:
    colour = style.COLOURS[place % len(style.COLOURS)]
    axes.plot(
        rows["load"],
        rows["ttft_mean_s"] * 1e3,
        color=colour,
        linestyle=style.LINE_STYLES[place % len(style.LINE_STYLES)],
        marker="o",
        markersize=3,
        label=name,
    )
    low_ms, high_ms = rows["ttft_low_s"] * 1e3, rows["ttft_high_s"] * 1e3
    axes.fill_between(rows["load"], low_ms, high_ms, color=colour, alpha=0.2, linewidth=0)


def _draw_means(axes: Axes, schedulers: Sequence[SchedulerFigures]) -> None:
    places = np.arange(len(schedulers))
    mean_ms = np.array([s.ttft_mean_s for s in schedulers]) * 1e3
    ends_ms = np.array([s.ttft_interval_s for s in schedulers]).T * 1e3
    errors = np.nan_to_num(np.abs(ends_ms - mean_ms))
    bars = axes.barh(places, mean_ms, color="white", edgecolor="white", height=0.7)
    for place, bar in enumerate(bars):
        bar.set(**_fill(place))
    axes.errorbar(mean_ms, places, xerr=errors, fmt="none", ecolor="black", capsize=3, lw=1)
    for place, (value, error) in enumerate(zip(mean_ms, errors[1], strict=True)):
        if not np.isnan(value):
            at, shift = (value + error, place), (4, 0)
            axes.annotate(
                f"{value:,.0f}", at, shift, textcoords="offset points", va="center", size=8
            )
    axes.set_yticks(places, [s.name for s in schedulers])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.set_xlabel("mean TTFT (ms), 95 % interval over seeds")
    axes.set_title("mean TTFT")


def _draw_distribution(axes: Axes, schedulers: Sequence[SchedulerFigures]) -> None:
    end_ms = 0.0
    for place, scheduler in enumerate(schedulers):
        ttft_ms = np.sort(scheduler.ttft_s[~np.isnan(scheduler.ttft_s)]) * 1e3
        if not len(ttft_ms):
            continue
        share = np.linspace(0, 1, _MOST_STEPS + 1)
        axes.plot(
            np.quantile(ttft_ms, share),
            share,
            color=style.COLOURS[place % len(style.COLOURS)],
            linestyle=style.LINE_STYLES[place % len(style.LINE_STYLES)],
            label=scheduler.name,
        )
        end_ms = max(end_ms, float(np.quantile(ttft_ms, _SHARE_SHOWN)))
    axes.set_xlim(0, end_ms or 1.0)
    axes.set_ylim(0, 1)
    axes.set_xlabel("TTFT (ms)")
    axes.set_ylabel("share of requests at or below")
    axes.set_title("cumulative distribution, one seed")
    axes.legend(loc="lower right")


def _draw_lengths(axes: Axes, schedulers: Sequence[SchedulerFigures]) -> None:
    buckets = list(dict.fromkeys(bucket for s in schedulers for bucket in s.by_length_s))
    width = 0.8 / max(1, len(schedulers))
    for place, scheduler in enumerate(schedulers):
        offset = (place - (len(schedulers) - 1) / 2) * width
        heights = [scheduler.by_length_s.get(bucket, np.nan) * 1e3 for bucket in buckets]
        axes.bar(
            np.arange(len(buckets)) + offset,
            heights,
            width * 0.92,
            label=scheduler.name,
            **_fill(place),
        )
    axes.set_xticks(np.arange(len(buckets)), buckets)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("prompt length (tokens)")
    axes.set_ylabel("mean TTFT (ms)")
    axes.set_title("mean TTFT by prompt length")
    axes.legend(ncols=3, loc="upper left")
    axes.margins(y=0.28)


def _fill(place: int) -> dict[str, Any]:
    return {
        "facecolor": style.COLOURS[place % len(style.COLOURS)],
        "edgecolor": "white",
        "hatch": style.HATCHES[place % len(style.HATCHES)],
    }
