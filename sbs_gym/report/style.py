"""One look for all figures: colours, line styles, marks; and one way to write each unit."""

from __future__ import annotations

import math
from typing import Any

# Okabe and Ito's colours (jfly.uni-koeln.de/color), told apart by colour-blind readers. Yellow is
# left out (too light on white); line styles and hatches keep them apart in greyscale.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "++")
# Strokes of kinds of schedulers: sent at once, in batches, held until an engine is due, learned.
FAMILIES = {"immediate": "--", "batched": ":", "gated": "-", "learned": "-."}
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Rank time: work is dark and whole, a bubble (COLOURS[5], half way to white) hatched, idle pale.
WORK, BUBBLE, IDLE = COLOURS[0], "#F5CF85", "#d9d9d9"
LOOK_OF_WORK: Any = {"facecolor": WORK, "edgecolor": "none"}
LOOK_OF_BUBBLE: Any = {
    "facecolor": BUBBLE,
    "edgecolor": "#9a6a00",
    "hatch": "////",
    "linewidth": 0.4,
}
LOOK_OF_BUFFER: Any = {"facecolor": "#8fd0b8", "edgecolor": "#00543D", "linewidth": 0.4}
LOOK_OF_QUEUE: Any = {"facecolor": "#444444", "edgecolor": "#444444", "linewidth": 0.4}
# From dark to light in even steps of lightness, and told apart by colour-blind readers.
HEAT = "cividis"
RC: Any = {
    "figure.dpi": 120,
    "savefig.dpi": 160,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "sbs_gym",  # the same figure gives the same bytes
}
ABSENT = "-"


def line(place: int, family: str | None = None) -> dict[str, Any]:
    """Return how the line at a place looks, for matplotlib's plot.

    The family, one of FAMILIES, sets its stroke and whether marks are hollow: families are told
    apart at a glance, their members by mark and colour. Without one the stroke goes by the place.
    """
    colour = COLOURS[place % len(COLOURS)]
    stroke = LINE_STYLES[place % len(LINE_STYLES)] if family is None else FAMILIES[family]
    return {
        "color": colour,
        "linestyle": stroke,
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 4.5,
        "markerfacecolor": "white" if family == "immediate" else colour,
    }


def fill(place: int) -> dict[str, Any]:
    """Return colour and hatch of the bar or part at a place, for matplotlib's bars."""
    return {
        "facecolor": COLOURS[place % len(COLOURS)],
        "edgecolor": "white",
        "hatch": HATCHES[place % len(HATCHES)],
    }


def known(value: object) -> bool:
    """Return whether there is a value: neither None nor NaN."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with thousands separated, or `-` where there is none."""
    if value is None or math.isnan(value):
        return ABSENT
    return f"{value:,.{digits}f}"


def milliseconds(seconds: float | None) -> str:
    """Return a duration in ms: one decimal below 100 ms, whole numbers above."""
    if seconds is None or math.isnan(seconds):
        return ABSENT
    value = seconds * 1e3
    return number(value, 1 if abs(value) < 99.95 else 0)


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction in per cent, without the sign."""
    return number(None if fraction is None else fraction * 100, digits)


def signed_percent(fraction: float | None, digits: int = 1) -> str:
    """Return a relative difference in per cent, with its sign."""
    text = percent(fraction, digits)
    return text if text == ABSENT or text.startswith("-") else f"+{text}"


def difference(ratio: float, low: float, high: float) -> str:
    """Return a ratio as a difference in per cent with half of its interval: `+25.0 ±5.0`."""
    if math.isnan(ratio):
        return ABSENT
    middle = signed_percent(ratio - 1)
    return middle if math.isnan(low) else f"{middle} ±{percent((high - low) / 2)}"
