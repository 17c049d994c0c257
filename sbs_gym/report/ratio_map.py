"""Ratios to a baseline as a map: cells down, schedulers and agents across."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sbs_gym.errors import ConfigError
from sbs_gym.report import style

WORSE = "▲"
_MOST_SHOWN = 2.0  # a ratio beyond it, either way, has the darkest colour
_MIDDLE = "#ffffff"
_SAME = 0.005  # of the baseline: no difference in the digits that are shown
_NOT_COUNTED: dict[str, Any] = {"fill": False, "hatch": "///", "edgecolor": "#777777", "lw": 0}


def ratio_table(runs: pd.DataFrame, metric: str, baseline: str, by: Sequence[str]) -> pd.DataFrame:
    """Return the ratio of a metric to the baseline's: cells down, schedulers across.

    A ratio is the geometric mean over seeds of ratios paired by seed, NaN where no pair is known.

    Args:
        runs: One row per cell, scheduler and seed: `by`, `scheduler`, `seed` and the metric.
        metric: Key of the summary.
        baseline: The scheduler that is divided by; it is not in the table.
        by: Columns that name a cell, the first one the group it stands in.

    Raises:
        ConfigError: If no row is of the baseline.
    """
    if baseline not in set(runs["scheduler"]):
        raise ConfigError(
            f"baseline={baseline!r} has no runs; expected one of "
            f"{', '.join(dict.fromkeys(map(str, runs['scheduler'])))}"
        )
    values = runs.pivot(index=[*by, "seed"], columns="scheduler", values=metric)
    names = [name for name in dict.fromkeys(runs["scheduler"]) if name != baseline]
    ratios = values[names].div(values[baseline], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = pd.DataFrame(np.log(ratios.to_numpy()), index=ratios.index, columns=names)
    order = pd.MultiIndex.from_frame(runs[list(by)].drop_duplicates())
    means = logs.groupby(level=list(by)).mean()
    means.index = pd.MultiIndex.from_tuples([_key(one) for one in means.index], names=list(by))
    return means.apply(np.exp).reindex(order)


def ratio_map_figure(
    table: pd.DataFrame,
    *,
    baseline: str,
    metric: str = "mean TTFT",
    title: str = "",
    less_is_better: bool = True,
    counted: Sequence[bool] | None = None,
) -> Figure:
    """Return the map of a table of ratios, the number in every cell.

    Blue is better than the baseline and orange is worse, which a mark before the number says too.

    Args:
        table: Ratios, cells down; the first level of its index makes groups, the others name cells.
        baseline: What was divided by.
        metric: What the ratio is of.
        title: Stands above the figure.
        less_is_better: False for throughput and the like.
        counted: Which rows count; the others are hatched. All if absent.

    Raises:
        ConfigError: If the table is empty.
    """
    if table.empty:
        raise ConfigError("table has no ratio; expected at least one row and one column")
    grid = table.to_numpy(dtype=float)
    colours, scale = _colours(less_is_better), LogNorm(1 / _MOST_SHOWN, _MOST_SHOWN)
    with rc_context({**style.RC, "axes.grid": False}):
        width, height = 3.0 + 0.8 * grid.shape[1], 2.4 + 0.22 * len(grid)
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        shown = np.ma.masked_invalid(np.clip(grid, 1 / _MOST_SHOWN, _MOST_SHOWN))
        axes.imshow(shown, aspect="auto", cmap=colours, norm=scale)
        _write_numbers(axes, grid, colours, scale, less_is_better)
        _name_rows(axes, table.index)
        _name_columns(axes, table.columns)
        counts = np.ones(len(grid), dtype=bool) if counted is None else np.asarray(counted, bool)
        for row in np.flatnonzero(~counts):
            axes.axhspan(row - 0.5, row + 0.5, **_NOT_COUNTED)
        bar = figure.colorbar(
            ScalarMappable(scale, colours),
            ax=axes,
            extend="both",
            location="bottom",
            aspect=30,
            pad=0.02,
        )
        bar.set_ticks([0.5, 0.7, 1.0, 1.4, 2.0], labels=["0.5", "0.7", "1", "1.4", "2"])
        bar.minorticks_off()
        bar.set_label(f"{metric} / {baseline}")
        told = [Patch(facecolor="none", label=f"{WORSE} worse than {baseline}")]
        told += [] if counts.all() else [Patch(**_NOT_COUNTED, label="not counted")]
        figure.legend(handles=told, loc="outside lower center", ncols=2)
        figure.suptitle(title, fontsize=11)
        return figure


def is_worse(ratio: float, less_is_better: bool = True) -> bool:
    """Return whether a ratio is worse than 1 in the digits that are shown."""
    return ratio > 1 + _SAME if less_is_better else ratio < 1 - _SAME


def _colours(less_is_better: bool) -> Colormap:
    ends = (style.COLOURS[0], style.COLOURS[1])
    low, high = ends if less_is_better else ends[::-1]
    colours = LinearSegmentedColormap.from_list("better_worse", [low, _MIDDLE, high])
    return colours.with_extremes(bad="#eeeeee")


def _write_numbers(
    axes: Axes, grid: Any, colours: Colormap, scale: LogNorm, less_is_better: bool
) -> None:
    for (row, column), ratio in np.ndenumerate(grid):
        if math.isnan(ratio):
            axes.text(column, row, style.ABSENT, ha="center", va="center", size=7)
            continue
        worse = is_worse(ratio, less_is_better)
        red, green, blue, _ = colours(scale(min(max(ratio, 1 / _MOST_SHOWN), _MOST_SHOWN)))
        dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5
        axes.text(
            column,
            row,
            f"{WORSE} {ratio:.2f}" if worse else f"{ratio:.2f}",
            ha="center",
            va="center",
            size=7,
            color="white" if dark else "black",
            weight="bold" if worse else "normal",
        )


def _name_rows(axes: Axes, index: pd.Index[Any]) -> None:
    """Name every cell, and draw a line between groups."""
    keys = [_key(one) for one in index]
    axes.set_yticks(range(len(keys)), [_name(key) for key in keys], fontsize=7)
    axes.tick_params(length=0)
    for row in range(1, len(keys)):
        if len(keys[row]) > 1 and keys[row][0] != keys[row - 1][0]:
            axes.axhline(row - 0.5, color="black", lw=1.0)
    axes.spines[:].set_visible(False)


def _name_columns(axes: Axes, columns: pd.Index[Any]) -> None:
    axes.set_xticks(range(len(columns)), [str(name) for name in columns])
    axes.tick_params(axis="x", top=True, bottom=False, labeltop=True, labelbottom=False)
    for label in axes.get_xticklabels():
        label.set(rotation=30, ha="left", rotation_mode="anchor")


def _name(key: Sequence[Any]) -> str:
    return "  ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in key)


def _key(one: Any) -> tuple[Any, ...]:
    return one if isinstance(one, tuple) else (one,)
