"""The figure of a validation: predicted against measured, both phases, fitted marked apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sbs_gym.report import style
from sbs_gym.timing.validate import ValidationPoint, ValidationReport

_BAND = 0.15
_PANELS = {"prefill": ("pass", "s", 1.0), "decode": ("step", "ms", 1e3)}
# Marker, filled, colour: shape and filling tell the kinds apart in greyscale.
_KINDS = {
    "not fitted": ("o", True, style.COLOURS[0]),
    "fitted: no evidence": ("s", False, style.COLOURS[1]),
    "another GPU, not scored": ("x", True, style.COLOURS[-1]),
}


def write_validation_figure(report: ValidationReport, path: Path) -> None:
    """Write a PNG of predicted against measured seconds, one panel per phase.

    Rates stand as the seconds of the pass or step they mean, a run reported in two units once;
    ratios and the dispatch of one layer are left out.
    """
    with rc_context(style.RC):
        figure = Figure(figsize=(7.2, 3.9), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, 2)
        for axes, (phase, words) in zip(panels, _PANELS.items(), strict=True):
            _draw(axes, phase, words, [p for p in report.points if p.phase == phase])
        handles, labels = panels[1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        figure.savefig(path, format="png", metadata={"Software": None})


def _draw(
    axes: Axes, phase: str, words: tuple[str, str, float], points: Sequence[ValidationPoint]
) -> None:
    what, unit, factor = words
    shown = [p for p in points if _kind(p) is not None and p.measured_s is not None]
    most = 1.1 * factor * max((max(_pair(p)) for p in shown), default=1.0 / factor)
    line = np.array([0.0, most])
    axes.fill_between(
        line, line * (1 - _BAND), line * (1 + _BAND), color="#e6e6e6", label=f"within {_BAND:.0%}"
    )
    axes.plot(line, line, color="#555555", linewidth=0.8)
    for kind, (marker, full, colour) in _KINDS.items():
        pairs = [_pair(p) for p in shown if _kind(p) == kind]
        axes.scatter(
            [factor * measured for measured, _ in pairs],
            [factor * predicted for _, predicted in pairs],
            marker=marker,
            s=34,
            facecolors=colour if full else "white",
            color=colour,
            label=kind,
            zorder=3,
        )
    axes.set_xlim(0.0, most)
    axes.set_ylim(0.0, most)
    axes.set_title(phase)
    axes.set_xlabel(f"measured {what}, {unit}")
    axes.set_ylabel(f"predicted {what}, {unit}")


def _pair(p: ValidationPoint) -> tuple[float, float]:
    return p.measured_s or 0.0, p.predicted_s or 0.0


def _kind(p: ValidationPoint) -> str | None:
    if p.predicted is None:
        return None
    if p.fitted:
        return "fitted: no evidence"
    if p.scored:
        return "not fitted"
    return "another GPU, not scored" if p.gpu == "H200" else None
