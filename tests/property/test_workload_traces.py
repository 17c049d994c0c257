"""Whatever stands in a file, reading it gives a table or one of our errors, and counts add up."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sbs_gym.config.workload import WorkloadConfig
from sbs_gym.errors import ConfigError, TraceError
from sbs_gym.workload import describe, load_trace

RECORDS: tuple[dict[str, Any], ...] = (
    {"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": [1], "session_id": "a"},
    {"chat_id": 1, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 5, "output_length": 1},
    {"ts": 0, "il": 5, "ol": 1, "bh": ["7"], "ttfb": 1.0, "priority": 50},
    {"input_toks": 5, "output_toks": 1, "arrival_time_ns": 5},
    {"session_id": "a", "arrival_time_ns": 5, "sub_requests": [{"input_toks": 5}]},
    {"id": "a", "block_size": 64, "requests": [{"t": 0, "in": 5, "out": 1, "hash_ids": []}]},
    {"arrived_at_s": 0.0, "input_tokens": 5, "output_tokens": 1, "block_hashes": [2]},
    {
        "event": {
            "schema": "dynamo.request.trace.v1",
            "event_type": "request_end",
            "request": {"request_received_ms": 1, "input_tokens": 5, "output_tokens": 1},
        }
    },
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def read(content: bytes, **options: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t"
        path.write_bytes(content)
        config = WorkloadConfig(kind="trace", path=str(path), block_tokens=16, **options)
        try:
            table, report = load_trace(config)
        except (TraceError, ConfigError):
            return
    assert report.rows_kept == len(table) > 0
    assert report.rows_read == report.rows_kept + sum(report.dropped.values())
    describe(table, report)


@given(
    record=st.sampled_from(RECORDS),
    changes=st.dictionaries(st.integers(0, 9), VALUES, max_size=3),
    drop=st.booleans(),
)
def test_any_value_in_any_field_is_read_or_refused(
    record: dict[str, Any], changes: dict[int, Any], drop: bool
) -> None:
    fields = list(record)
    other = {**record, **{fields[k % len(fields)]: value for k, value in changes.items()}}
    lines = "".join(json.dumps(row) + "\n" for row in (record, other, record))
    read(lines.encode(), on_bad_row="drop" if drop else "error")


@given(
    record=st.sampled_from(RECORDS),
    cut=st.integers(0, 200),
    junk=st.binary(max_size=8),
    drop=st.booleans(),
)
def test_any_damage_to_a_file_is_read_or_refused(
    record: dict[str, Any], cut: int, junk: bytes, drop: bool
) -> None:
    content = (json.dumps(record) + "\n").encode() * 2
    damaged = content[:cut] + junk + content[cut + len(junk) :]
    read(damaged, on_bad_row="drop" if drop else "error")


@given(
    rows=st.lists(
        st.lists(st.text("0123456789.-,;#\"' enaNT:", max_size=6), min_size=2, max_size=4),
        max_size=5,
    ),
    drop=st.booleans(),
)
def test_any_text_in_a_table_is_read_or_refused(rows: list[list[str]], drop: bool) -> None:
    text = "arrived_at_s,input_tokens,output_tokens\n0,5,1\n"
    text += "".join(",".join(row) + "\n" for row in rows)
    read(text.encode(), on_bad_row="drop" if drop else "error")
