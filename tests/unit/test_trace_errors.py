"""Bad input gets one clear error, or a counted report with the drop option."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from sbs_gym.config.workload import WorkloadConfig
from sbs_gym.errors import ConfigError, TraceError
from sbs_gym.types import RequestTable
from sbs_gym.workload import TraceReport, load_trace

GOOD = '{"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": [1]}\n'


def load(path: Path, content: str | bytes, **options: object) -> tuple[RequestTable, TraceReport]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_trace(WorkloadConfig(kind="trace", path=str(path), **options))  # type: ignore[arg-type]


def row(**change: object) -> str:
    return GOOD + json.dumps(
        {"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": [1], **change}
    )


BAD_ROWS = [
    (GOOD + '{"timestamp": 1, "input_le', "no JSON", "bad_json"),
    (GOOD + "[1, 2]", "object", "bad_json"),
    (row(input_length=-4), "input_length.*-4", "out_of_range"),
    (row(input_length=100_000_001), "100000001", "out_of_range"),
    (row(input_length=2.5), "whole", "out_of_range"),
    (row(input_length=0), "input_length.*found 0", "zero_input_tokens"),
    (row(input_length=None), "input_length.*missing", "missing_field"),
    (row(input_length=float("nan")), "nan", "not_a_number"),
    (row(input_length="many"), "many", "not_a_number"),
    (row(input_length=True), "True", "not_a_number"),
    (row(output_length=-1), "output_length", "out_of_range"),
    (row(output_length=None), "output_length.*missing", "missing_field"),
    (row(timestamp=None), "timestamp.*missing", "missing_field"),
    (row(timestamp="noon"), "timestamp.*noon", "not_a_number"),
    (row(hash_ids=[1.5]), "hash_ids.*1.5", "not_a_hash"),
    (row(hash_ids=[2**64]), "hash_ids", "not_a_hash"),
    (row(hash_ids={"a": 1}), "hash_ids", "not_a_hash"),
]


@pytest.mark.parametrize("content, told, reason", BAD_ROWS, ids=lambda value: str(value)[:20])
def test_bad_row_names_file_and_line_or_is_dropped_and_counted(
    tmp_path: Path, content: str, told: str, reason: str
) -> None:
    with pytest.raises(TraceError, match=rf"t\.jsonl, line 2.*{told}") as caught:
        load(tmp_path / "t.jsonl", content)
    assert caught.value.line == 2
    table, report = load(tmp_path / "t.jsonl", content, on_bad_row="drop")
    assert len(table) == 1
    assert report.dropped == {reason: 1}
    assert report.rows_read == report.rows_kept + 1


BAD_FILES = [
    (b"", "empty"),
    (b"\n\n", "no content"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4\nsize 1\n", "Git-LFS"),
    (b"\x00\x01\x02\x03" * 30, "binary"),
    (b"\xff\xfe\xfa" * 30, "UTF-8"),
    (gzip.compress(GOOD.encode() * 500, mtime=0)[:-20], "damaged"),  # no clock in a test id
    (b"\x1f\x8b\x08\x00junk-junk-junk-junk", "damaged"),
    (b"\xfd7zXZ\x00 junk", "damaged"),
    (b"PAR1 junk", "Parquet"),
    (b"1,2\n3,4\n", "no header"),
    (b"a,a\n3,4\n", "one name"),
    (b"# only\n# comments\n", "only comments"),
    (b"time,tokens\n1,2\n", "no known format.*time, tokens"),
    (b'{"when": 1}\n', "no known format.*when"),
    (b"arrived_at_s,input_tokens\n", "no usable row: the file has no rows, at most a header"),
    (b"[1, 2]\n", "list of objects"),
    (b"[{]\n", "no JSON"),
]


@pytest.mark.parametrize("content, told", BAD_FILES, ids=lambda value: str(value)[:20])
def test_file_that_cannot_be_read_says_why(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(TraceError, match=rf"t\.jsonl.*{told}"):
        load(tmp_path / "t.jsonl", content)


UNKNOWN = [
    (
        "timestamp,prompt_tokens,model\n1,2,x\n",
        "'workload.columns={arrived_at: timestamp, input_tokens: prompt_tokens}'",
    ),
    (
        "ts_ms;Prompt Tokens;completion_tokens\n1;2;3\n",
        '\'workload.columns={arrived_at: ts_ms, input_tokens: "Prompt Tokens", '
        "output_tokens: completion_tokens}' workload.time_unit=ms",
    ),
    ("a,b\n1,2\n", "'workload.columns={arrived_at: <column>, input_tokens: <column>}'"),
]


@pytest.mark.parametrize("content, words", UNKNOWN)
@pytest.mark.parametrize("named", ["auto", "generic"])
def test_unknown_columns_come_with_the_words_to_type(
    tmp_path: Path, content: str, words: str, named: str
) -> None:
    with pytest.raises(TraceError) as caught:
        load(tmp_path / "t", content, format=named)
    assert str(caught.value).endswith(f"the words workload.format=generic {words}")


def test_no_usable_row_tells_how_many_were_dropped_and_why(tmp_path: Path) -> None:
    content = "arrived_at_s,input_tokens\n0,0\n1,0\n"
    with pytest.raises(TraceError, match=r"all were dropped \(zero_input_tokens: 2\)"):
        load(tmp_path / "t", content, on_bad_row="drop")


def test_directory_is_told_from_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="is a directory"):
        load_trace(WorkloadConfig(kind="trace", path=str(tmp_path)))


def test_missing_file_and_missing_path_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such file"):
        load_trace(WorkloadConfig(kind="trace", path=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match=r"workload\.path is missing"):
        load_trace(WorkloadConfig(kind="trace"))


def test_wrong_format_name_says_what_was_expected_and_found(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"not azure: found fields timestamp.*ContextTokens"):
        load(tmp_path / "t", GOOD, format="azure")


def test_mapped_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="'prompt'"):
        load(tmp_path / "t", "a,b\n1,2\n", columns=(("input_tokens", "prompt"),))


def test_row_with_a_field_too_many_is_named_by_its_line(tmp_path: Path) -> None:
    content = "# comment\narrived_at_s,input_tokens\n0,5\n\n1,6,7\n2,8\n"
    with pytest.raises(TraceError, match=r"line 5: found 3 fields; expected 2 fields"):
        load(tmp_path / "t", content)
    table, report = load(tmp_path / "t", content, on_bad_row="drop")
    assert table.input_tokens.tolist() == [5, 8]
    assert report.dropped == {"wrong_number_of_fields": 1}


def test_impossible_date_is_refused(tmp_path: Path) -> None:
    content = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-40 18:15:46,1,1\n"
    with pytest.raises(TraceError, match=r"line 2.*TIMESTAMP.*2023-13-40"):
        load(tmp_path / "t", content)


def test_generic_blocks_need_their_size(tmp_path: Path) -> None:
    content = '{"arrived_at_s": 0, "input_tokens": 5, "block_hashes": [1]}\n'
    with pytest.raises(ConfigError, match=r"workload\.block_tokens"):
        load(tmp_path / "t", content)
    table, _ = load(tmp_path / "t", content, block_tokens=16)
    assert table.blocks is not None
