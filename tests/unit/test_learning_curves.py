"""Learning curves: those that ship, and how they are drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sbs_gym.config.learned import learned_names
from sbs_gym.errors import ConfigError
from sbs_gym.report.curves_plot import (
    CURVE_COLUMNS,
    learning_curves_figure,
    read_curves,
    shipped_curves,
)


def table(*ratios_of_seeds):
    rows = [
        (seed, 1000.0 * (step + 1), ratio, 1.1)
        for seed, ratios in enumerate(ratios_of_seeds)
        for step, ratio in enumerate(ratios)
    ]
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


CURVES = {"one": table([1.0, 0.8], [0.9, 0.7], [1.2, 0.9]), "two": table([1.1, 1.0])}


def test_every_shipped_agent_has_the_curves_of_at_least_five_trainings():
    found = shipped_curves()
    assert sorted(found) == sorted(learned_names())
    for curves in found.values():
        assert curves["seed"].nunique() >= 5
        assert curves["seed"].is_monotonic_increasing  # seed behind seed
        assert curves.groupby("seed")["steps"].is_monotonic_increasing.all()
        assert curves[["ratio", "worst"]].gt(0).all(axis=None)


def test_every_training_is_a_thin_line_and_the_median_a_strong_one():
    one, two = learning_curves_figure(CURVES).axes
    *thin, median, _ = one.lines
    assert len(thin) == 3
    assert all(line.get_linewidth() < median.get_linewidth() for line in thin)
    assert thin[0].get_xdata().tolist() == [1.0, 2.0]
    assert median.get_ydata().tolist() == pytest.approx([1.0, 0.8])
    assert [text.get_text() for text in one.get_legend().get_texts()] == ["one training", "median"]
    assert two.get_title() == "two, training seeds: 1"
    assert median.get_marker() != two.lines[-2].get_marker()


def test_panels_share_a_scale_with_a_line_at_the_baseline():
    one, two = learning_curves_figure(CURVES, "sbs").axes
    assert one.get_ylim() == two.get_ylim()
    assert np.asarray(one.lines[-1].get_ydata()).tolist() == [1.0, 1.0]
    assert [text.get_text() for text in one.texts] == ["as sbs"]
    assert one.get_ylabel() == "validation ratio to sbs; lower is better"
    assert one.get_xlabel() == "decisions (thousands)"


def test_agents_without_a_validation_are_left_out_and_none_at_all_is_refused():
    assert len(learning_curves_figure(CURVES | {"three": table()}).axes) == 2
    with pytest.raises(ConfigError, match="curves hold no validation"):
        learning_curves_figure({"three": table()})


@pytest.mark.parametrize(
    "text, told",
    (("seed,steps,ratio\n0,1,2\n", "expected the column worst"), ("", "cannot be read")),
)
def test_a_file_that_holds_no_curves_is_named(tmp_path, text, told):
    path = tmp_path / "mine.curves.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"mine\.curves\.csv: {told}"):
        read_curves(path)
