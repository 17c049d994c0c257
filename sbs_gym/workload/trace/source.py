"""From a file to numbered records: decompression, text, JSON lines, CSV and Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow
import pyarrow.parquet

from sbs_gym.errors import TraceError
from sbs_gym.workload.trace.report import BadRow, Intake, shown

Record = dict[str, Any]
Records = Iterator[tuple[int, Record]]
_LFS_POINTER = b"version https://git-lfs"
_LONGEST_CELL = 1 << 27  # characters of one CSV cell, for lists of block hashes


def read_records(path: Path, intake: Intake) -> Records:
    """Yield (line, record) of a JSON-lines, JSON, CSV or Parquet file, plain, .gz or .xz.

    Raises:
        TraceError: If the file is missing, empty, a Git-LFS pointer, damaged or no text.
    """
    if path.is_dir():
        raise TraceError(path, "is a directory", expected="a file")
    if not path.is_file():
        raise TraceError(path, "no such file")
    with path.open("rb") as raw:
        start = raw.read(64)
    if not start:
        raise TraceError(path, "the file is empty")
    if start.startswith(_LFS_POINTER):
        raise TraceError(path, "this is a Git-LFS pointer, not the data", expected="`git lfs pull`")
    if start.startswith(b"PAR1"):
        return _parquet_records(path)
    return _text_records(path, intake)


def _text_records(path: Path, intake: Intake) -> Records:
    lines = _numbered_lines(path)
    head = list(itertools.islice((pair for pair in lines if pair[1].strip()), 1))
    if not head:
        raise TraceError(path, "the file has no content")
    first = head[0][1].strip()
    if first.startswith(_LFS_POINTER.decode()):
        raise TraceError(path, "this is a Git-LFS pointer, not the data", expected="`git lfs pull`")
    every = itertools.chain(head, lines)
    if first == "{" or first.startswith("["):
        return _document_records(path, every)
    if first.startswith("{"):
        return _json_line_records(every, intake)
    return _csv_records(path, every, intake)


def _open_bytes(path: Path) -> IO[bytes]:
    with path.open("rb") as raw:
        start = raw.read(6)
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(path)  # type: ignore[return-value]
    if start == b"\xfd7zXZ\x00":
        return lzma.open(path)
    return path.open("rb")


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    line = 0
    try:
        with _open_bytes(path) as data, io.TextIOWrapper(data, "utf-8-sig", newline=None) as text:
            for content in text:
                line += 1
                if "\0" in content:
                    raise TraceError(path, "binary data", line=line, expected="text or Parquet")
                yield line, content
    except UnicodeDecodeError:
        raise TraceError(
            path, "binary data or another encoding", line=line + 1, expected="UTF-8 text or Parquet"
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise TraceError(path, f"damaged compressed data ({error})", line=line + 1) from None


def _json_line_records(lines: Iterable[tuple[int, str]], intake: Intake) -> Records:
    for line, text in lines:
        if not text.strip():
            continue
        try:
            yield line, _object(json.loads(text))
        except ValueError as error:
            intake.reject(BadRow("bad_json", f"no JSON ({error})"), line)
        except BadRow as bad:
            intake.reject(bad, line)


def _object(value: object) -> Record:
    if isinstance(value, dict):
        return value
    raise BadRow("bad_json", f"found {shown(value)}", expected="a JSON object per line")


def _document_records(path: Path, lines: Iterable[tuple[int, str]]) -> Records:
    try:
        content = json.loads("".join(text for _, text in lines))
        values = content if isinstance(content, list) else [content]
        return iter([(number, _object(value)) for number, value in enumerate(values, 1)])
    except json.JSONDecodeError as error:
        raise TraceError(path, f"no JSON ({error.msg})", line=error.lineno) from None
    except ValueError as error:
        raise TraceError(path, f"no JSON ({error})") from None
    except BadRow as bad:
        raise TraceError(path, bad.problem, expected="a JSON list of objects") from None


def _csv_records(path: Path, lines: Iterator[tuple[int, str]], intake: Intake) -> Records:
    names: list[str] | None = None
    for found in lines:
        line, text = found
        if not text.lstrip().startswith("#"):
            break
        names = _named_in_comment(text) or names
    else:
        raise TraceError(path, "only comments, no data")
    delimiter = max("\t;,", key=text.count)
    data = lines
    if names is None:
        names = [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter))]
        _require_header(path, line, names)
    else:
        data = itertools.chain([(line, text)], lines)
    return _csv_rows(path, data, names, delimiter, intake)


def _named_in_comment(text: str) -> list[str] | None:
    found = re.match(r"\s*#\s*columns:(.*)", text)
    return re.split(r"\s*(?:\\t|[\t,;])\s*", found[1].strip()) if found else None


def _require_header(path: Path, line: int, names: list[str]) -> None:
    if any(re.fullmatch(r"[-+.\d]+([eE][-+]?\d+)?", name) for name in names):
        raise TraceError(path, "no header", line=line, expected="a line with the column names")
    if len(set(names)) != len(names):
        raise TraceError(path, "two columns have one name", line=line, field=str(names))


def _csv_rows(
    path: Path,
    lines: Iterable[tuple[int, str]],
    names: list[str],
    delimiter: str,
    intake: Intake,
) -> Records:
    csv.field_size_limit(_LONGEST_CELL)
    current = 0

    def texts() -> Iterator[str]:
        nonlocal current
        for line, text in lines:
            current = line
            if text.strip() and not text.lstrip().startswith("#"):
                yield text

    try:
        for cells in csv.reader(texts(), delimiter=delimiter):
            if len(cells) == len(names):
                yield current, dict(zip(names, cells, strict=True))
                continue
            problem = f"found {len(cells)} fields"
            bad = BadRow("wrong_number_of_fields", problem, expected=f"{len(names)} fields")
            intake.reject(bad, current)
    except csv.Error as error:
        raise TraceError(path, f"no CSV ({error})", line=current) from None


def _parquet_records(path: Path) -> Records:
    try:
        row = 0
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(65_536):
                for record in batch.to_pylist():
                    row += 1
                    yield row, record
    except (pyarrow.ArrowException, OSError) as error:
        raise TraceError(path, f"no readable Parquet ({error})") from None
