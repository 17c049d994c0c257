"""Latency and goodput against load, one line per scheduler with its band over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.report import load_tables, style
from sbs_gym.types import FloatArray

_ABOVE = 4.0  # times the lowest line's highest point: what is overloaded leaves the axes there


_TOLD = {
    "immediate": "dashed: sent at once",
    "batched": "dotted: sent in batches",
    "gated": "solid: held back",
    "learned": "dash-dotted: learned",
}


@dataclass(frozen=True, slots=True)
class _Panel:
    """What stands over the load: its label, columns of mean and interval, factor to the unit."""

    label: str
    mean: str
    low: str
    high: str
    scale: float
    may_explode: bool = False


_PANELS = (
    _Panel("mean TTFT (ms)", "ttft_mean_s", "ttft_low_s", "ttft_high_s", 1e3, True),
    _Panel("mean TPOT (ms)", "tpot_mean_s", "tpot_low_s", "tpot_high_s", 1e3),
    _Panel("goodput (requests/s)", "goodput_per_s", "goodput_low_per_s", "goodput_high_per_s", 1.0),
)


def loads_figure(
    table: pd.DataFrame, title: str, families: Mapping[str, str] | None = None
) -> Figure:
    """Return mean TTFT against load, one line per scheduler with its 95 % band.

    Where decode is modelled, mean TPOT and goodput stand beside it. Requests per second stand
    above. A scheduler whose TTFT is far above the others' leaves the axes at the top.

    Args:
        table: One row per load and scheduler: `load`, `scheduler`, `ttft_mean_s`, `ttft_low_s`,
            `ttft_high_s`, seconds; with decode the same of `tpot` and `goodput`; `rate_per_s` for
            the axis above.
        title: Stands above the figure.
        families: Scheduler to its family in `style.FAMILIES`, as `family_of` tells.
    """
    panels = _PANELS if load_tables.has_decode(table) else _PANELS[:1]
    with rc_context(style.RC):
        figure = Figure(figsize=(7.0 if len(panels) == 1 else 12.6, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        for place, panel in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), place + 1)
            for line, (name, rows) in enumerate(table.groupby("scheduler", sort=False)):
                look = style.line(line, (families or {}).get(str(name)))
                _draw_load_line(axes, look, str(name), rows.sort_values("load"), panel)
            axes.set_xlabel("load (fraction of capacity)")
            axes.set_ylabel(f"{panel.label}, 95 % band over seeds")
            axes.set_ylim(0, _top(table, panel) if panel.may_explode else None)
            _add_rates(axes, table)
        figure.axes[0].legend(
            loc="upper left", title=_strokes(families), title_fontsize=7, alignment="left"
        )
        figure.suptitle(title, fontsize=10)
        return figure


def family_of(scheduler: SchedulerConfig) -> str:
    """Return the family of a scheduler, a key of `style.FAMILIES`."""
    if scheduler.learned is not None:
        return "learned"
    if scheduler.gated:
        return "gated"
    return "immediate" if scheduler.release == "immediate" else "batched"


def _draw_load_line(
    axes: Axes, look: Mapping[str, object], name: str, rows: pd.DataFrame, panel: _Panel
) -> None:
    axes.plot(rows["load"].to_numpy(), (rows[panel.mean] * panel.scale).to_numpy(), label=name)
    axes.lines[-1].set(**look)
    low, high = rows[panel.low] * panel.scale, rows[panel.high] * panel.scale
    axes.fill_between(rows["load"], low, high, color=look["color"], alpha=0.2, linewidth=0)


def _strokes(families: Mapping[str, str] | None) -> str | None:
    """Return what the strokes of the families that occur mean."""
    found = set((families or {}).values())
    return "\n".join(told for family, told in _TOLD.items() if family in found) or None


def _top(table: pd.DataFrame, panel: _Panel) -> float | None:
    """Return where the axis ends if a line would press all others to the ground, else None."""
    highest = table.groupby("scheduler")[panel.mean].max() * panel.scale
    limit = _ABOVE * float(highest.min())
    return limit if float(highest.max()) > limit else None


def _add_rates(axes: Axes, table: pd.DataFrame) -> None:
    """Write the requests per second of every load above; one capacity holds for all loads."""
    if "rate_per_s" not in table or table["rate_per_s"].isna().any():
        return
    per_load = float(np.median(table["rate_per_s"] / table["load"]))

    def rates(loads: ArrayLike) -> FloatArray:
        return np.asarray(loads, dtype=float) * per_load

    def loads(rates: ArrayLike) -> FloatArray:
        return np.asarray(rates, dtype=float) / per_load

    above = axes.secondary_xaxis("top", functions=(rates, loads))
    above.set_xlabel("requests per second")
