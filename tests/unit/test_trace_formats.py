"""Every trace format: recognised by content, read into the same columns."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from sbs_gym.config.workload import TRACE_FORMATS, WorkloadConfig
from sbs_gym.types import RequestTable
from sbs_gym.workload import TraceReport, load_trace
from sbs_gym.workload.trace.formats import FORMATS

DYNAMO = {
    "event": {
        "schema": "dynamo.request.trace.v1",
        "event_type": "request_end",
        "agent_context": {"session_id": "a"},
        "request": {
            "request_received_ms": 1779163048815,
            "input_tokens": 20,
            "output_tokens": 3,
            "cached_tokens": 16,
            "ttft_ms": 250.0,
            "replay": {
                "trace_block_size": 16,
                "input_sequence_hashes": [18446744073709551615, 9223372036854775809],
            },
        },
    }
}


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


EXAMPLES = {
    "mooncake": lines(
        {"timestamp": 1000, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]},
        {"timestamp": 1500, "input_length": 100, "output_length": 7, "hash_ids": [0]},
    ),
    "bailian": lines(
        {"chat_id": 4, "parent_chat_id": -1, "timestamp": 3.5, "input_length": 600}
        | {"output_length": 5, "turn": 1, "type": "text", "hash_ids": [9]},
        {"chat_id": 5, "parent_chat_id": 4, "timestamp": 4.0, "input_length": 100}
        | {"output_length": 7, "turn": 2, "type": "text", "hash_ids": [9]},
    ),
    "rtp_llm": lines(
        {"ts": 0, "il": 600, "ol": 5, "bh": ["9223372036854775809"], "ttfb": 385.8, "priority": 70},
        {"ts": 500, "il": 100, "ol": 7, "bh": [], "ttfb": 100, "priority": 30},
    ),
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805900,600,5\r\n2023-11-16 18:15:47.1805900,100,7",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,GPT-4,600,5,605,Conversation log\n5.5,GPT-4,100,7,107,API log\n",
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens\n0.25,600,5\n0.75,100,7\n",
    "splitwise": "request_id,arrival_timestamp,prompt_size,token_size\n0,1.0,600,5\n1,1.5,100,7\n",
    "llmservingsim": lines(
        {"input_toks": 600, "output_toks": 5, "arrival_time_ns": 1700000000000000000},
        {"input_toks": 100, "output_toks": 7, "arrival_time_ns": 1700000000500000000},
    ),
    "generic": "arrived_at_s;input_tokens;output_tokens\n# a comment\n1.0;600;5\n\n1.5;100;7\n",
}


def load(path: Path, content: str | bytes, **options: object) -> tuple[RequestTable, TraceReport]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_trace(WorkloadConfig(kind="trace", path=str(path), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("named", [True, False])
def test_flat_format_is_read_whether_named_or_recognised(
    tmp_path: Path, name: str, named: bool
) -> None:
    table, report = load(tmp_path / "t", EXAMPLES[name], format=name if named else "auto")
    assert report.format == name
    assert table.arrived_at_s.tolist() == [0.0, 0.5]
    assert table.input_tokens.tolist() == [600, 100]
    assert table.output_tokens.tolist() == [5, 7]
    assert (report.rows_read, report.rows_kept, report.dropped) == (2, 2, {})


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_compressed_file_is_recognised_by_content(tmp_path: Path, pack: object) -> None:
    table, _ = load(tmp_path / "t.jsonl", pack(EXAMPLES["mooncake"].encode()))  # type: ignore[operator]
    assert len(table) == 2


def test_registry_has_the_formats_that_the_configuration_names() -> None:
    assert {known.name for known in FORMATS} | {"auto", "generic"} == set(TRACE_FORMATS)


def test_hashes_above_two_to_the_63_survive(tmp_path: Path) -> None:
    table, _ = load(tmp_path / "t", EXAMPLES["rtp_llm"])
    assert table.blocks is not None
    assert table.blocks.hashes.dtype == np.uint64
    assert table.blocks.hashes.tolist() == [9223372036854775809]
    assert table.blocks.offsets.tolist() == [0, 1, 1]
    assert table.blocks.block_tokens == 1024


def test_measured_times_come_in_seconds_and_priorities_as_numbers(tmp_path: Path) -> None:
    table, _ = load(tmp_path / "t", EXAMPLES["rtp_llm"])
    assert table.measured_ttft_s is not None
    assert table.measured_ttft_s.tolist() == pytest.approx([0.3858, 0.1])
    assert table.priority is not None
    assert table.priority.tolist() == [70, 30]
    assert table.measured_e2e_s is None


def test_chat_points_to_the_row_of_its_parent(tmp_path: Path) -> None:
    table, _ = load(tmp_path / "t", EXAMPLES["bailian"])
    assert table.parent_id is not None
    assert table.parent_id.tolist() == [-1, 0]
    assert table.session_id is not None
    assert table.session_id.tolist() == [0, 0]
    assert table.turn is not None
    assert table.turn.tolist() == [1, 2]


def test_dynamo_tells_requests_from_other_events(tmp_path: Path) -> None:
    tool = {"event": {"schema": "dynamo.request.trace.v1", "event_type": "tool_start"}}
    table, report = load(tmp_path / "t", lines(tool, DYNAMO))
    assert report.format == "dynamo"
    assert report.rows_read == report.rows_kept == 1
    assert any("1 events" in note for note in report.notes)
    assert table.blocks is not None
    assert table.blocks.hashes.tolist() == [18446744073709551615, 9223372036854775809]
    assert table.blocks.block_tokens == 16
    assert table.cached_tokens is not None
    assert table.cached_tokens.tolist() == [16]


def test_lengths_without_arrival_times_say_so(tmp_path: Path) -> None:
    table, report = load(tmp_path / "t", "num_prefill_tokens,num_decode_tokens\n9,2\n8,1\n")
    assert not report.has_arrivals
    assert table.arrived_at_s.tolist() == [0.0, 0.0]
    assert any("no arrival times" in note for note in report.notes)


@pytest.mark.parametrize(
    "name", ["arrived_at", "arrived_at_s", "arrival_time", "arrival_time_s", "arrived_s"]
)
@pytest.mark.parametrize("named", ["auto", "generic"])
def test_arrivals_under_our_own_words_are_read_from_the_first(
    tmp_path: Path, name: str, named: str
) -> None:
    content = f"{name},input_tokens,output_tokens\n1700000000.0,6,5\n1700000000.5,1,7\n"
    table, report = load(tmp_path / "t", content, format=named)
    assert report.has_arrivals
    assert report.notes == []
    assert table.arrived_at_s.tolist() == [0.0, 0.5]


def test_arrivals_without_a_unit_in_their_name_take_the_users(tmp_path: Path) -> None:
    content = "arrived_at,input_tokens\n0,6\n500,1\n"
    table, _ = load(tmp_path / "t", content, time_unit="ms")
    assert table.arrived_at_s.tolist() == [0.0, 0.5]


def test_columns_that_were_not_used_are_named_with_what_maps_them(tmp_path: Path) -> None:
    content = "timestamp,input_tokens,model,completion_tokens,user\n0,6,x,3,u\n"
    _, report = load(tmp_path / "t", content)
    assert not report.has_arrivals
    assert report.notes[:3] == [
        "column 'timestamp' was not used; map it with workload.columns={arrived_at: timestamp}",
        "column 'completion_tokens' was not used; "
        "map it with workload.columns={output_tokens: completion_tokens}",
        "not used: 'model', 'user'",
    ]


def test_columns_named_in_a_comment_are_read(tmp_path: Path) -> None:
    content = "# text\n# columns: relative_timestamp_ms\\tinput_tokens\n500\t7\n0\t8\n"
    table, report = load(tmp_path / "t", content)
    assert table.arrived_at_s.tolist() == [0.0, 0.5]
    assert table.input_tokens.tolist() == [8, 7]
    assert table.output_tokens.tolist() == [1, 1]
    assert not report.has_outputs


def test_column_map_and_time_unit_are_the_users(tmp_path: Path) -> None:
    table, _ = load(
        tmp_path / "t",
        "when,who,p,a\n1000000,x,5,1\n3500000,y,6,2\n",
        columns=(
            ("arrived_at", "when"),
            ("input_tokens", "p"),
            ("output_tokens", "a"),
            ("session_id", "who"),
        ),
        time_unit="us",
    )
    assert table.arrived_at_s.tolist() == [0.0, 2.5]
    assert table.session_id is not None
    assert table.session_id.tolist() == [0, 1]


def test_date_times_of_a_generic_file_need_no_unit(tmp_path: Path) -> None:
    content = "when,p\n2024-05-10 00:00:00.25,1\n2024-05-10 00:00:01,2\n"
    columns = (("arrived_at", "when"), ("input_tokens", "p"))
    table, _ = load(tmp_path / "t", content, columns=columns)
    assert table.arrived_at_s.tolist() == [0.0, 0.75]


def test_date_times_with_zones_are_compared_in_utc(tmp_path: Path) -> None:
    content = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    content += "2024-05-10 00:00:00.5+02:00,1,1\n2024-05-09T22:00:01Z,2,1\n"
    table, _ = load(tmp_path / "t", content)
    assert table.arrived_at_s.tolist() == [0.0, 0.5]


def test_parquet_with_unsigned_hashes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {
        "arrived_at_s": [0.0, 0.5],
        "input_tokens": [600, 100],
        "output_tokens": [5, 7],
        "block_hashes": pyarrow.array([[2**64 - 1], []], pyarrow.list_(pyarrow.uint64())),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    table, report = load_trace(WorkloadConfig(kind="trace", path=str(path), block_tokens=512))
    assert report.format == "generic"
    assert table.input_tokens.tolist() == [600, 100]
    assert table.blocks is not None
    assert table.blocks.hashes.tolist() == [2**64 - 1]


def test_name_of_a_table_is_the_stem_of_its_file(tmp_path: Path) -> None:
    table, _ = load(tmp_path / "morning.csv.gz", EXAMPLES["vidur"])
    assert table.name == "morning"
