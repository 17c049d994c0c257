"""Load a trace: read, clean, order, cut a window, spread ticks; every change is reported."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

from sbs_gym.config.workload import WorkloadConfig
from sbs_gym.errors import ConfigError, TraceError
from sbs_gym.rng import uniform_array
from sbs_gym.types import FloatArray, IntArray, PrefixBlocks, RequestTable
from sbs_gym.workload.purposes import STREAM, TICK_OFFSET
from sbs_gym.workload.trace.clean import (
    Draft,
    answer_lengths,
    arrival_times,
    order_of_arrival,
    prompt_lengths,
)
from sbs_gym.workload.trace.recognise import format_of
from sbs_gym.workload.trace.report import BadRow, Intake, TraceReport
from sbs_gym.workload.trace.rows import FLOAT_COLUMNS, RawColumns
from sbs_gym.workload.trace.select import moved_links, scoped_blocks, take_blocks, take_rows
from sbs_gym.workload.trace.source import read_records

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "datetime": 1e9}


def load_trace(config: WorkloadConfig, *, seed: int = 0) -> tuple[RequestTable, TraceReport]:
    """Return the requests of a trace file in order of arrival, and what was done to the file.

    The first arrival is 0. A file without arrival times (`report.has_arrivals` is False) gives a
    table where all arrive at 0: give it times with `with_arrivals`.

    Args:
        config: Workload of kind trace; its options say what happens to unusual rows.
        seed: For the offsets of `spread_ticks_s`, drawn answer lengths and session starts.

    Raises:
        TraceError: If the file or a row cannot be used; names file, line and field.
        ConfigError: If no path is given.
    """
    if config.path is None:
        raise ConfigError("workload.path is missing; expected the path of a trace file")
    raw, intake = _read(Path(config.path).expanduser(), config)
    report = TraceReport(path=config.path, format=raw.known.name, notes=list(raw.known.notes))
    report.rows_read = len(raw) + sum(intake.dropped.values())
    draft = Draft(raw=raw, intake=intake, report=report, config=config, seed=seed)
    table = _spread(_window(_cleaned(draft), draft), draft)
    report.dropped.update(intake.dropped)
    report.notes += [f"{count} {what}" for what, count in intake.skipped.items()]
    report.rows_kept = len(table)
    if len(table) == 0:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in report.dropped.items())
        raise TraceError(config.path, f"no row is left; dropped {reasons}")
    return table, report


def _read(path: Path, config: WorkloadConfig) -> tuple[RawColumns, Intake]:
    intake = Intake(path, config.on_bad_row)
    records = read_records(path, intake)
    first = next(records, None)
    if first is None:
        raise _no_row(path, intake)
    known = format_of(path, first[1], first[0], config)
    raw = RawColumns(known, config.keep_blocks)
    every = itertools.chain([first], records)
    for line, record in known.flatten(every, intake) if known.flatten else every:
        try:
            raw.add(line, record)
        except BadRow as bad:
            intake.reject(bad, line)
    if len(raw) == 0:
        raise _no_row(path, intake)
    return raw, intake


def _no_row(path: Path, intake: Intake) -> TraceError:
    reasons = ", ".join(f"{reason}: {count}" for reason, count in intake.dropped.items())
    why = f"all were dropped ({reasons})" if reasons else "the file has no rows, at most a header"
    return TraceError(path, f"no usable row: {why}")


def _cleaned(draft: Draft) -> RequestTable:
    times = arrival_times(draft)
    outputs = answer_lengths(draft)
    inputs = prompt_lengths(draft)
    index = order_of_arrival(draft, times)
    return RequestTable(
        # Subtracted in the source's unit, where whole numbers stay exact.
        arrived_at_s=(times[index] - times[index[:1]]) / _PER_SECOND[draft.raw.known.time_unit],
        input_tokens=inputs[index].astype(np.int32),
        output_tokens=outputs[index].astype(np.int32),
        name=_name(draft.config),
        **_optional_columns(draft.raw, index),
        **_session_columns(draft.raw, index),
        blocks=_blocks(draft.raw, index, inputs),
    )


def _name(config: WorkloadConfig) -> str:
    named = config.name not in ("trace", "custom")
    return config.name if named else Path(config.path or "").name.split(".")[0]


def _optional_columns(raw: RawColumns, index: IntArray) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, values in raw.optional.items():
        column = np.array(values)[index]
        missing = np.isnan(column)
        if missing.all():
            continue
        whole = np.where(missing, -1, column).astype(np.int64)
        columns[name] = column if name in FLOAT_COLUMNS else whole
    return columns


def _session_columns(raw: RawColumns, index: IntArray) -> dict[str, Any]:
    session = np.array(raw.session_id)[index]
    if not (session >= 0).any():
        return {}
    before, turn = turns_of(session)
    columns = {"session_id": session, "parent_id": before}
    if raw.request_keys:
        place = {key: row for row, key in enumerate(raw.request_keys)}
        links = np.array([place.get(key, -1) for key in raw.parent_keys], dtype=np.int64)
        columns["parent_id"] = moved_links(links, index)
    return columns if "turn" in raw.optional else {**columns, "turn": turn}


def turns_of(session: IntArray) -> tuple[IntArray, IntArray]:
    """Return the row before in the same session and the number of the turn; -1 without session."""
    order = np.argsort(session, kind="stable")
    same = np.concatenate([[False], np.diff(session[order]) == 0])
    rank = np.arange(len(order))
    began = np.maximum.accumulate(np.where(same, 0, rank))
    before, turn = np.full(len(order), -1), np.empty(len(order), dtype=np.int64)
    before[order[same]] = order[np.flatnonzero(same) - 1]
    turn[order] = rank - began
    none = session < 0
    before[none], turn[none] = -1, -1
    return before, turn


def _blocks(raw: RawColumns, index: IntArray, inputs: IntArray) -> PrefixBlocks | None:
    if not len(raw.hashes):
        return None
    if raw.block_tokens is None:
        raise ConfigError("workload.block_tokens is missing; the trace has block hashes")
    offsets = np.concatenate([[0], np.cumsum(np.array(raw.num_hashes))])
    hashes = np.frombuffer(raw.hashes, dtype=np.uint64)
    blocks = PrefixBlocks(hashes=hashes, offsets=offsets, block_tokens=raw.block_tokens)
    scope = np.array(raw.scope)
    if (scope >= 0).any():
        blocks = scoped_blocks(blocks, scope)
    clipped = inputs < np.array(raw.input_tokens)
    most = np.where(clipped, -(-inputs // raw.block_tokens), np.diff(offsets))
    return take_blocks(blocks, index, most[index])


def _window(table: RequestTable, draft: Draft) -> RequestTable:
    start_s, duration_s = draft.config.start_s, draft.config.duration_s
    end_s = math.inf if duration_s is None else start_s + duration_s
    first, last = np.searchsorted(table.arrived_at_s, [start_s, end_s], side="left")
    if last - first == len(table):
        return table
    draft.report.dropped["outside_window"] = len(table) - int(last - first)
    times_s: FloatArray = table.arrived_at_s[first:last] - table.arrived_at_s[first:last][:1]
    return take_rows(table, np.arange(first, last), arrived_at_s=times_s)


def _spread(table: RequestTable, draft: Draft) -> RequestTable:
    tick_s = draft.config.spread_ticks_s
    if tick_s == 0:
        return table
    offsets_s = tick_s * uniform_array(draft.seed, STREAM, TICK_OFFSET, len(table))
    times_s = table.arrived_at_s + offsets_s
    order = np.argsort(times_s, kind="stable")
    draft.report.notes.append(f"arrivals spread uniformly over ticks of {tick_s} s")
    return take_rows(table, order, arrived_at_s=times_s[order])
