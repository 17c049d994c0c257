"""Figures of an evaluation: heat map, intervals per cell, gain over the fixed time of a pass."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sbs_gym.artifacts import Writer
from sbs_gym.report import style
from sbs_gym.report.ratio_map import ratio_map_figure

_MOST_SHOWN = 1.5  # where the axis of intervals ends: round_robin is off any useful scale
_MARGIN = 0.02


def heat_figure(cells: Sequence[Mapping[str, Any]], baseline: str) -> Figure:
    """Return TTFT ratios, cells down and policies across; cells that do not count are hatched."""
    policies = _policies(cells, baseline)
    keys = [(cell["workload"], float(cell["load"]), cell["arrivals"]) for cell in cells]
    table = pd.DataFrame(
        [[_ratio(cell, policy) for policy in policies] for cell in cells],
        index=pd.MultiIndex.from_tuples(keys, names=("workload", "load", "arrivals")),
        columns=policies,
    )
    return ratio_map_figure(
        table, baseline=baseline, counted=[bool(cell["admitted"]) for cell in cells]
    )


def cells_figure(cells: Sequence[Mapping[str, Any]], baseline: str) -> Figure:
    """Return the ratio of every policy in every cell with its 95 % interval.

    A ratio beyond the axis is an arrow at its edge.
    """
    policies = _policies(cells, baseline)
    with rc_context(style.RC):
        figure = Figure(figsize=(8.0, 1.2 + 0.26 * len(cells)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        lowest = 1.0
        for line, policy in enumerate(policies):
            places = np.arange(len(cells)) + 0.7 * ((line + 0.5) / len(policies) - 0.5)
            middle = np.array([_ratio(cell, policy) for cell in cells])
            ends = np.array([_ends(cell, policy) for cell in cells])
            colour = style.COLOURS[line % len(style.COLOURS)]
            axes.errorbar(
                middle,
                places,
                xerr=np.nan_to_num(np.abs(ends.T - middle)),
                fmt=style.MARKERS[line % len(style.MARKERS)],
                markersize=3,
                elinewidth=1,
                color=colour,
                label=policy,
            )
            beyond = places[middle > _MOST_SHOWN]
            axes.plot(
                np.full(len(beyond), _MOST_SHOWN - _MARGIN / 2), beyond, ">", color=colour, ms=5
            )
            lowest = min(lowest, float(np.nanmin([*middle, *ends.T[0], 1.0])))
        axes.axvline(1.0, color="black", linewidth=0.8)
        names = [f"{c['workload']} {c['load']:g} {c['arrivals']}" for c in cells]
        axes.set_yticks(range(len(cells)), names, fontsize=6)
        axes.set_ylim(len(cells) - 0.5, -0.5)
        # A blind scheduler may be at five times the baseline: the others would be one line.
        axes.set_xlim(lowest - _MARGIN, _MOST_SHOWN)
        axes.set_xlabel(f"mean TTFT / {baseline}, 95 % interval over seeds")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
        return figure


def fixed_time_figure(shifts: Sequence[Mapping[str, Any]], baseline: str) -> Figure:
    """Return the gain over the baseline against the fixed time of a pass, one panel per setting.

    Args:
        shifts: Cells of shift.json that set the fixed time.
        baseline: What is divided by.
    """
    settings = list(dict.fromkeys((one["workload"], one["load"]) for one in shifts))
    policies = _policies(shifts, baseline)
    with rc_context(style.RC):
        figure = Figure(figsize=(3.2 * len(settings) + 0.6, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        for place, setting in enumerate(settings):
            axes = figure.add_subplot(1, len(settings), place + 1)
            here = [one for one in shifts if (one["workload"], one["load"]) == setting]
            here.sort(key=lambda one: float(one["fixed_s"]))
            for line, policy in enumerate(policies):
                axes.plot(
                    [one["fixed_s"] * 1e3 for one in here],
                    [100.0 * (1.0 - _ratio(one, policy)) for one in here],
                    color=style.COLOURS[line % len(style.COLOURS)],
                    linestyle=style.LINE_STYLES[line % len(style.LINE_STYLES)],
                    marker="o",
                    markersize=3,
                    label=policy,
                )
            axes.axhline(0.0, color="black", linewidth=0.8)
            axes.set_title(f"{setting[0]}, load {setting[1]:g}")
            axes.set_xlabel("fixed time of a pass (ms)")
        figure.axes[0].set_ylabel(f"mean TTFT below {baseline} (%)")
        figure.axes[0].legend()
        return figure


def png_writer(figure: Figure) -> Writer:
    """Return a writer of a PNG file, the same bytes for the same figure."""

    def write(path: Path) -> None:
        with rc_context(style.RC):
            figure.savefig(path, format="png", metadata={"Software": None})

    return write


def _policies(cells: Sequence[Mapping[str, Any]], baseline: str) -> list[str]:
    found = dict.fromkeys(policy for cell in cells for policy in cell["policies"])
    return [policy for policy in found if policy != baseline]


def _ratio(cell: Mapping[str, Any], policy: str) -> float:
    return float(cell["policies"].get(policy, {}).get("ttft_ratio", math.nan))


def _ends(cell: Mapping[str, Any], policy: str) -> tuple[float, float]:
    told = cell["policies"].get(policy, {})
    low, high = (float(told.get(f"ttft_ratio_{end}", math.nan)) for end in ("low", "high"))
    return low, high
