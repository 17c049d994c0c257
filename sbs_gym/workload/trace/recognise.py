"""Which format a trace file has, told from its first record; and the generic format."""

from __future__ import annotations

from pathlib import Path

from sbs_gym.config.workload import COLUMNS, WorkloadConfig
from sbs_gym.errors import TraceError
from sbs_gym.workload.trace.formats import FORMATS, TraceFormat
from sbs_gym.workload.trace.guess import unused_notes, words_for
from sbs_gym.workload.trace.rows import is_date_time
from sbs_gym.workload.trace.source import Record

# Columns read as arrival times, and their unit; None: the unit that workload.time_unit says.
_GENERIC_TIMES = {
    "arrived_at_s": "s",
    "arrived_at": None,
    "arrival_time_s": "s",
    "arrival_time": None,
    "arrived_s": "s",
    "arrived_at_ms": "ms",
    "arrived_at_us": "us",
    "arrived_at_ns": "ns",
    "relative_timestamp_ms": "ms",
}
# The meanings that a column map may name, the arrival apart: their own names are recognised.
_CANONICAL = (*(name for name in COLUMNS if not name.startswith("arrived_at")), "block_tokens")


def format_of(path: Path, first: Record, line: int, config: WorkloadConfig) -> TraceFormat:
    """Return the format of a file from its first record, or the one that `config` names.

    Raises:
        TraceError: If no format fits, or the named one does not.
    """
    wanted = config.format
    if config.columns or wanted == "generic":
        return generic_format(path, first, config)
    for known in FORMATS:
        fits = any(keys <= first.keys() for keys in known.recognised_by)
        if wanted == known.name and not fits:
            expected = " or ".join(", ".join(sorted(keys)) for keys in known.recognised_by)
            raise TraceError(
                path, f"not {wanted}: found {_names(first)}", line=line, expected=expected
            )
        if fits and wanted in ("auto", known.name):
            return known
    if "input_tokens" in first:
        return generic_format(path, first, config)
    raise TraceError(
        path,
        f"no known format: found {_names(first)}",
        line=line,
        expected=f"one of {', '.join(known.name for known in FORMATS)}, a column input_tokens, or "
        f"the words {words_for(first)}",
    )


def generic_format(path: Path, first: Record, config: WorkloadConfig) -> TraceFormat:
    """Return the format of a file with canonical column names or a user's column map.

    Raises:
        TraceError: If a mapped column or the prompt length is not in the first record.
    """
    columns = {name: name for name in _CANONICAL if name in first}
    unit = config.time_unit
    for name, its_unit in _GENERIC_TIMES.items():
        if name in first and "arrived_at" not in columns:
            columns["arrived_at"], unit = name, its_unit or config.time_unit
    for meaning, column in config.columns:
        if column not in first:
            raise TraceError(path, f"found {_names(first)}", field=column, expected="this column")
        if meaning.startswith("arrived_at"):
            unit = "s" if meaning == "arrived_at_s" else config.time_unit
            meaning = "arrived_at"
        columns[meaning] = column
    if unit == "s" and is_date_time(first.get(columns.get("arrived_at", ""))):
        unit = "datetime"
    if "input_tokens" not in columns:
        raise TraceError(
            path,
            f"found {_names(first)}",
            field="input_tokens",
            expected=f"this column, or the words {words_for(first)}",
        )
    return TraceFormat(
        name="generic",
        recognised_by=(),
        columns=columns,
        time_unit=unit,
        block_tokens=config.block_tokens,
        notes=unused_notes(first, columns),
    )


def _names(first: Record) -> str:
    names = [str(name) for name in list(first)[:12]]
    return "fields " + ", ".join(names) + (", ..." if len(first) > 12 else "")
