"""Numbers with intervals, one per line: effects of changes, and measurements beside a theory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sbs_gym.report import style

_ROW_INCHES, _FRAME_INCHES = 0.24, 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One line of the figure.

    Attributes:
        group: Lines of a group stand together; its name stands at the first.
        name: What was changed.
        values: Series to (value, low, high), fractions or seconds; a NaN is not drawn.
        theory: A number that the first series shall meet; None without one.
    """

    group: str
    name: str
    values: dict[str, tuple[float, float, float]]
    theory: float | None = None


def effects_figure(
    effects: Sequence[Effect],
    label: str,
    *,
    unit: str = "fraction",
    band: tuple[float, float] | None = None,
) -> Figure:
    """Return dots with 95 % intervals, a line per effect.

    Args:
        effects: Lines, from the top.
        label: What stands across.
        unit: `fraction`, shown in per cent, or `s`, shown in ms.
        band: Range to shade, in the unit.
    """
    scale, shown = (100.0, "%") if unit == "fraction" else (1e3, "ms")
    series = list(dict.fromkeys(name for one in effects for name in one.values))
    with rc_context(style.RC):
        height = _FRAME_INCHES + _ROW_INCHES * (len(effects) + 0.5 * len(series))
        figure = Figure(figsize=(8.4, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        if band is not None:
            axes.axvspan(band[0] * scale, band[1] * scale, color="#e6e6e6", label="the paper")
        axes.axvline(0.0, color="black", linewidth=0.8)
        for place, name in enumerate(series):
            _draw_series(axes, effects, name, place, len(series), scale)
        _draw_theory(axes, effects, scale)
        _label_lines(axes, effects)
        axes.set_xlabel(f"{label} ({shown})")
        figure.legend(loc="outside lower center", ncols=3)
        return figure


def _draw_series(
    axes: Axes, effects: Sequence[Effect], name: str, place: int, count: int, scale: float
) -> None:
    shift = 0.5 * ((place + 0.5) / count - 0.5)
    known = [(k, e.values[name]) for k, e in enumerate(effects) if _is_known(e, name)]
    middle = [value * scale for _, (value, _, _) in known]
    ends = [
        [max(0.0, (v - low) * scale) if not math.isnan(low) else 0.0 for _, (v, low, _) in known],
        [
            max(0.0, (high - v) * scale) if not math.isnan(high) else 0.0
            for _, (v, _, high) in known
        ],
    ]
    axes.errorbar(
        middle,
        [k + shift for k, _ in known],
        xerr=ends,
        fmt="osD^"[place % 4],
        markersize=4,
        elinewidth=1.2,
        color=style.COLOURS[place % len(style.COLOURS)],
        label=name,
    )


def _is_known(effect: Effect, name: str) -> bool:
    return name in effect.values and not math.isnan(effect.values[name][0])


def _draw_theory(axes: Axes, effects: Sequence[Effect], scale: float) -> None:
    known = [(k, e.theory * scale) for k, e in enumerate(effects) if e.theory is not None]
    if known:
        places, values = zip(*known, strict=True)
        axes.scatter(values, places, marker="|", s=160, color="black", label="theory", zorder=3)


def _label_lines(axes: Axes, effects: Sequence[Effect]) -> None:
    first = [k == 0 or e.group != effects[k - 1].group for k, e in enumerate(effects)]
    labels = [
        f"{e.group}: {e.name}" if is_first else e.name
        for e, is_first in zip(effects, first, strict=True)
    ]
    axes.set_yticks(range(len(effects)), labels, fontsize=8)
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    for place in range(1, len(effects)):
        if first[place]:
            axes.axhline(place - 0.5, color="#b3b3b3", linewidth=0.8)
