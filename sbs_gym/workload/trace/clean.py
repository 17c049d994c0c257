"""Cleaning of the rows read: what is missing, zero, too long or out of order, by option."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.workload import WorkloadConfig
from sbs_gym.errors import TraceError
from sbs_gym.rng import uniform_array
from sbs_gym.types import FloatArray, IntArray
from sbs_gym.workload.generate import draw_outputs
from sbs_gym.workload.purposes import SESSION_START, STREAM
from sbs_gym.workload.trace.report import BadRow, Intake, TraceReport
from sbs_gym.workload.trace.rows import RawColumns


@dataclass(slots=True, kw_only=True)
class Draft:
    """A trace on its way from rows to a table.

    Attributes:
        raw: Rows as read.
        intake: Refuses or counts bad rows.
        report: Where every change is noted.
        config: The options.
        seed: Seed of the WORKLOAD stream.
        keep: bool, which rows stay, shape (num_rows,).
    """

    raw: RawColumns
    intake: Intake
    report: TraceReport
    config: WorkloadConfig
    seed: int
    keep: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.keep = np.ones(len(self.raw), dtype=bool)

    def error(self, problem: str, row: int, meaning: str, expected: str) -> TraceError:
        """Return the error that row `row` cannot be used because of column `meaning`."""
        source = self.raw.known.columns.get(meaning, meaning)
        line = self.raw.lines[row]
        return TraceError(self.report.path, problem, line=line, field=source, expected=expected)

    def drop(self, rows: NDArray[np.bool_], reason: str) -> None:
        """Leave out rows and count them."""
        self.report.dropped[reason] = int((rows & self.keep).sum())
        self.keep &= ~rows

    def reject_missing(self, missing: NDArray[np.bool_], meaning: str) -> None:
        """Refuse or count rows whose value of a column is missing while other rows have it."""
        source = self.raw.known.columns.get(meaning, meaning)
        for row in np.flatnonzero(missing & self.keep):
            bad = BadRow("missing_field", "missing", field=source, expected="a value, as elsewhere")
            self.intake.reject(bad, self.raw.lines[row])
        self.keep &= ~missing


def arrival_times(draft: Draft) -> FloatArray:
    """Return arrival times in the source's unit from its first row; all 0 if it has none."""
    times = np.array(draft.raw.arrived_at)
    missing = np.isnan(times)
    if missing.all():
        draft.report.has_arrivals = False
        draft.report.notes.append(
            "no arrival times: they come from the arrivals configuration at a given rate"
        )
        return np.zeros(len(times))
    draft.reject_missing(missing, "arrived_at")
    return _session_clock(draft, times) if draft.raw.known.session_clock else times


def _session_clock(draft: Draft, times_s: FloatArray) -> FloatArray:
    rate_per_s = draft.config.session_rate_per_s
    if rate_per_s is None:
        draft.report.has_arrivals = False
        draft.report.notes.append("sessions have no common clock: all start at 0")
        return times_s
    draft.report.notes.append(f"sessions start as a Poisson process of {rate_per_s} per second")
    scope = np.array(draft.raw.scope)
    levels = uniform_array(draft.seed, STREAM, SESSION_START, int(scope.max()) + 1)
    starts_s: FloatArray = np.cumsum(-np.log(levels)) / rate_per_s
    from_first_s: FloatArray = times_s + starts_s[scope]
    return from_first_s


def answer_lengths(draft: Draft) -> IntArray:
    """Return answer lengths; zeros are kept, dropped or refused by `on_zero_output`."""
    outputs = np.array(draft.raw.output_tokens)
    missing = outputs < 0
    if missing.all():
        draft.report.has_outputs = False
        return _assumed_outputs(draft, len(outputs))
    draft.reject_missing(missing, "output_tokens")
    zero = (outputs == 0) & draft.keep
    if not zero.any():
        return outputs
    if draft.config.on_zero_output == "error":
        expected = "at least 1 (workload.on_zero_output: keep, drop or error)"
        raise draft.error("found 0", int(np.argmax(zero)), "output_tokens", expected)
    if draft.config.on_zero_output == "drop":
        draft.drop(zero, "zero_output")
    else:
        draft.report.notes.append(f"{zero.sum()} rows with zero output kept as prefill-only")
    return outputs


def _assumed_outputs(draft: Draft, count: int) -> IntArray:
    law = draft.config.output_tokens
    if law is None:
        draft.report.notes.append("no answer lengths: every answer is 1 token (prefill only)")
        return np.ones(count, dtype=np.int64)
    draft.report.notes.append(f"no answer lengths: drawn from a law of family {law.family}")
    return draw_outputs(law, count, draft.seed).astype(np.int64)


def prompt_lengths(draft: Draft) -> IntArray:
    """Return prompt lengths; those above `max_input_tokens` are refused, dropped or clipped."""
    inputs = np.array(draft.raw.input_tokens)
    limit = draft.config.max_input_tokens
    long = draft.keep & (inputs > (limit or math.inf))
    if limit is None or not long.any():
        return inputs
    if draft.config.on_too_long == "error":
        row = int(np.argmax(long))
        expected = f"at most {limit} (workload.on_too_long: error, drop or clip)"
        problem = f"found {inputs[row]} ({long.sum()} such rows)"
        raise draft.error(problem, row, "input_tokens", expected)
    if draft.config.on_too_long == "drop":
        draft.drop(long, "too_long")
        return inputs
    draft.report.notes.append(f"{long.sum()} prompts clipped to {limit} tokens")
    clipped: IntArray = np.minimum(inputs, limit)
    return clipped


def order_of_arrival(draft: Draft, times: FloatArray) -> IntArray:
    """Return the numbers of the kept rows in order of arrival; equal stamps stay in file order."""
    kept = np.flatnonzero(draft.keep)
    falls = np.flatnonzero(np.diff(times[kept]) < 0)
    draft.report.was_sorted = len(falls) == 0
    if draft.report.was_sorted:
        return kept
    if draft.config.on_unsorted == "error":
        row = int(kept[falls[0] + 1])
        expected = "rows in order of arrival (workload.on_unsorted: sort or error)"
        raise draft.error("earlier than the row before", row, "arrived_at", expected)
    draft.report.notes.append(f"{len(falls)} rows are earlier than the row before; sorted")
    by_time: IntArray = kept[np.argsort(times[kept], kind="stable")]
    return by_time
