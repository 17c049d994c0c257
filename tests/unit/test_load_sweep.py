"""Comparisons at several loads: the better immediate rule, marks, resumption, the figure."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from test_simulate import config

from sbs_gym import cells
from sbs_gym.compare import compare
from sbs_gym.errors import ConfigError
from sbs_gym.load_sweep import compare_loads, load_directory
from sbs_gym.report import load_tables, tables
from sbs_gym.report.loads_plot import family_of, loads_figure

NAMES = ("round_robin", "least_tokens", "sbs")


def configs(*names):
    runs = {name: config(scheduler=name, num_requests=60) for name in names or NAMES}
    return {n: dataclasses.replace(c, load=None, rate_per_s=None) for n, c in runs.items()}


@pytest.fixture(scope="module")
def sweep():
    return compare_loads(configs(), [0.4, 0.8], 2)


@pytest.fixture
def counted(monkeypatch):
    seen, run = [], cells.measured_run
    monkeypatch.setattr(cells, "measured_run", lambda c: (seen.append(c), run(c))[1])
    return seen


def test_every_load_is_the_comparison_at_that_load(sweep):
    assert sweep.loads == [0.4, 0.8]
    at_load = {name: dataclasses.replace(c, load=0.8) for name, c in configs().items()}
    pd.testing.assert_frame_equal(sweep.comparisons[0.8].runs, compare(at_load, 2).runs)


def test_the_better_immediate_rule_has_the_lowest_mean_and_is_never_a_gated_one(sweep):
    for load, better in sweep.better_immediate.items():
        at = sweep.table[sweep.table["load"] == load].set_index("scheduler")["ttft_mean_s"]
        assert better == at[["round_robin", "least_tokens"]].idxmin()
    assert compare_loads(configs("sbs", "lpt"), [0.5], 1).better_immediate == {0.5: None}


def test_ratio_is_the_paired_one_of_the_comparison(sweep):
    paired = sweep.comparisons[0.4].paired
    row = paired[
        (paired["metric"] == "ttft_mean_s")
        & (paired["scheduler"] == "round_robin")
        & (paired["reference"] == "sbs")
    ].iloc[0]
    expected = (row["ratio"], row["ratio_low"], row["ratio_high"])
    assert sweep.ratio(0.4, "round_robin", "sbs") == pytest.approx(expected)


def test_another_load_runs_only_what_is_new(tmp_path, counted):
    first = compare_loads(configs(), [0.4], 1, output_dir=tmp_path)
    assert len(counted) == 3
    seen = []
    both = compare_loads(
        configs(), [0.4, 0.8], 1, output_dir=tmp_path, progress=lambda *a: seen.append(a)
    )
    assert len(counted) == 6
    assert (seen[0], seen[-1]) == ((3, 6), (6, 6))
    pd.testing.assert_frame_equal(both.comparisons[0.4].runs, first.comparisons[0.4].runs)
    both.save(tmp_path)
    assert (load_directory(tmp_path, 0.8) / "comparison.json").is_file()


def test_a_folder_of_a_comparison_at_one_load_is_refused(tmp_path, counted):
    compare({n: dataclasses.replace(c, load=0.4) for n, c in configs().items()}, 1).save(tmp_path)
    before = len(counted)
    with pytest.raises(ConfigError, match="another configuration"):
        compare_loads(configs(), [0.4], 1, output_dir=tmp_path)
    assert len(counted) == before


def test_loads_named_twice_or_with_a_rate_are_refused():
    with pytest.raises(ConfigError, match="each once"):
        compare_loads(configs(), [0.4, 0.4], 1)
    with_rate = {n: dataclasses.replace(c, rate_per_s=1.0) for n, c in configs().items()}
    with pytest.raises(ConfigError, match="exclude each other"):
        compare_loads(with_rate, [0.4], 1)


def table(overloaded=0.0):
    rows = [
        (load, name, mean_s, mean_s - 0.01, mean_s + 0.01, overloaded if load == 0.9 else 0.0)
        for load in (0.5, 0.9)
        for name, mean_s in (("round_robin", 0.4 + load), ("sbs", 0.3 + load))
    ]
    columns = ["load", "scheduler", "ttft_mean_s", "ttft_low_s", "ttft_high_s", "overloaded_frac"]
    return pd.DataFrame(rows, columns=columns)


def test_the_table_tells_the_requests_per_second_of_every_load(sweep):
    for load, comparison in sweep.comparisons.items():
        at = sweep.table[sweep.table["load"] == load]
        assert at["rate_per_s"].tolist() == pytest.approx([comparison.runs["rate_per_s"][0]] * 3)


def test_means_carry_the_marks_that_the_legend_explains(capsys):
    better = {0.5: "round_robin", 0.9: "round_robin"}
    tables.show(load_tables.means_table(table(0.5), better, 2))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["round_robin", "900†", "1,300*†"] in lines
    assert ["sbs", "800", "1,200*"] in lines
    assert [line[0] for line in load_tables.legend(table(0.5), better)] == ["†", "*"]
    assert load_tables.legend(table(), {0.5: None, 0.9: None}) == []


def test_differences_are_per_cent_with_half_the_interval(capsys):
    found = {0.5: (1.25, 1.2, 1.3), 0.9: (0.9, np.nan, np.nan)}
    shown = load_tables.differences_table(
        "against sbs", ["round_robin"], dict.fromkeys(found, "sbs"), lambda load, *_: found[load]
    )
    tables.show(shown)
    assert "+25.0 ±5.0" in (out := capsys.readouterr().out)
    assert out.split()[-1] == "-10.0"


def test_the_figure_has_a_line_and_a_band_for_every_scheduler():
    axes = loads_figure(table(), "title").axes[0]
    assert [line.get_label() for line in axes.lines] == ["round_robin", "sbs"]
    assert axes.lines[0].get_ydata().tolist() == pytest.approx([900.0, 1300.0])
    assert len(axes.collections) == 2


def test_families_differ_in_stroke_and_members_in_their_mark():
    families = {name: family_of(run.scheduler) for name, run in configs(*NAMES, "lpt").items()}
    assert families == {
        "round_robin": "immediate",
        "least_tokens": "immediate",
        "sbs": "gated",
        "lpt": "gated",
    }
    assert family_of(config(scheduler="size_or_timeout").scheduler) == "batched"
    agent = config(scheduler="learned:window_ppo", cluster="h800_3p1d", timing={"kind": "linear"})
    assert family_of(agent.scheduler) == "learned"
    axes = loads_figure(table(), "title", families).axes[0]
    immediate, gated = axes.lines
    assert (immediate.get_linestyle(), gated.get_linestyle()) == ("--", "-")
    assert immediate.get_markerfacecolor() == "white"
    assert immediate.get_marker() != gated.get_marker()
    assert axes.get_legend().get_title().get_text() == "dashed: sent at once\nsolid: held back"


def test_requests_per_second_stand_above_the_load():
    rates = table().assign(rate_per_s=lambda rows: 200 * rows["load"])
    axes = loads_figure(rates, "title").axes[0]
    (above,) = axes.child_axes
    assert above.get_xlabel() == "requests per second"
    axes.figure.canvas.draw()
    assert above.get_xlim() == pytest.approx([200 * end for end in axes.get_xlim()])
    assert not loads_figure(table(), "title").axes[0].child_axes


def test_a_line_far_above_all_others_leaves_the_axes():
    far = table()
    far.loc[(far["scheduler"] == "round_robin") & (far["load"] == 0.9), "ttft_mean_s"] = 30.0
    assert loads_figure(far, "title").axes[0].get_ylim() == (0, pytest.approx(4 * 1200))
    low, high = loads_figure(table(), "title").axes[0].get_ylim()
    assert (low, high > 1300) == (0, True)
