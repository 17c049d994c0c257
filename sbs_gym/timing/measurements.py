"""Read published or own measurements: one row per figure, values converted to base units.

Columns: source, url, gpu, phase, ep, dp, tokens_per_rank, batch_per_rank, context_len, metric,
value, unit, status, note. `value` may be a range `low-high`; `note` holds `key=value` pairs.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from sbs_gym.errors import TraceError

PUBLISHED = Path(__file__).parent / "published.csv"
_NUMBERS = ("ep", "dp", "tokens_per_rank", "batch_per_rank", "context_len")
COLUMNS = ("source", "url", "gpu", "phase", *_NUMBERS, "metric", "value", "unit", "status", "note")
# Base units: s, tok/s, bytes/s, FLOP/s, and plain numbers.
UNITS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "tok/s": 1.0,
    "GB/s": 1e9,
    "TFLOPS": 1e12,
    "ratio": 1.0,
    "%": 0.01,
    "tokens": 1.0,
    "nodes": 1.0,
}

_BASE = {"us": "s", "ms": "s", "GB/s": "bytes/s", "TFLOPS": "FLOP/s", "ratio": "", "%": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One row of a calibration file.

    Attributes:
        source, url, gpu, phase, metric, unit, status: As in the file.
        ep, dp, tokens_per_rank, batch_per_rank, context_len: None where the row says nothing.
        value: In the base unit of `unit`; the middle of a range.
        note: The `key=value` pairs of the note.
        note_text: The whole note.
        line: Line in the file; the header is line 1.
    """

    source: str
    url: str
    gpu: str
    phase: str
    metric: str
    unit: str
    status: str
    ep: int | None
    dp: int | None
    tokens_per_rank: int | None
    batch_per_rank: int | None
    context_len: int | None
    value: float
    note: dict[str, str] = field(hash=False)
    note_text: str
    line: int

    def number(self, key: str) -> float:
        """Return the number that the note gives for `key`; NaN if it does not."""
        try:
            return float(self.note[key].split()[0])
        except (KeyError, ValueError, IndexError):
            return math.nan


def read_measurements(path: str | Path) -> list[Measurement]:
    """Return the rows of a CSV file.

    Raises:
        TraceError: If the file cannot be read, a column is missing, or a cell is not usable.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise TraceError(path, "no such file", expected="a CSV file") from None
    except (ValueError, OSError) as problem:
        raise TraceError(path, f"cannot be read ({problem})") from problem
    for name in COLUMNS:
        if name not in frame:
            raise TraceError(path, "column is missing", field=name, expected=", ".join(COLUMNS))
    rows = (dict(zip(COLUMNS, row, strict=True)) for row in frame[list(COLUMNS)].to_numpy())
    return [_row(path, line, row) for line, row in enumerate(rows, start=2)]


def base_unit(unit: str) -> str:
    """Return the unit of values that a file gives in `unit`; nothing for a plain number."""
    return _BASE.get(unit, unit)


def checksum(path: str | Path) -> str:
    """Return the SHA-256 of a file, so that a fit names exactly what it was fitted to."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _row(path: str | Path, line: int, row: dict[str, str]) -> Measurement:
    if row["unit"] not in UNITS:
        known = ", ".join(UNITS)
        raise TraceError(
            path, f"{row['unit']!r} is not known", line=line, field="unit", expected=known
        )
    numbers = {name: _count(path, line, name, row[name]) for name in _NUMBERS}
    pairs = (part.split("=", 1) for part in row["note"].split(";") if "=" in part)
    return Measurement(
        source=row["source"],
        url=row["url"],
        gpu=row["gpu"],
        phase=row["phase"],
        metric=row["metric"],
        unit=row["unit"],
        status=row["status"],
        **numbers,
        value=_value(path, line, row["value"]) * UNITS[row["unit"]],
        note={key.strip(): value.strip() for key, value in pairs},
        note_text=row["note"],
        line=line,
    )


def _count(path: str | Path, line: int, name: str, text: str) -> int | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value >= 0 and value == math.floor(value)):
        wanted = "a whole number of at least 0, or nothing"
        raise TraceError(path, f"{text!r} is not usable", line=line, field=name, expected=wanted)
    return int(value)


def _value(path: str | Path, line: int, text: str) -> float:
    parts = text.split("-") if "-" in text[1:] and "e" not in text.lower() else [text]
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = [math.nan]
    if len(values) > 2 or not all(math.isfinite(value) and value > 0 for value in values):
        wanted = "a positive number or a range low-high"
        raise TraceError(path, f"{text!r} is not usable", line=line, field="value", expected=wanted)
    return sum(values) / len(values)
