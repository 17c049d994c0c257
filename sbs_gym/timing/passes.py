"""Read a user's own measured passes: one row per pass, tokens and context per rank."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sbs_gym.errors import TraceError
from sbs_gym.types import FloatArray, IntArray

_LIST = "a JSON or space-separated list of whole numbers of at least 0, one per rank"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredPasses:
    """Passes of one deployment.

    Attributes:
        duration_s: Seconds from launch to barrier, shape (num_passes,).
        tokens: New tokens per pass and rank, shape (num_passes, num_ranks).
        context: Cached tokens per pass and rank, same shape; None if the file has none.
    """

    duration_s: FloatArray
    tokens: IntArray
    context: IntArray | None

    def pairs(self) -> IntArray:
        """Return q*(2*ctx + q) per pass and rank, each rank's tokens read as one chunk."""
        past = np.zeros_like(self.tokens) if self.context is None else self.context
        return self.tokens * (2 * past + self.tokens)


def locate(path: str) -> Path:
    """Return the file: as given, or beside this module (the shipped example)."""
    given = Path(path).expanduser()
    shipped = Path(__file__).parent / path
    if given.is_file() or not shipped.is_file():
        return given
    return shipped


def read_passes(path: str | Path) -> MeasuredPasses:
    """Return the passes of a CSV or Parquet file.

    Columns: `start_s` (seconds, any origin), `duration_s` (seconds), then `tokens` and optionally
    `context` as lists, or `tokens_0 ...` and optionally `context_0 ...`, one column per rank.

    Raises:
        TraceError: If the file cannot be read or a field is missing or not usable; names it.
    """
    file = locate(str(path))
    frame = read_frame(file)
    for name in ("start_s", "duration_s"):
        if name not in frame:
            raise TraceError(file, "column is missing", field=name, expected="seconds per pass")
    if len(frame) == 0:
        raise TraceError(file, "no passes", expected="at least one row")
    numbers(file, frame, "start_s", low=None)
    duration = numbers(file, frame, "duration_s", low=0.0)
    tokens = per_rank(file, frame, "tokens")
    if tokens is None:
        raise TraceError(file, "column is missing", field="tokens", expected=_LIST)
    context = per_rank(file, frame, "context")
    if context is not None and context.shape != tokens.shape:
        raise TraceError(file, "as many ranks as tokens are needed", field="context")
    empty = np.flatnonzero(tokens.sum(axis=1) == 0)
    if empty.size:
        raise TraceError(file, "a pass without tokens", line=int(empty[0]) + 2, field="tokens")
    return MeasuredPasses(duration_s=duration, tokens=tokens, context=context)


def read_frame(file: Path) -> pd.DataFrame:
    """Return the rows of a CSV file as text, or of a Parquet file."""
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        return pd.read_csv(file, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise TraceError(file, "no such file", expected="a CSV or Parquet file") from None
    except (ValueError, OSError) as problem:  # parser errors are ValueErrors
        raise TraceError(file, f"cannot be read ({problem})") from problem


def numbers(file: Path, frame: pd.DataFrame, name: str, low: float | None) -> FloatArray:
    """Return a column of finite numbers, above `low` if given."""
    values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values) | (False if low is None else values <= low)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        wanted = "a finite number" if low is None else f"a finite number above {low:g}"
        problem = f"{frame[name].iloc[row]!r} is not usable"
        raise TraceError(file, problem, line=row + 2, field=name, expected=wanted)
    return values


def per_rank(file: Path, frame: pd.DataFrame, name: str) -> IntArray | None:
    """Return counts per row and rank, from lists or columns `name_0 ...`, or None."""
    if name in frame:
        rows = [_parse(file, i + 2, name, cell) for i, cell in enumerate(frame[name])]
        for i, row in enumerate(rows):
            if len(row) != len(rows[0]):
                problem = f"{len(row)} ranks, the first pass has {len(rows[0])}"
                raise TraceError(file, problem, line=i + 2, field=name)
        return np.array(rows, dtype=np.int64)
    names = [key for key in frame.columns if key.startswith(f"{name}_")]
    if not names:
        return None
    ordered = [f"{name}_{rank}" for rank in range(len(names))]
    if set(ordered) != set(names):
        raise TraceError(
            file, f"found {', '.join(sorted(names))}", field=name, expected=", ".join(ordered)
        )
    columns = [
        [_whole(file, i + 2, key, cell) for i, cell in enumerate(frame[key])] for key in ordered
    ]
    return np.array(columns, dtype=np.int64).T.copy()


def _parse(file: Path, line: int, name: str, cell: object) -> list[int]:
    if isinstance(cell, str):
        try:
            items = json.loads(cell) if cell.lstrip().startswith("[") else cell.split()
        except json.JSONDecodeError:
            items = []
    else:
        items = list(cell) if isinstance(cell, (list, tuple, np.ndarray)) else []
    if not items:
        raise TraceError(file, f"{cell!r} is no list", line=line, field=name, expected=_LIST)
    return [_whole(file, line, name, item) for item in items]


def _whole(file: Path, line: int, name: str, item: object) -> int:
    try:
        value = float(str(item))
    except ValueError:
        value = float("nan")
    if not (value >= 0 and value == np.floor(value) and value < 2**31):
        wanted = "a whole number of at least 0"
        raise TraceError(file, f"{item!r} is not usable", line=line, field=name, expected=wanted)
    return int(value)
