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
from sbs_gym.types import FloatArray

Parts = Mapping[str, Mapping[str, float]]
# What each part is called in the legend; other names stand as they are.
_TOLD = {
    "buffer": "waits in the buffer",
    "engine": "waits in the engine",
    "passes": "in prefill passes",
    "hand-off": "waits for a decode rank",
    "transfer": "KV on its way",
    "decode wait": "waits for a step",
    "decode": "in decode steps",
}
_LAST_OF_TTFT, _LONGEST = "passes", "decode"
_CALM = {"facecolor": "#bbbbbb", "edgecolor": "white"}  # decode fills its axes
_ROW_INCHES, _FRAME_INCHES = 0.42, 1.9
_NUMBER_FITS = 0.08  # of the longest bar


def parts_figure(parts: Parts, title: str) -> Figure:
    """Return a request's time as stacked bars: until its first step, and to its end.

    The time in decode is so much longer than the waits before it that these have their own axes;
    without decode there is one. A black line marks the first token.

    Args:
        parts: Scheduler to part to mean seconds, the parts in order. A NaN takes no room.
        title: Stands above the figure.
    """
    names = list(next(iter(parts.values())))
    looks = {name: style.fill(place) for place, name in enumerate(names)}
    early = {name: look for name, look in looks.items() if name != _LONGEST}
    decoded = any(not math.isnan(one.get(_LONGEST, math.nan)) for one in parts.values())
    with rc_context(style.RC):
        height = _FRAME_INCHES + _ROW_INCHES * len(parts)
        figure = Figure(figsize=(10.5 if decoded else 7.0, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, 1 + decoded, sharey=True, squeeze=False)[0]
        if decoded:
            _draw_stacks(axes[0], parts, early)
            axes[0].set_title("until the first decode step")
            _draw_stacks(axes[1], parts, {**looks, _LONGEST: _CALM})
            axes[1].set_title("until the last token")
        else:
            ttft = names[: names.index(_LAST_OF_TTFT) + 1]
            _draw_stacks(axes[0], parts, {name: looks[name] for name in ttft})
            axes[0].set_title("until the first token")
        handles, labels = axes[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        figure.suptitle(title, fontsize=11)
        return figure


def _draw_stacks(axes: Axes, parts: Parts, looks: Mapping[str, Mapping[str, Any]]) -> None:
    places = np.arange(len(parts))
    lengths_ms = {
        name: np.array([_milliseconds(one[name]) for one in parts.values()]) for name in looks
    }
    fits_ms = _NUMBER_FITS * float(np.max(np.sum(list(lengths_ms.values()), axis=0)))
    ends_ms = np.zeros(len(parts))
    for name, look in looks.items():
        length_ms, told = lengths_ms[name], _TOLD.get(name, name)
        axes.barh(places, length_ms, left=ends_ms, height=0.7, label=told, lw=0.5, **look)
        _write_lengths(axes, ends_ms, length_ms, fits_ms)
        ends_ms = ends_ms + length_ms
        if name == _LAST_OF_TTFT:
            axes.vlines(ends_ms, places - 0.42, places + 0.42, color="black", lw=1.5, zorder=4)
    for place, end_ms in enumerate(ends_ms):
        text = style.milliseconds(end_ms / 1e3)
        at = (end_ms, place)
        axes.annotate(text, at, (4, 0), textcoords="offset points", va="center", size=8)
    axes.set_yticks(places, list(parts))
    axes.yaxis.set_inverted(True)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.set_xlabel("mean time (ms); black line: first token")


def _write_lengths(
    axes: Axes, starts_ms: FloatArray, lengths_ms: FloatArray, fits_ms: float
) -> None:
    """Write the length of every part that is long enough; on white, for hatches would hide it."""
    ground = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}
    for place, (start, length) in enumerate(zip(starts_ms, lengths_ms, strict=True)):
        if length > fits_ms:
            text = style.milliseconds(length / 1e3)
            at = start + length / 2
            axes.text(at, place, text, ha="center", va="center", size=7, bbox=ground)


def _milliseconds(seconds: float) -> float:
    return 0.0 if math.isnan(seconds) else seconds * 1e3
