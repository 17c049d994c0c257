"""Figures of a suite: every cell is in the picture, and those off the scale are told."""

from __future__ import annotations

import math

import pytest

from agents.suite.figures import cells_figure, heat_figure
from sbs_gym.report.ratio_map import WORSE


def cell(load, admitted=True, **ratios):
    policies = {
        name: {"ttft_ratio": at, "ttft_ratio_low": at * 0.9, "ttft_ratio_high": at * 1.1}
        for name, at in ratios.items()
    }
    named = {"workload": "short", "load": load, "arrivals": "poisson", "admitted": admitted}
    return {**named, "policies": {"sbs": {"ttft_ratio": 1.0}, **policies}}


CELLS = [
    cell(0.5, blind=1.2, agent=0.8),
    cell(0.9, blind=7.0, agent=0.7),
    cell(0.95, admitted=False, blind=1.1),
]


def test_the_map_holds_every_cell_and_hatches_those_not_admitted():
    figure = heat_figure(CELLS, "sbs")
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert numbers == [f"{WORSE} 1.20", "0.80", f"{WORSE} 7.00", "0.70", f"{WORSE} 1.10", "-"]
    assert [patch.get_hatch() for patch in figure.axes[0].patches] == ["///"]


def test_the_axis_of_intervals_holds_what_there_is_and_no_empty_half():
    (axes,) = cells_figure(CELLS, "sbs").axes
    low, high = axes.get_xlim()
    assert low == pytest.approx(0.63 - 0.02)  # the lowest end of an interval and a margin
    assert high == 1.5


def test_a_ratio_beyond_the_axis_is_an_arrow_at_its_edge():
    (axes,) = cells_figure(CELLS, "sbs").axes
    arrows = [line for line in axes.lines if line.get_marker() == ">"]
    assert [len(line.get_xdata()) for line in arrows] == [1, 0]
    assert math.isclose(arrows[0].get_xdata()[0], 1.49)
    assert round(arrows[0].get_ydata()[0]) == 1
