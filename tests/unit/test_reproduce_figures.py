"""Figures of the report: what is drawn where, in which unit."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from sbs_gym.report.effects_plot import Effect, effects_figure
from sbs_gym.report.sweep_plot import SweepPanel, sweeps_figure


def sweep(title, values, grew=0.0):
    rows = [
        (name, "immediate" if name == "round_robin" else "gated", x, y, y - 0.1, y + 0.1, grew)
        for name, ys in values.items()
        for x, y in zip((100.0, 200.0), ys, strict=True)
    ]
    columns = ["scheduler", "family", "x", "mean", "low", "high", "overloaded_frac"]
    return SweepPanel(title=title, x_label="requests/s", rows=pd.DataFrame(rows, columns=columns))


def lines(axes):
    return {line.get_label(): line for line in axes.lines if len(line.get_xdata())}


def test_every_panel_has_a_line_and_a_band_per_scheduler_in_ms():
    values = {"round_robin": (0.4, 0.9), "sbs": (0.3, 0.5)}
    figure = sweeps_figure([sweep("short", values), sweep("long", values)], "mean TTFT", "s")
    assert [axes.get_title() for axes in figure.axes] == ["short", "long"]
    first = figure.axes[0]
    assert first.get_ylabel() == "mean TTFT (ms)"
    assert lines(first)["round_robin"].get_ydata().tolist() == pytest.approx([400.0, 900.0])
    assert len(first.collections) == 2
    looks = [{n: line.get_color() for n, line in lines(axes).items()} for axes in figure.axes]
    assert looks[0] == looks[1]


def test_a_ring_marks_where_ttft_still_grew():
    values = {"round_robin": (0.4, 0.9), "sbs": (0.3, 0.5)}
    assert "_grew" not in lines(sweeps_figure([sweep("s", values)], "x", "s").axes[0])
    assert "_grew" in lines(sweeps_figure([sweep("s", values, 0.5)], "x", "s").axes[0])


def test_a_line_far_above_the_others_leaves_the_picture():
    figure = sweeps_figure([sweep("s", {"round_robin": (1.0, 90.0), "sbs": (1.0, 2.0)})], "x", "s")
    assert figure.axes[0].get_ylim() == (0, pytest.approx(6000.0))


def test_effects_are_dots_at_their_values_with_the_group_named_once():
    effects = [
        Effect(group="window", name="none", values={"a": (0.1, 0.05, 0.15), "b": (0.2, 0.1, 0.3)}),
        Effect(group="window", name="half", values={"a": (-0.2, math.nan, math.nan)}),
        Effect(group="order", name="longest", values={"a": (math.nan,) * 3}),
    ]
    figure = effects_figure(effects, "change", band=(0.3, 0.4))
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == [
        "window: none", "half", "order: longest",
    ]  # fmt: skip
    drawn = {c.get_label(): c.lines[0].get_xdata().tolist() for c in axes.containers}
    assert drawn == {"a": pytest.approx([10.0, -20.0]), "b": pytest.approx([20.0])}
    assert axes.get_xlabel() == "change (%)"
    band = axes.patches[0]
    assert (band.get_x(), band.get_width()) == pytest.approx((30.0, 10.0))


def test_theory_stands_beside_the_simulation_in_ms():
    effect = Effect(group="wait", name="gate", values={"simulation": (0.21, 0.2, 0.22)}, theory=0.2)
    axes = effects_figure([effect], "mean wait", unit="s").axes[0]
    theory = next(c for c in axes.collections if c.get_label() == "theory")
    assert theory.get_offsets().tolist() == [pytest.approx([200.0, 0.0])]
    assert axes.get_xlabel() == "mean wait (ms)"
