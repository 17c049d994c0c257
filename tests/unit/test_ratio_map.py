"""The map of ratios: the numbers are computed, worse cells are marked, absent ones are said."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from sbs_gym.errors import ConfigError
from sbs_gym.report.ratio_map import WORSE, is_worse, ratio_map_figure, ratio_table

NAN = math.nan
TABLE = pd.DataFrame(
    [[1.2, 0.8], [1.004, NAN], [5.0, 0.9]],
    index=pd.MultiIndex.from_tuples([("short", 0.5), ("short", 0.9), ("long", 0.5)]),
    columns=["round_robin", "agent"],
)


def runs():
    ttft = {"round_robin": (0.4, 0.9), "sbs": (0.2, 0.3), "agent": (0.1, NAN)}
    rows = [
        {"workload": workload, "load": load, "scheduler": name, "seed": seed, "ttft_mean_s": value}
        for workload, load in (("short", 0.9), ("short", 0.5), ("long", 0.5))
        for name, values in ttft.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_ratio_is_the_geometric_mean_of_ratios_paired_by_seed():
    table = ratio_table(runs(), "ttft_mean_s", "sbs", ["workload", "load"])
    assert list(table.columns) == ["round_robin", "agent"]
    assert list(table.index) == [("short", 0.9), ("short", 0.5), ("long", 0.5)]
    assert table["round_robin"].tolist() == pytest.approx([math.sqrt(2 * 3)] * 3)
    assert table["agent"].tolist() == pytest.approx([0.5] * 3)  # of the seed that is known


def test_cells_may_be_named_by_one_column():
    table = ratio_table(runs().query("workload == 'short'"), "ttft_mean_s", "sbs", ["load"])
    assert [key[0] for key in table.index] == [0.9, 0.5]
    assert table["agent"].notna().all()


def test_a_baseline_that_did_not_run_is_refused():
    with pytest.raises(ConfigError, match="baseline='lpt' has no runs; expected one of round"):
        ratio_table(runs(), "ttft_mean_s", "lpt", ["load"])


def test_every_cell_has_its_number_and_worse_ones_a_mark():
    found = texts(ratio_map_figure(TABLE, baseline="sbs"))
    assert found == [f"{WORSE} 1.20", "0.80", "1.00", "-", f"{WORSE} 5.00", "0.90"]


def test_of_throughput_less_is_worse():
    found = texts(ratio_map_figure(TABLE, baseline="sbs", less_is_better=False))
    assert found == ["1.20", f"{WORSE} 0.80", "1.00", "-", "5.00", f"{WORSE} 0.90"]
    assert is_worse(1.02)
    assert not is_worse(1.004)
    assert not is_worse(NAN)


def test_rows_columns_and_the_scale_are_named():
    figure = ratio_map_figure(TABLE, baseline="sbs", counted=[True, False, True])
    axes, bar = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "short  0.5",
        "short  0.9",
        "long  0.5",
    ]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["round_robin", "agent"]
    assert bar.get_xlabel() == "mean TTFT / sbs"
    assert len(axes.lines) == 1  # between the two workloads
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == [f"{WORSE} worse than sbs", "not counted"]


def test_blue_is_better_and_equally_far_both_ways():
    (image,) = ratio_map_figure(TABLE, baseline="sbs").axes[0].images
    norm = image.norm
    assert norm(1.0) == pytest.approx(0.5)
    assert norm(0.8) + norm(1.25) == pytest.approx(1.0)
    assert image.get_array().mask.tolist() == [[False, False], [False, True], [False, False]]
    red, _, blue, _ = image.cmap(0.0)
    assert blue > red
    assert image.get_array().max() == 2.0  # beyond it all colours are one


def test_an_empty_table_is_refused():
    with pytest.raises(ConfigError, match="table has no ratio"):
        ratio_map_figure(TABLE[:0], baseline="sbs")
