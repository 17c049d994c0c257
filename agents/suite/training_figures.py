"""Figures of trainings: learning curves, and what their suites said."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agents.suite.trainings import Training
from sbs_gym.report import style
from sbs_gym.report.curves_plot import CURVE_COLUMNS, learning_curves_figure


def curves_figure(found: Sequence[Training]) -> Figure:
    """Return the validation ratio over decisions, a panel per experiment."""
    return learning_curves_figure(
        {name: _curves(members) for name, members in by_experiment(found).items()}, "baseline"
    )


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


def _curves(members: Sequence[Training]) -> pd.DataFrame:
    """Return the validations of some trainings, numbered: seeds may be missing or occur twice."""
    rows = [
        (place, steps, ratio, math.nan)
        for place, one in enumerate(members)
        for steps, ratio in one.curve
    ]
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def _suite_ratio(one: Training) -> float:
    ratio = (one.headline or {}).get("ttft_ratio")
    return math.nan if ratio is None else float(ratio)
