"""Figures of a comparison, drawn without a display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
        tpot_mean_s, tpot_interval_s, tpot_s: The same for TPOT; NaN and None without decode.
    """

    name: str
    ttft_mean_s: float
    ttft_interval_s: tuple[float, float]
    ttft_s: FloatArray
    by_length_s: Mapping[str, float]
    tpot_mean_s: float = float("nan")
    tpot_interval_s: tuple[float, float] = (float("nan"), float("nan"))
    tpot_s: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class _Bar:
    """A scheduler's mean of a latency, its interval, and the latency of its requests, seconds."""

    name: str
    mean_s: float
    interval_s: tuple[float, float]
    values_s: FloatArray


def comparison_figure(schedulers: Sequence[SchedulerFigures], title: str) -> Figure:
    """Return TTFT by scheduler, its cumulative distribution, and TTFT by prompt length.

    Where decode is modelled, TPOT has a row of its own above the last one.
    """
    latencies = {
        "TTFT": [_Bar(s.name, s.ttft_mean_s, s.ttft_interval_s, s.ttft_s) for s in schedulers]
    }
    decoded = [s for s in schedulers if s.tpot_s is not None]
    if decoded:
        latencies["TPOT"] = [
            _Bar(s.name, s.tpot_mean_s, s.tpot_interval_s, s.tpot_s)
            for s in decoded
            if s.tpot_s is not None
        ]
    with rc_context(style.RC):
        figure = Figure(figsize=(10.5, 3.6 * (1 + len(latencies))), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(1 + len(latencies), 2)
        for row, (latency, bars) in enumerate(latencies.items()):
            _draw_means(figure.add_subplot(grid[row, 0]), bars, latency)
            _draw_distribution(figure.add_subplot(grid[row, 1]), bars, latency)
        figure.axes[1].legend(loc="lower right")
        _draw_lengths(figure.add_subplot(grid[-1, :]), schedulers)
        figure.suptitle(title, fontsize=11)
        return figure


def save_figure(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Write the figure as PNG and SVG, the same bytes for the same figure; return the paths."""
    paths = [directory / f"{name}.{kind}" for kind in ("png", "svg")]
    with rc_context(style.RC):
        figure.savefig(paths[0], metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths


def _draw_means(axes: Axes, latencies: Sequence[_Bar], name: str) -> None:
    places = np.arange(len(latencies))
    mean_ms = np.array([bar.mean_s for bar in latencies]) * 1e3
    ends_ms = np.array([bar.interval_s for bar in latencies]).T * 1e3
    errors = np.nan_to_num(np.abs(ends_ms - mean_ms))
    bars = axes.barh(places, mean_ms, color="white", edgecolor="white", height=0.7)
    for place, bar in enumerate(bars):
        bar.set(**style.fill(place))
    axes.errorbar(mean_ms, places, xerr=errors, fmt="none", ecolor="black", capsize=3, lw=1)
    for place, (value, error) in enumerate(zip(mean_ms, errors[1], strict=True)):
        if not np.isnan(value):
            at, shift = (value + error, place), (4, 0)
            text = style.milliseconds(value / 1e3) if name == "TPOT" else f"{value:,.0f}"
            axes.annotate(text, at, shift, textcoords="offset points", va="center", size=8)
    axes.set_yticks(places, [bar.name for bar in latencies])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.set_xlabel(f"mean {name} (ms), 95 % interval over seeds")
    axes.set_title(f"mean {name}")


def _draw_distribution(axes: Axes, latencies: Sequence[_Bar], name: str) -> None:
    start_ms, end_ms = math.inf, 0.0
    for place, one in enumerate(latencies):
        values_ms = np.sort(one.values_s[~np.isnan(one.values_s)]) * 1e3
        if not len(values_ms):
            continue
        share = np.linspace(0, 1, _MOST_STEPS + 1)
        axes.plot(
            np.quantile(values_ms, share),
            share,
            color=style.COLOURS[place % len(style.COLOURS)],
            linestyle=style.LINE_STYLES[place % len(style.LINE_STYLES)],
            label=one.name,
        )
        start_ms = min(start_ms, float(np.quantile(values_ms, 1 - _SHARE_SHOWN)))
        end_ms = max(end_ms, float(np.quantile(values_ms, _SHARE_SHOWN)))
    # TPOT has a floor, the shortest step: from 0 on all curves would be one.
    axes.set_xlim(start_ms if name == "TPOT" and start_ms < end_ms else 0, end_ms or 1.0)
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"{name} (ms)")
    axes.set_ylabel("share of requests at or below")
    axes.set_title("cumulative distribution, one seed")


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
            **style.fill(place),
        )
    axes.set_xticks(np.arange(len(buckets)), buckets)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("prompt length (tokens)")
    axes.set_ylabel("mean TTFT (ms)")
    axes.set_title("mean TTFT by prompt length")
    axes.legend(ncols=3, loc="upper left")
    axes.margins(y=0.28)
