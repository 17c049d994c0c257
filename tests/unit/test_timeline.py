"""The chart of passes: what is drawn is what the run recorded."""

from __future__ import annotations

import numpy as np
import pytest
from test_simulate import config

from sbs_gym.errors import ConfigError
from sbs_gym.report.timeline import middle_stretch, timeline_figure, waiting_at
from sbs_gym.simulate import simulate

START_S, END_S = 2.0, 5.0


@pytest.fixture(scope="module")
def results():
    return {name: simulate(config(scheduler=name, load=0.8)) for name in ("round_robin", "sbs")}


@pytest.fixture(scope="module")
def figure(results):
    return timeline_figure(results, start_s=START_S, end_s=END_S)


def outlines(axes):
    bubbles, work = axes.collections[:2]
    return [path.vertices for path in bubbles.get_paths()], [p.vertices for p in work.get_paths()]


def test_every_pass_of_the_stretch_is_a_bar_of_its_length_and_no_other(results, figure):
    for axes, result in zip(figure.axes[::2], results.values(), strict=True):
        passes = result.passes
        here = passes[(passes["ended_at_s"] > START_S) & (passes["started_at_s"] < END_S)]
        bars, _ = outlines(axes)
        assert len(bars) == len(here)
        assert [bar[:, 0].min() for bar in bars] == pytest.approx(here["started_at_s"].tolist())
        assert [bar[:, 0].max() for bar in bars] == pytest.approx(here["ended_at_s"].tolist())


def test_the_dark_part_of_a_bar_is_the_work_of_its_ranks(results, figure):
    for axes, result in zip(figure.axes[::2], results.values(), strict=True):
        passes = result.passes
        here = passes[(passes["ended_at_s"] > START_S) & (passes["started_at_s"] < END_S)]
        shares = [area(work) / area(bar) for bar, work in zip(*outlines(axes), strict=True)]
        recorded = here["cost_sum_s"] / (2 * here["cost_max_s"])
        assert shares == pytest.approx(recorded.tolist())


def area(outline):
    """Return the area of a closed outline (shoelace formula)."""
    x, y = outline[:-1].T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


def test_panels_share_the_axes_and_name_schedulers_instances_and_units(figure):
    assert {axes.get_xlim() for axes in figure.axes} == {(START_S, END_S)}
    assert figure.axes[1].get_ylim() == figure.axes[3].get_ylim()
    assert figure.axes[-1].get_xlabel() == "time (s)"
    titles = [axes.get_title(loc="left") for axes in figure.axes[::2]]
    assert titles[0].startswith("round_robin: every prompt is sent at once")
    assert titles[1].startswith("sbs: prompts are held")
    assert all(title.endswith(" ms") for title in titles)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [
        "prefill 1",
        "prefill 0",
    ]
    assert len(figure.legends[0].get_texts()) == 6


def test_who_waits_at_an_instant_has_come_and_not_gone():
    since, until = np.array([0.0, 1.0, 2.0, np.nan]), np.array([1.5, np.nan, 2.5, np.nan])
    found = waiting_at(since, until, np.array([0.0, 1.0, 1.5, 2.2, 9.0]))
    assert found.tolist() == [1, 2, 1, 2, 1]


def test_the_waits_are_those_of_the_requests(results, figure):
    in_engines, in_buffer = figure.axes[1].collections
    requests = results["round_robin"].requests
    assert in_buffer.get_datalim(figure.axes[1].transData).height > 0
    top = max(path.vertices[:, 1].max() for path in in_buffer.get_paths())
    instants = np.linspace(START_S, END_S, 700)
    waits = waiting_at(
        requests["arrived_at_s"].to_numpy(), requests["prefill_started_at_s"].to_numpy(), instants
    )
    assert top == waits.max()
    assert in_engines.get_paths()


def test_an_empty_stretch_is_refused_with_where_passes_lie(results):
    with pytest.raises(ConfigError, match=r"round_robin has no pass there; its passes lie in"):
        timeline_figure(results, start_s=1e4, end_s=1e4 + 1)
    with pytest.raises(ConfigError, match="expected more than start_s"):
        timeline_figure(results, start_s=2.0, end_s=2.0)


def test_the_middle_stretch_lies_inside_the_arrivals_of_all(results):
    start_s, end_s = middle_stretch(results, 3.0)
    last_s = min(one.requests["arrived_at_s"].max() for one in results.values())
    assert end_s - start_s == pytest.approx(3.0)
    assert 0 < start_s < end_s < last_s
    with pytest.raises(ConfigError, match="the time that all runs have arrivals in"):
        middle_stretch(results, 1e4)
