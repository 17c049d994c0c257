"""Traces of sessions: nested records, turns that follow one another, names local to a session."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sbs_gym.config.workload import WorkloadConfig
from sbs_gym.types import RequestTable
from sbs_gym.workload import TraceReport, load_trace

AGENTIC = {
    "id": "s1",
    "block_size": 64,
    "requests": [
        {"t": 0.0, "type": "n", "in": 130, "out": 5, "hash_ids": [1, 2], "think_time": 0.0},
        {
            "t": 10.0,
            "type": "subagent",
            "agent_id": "x",
            "requests": [{"t": 2.5, "type": "n", "in": 70, "out": 6, "hash_ids": [1]}],
        },
        {"t": 30.0, "type": "n", "in": 140, "out": 7, "hash_ids": [1, 2], "think_time": 4.0},
    ],
}


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def load(path: Path, content: str | bytes, **options: object) -> tuple[RequestTable, TraceReport]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_trace(WorkloadConfig(kind="trace", path=str(path), **options))  # type: ignore[arg-type]


def test_session_file_is_flattened_with_its_subagents(tmp_path: Path) -> None:
    table, report = load(tmp_path / "t", lines(AGENTIC))
    assert not report.has_arrivals
    assert table.arrived_at_s.tolist() == [0.0, 12.5, 30.0]
    assert table.input_tokens.tolist() == [130, 70, 140]
    assert table.session_id is not None
    assert table.session_id.tolist() == [0, 1, 0]
    assert table.parent_id is not None
    assert table.parent_id.tolist() == [-1, -1, 0]
    assert table.delay_s is not None
    assert table.delay_s[2] == 4.0


def test_pretty_printed_session_document_is_read_too(tmp_path: Path) -> None:
    table, report = load(tmp_path / "t", json.dumps(AGENTIC, indent=1))
    assert report.format == "agentic"
    assert len(table) == 3


def test_local_block_ids_are_equal_within_a_session_only(tmp_path: Path) -> None:
    table, _ = load(tmp_path / "t", lines(AGENTIC, {**AGENTIC, "id": "s2"}))
    assert table.blocks is not None
    hashes = [
        set(table.blocks.hashes[start:stop].tolist())
        for start, stop in zip(table.blocks.offsets[:-1], table.blocks.offsets[1:], strict=True)
    ]
    # Order of arrival: both sessions at 0, their subagents at 12.5, their last turns at 30.
    assert hashes[0] == hashes[4]
    assert hashes[2] < hashes[0]
    assert not hashes[0] & hashes[1]


def test_sessions_can_be_started_at_a_rate(tmp_path: Path) -> None:
    records = [{**AGENTIC, "id": f"s{i}"} for i in range(5)]
    table, report = load(tmp_path / "t", lines(*records), session_rate_per_s=0.001)
    assert report.has_arrivals
    assert table.session_id is not None
    first = np.unique(table.session_id, return_index=True)[1]
    assert len(np.unique(table.arrived_at_s[first])) == len(first)


def test_sub_requests_follow_after_their_tool(tmp_path: Path) -> None:
    record = {
        "session_id": "a",
        "arrival_time_ns": 0,
        "sub_requests": [
            {"input_toks": 10, "output_toks": 1, "tool_duration_ns": 2_000_000_000},
            {"input_toks": 20, "output_toks": 1},
        ],
    }
    table, _ = load(tmp_path / "t", lines(record))
    assert table.arrived_at_s.tolist() == [0.0, 2.0]
    assert table.delay_s is not None
    assert table.delay_s[1] == 2.0


def test_turn_without_a_stamp_is_dated_by_its_delay(tmp_path: Path) -> None:
    first = {"timestamp": 1000, "input_length": 5, "output_length": 1, "session_id": "a"}
    later = {"delay": 250, "input_length": 6, "output_length": 1, "session_id": "a"}
    table, report = load(tmp_path / "t", lines(first, later))
    assert table.arrived_at_s.tolist() == [0.0, 0.25]
    assert any("delay" in note for note in report.notes)
