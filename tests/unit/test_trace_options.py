"""Options of a trace: zero outputs, order, long prompts, windows, ticks, rate scaling."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sbs_gym.config.lengths import LengthConfig
from sbs_gym.config.workload import WorkloadConfig
from sbs_gym.errors import ConfigError, TraceError
from sbs_gym.types import PrefixBlocks, RequestTable
from sbs_gym.workload import TraceReport, load_trace, scale_trace

ROWS = "arrived_at_s,input_tokens,output_tokens\n10,100,1\n30,200,0\n20,300,3\n"


def load(path: Path, content: str, **options: object) -> tuple[RequestTable, TraceReport]:
    path.write_text(content, encoding="utf-8")
    return load_trace(WorkloadConfig(kind="trace", path=str(path), **options))  # type: ignore[arg-type]


def test_zero_output_is_kept_as_prefill_only_unless_told_otherwise(tmp_path: Path) -> None:
    table, report = load(tmp_path / "t", ROWS)
    assert table.output_tokens.tolist() == [1, 3, 0]
    assert any("1 rows with zero output" in note for note in report.notes)


def test_zero_output_can_be_dropped_and_the_clock_starts_at_the_first_row_kept(
    tmp_path: Path,
) -> None:
    content = "arrived_at_s,input_tokens,output_tokens\n10,100,0\n12.5,200,1\n20,300,3\n"
    table, report = load(tmp_path / "t", content, on_zero_output="drop")
    assert table.arrived_at_s.tolist() == [0.0, 7.5]
    assert report.dropped == {"zero_output": 1}


def test_zero_output_can_be_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"line 3, field 'output_tokens': found 0"):
        load(tmp_path / "t", ROWS, on_zero_output="error")


def test_unsorted_rows_are_sorted_and_counted_or_refused(tmp_path: Path) -> None:
    table, report = load(tmp_path / "t", ROWS)
    assert table.input_tokens.tolist() == [100, 300, 200]
    assert not report.was_sorted
    assert any(note.startswith("1 rows are earlier") for note in report.notes)
    with pytest.raises(TraceError, match=r"line 4.*earlier"):
        load(tmp_path / "t", ROWS, on_unsorted="error")


def test_equal_stamps_stay_in_the_order_of_the_file(tmp_path: Path) -> None:
    content = "arrived_at_s,input_tokens\n" + "".join(f"{5 - i // 10},{i + 1}\n" for i in range(30))
    table, _ = load(tmp_path / "t", content)
    assert table.input_tokens.tolist() == [*range(21, 31), *range(11, 21), *range(1, 11)]


@pytest.mark.parametrize(
    "action, inputs, dropped", [("drop", [100], {"too_long": 2}), ("clip", [100, 150, 150], {})]
)
def test_long_prompts_are_dropped_or_clipped(
    tmp_path: Path, action: str, inputs: list[int], dropped: dict[str, int]
) -> None:
    table, report = load(tmp_path / "t", ROWS, max_input_tokens=150, on_too_long=action)
    assert table.input_tokens.tolist() == inputs
    assert report.dropped == dropped


def test_long_prompt_is_an_error_by_default(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"line 3.*found 200.*at most 150"):
        load(tmp_path / "t", ROWS, max_input_tokens=150)


def test_clipped_prompt_loses_the_blocks_beyond_its_end(tmp_path: Path) -> None:
    record = {"timestamp": 0, "input_length": 1500, "output_length": 1, "hash_ids": [1, 2, 3]}
    table, _ = load(tmp_path / "t", json.dumps(record), max_input_tokens=600, on_too_long="clip")
    assert table.blocks is not None
    assert table.blocks.hashes.tolist() == [1, 2]


def test_window_keeps_arrivals_from_its_start_up_to_its_end(tmp_path: Path) -> None:
    content = "arrived_at_s,input_tokens\n" + "".join(f"{i},{i + 1}\n" for i in range(10))
    table, report = load(tmp_path / "t", content, start_s=3.0, duration_s=2.0)
    assert table.arrived_at_s.tolist() == [0.0, 1.0]
    assert table.input_tokens.tolist() == [4, 5]
    assert report.dropped == {"outside_window": 8}
    assert report.rows_read == report.rows_kept + 8


def test_window_beyond_the_trace_says_that_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no row is left"):
        load(tmp_path / "t", ROWS, start_s=500.0)


def test_spreading_moves_each_row_less_than_a_tick_and_sorts_again(tmp_path: Path) -> None:
    content = "arrived_at_s,input_tokens\n" + "".join(
        f"{3 * (i // 8)},{i + 1}\n" for i in range(80)
    )
    plain, _ = load(tmp_path / "t", content)
    table, report = load(tmp_path / "t", content, spread_ticks_s=3.0)
    stamp = dict(zip(plain.input_tokens.tolist(), plain.arrived_at_s.tolist(), strict=True))
    moved = table.arrived_at_s - np.array([stamp[n] for n in table.input_tokens.tolist()])
    assert (moved >= 0).all()
    assert (moved < 3.0).all()
    assert len(np.unique(table.arrived_at_s)) == 80
    assert any("spread" in note for note in report.notes)


def test_missing_answers_are_drawn_from_a_given_law(tmp_path: Path) -> None:
    law = LengthConfig(family="constant", value_tokens=9)
    table, report = load(tmp_path / "t", "arrived_at_s,input_tokens\n0,5\n", output_tokens=law)
    assert table.output_tokens.tolist() == [9]
    assert not report.has_outputs


def test_blocks_can_be_left_out_of_memory(tmp_path: Path) -> None:
    record = {"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1, 2]}
    table, _ = load(tmp_path / "t", json.dumps(record), keep_blocks=False)
    assert table.blocks is None


def regular_table(count: int) -> RequestTable:
    """One request per second; pairs of rows form sessions; each has its own block."""
    return RequestTable(
        arrived_at_s=np.arange(count, dtype=np.float64),
        input_tokens=np.arange(1, count + 1, dtype=np.int32),
        output_tokens=np.ones(count, dtype=np.int32),
        name="regular",
        session_id=np.arange(count) // 2,
        parent_id=np.where(np.arange(count) % 2 == 1, np.arange(count) - 1, -1),
        blocks=PrefixBlocks(
            hashes=np.arange(count, dtype=np.uint64),
            offsets=np.arange(count + 1),
            block_tokens=16,
        ),
    )


def test_compressing_divides_all_times(tmp_path: Path) -> None:
    fast = scale_trace(regular_table(11), rate_per_s=2.0, scaling="compress", seed=0)
    assert fast.arrived_at_s.tolist() == [i / 2 for i in range(11)]


def test_thinning_keeps_about_its_share_and_the_time_axis() -> None:
    table = regular_table(4000)
    thin = scale_trace(table, rate_per_s=0.25, scaling="thin", seed=0)
    # Binomial(4000, 1/4): four standard deviations are 110.
    assert abs(len(thin) - 1000) < 110
    assert set(thin.arrived_at_s) <= set(table.arrived_at_s)
    assert thin.parent_id is not None
    assert thin.session_id is not None
    linked = np.flatnonzero(thin.parent_id >= 0)
    assert (thin.session_id[linked] == thin.session_id[thin.parent_id[linked]]).all()
    assert len(linked) < len(thin) / 4


def test_overlay_adds_shifted_copies_with_sessions_and_blocks_of_their_own() -> None:
    table = regular_table(100)
    busy = scale_trace(table, rate_per_s=2.5, scaling="overlay", seed=0)
    assert abs(len(busy) - 250) < 4 * 5
    assert busy.arrived_at_s[-1] < 100.0
    assert busy.session_id is not None
    assert np.bincount(busy.session_id).max() == 2
    assert busy.blocks is not None
    assert len(np.unique(busy.blocks.hashes)) == len(busy)
    assert busy.parent_id is not None
    linked = np.flatnonzero(busy.parent_id >= 0)
    assert (busy.session_id[linked] == busy.session_id[busy.parent_id[linked]]).all()
    counts = np.bincount(busy.input_tokens, minlength=101)[1:]
    assert set(counts) == {2, 3}


@pytest.mark.parametrize("scaling, rate_per_s", [("thin", 2.0), ("overlay", 0.5)])
def test_scaling_that_cannot_reach_the_rate_is_refused(scaling: str, rate_per_s: float) -> None:
    with pytest.raises(ConfigError, match="thin for less, overlay for more"):
        scale_trace(regular_table(10), rate_per_s=rate_per_s, scaling=scaling, seed=0)


def test_rows_without_times_have_no_rate_to_scale(tmp_path: Path) -> None:
    table, _ = load(tmp_path / "t", "num_prefill_tokens,num_decode_tokens\n9,2\n8,1\n")
    with pytest.raises(ConfigError, match="with_arrivals"):
        scale_trace(table, rate_per_s=1.0, scaling="compress", seed=0)
