"""Figures of trainings: learning curves, and what their suites said."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agents.statistics import Array
from agents.suite.trainings import Training
from sbs_gym.report import style


def curves_figure(found: Sequence[Training]) -> Figure:
    """Return the validation ratio over decisions: median over seeds, band from best to worst."""
    with rc_context(style.RC):
        figure = Figure(figsize=(7.0, 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for place, (name, members) in enumerate(by_experiment(found).items()):
            curves = [one.curve for one in members if len(one.curve)]
            if not curves:
                continue
            steps, values = common_steps(curves)
            colour = style.COLOURS[place % len(style.COLOURS)]
            axes.plot(
                steps,
                np.median(values, axis=0),
                color=colour,
                marker=".",  # a curve of one validation is a point
                linestyle=style.LINE_STYLES[place % len(style.LINE_STYLES)],
                label=f"{name} ({len(curves)})",
            )
            ends = values.min(axis=0), values.max(axis=0)
            axes.fill_between(steps, *ends, color=colour, alpha=0.2, linewidth=0)
        axes.axhline(1.0, color="black", linewidth=0.8)
        axes.set_xlabel("decisions")
        axes.set_ylabel("validation ratio to the baseline")
        axes.set_title("median and range over training seeds")
        axes.legend()
        return figure


def suite_figure(found: Sequence[Training]) -> Figure:
    """Return the TTFT ratio over the suite: bar for the median seed, dots for all."""
    groups = {
        name: ratios
        for name, members in by_experiment(found).items()
        if (ratios := sorted(_suite_ratio(one) for one in members if one.headline))
    }
    with rc_context(style.RC):
        figure = Figure(figsize=(7.0, 1.4 + 0.5 * len(groups)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for place, ratios in enumerate(groups.values()):
            axes.barh(place, ratios[len(ratios) // 2], height=0.6, **style.fill(place))
            axes.plot(ratios, [place] * len(ratios), "o", color="black", markersize=3)
        axes.set_yticks(range(len(groups)), [f"{k} ({len(v)})" for k, v in groups.items()])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.axvline(1.0, color="black", linewidth=0.8)
        axes.set_xlabel("mean TTFT over the baseline's, geometric mean over admitted cells")
        return figure


def by_experiment(found: Sequence[Training]) -> dict[str, list[Training]]:
    """Return the trainings of every experiment, in the order given."""
    groups: dict[str, list[Training]] = {}
    for one in found:
        groups.setdefault(one.experiment, []).append(one)
    return groups


def common_steps(curves: Sequence[Array]) -> tuple[Array, Array]:
    """Return decisions that all curves cover, and the curves there, shape (curves, decisions).

    Seeds validate at different decisions: between two validations a curve is taken as straight.
    """
    first = max(float(curve[0, 0]) for curve in curves)
    last = min(float(curve[-1, 0]) for curve in curves)
    steps = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
    steps = steps[(steps >= first) & (steps <= last)]
    if not len(steps):
        steps = np.array([first])  # they overlap nowhere: each at its nearest end
    values = np.stack([np.interp(steps, curve[:, 0], curve[:, 1]) for curve in curves])
    return steps, values


def _suite_ratio(one: Training) -> float:
    ratio = (one.headline or {}).get("ttft_ratio")
    return math.nan if ratio is None else float(ratio)
