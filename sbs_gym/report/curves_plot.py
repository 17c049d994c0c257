"""Learning curves: how validation went while agents were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sbs_gym.errors import ConfigError
from sbs_gym.report import style
from sbs_gym.schedulers import learned
from sbs_gym.types import FloatArray

# Training seed, decisions so far, validation ratio to the baseline, and that of the worst cell.
CURVE_COLUMNS = ("seed", "steps", "ratio", "worst")
SUFFIX = ".curves.csv"  # beside the weights of a shipped agent


def learning_curves_figure(curves: Mapping[str, pd.DataFrame], baseline: str = "sbs") -> Figure:
    """Return one panel per agent: every training thin, their median strong; on one scale.

    Args:
        curves: Agent to its trainings, columns CURVE_COLUMNS.
        baseline: What the ratio is to.

    Raises:
        ConfigError: If no agent has a validation.
    """
    shown = {name: table for name, table in curves.items() if len(table)}
    if not shown:
        raise ConfigError("curves hold no validation; expected at least one row of one agent")
    with rc_context(style.RC):
        figure = Figure(figsize=(1.2 + 3.4 * len(shown), 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for place, (axes, (name, table)) in enumerate(zip(panels, shown.items(), strict=True)):
            _draw_agent(axes, place, table)
            axes.set_title(f"{name}, training seeds: {table['seed'].nunique()}")
            axes.set_xlabel("decisions (thousands)")
            axes.axhline(1.0, color="black", linewidth=0.9, linestyle=(0, (1, 1)))
            at = axes.get_yaxis_transform()  # a share of the width, and a ratio
            axes.text(0.99, 1.0, f"as {baseline}", transform=at, ha="right", va="bottom", size=8)
            axes.legend(loc="best")
        panels[0].set_ylabel(f"validation ratio to {baseline}; lower is better")
        return figure


def shipped_curves() -> dict[str, pd.DataFrame]:
    """Return agent to learning curves, of the agents that the package carries."""
    folder = Path(learned.__file__).parent
    found = sorted(folder.glob(f"*{SUFFIX}"))
    return {path.name.removesuffix(SUFFIX): read_curves(path) for path in found}


def read_curves(path: Path) -> pd.DataFrame:
    """Return the learning curves of a file of the columns CURVE_COLUMNS.

    Raises:
        ConfigError: If it cannot be read or lacks a column.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"{path}: cannot be read: {problem}") from None
    if missing := [name for name in CURVE_COLUMNS if name not in table]:
        raise ConfigError(f"{path}: expected the column {missing[0]}")
    return table[list(CURVE_COLUMNS)]


def common_steps(curves: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return decisions that all curves cover, and the curves there, shape (curves, decisions).

    Seeds validate at different decisions: between two validations a curve is taken as straight.

    Args:
        curves: Decisions and value of every validation, each of shape (validations, 2).
    """
    first = max(float(curve[0, 0]) for curve in curves)
    last = min(float(curve[-1, 0]) for curve in curves)
    steps = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
    steps = steps[(steps >= first) & (steps <= last)]
    if not len(steps):
        steps = np.array([first])  # they overlap nowhere: each at its nearest end
    values = np.stack([np.interp(steps, curve[:, 0], curve[:, 1]) for curve in curves])
    return steps, values


def _draw_agent(axes: Axes, place: int, table: pd.DataFrame) -> None:
    colour = style.COLOURS[place % len(style.COLOURS)]
    curves = [
        rows.sort_values("steps")[["steps", "ratio"]].to_numpy(dtype=float)
        for _, rows in table.groupby("seed")
    ]
    for line, curve in enumerate(curves):
        label = "one training" if line == 0 else None
        dot = "." if len(curve) == 1 else None  # imitation alone: there is no line to see
        x, y = curve[:, 0] / 1e3, curve[:, 1]
        axes.plot(x, y, color=colour, lw=0.8, alpha=0.6, marker=dot, label=label)
    steps, values = common_steps(curves)
    if table["steps"].nunique() == 1:
        axes.set_xticks(steps / 1e3)
    median = np.median(values, axis=0)
    marker = style.MARKERS[place % len(style.MARKERS)]
    axes.plot(
        steps / 1e3, median, color=colour, lw=2.2, marker=marker, markersize=4, label="median"
    )
