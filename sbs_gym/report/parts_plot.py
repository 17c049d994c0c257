"""Where a request's time goes, as a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sbs_gym.report import style

Parts = Mapping[str, Mapping[str, float]]
_LONGEST = {"facecolor": "#bbbbbb", "edgecolor": "white"}  # decode: calm, for it fills the axes
_ROW_INCHES, _FRAME_INCHES = 0.42, 1.7


def parts_figure(parts: Parts, title: str) -> Figure:
    """Return a request's time as stacked bars: until its first step, and to its end.

    The time in decode is so much longer than the waits before it that these have their own axes.

    Args:
        parts: Scheduler to part to mean seconds; the parts in order, the last one is decode. A NaN
            takes no room.
        title: Stands above the figure.
    """
    looks = {name: style.fill(place) for place, name in enumerate(next(iter(parts.values())))}
    looks[list(looks)[-1]] = _LONGEST
    with rc_context(style.RC):
        height = _FRAME_INCHES + _ROW_INCHES * len(parts)
        figure = Figure(figsize=(10.5, height), layout="constrained")
        FigureCanvasAgg(figure)
        before, whole = figure.subplots(1, 2, sharey=True)
        _draw_stacks(before, parts, dict(list(looks.items())[:-1]))
        before.set_title("until the first decode step")
        _draw_stacks(whole, parts, looks)
        whole.set_title("until the last token")
        handles, labels = whole.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        figure.suptitle(title, fontsize=11)
        return figure


def _draw_stacks(axes: Axes, parts: Parts, looks: Mapping[str, Mapping[str, Any]]) -> None:
    places = np.arange(len(parts))
    ends_ms = np.zeros(len(parts))
    for name, look in looks.items():
        length_ms = np.array([_milliseconds(one[name]) for one in parts.values()])
        axes.barh(places, length_ms, left=ends_ms, height=0.7, label=name, lw=0.5, **look)
        ends_ms += length_ms
    for place, end_ms in enumerate(ends_ms):
        text = style.milliseconds(end_ms / 1e3)
        at = (end_ms, place)
        axes.annotate(text, at, (4, 0), textcoords="offset points", va="center", size=8)
    axes.set_yticks(places, list(parts))
    axes.yaxis.set_inverted(True)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.set_xlabel("mean time (ms)")


def _milliseconds(seconds: float) -> float:
    return 0.0 if math.isnan(seconds) else seconds * 1e3
