"""Tables and figures of the whole path, from hand-made numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_report import figures, shown, summary

from sbs_gym.metrics.columns import SUMMARY_KEYS
from sbs_gym.report import decode_comparison, load_tables, plots, style, tables
from sbs_gym.report.loads_plot import loads_figure
from sbs_gym.report.parts_plot import parts_figure

NAN = float("nan")
NAMES = ("round_robin", "least_tokens", "work_conserving", "sbs", "sbs_budget")


def decode_summary(**changes):
    values = summary(
        prefill_mean_s=0.2,
        handoff_wait_mean_s=0.0123,
        transfer_mean_s=0.006,
        decode_wait_mean_s=0.0254,
        decode_mean_s=8.1,
        ttft_client_mean_s=0.321,
        ttft_client_p50_s=0.3,
        ttft_client_p90_s=0.9,
        ttft_client_p99_s=1.6,
        tpot_mean_s=0.0412,
        tpot_p50_s=0.04,
        tpot_p90_s=0.045,
        tpot_p99_s=0.061,
        e2e_mean_s=8.456,
        output_tokens_per_s=27_180.0,
        goodput_per_s=140.2,
        ttft_attainment_frac=0.99,
        tpot_attainment_frac=0.93,
        prefill_kv_blocked_s=0.0,
        num_preempted=12,
        num_refusals=34,
        num_steps=3456,
        step_mean_s=0.0612,
        batch_mean=40.4,
        kv_use_frac=0.61,
        kv_load_std_tokens=4321.0,
        kv_load_max_over_mean=1.234,
        decode_bubble_frac=0.071,
        decode_idle_frac=0.0,
        load_decode_frac=0.45,
        capacity_decode_requests_per_s=336.0,
        num_gpus=80,
        num_decode_gpus=32,
        input_tokens_per_prefill_gpu_s=3151.0,
        input_tokens_per_prefill_node_s=25_208.0,
        output_tokens_per_decode_gpu_s=849.0,
        output_tokens_per_decode_node_s=6795.0,
        cost_per_million_input_tokens=0.294,
        cost_per_million_output_tokens=1.636,
    )
    return values | changes


def runs(names=NAMES):
    rows = [
        {
            "scheduler": name,
            "seed": seed,
            **decode_summary(
                ttft_mean_s=0.45 - 0.05 * place + 0.001 * seed,
                tpot_mean_s=0.0412 - 0.001 * place + 0.0001 * seed,
                buffer_wait_mean_s=0.05 * (place > 2),
                handoff_wait_mean_s=0.05 - 0.01 * place,
            ),
        }
        for place, name in enumerate(names)
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows)


def paired():
    rows = [
        {"scheduler": name, "reference": "sbs", "metric": metric,
         "ratio": 1.25, "ratio_low": 1.2, "ratio_high": 1.3}
        for name in ("round_robin", "work_conserving")
        for metric in ("ttft_mean_s", "ttft_p99_s", "tpot_mean_s", "goodput_per_s")
    ]  # fmt: skip
    return pd.DataFrame(rows)


COMPARED = (
    decode_comparison.latencies_table,
    decode_comparison.parts_table,
    decode_comparison.throughput_table,
    decode_comparison.prefill_table,
    decode_comparison.decode_table,
    decode_comparison.kv_table,
)


@pytest.mark.parametrize("columns", [80, 100])
def test_every_table_of_the_whole_path_fits_eighty_columns(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    one = decode_summary()
    text = shown(
        capsys,
        *(table(runs()) for table in COMPARED),
        decode_comparison.paired_table(paired()),
        tables.latency_table(one),
        tables.decode_table(one),
        tables.gpu_table(one),
    )
    assert max(len(line) for line in text.splitlines()) <= columns
    assert "…" not in text
    assert "work_conserving" in text


def test_latencies_stand_with_their_tails(capsys):
    rows = shown(capsys, decode_comparison.latencies_table(runs())).splitlines()
    sbs = next(line.split() for line in rows if line.startswith("sbs "))
    assert sbs[:4] == ["sbs", "300", "6.4", "1,500"]  # half of 1 ms times t(0.975, 1) = 12.706
    assert sbs[4:] == ["321", "1,600", "38.2", "0.6", "61.0", "8,456"]


def test_difference_has_half_of_its_interval(capsys):
    assert "+25.0 ±5.0" in shown(capsys, decode_comparison.paired_table(paired()))
    assert style.difference(0.9, NAN, NAN) == "-10.0"
    assert style.difference(NAN, NAN, NAN) == "-"


def test_tables_name_only_keys_of_the_summary():
    keys = {*decode_comparison.PARTS.values(), *decode_comparison.PAIRED.values()}
    assert keys | set(load_tables.METRICS) | set(decode_summary()) <= set(SUMMARY_KEYS)


def test_a_run_tells_both_loads_and_what_a_token_costs(capsys):
    line = tables.rate_line(decode_summary())
    assert line.endswith("a capacity of 216.0 (prefill 0.70, decode 0.45)")
    text = shown(capsys, tables.gpu_table(decode_summary()))
    for words in ("80 GPUs", "25,208", "849", "0.29", "1.64"):
        assert words in text


def test_a_run_without_decode_shows_nothing_of_it(capsys):
    text = shown(capsys, tables.latency_table(summary()))
    assert "TPOT" not in text
    assert "client" not in text


def with_tpot():
    luck = np.random.default_rng(1)
    return [
        plots.SchedulerFigures(
            name=one.name,
            ttft_mean_s=one.ttft_mean_s,
            ttft_interval_s=one.ttft_interval_s,
            ttft_s=one.ttft_s,
            by_length_s=one.by_length_s,
            tpot_mean_s=0.04 - 0.001 * place,
            tpot_interval_s=(0.039 - 0.001 * place, 0.041 - 0.001 * place),
            tpot_s=luck.normal(0.04 - 0.001 * place, 0.004, 2000),
        )
        for place, one in enumerate(figures())
    ]


def test_tpot_has_a_row_of_its_own():
    figure = plots.comparison_figure(with_tpot(), "x")
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels[2].startswith("mean TPOT (ms)")
    assert labels[3] == "TPOT (ms)"
    assert len(labels) == 5


def test_parts_stack_up_to_the_whole_and_an_absent_one_takes_no_room():
    parts = decode_comparison.mean_parts(runs(("sbs", "lpt")))
    parts["lpt"]["transfer"] = NAN
    before, whole = parts_figure(parts, "x").axes
    widths = np.array([[bar.get_width() for bar in stack] for stack in whole.containers])
    sbs = [value * 1e3 for value in parts["sbs"].values()]
    assert widths[:, 0] == pytest.approx(sbs)
    assert widths[:, 1].sum() == pytest.approx(1e3 * np.nansum(list(parts["lpt"].values())))
    assert len(before.containers) == len(whole.containers) - 1
    assert before.get_xlabel().startswith("mean time (ms)")


def test_a_line_marks_the_first_token_behind_the_passes():
    parts = decode_comparison.mean_parts(runs(("sbs", "lpt")))
    before, whole = parts_figure(parts, "x").axes
    ttft_ms = [
        1e3 * sum(one[name] for name in ("buffer", "engine", "passes")) for one in parts.values()
    ]
    for axes in (before, whole):
        (marks,) = axes.collections
        assert [line[0, 0] for line in marks.get_segments()] == pytest.approx(ttft_ms)


def test_parts_without_decode_are_those_of_ttft():
    parts = decode_comparison.mean_parts(runs(("sbs", "lpt")))
    late = ("hand-off", "transfer", "decode wait", "decode")
    figure = parts_figure({k: v | dict.fromkeys(late, NAN) for k, v in parts.items()}, "x")
    (axes,) = figure.axes
    assert axes.get_title() == "until the first token"
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["waits in the buffer", "waits in the engine", "in prefill passes"]


def test_parts_figure_gives_the_same_bytes(tmp_path):
    parts = decode_comparison.mean_parts(runs())
    one, two = (
        plots.save_figure(parts_figure(parts, "x"), tmp_path, name)[0].read_bytes()
        for name in ("a", "b")
    )
    assert one == two


def test_loads_with_decode_show_tpot_and_goodput_beside_ttft(capsys):
    rows = [
        {"load": load, "scheduler": name, "overloaded_frac": 0.0}
        | {f"ttft_{end}_s": 0.4 + load for end in ("mean", "low", "high")}
        | {f"tpot_{end}_s": 0.04 for end in ("mean", "low", "high")}
        | dict.fromkeys(("goodput_per_s", "goodput_low_per_s", "goodput_high_per_s"), 100 * load)
        for load in (0.5, 0.9)
        for name in ("round_robin", "sbs")
    ]
    table = pd.DataFrame(rows)
    labels = [axes.get_ylabel().split(",")[0] for axes in loads_figure(table, "x").axes]
    assert labels == ["mean TTFT (ms)", "mean TPOT (ms)", "goodput (requests/s)"]
    better = {0.5: None, 0.9: None}
    text = shown(
        capsys,
        *(load_tables.means_table(table, better, 2, metric) for metric in load_tables.METRICS),
    )
    found = [line.split() for line in text.splitlines()]
    assert ["sbs", "40.0", "40.0"] in found
    assert ["sbs", "50.0", "90.0"] in found
