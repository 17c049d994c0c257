"""KV over ranks and time: the maps show the steps that were recorded."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_simulate import TOY, config

from sbs_gym.config.groups import read_group
from sbs_gym.errors import ConfigError
from sbs_gym.report import style
from sbs_gym.report.kv_map import kv_grid, kv_map_figure, spread_of
from sbs_gym.simulate import simulate

ANSWERS = {**TOY["workload"], "output_tokens": {"family": "constant", "value_tokens": 30}}
TWO_DECODES = {**read_group("cluster", "toy"), "num_decode": 2}


@pytest.fixture(scope="module")
def results():
    runs = {
        name: config(workload=ANSWERS, cluster=TWO_DECODES, load=0.8, scheduler=name)
        for name in ("round_robin", "sbs")
    }
    return {name: simulate(run) for name, run in runs.items()}


def test_an_instant_shows_the_tokens_of_the_step_that_is_under_way(results):
    result = results["sbs"]
    row = result.steps.iloc[len(result.steps) // 2]
    middle_s = (row["started_at_s"] + row["ended_at_s"]) / 2
    grid = kv_grid("sbs", result, middle_s - 1e-4, middle_s + 1e-4, columns=1)
    first = int(row["instance"]) * 2
    assert grid[first : first + 2, 0].tolist() == list(row["kv_tokens_per_rank"])


def test_an_instant_outside_the_steps_of_an_instance_is_empty(results):
    first_s = results["sbs"].steps.groupby("instance")["started_at_s"].min()
    assert first_s[0] < first_s[1]
    ends = (first_s[0], first_s[1])  # here instance 1 has nothing to do yet
    grid = kv_grid("sbs", results["sbs"], *ends, columns=3)
    assert np.isnan(grid).any(axis=1).tolist() == [False, False, True, True]


def test_the_spread_over_the_whole_window_is_that_of_the_summary(results):
    # Instants far closer than steps are long: what is left is one instant per border of a step.
    for name, result in results.items():
        ends = (float(result.summary[f"window_{end}_at_s"]) for end in ("start", "end"))
        grid = kv_grid(name, result, *ends, columns=20_000)
        assert spread_of(grid, result) == pytest.approx(
            result.summary["kv_load_std_tokens"], rel=0.01
        )


def test_maps_share_one_scale_and_axes_have_units(results):
    figure = kv_map_figure(results, start_s=2.0, end_s=6.0)
    first, second, bar = figure.axes
    assert first.images[0].norm is second.images[0].norm
    assert first.images[0].get_array().shape == (4, 400)
    assert first.get_xlim() == second.get_xlim() == (2.0, 6.0)
    assert first.get_xlabel() == "time (s)"
    assert first.get_ylabel() == "decode rank (lines between instances)"
    assert bar.get_ylabel() == "KV on the rank (thousand tokens)"
    assert first.get_title().startswith("round_robin\nspread over ranks")
    assert first.images[0].get_cmap().name == style.HEAT


def test_the_colours_get_lighter_from_end_to_end():
    from matplotlib import colormaps

    red, green, blue, _ = colormaps[style.HEAT](np.linspace(0, 1, 50)).T
    assert (np.diff(0.2126 * red + 0.7152 * green + 0.0722 * blue) > 0).all()


def test_what_cannot_be_shown_is_refused(results):
    run = results["sbs"]
    bare = dataclasses.replace(run, steps=run.steps.drop(columns="kv_tokens_per_rank"))
    with pytest.raises(ConfigError, match="no decode step with kv_tokens_per_rank"):
        kv_map_figure({"bare": bare}, start_s=0.0, end_s=1.0)
    with pytest.raises(ConfigError, match="expected more than start_s"):
        kv_map_figure(results, start_s=1.0, end_s=1.0)
    with pytest.raises(ConfigError, match="round_robin has no decode step there; its steps lie in"):
        kv_map_figure(results, start_s=1e4, end_s=1e4 + 1)
