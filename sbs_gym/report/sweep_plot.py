"""A number against the rate or the load, one line per scheduler, several settings side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sbs_gym.report import style

# Unit of a column: factor to the unit shown, and its name.
_SHOWN = {"s": (1e3, "ms"), "fraction": (100.0, "%"), "tokens": (1e-3, "thousand tokens")}
_WIDTHS = (7.0, 9.0, 11.5)  # inches, for one, two and three columns
_MOST_COLUMNS = len(_WIDTHS)
_STROKE_IN, _LETTER_IN = 0.65, 0.075  # of an entry of the legend: its stroke and gap, and a letter
_OFF_SCALE = 3.0  # times the second highest line: a line beyond it leaves the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPanel:
    """One setting of the figure.

    Attributes:
        title: Stands above it.
        x_label: What stands across, with its unit.
        rows: `scheduler`, `family` (of `style.FAMILIES`), `x`, `mean`, `low`, `high`,
            `overloaded_frac`; in order of drawing.
    """

    title: str
    x_label: str
    rows: pd.DataFrame


def sweeps_figure(panels: Sequence[SweepPanel], what: str, unit: str) -> Figure:
    """Return one axes per panel, lines with 95 % bands; a ring where TTFT still grew.

    Args:
        panels: Settings; a scheduler looks alike in all of them.
        what: The number that stands upwards.
        unit: `s`, `fraction`, `tokens`, or a unit that is shown as it is.
    """
    scale, shown = _SHOWN.get(unit, (1.0, unit))
    names = list(dict.fromkeys(name for panel in panels for name in panel.rows["scheduler"]))
    columns = min(_MOST_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    with rc_context(style.RC):
        figure = Figure(figsize=(_WIDTHS[columns - 1], 3.2 * lines + 0.7), layout="constrained")
        FigureCanvasAgg(figure)
        for place, panel in enumerate(panels):
            axes = figure.add_subplot(lines, columns, place + 1)
            _draw_panel(axes, panel, names, scale)
            axes.set_ylabel(f"{what} ({shown})" if place % columns == 0 else "")
        handles = {h.get_label(): h for axes in figure.axes for h in axes.lines}
        found = [handles[name] for name in names if name in handles]
        ncols = _entries_per_line(figure.get_figwidth(), names)
        figure.legend(found, names, loc="outside lower center", ncols=ncols)
        return figure


def _entries_per_line(width_in: float, names: Sequence[str]) -> int:
    """Return how many entries of a legend stand beside each other without being cut."""
    widest_in = _STROKE_IN + _LETTER_IN * max(map(len, names))
    return max(1, min(len(names), int(width_in / widest_in)))


def _draw_panel(axes: Axes, panel: SweepPanel, names: Sequence[str], scale: float) -> None:
    highest = []
    for name, rows in panel.rows.groupby("scheduler", sort=False):
        place = names.index(str(name))
        look = style.line(place, str(rows["family"].iloc[0]))
        x, mean = rows["x"].to_numpy(), rows["mean"].to_numpy() * scale
        axes.plot(x, mean, label=str(name), **look)
        low, high = rows["low"].to_numpy() * scale, rows["high"].to_numpy() * scale
        axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
        grew = rows["overloaded_frac"].to_numpy() > 0
        axes.plot(x[grew], mean[grew], "o", mfc="none", mec="black", markersize=9, label="_grew")
        highest.append(float(mean.max()))
    axes.set_ylim(bottom=0)
    ordered = sorted(highest)
    if len(ordered) > 1 and ordered[-1] > _OFF_SCALE * ordered[-2]:
        axes.set_ylim(top=_OFF_SCALE * ordered[-2])
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
