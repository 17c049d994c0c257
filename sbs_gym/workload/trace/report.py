"""What reading a trace did: counts, reasons and notes, so that nothing is dropped in silence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sbs_gym.errors import TraceError


@dataclass(slots=True, kw_only=True)
class TraceReport:
    """How a file became a table; `rows_read = rows_kept + sum(dropped.values())`.

    Attributes:
        path: The file.
        format: Name of the reader that was used.
        rows_read: Rows of the file that stand for a request, usable or not.
        rows_kept: Rows in the table.
        dropped: Rows left out, by reason.
        notes: One sentence per peculiarity of the file and per change made to it.
        has_arrivals: False if the file has no common clock: arrivals must come from elsewhere.
        has_outputs: False if the file records no answer lengths.
        was_sorted: Whether the kept rows came in order of arrival.
    """

    path: str
    format: str = ""
    rows_read: int = 0
    rows_kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    has_arrivals: bool = True
    has_outputs: bool = True
    was_sorted: bool = True


class Intake:
    """Takes note of rows that cannot be used: raises, or counts them by reason.

    Attributes:
        path: The file being read.
        dropped: Bad rows dropped so far, by reason.
        skipped: Lines that stand for no request, by description.
    """

    def __init__(self, path: Path, on_bad_row: str) -> None:
        self.path = path
        self.drop = on_bad_row == "drop"
        self.dropped: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    def reject(self, bad: BadRow, line: int) -> None:
        """Raise TraceError for a row that cannot be used, or count it if rows may be dropped."""
        if not self.drop:
            raise TraceError(
                self.path, bad.problem, line=line, field=bad.field, expected=bad.expected
            )
        self.dropped[bad.reason] += 1


class BadRow(Exception):
    """One row cannot be used; `reason` groups equal mistakes in the report."""

    def __init__(
        self, reason: str, problem: str, *, field: str | None = None, expected: str | None = None
    ) -> None:
        super().__init__(problem)
        self.reason, self.problem, self.field, self.expected = reason, problem, field, expected


def shown(value: object) -> str:
    """Return a value for an error message, shortened to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def key_of(value: object) -> Any:
    """Return a name of a session or request that can be looked up."""
    return value if isinstance(value, (str, int, float, type(None))) else repr(value)
