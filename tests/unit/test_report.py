"""Tables and figures: units, absent values, width, and the same bytes for the same figure."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from sbs_gym.metrics.intervals import mean_interval
from sbs_gym.report import comparison, plots, style, tables

NAN = float("nan")


def summary(**changes):
    values = {
        "ttft_mean_s": 0.2504,
        "ttft_p50_s": 0.0201,
        "ttft_p90_s": 0.9,
        "ttft_p99_s": 1.5,
        "buffer_wait_mean_s": 0.05,
        "engine_wait_mean_s": 0.1,
        "prefill_mean_s": NAN,
        "num_finished": 20_000,
        "num_rejected": 0,
        "requests_per_s": 151.26,
        "input_tokens_per_s": 151_260.0,
        "slo_attainment_frac": 0.987,
        "chunk_utilisation_frac": 0.5,
        "prefill_bubble_frac": 0.125,
        "prefill_idle_frac": 0.1,
        "num_passes": 1234,
        "pass_mean_s": 0.4,
        "rate_per_s": 151.2,
        "capacity_requests_per_s": 216.0,
        "load_prefill_frac": 0.7,
        "load_decode_frac": NAN,
        "num_decode_gpus": 0,
        "overloaded": False,
    }
    return values | changes


def runs():
    rows = [
        {"scheduler": name, "seed": seed, **summary(ttft_mean_s=mean + 0.01 * seed)}
        for name, mean in (("round_robin", 0.4), ("sbs", 0.3))
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows)


def paired():
    row = {"scheduler": "round_robin", "reference": "sbs", "num_pairs": 2}
    return pd.DataFrame(
        [
            {**row, "metric": "ttft_mean_s", "ratio": 1.25, "ratio_low": 1.2, "ratio_high": 1.3},
            {**row, "metric": "ttft_p99_s", "ratio": 0.9, "ratio_low": NAN, "ratio_high": NAN},
        ]
    )


def by_length(buckets=("16K-32K", "0-512", "2K-4K")):
    rows = [
        {"scheduler": name, "seed": 0, "input_tokens": bucket, "ttft_mean_s": mean}
        for name, mean in (("round_robin", 0.4), ("sbs", 0.3))
        for bucket in buckets
    ]
    return pd.DataFrame(rows)


def shown(capsys, *parts):
    tables.show(*parts)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "seconds, text",
    [(0.0123, "12.3"), (0.25, "250"), (12.5, "12,500"), (0.0, "0.0"), (NAN, "-"), (None, "-")],
)
def test_seconds_become_milliseconds(seconds, text):
    assert style.milliseconds(seconds) == text


def test_signs_are_written_and_absence_stays_absence():
    assert style.signed_percent(0.25) == "+25.0"
    assert style.signed_percent(-0.25) == "-25.0"
    assert style.signed_percent(NAN) == "-"


def test_the_interval_of_two_numbers_is_students():
    # Mean 2, standard error 1, t(0.975, 1) = 12.7062.
    mean, low, high = mean_interval([1.0, 3.0, NAN])
    assert (mean, round(low, 3), round(high, 3)) == (2.0, -10.706, 14.706)


def test_one_number_has_no_interval_and_none_no_mean():
    assert mean_interval([2.0])[0] == 2.0
    assert math.isnan(mean_interval([2.0])[1])
    assert math.isnan(mean_interval([])[0])


def test_the_tables_of_a_run_name_their_units_and_its_numbers(capsys):
    text = shown(capsys, tables.latency_table(summary()), tables.engine_table(summary()))
    assert "latency (ms)" in text
    for number in ("250", "20.1", "1,500", "151.3", "98.7", "12.5"):
        assert number in text


@pytest.mark.parametrize("overloaded, told", [(True, "YES"), (False, "no"), (None, "not known")])
def test_overload_is_told(overloaded, told):
    assert told in tables.overload_line(summary(overloaded=overloaded))


def test_rate_and_capacity_are_told():
    line = tables.rate_line(summary())
    assert line == "load 0.70: 151.2 requests/s of a capacity of 216.0"


def test_a_difference_carries_its_interval_and_one_seed_none(capsys):
    text = shown(capsys, comparison.paired_table(paired()))
    assert "+25.0 [+20.0, +30.0]" in text
    assert "-10.0" in text


def test_buckets_stand_in_the_order_of_their_lengths(capsys):
    text = shown(capsys, comparison.lengths_table(by_length()))
    header = next(line for line in text.splitlines() if "scheduler" in line)
    assert header.split() == ["scheduler", "0-512", "2K-4K", "16K-32K"]
    assert list(comparison.mean_by_length(by_length(), "sbs")) == ["0-512", "2K-4K", "16K-32K"]


def test_every_table_fits_eighty_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    buckets = ("0-512", "512-1K", "1K-2K", "2K-4K", "4K-8K", "8K-16K", "16K-32K", "32K+")
    text = shown(
        capsys,
        comparison.ttft_table(runs()),
        comparison.engines_table(runs()),
        comparison.paired_table(paired()),
        comparison.lengths_table(by_length(buckets)),
        tables.latency_table(summary()),
        tables.engine_table(summary()),
    )
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    assert "round_robin" in text


def test_facts_are_flat_rows(capsys):
    facts = {"a": {"b": 1.5}, "c": True, "d": None}
    rows = [line.split() for line in shown(capsys, tables.fact_table("x", facts)).splitlines()]
    for row in (["a.b", "1.5"], ["c", "yes"], ["d", "-"]):
        assert row in rows


def figures():
    luck = np.random.default_rng(0)
    return [
        plots.SchedulerFigures(
            name=name,
            ttft_mean_s=mean,
            ttft_interval_s=(mean * 0.97, mean * 1.03),
            ttft_s=luck.gamma(3, mean / 3, 2000),
            by_length_s={"0-512": mean * 0.8, "512-1K": mean, "2K-4K": mean * 1.3},
        )
        for name, mean in (
            ("round_robin", 0.45),
            ("least_tokens", 0.38),
            ("work_conserving", 0.3),
            ("sbs", 0.28),
            ("sbs_budget", 0.25),
        )
    ]


def test_every_axis_names_its_unit():
    figure = plots.comparison_figure(figures(), "sbs_short")
    labels = [axes.get_xlabel() for axes in figure.axes] + [figure.axes[2].get_ylabel()]
    assert labels[0].startswith("mean TTFT (ms)")
    assert labels[1:] == ["TTFT (ms)", "prompt length (tokens)", "mean TTFT (ms)"]


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for place in ("a", "b"):
        paths = plots.save_figure(plots.comparison_figure(figures(), "x"), tmp_path / place, "f")
        assert [path.suffix for path in paths] == [".png", ".svg"]
    for name in ("f.png", "f.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_scheduler_that_finished_nothing_leaves_a_gap():
    empty = plots.SchedulerFigures(
        name="none",
        ttft_mean_s=NAN,
        ttft_interval_s=(NAN, NAN),
        ttft_s=np.array([NAN]),
        by_length_s={},
    )
    figure = plots.comparison_figure([*figures()[:1], empty], "x")
    assert len(figure.axes) == 3
