"""From flat records to columns: every value is checked where it is read."""

from __future__ import annotations

import contextlib
import datetime
import math
import re
from array import array
from collections.abc import Sequence
from typing import Any

from sbs_gym.config.lengths import MOST_TOKENS
from sbs_gym.workload.trace.formats import TraceFormat
from sbs_gym.workload.trace.report import BadRow, key_of, shown
from sbs_gym.workload.trace.source import Record

_DATE_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?\s*(Z|[+-]\d\d:?\d\d)?"
)
_EPOCH = datetime.datetime(1970, 1, 1)
_MISSING = (None, "")
_UINT64 = 1 << 64
_LARGEST = 10**19  # more than nanoseconds since 1970
FLOAT_COLUMNS = ("delay_s", "measured_ttft_s", "measured_e2e_s")
WHOLE_COLUMNS = ("priority", "turn", "cached_tokens")


class RawColumns:
    """The usable rows of a file, column by column, in the order of the file.

    `arrived_at` is in the source's unit and counts from the first row; NaN and -1 mean missing.
    """

    def __init__(self, known: TraceFormat, keep_blocks: bool) -> None:
        self.known = known
        self.lines = array("q")
        self.arrived_at = array("d")
        self.input_tokens = array("q")
        self.output_tokens = array("q")
        self.optional = {name: array("d") for name in self._optional_fields()}
        self.session_id = array("q")
        self.scope = array("q")
        self.request_keys: list[Any] = []
        self.parent_keys: list[Any] = []
        self.hashes = array("Q")
        self.num_hashes = array("q")
        self.block_tokens = known.block_tokens
        self._first_at: int | float | None = None
        self._sessions: dict[Any, int] = {}
        self._scopes: dict[Any, int] = {}
        self._has_blocks = keep_blocks and "block_hashes" in known.columns
        self._block_tokens_field = known.columns.get("block_tokens")

    def __len__(self) -> int:
        return len(self.lines)

    def _optional_fields(self) -> list[str]:
        wanted = (*FLOAT_COLUMNS, *WHOLE_COLUMNS)
        return [name for name in wanted if self._source_of(name)[0] is not None]

    def _source_of(self, name: str) -> tuple[str | None, float]:
        """Return the source's field of a column and the divisor to its unit."""
        columns = self.known.columns
        if name in columns:
            return columns[name], 1.0
        return columns.get(name.removesuffix("_s") + "_ms"), 1000.0

    def add(self, line: int, record: Record) -> None:
        """Append a record.

        Raises:
            BadRow: If a value cannot be used; nothing is appended then.
        """
        columns = self.known.columns
        field = columns["input_tokens"]
        input_tokens = _tokens(record.get(field), field, low=1)
        if input_tokens < 0:
            raise BadRow("missing_field", "missing", field=field, expected="a prompt length")
        field = columns.get("output_tokens", "")
        output_tokens = _tokens(record.get(field), field, low=0)
        arrived_at = self._time(record)
        optional = [self._optional(record, name) for name in self.optional]
        hashes = self._hashes(record) if self._has_blocks else ()
        self.hashes.extend(hashes)
        self.num_hashes.append(len(hashes))
        self.lines.append(line)
        self.arrived_at.append(arrived_at)
        self.input_tokens.append(input_tokens)
        self.output_tokens.append(output_tokens)
        for column, value in zip(self.optional.values(), optional, strict=True):
            column.append(value)
        self._add_keys(record)

    def _add_keys(self, record: Record) -> None:
        columns = self.known.columns
        session = key_of(record.get(columns.get("session_id", "")))
        self.session_id.append(_code(self._sessions, session))
        scope = key_of(record.get(columns.get("hash_scope", "")))
        self.scope.append(_code(self._scopes, scope))
        if "request_id" in columns and "parent_id" in columns:
            self.request_keys.append(key_of(record.get(columns["request_id"])))
            self.parent_keys.append(key_of(record.get(columns["parent_id"])))

    def _time(self, record: Record) -> float:
        field = self.known.columns.get("arrived_at", "")
        value = record.get(field)
        if value in _MISSING:
            return math.nan
        unit = self.known.time_unit
        at = date_time_ns(value, field) if unit == "datetime" else number(value, field)
        if self._first_at is None:
            self._first_at = at
        # Whole numbers are subtracted as such: nanoseconds since 1970 do not fit into a float.
        return float(at - self._first_at)

    def _optional(self, record: Record, name: str) -> float:
        source, divisor = self._source_of(name)
        value = record.get(source or "")
        if value in _MISSING:
            return math.nan
        amount = number(value, source or name)
        if name in WHOLE_COLUMNS and amount != int(amount):
            raise BadRow("not_a_number", f"found {shown(value)}", field=source, expected="whole")
        return amount / divisor

    def _hashes(self, record: Record) -> Sequence[int]:
        field = self.known.columns["block_hashes"]
        hashes = block_hashes(record.get(field), field)
        if self._block_tokens_field is not None and hashes:
            self._agree_on_block_tokens(record.get(self._block_tokens_field))
        return hashes

    def _agree_on_block_tokens(self, value: object) -> None:
        field = self._block_tokens_field or ""
        size = _tokens(value, field, low=1)
        if self.block_tokens is None:
            self.block_tokens = size
        if size != self.block_tokens:
            expected = f"{self.block_tokens}, as in the rows before"
            raise BadRow("block_size", f"found {size}", field=field, expected=expected)


def number(value: object, field: str) -> int | float:
    """Return a finite number from JSON or text; whole numbers exactly."""
    expected = "a finite number"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST:
        return value
    if isinstance(value, str):
        if re.fullmatch(r"\s*[-+]?\d{1,18}\s*", value):
            return int(value)
        with contextlib.suppress(ValueError):
            value = float(value)
    if not isinstance(value, float) or not abs(value) < _LARGEST:
        raise BadRow("not_a_number", f"found {shown(value)}", field=field, expected=expected)
    return value


def _tokens(value: object, field: str, *, low: int) -> int:
    """Return a token count in [low, 100 million], -1 if it is missing."""
    if value in _MISSING:
        return -1
    expected = f"a whole number in [{low}, {MOST_TOKENS}]"
    amount = number(value, field)
    if amount == 0 and low > 0:
        raise BadRow("zero_input_tokens", "found 0", field=field, expected=expected)
    if not low <= amount <= MOST_TOKENS or amount != int(amount):
        raise BadRow("out_of_range", f"found {shown(value)}", field=field, expected=expected)
    return int(amount)


def date_time_ns(value: object, field: str) -> int:
    """Return nanoseconds since 1970 of an ISO date-time with up to nine fractional digits."""
    found = _DATE_TIME.fullmatch(str(value).strip())
    expected = "a date-time such as 2023-11-16 18:15:46.6805900"
    if found is None:
        raise BadRow("not_a_time", f"found {shown(value)}", field=field, expected=expected)
    try:
        moment = datetime.datetime(*(int(part) for part in found.groups()[:6]))  # type: ignore[arg-type]
    except ValueError:
        raise BadRow(
            "not_a_time", f"found {shown(value)}", field=field, expected=expected
        ) from None
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds - _zone_s(found[8])
    return seconds * 1_000_000_000 + int((found[7] or "0").ljust(9, "0"))


def is_date_time(value: object) -> bool:
    """Return whether a value is a date-time or the text of one."""
    text = str(value).strip() if isinstance(value, (str, datetime.datetime)) else ""
    return _DATE_TIME.fullmatch(text) is not None


def _zone_s(zone: str | None) -> int:
    if zone in (None, "Z"):
        return 0
    digits = str(zone).replace(":", "")
    seconds = int(digits[1:3]) * 3600 + int(digits[3:5]) * 60
    return -seconds if digits[0] == "-" else seconds


def block_hashes(value: object, field: str) -> Sequence[int]:
    """Return block hashes as unsigned 64-bit integers: from integers, decimal strings or text."""
    if value in _MISSING:
        return []
    if isinstance(value, str):
        value = re.findall(r"-?\d+", value)
    if not isinstance(value, list):
        raise _bad_hash(value, field)
    try:
        return array("Q", value)  # all are unsigned 64-bit integers already
    except (TypeError, OverflowError):
        return [_block_hash(item, field) for item in value]


def _block_hash(item: object, field: str) -> int:
    if isinstance(item, str) and re.fullmatch(r"-?\d{1,20}", item):
        item = int(item)
    if isinstance(item, bool) or not isinstance(item, int) or not -_UINT64 // 2 <= item < _UINT64:
        raise _bad_hash(item, field)
    return item % _UINT64  # signed 64-bit sources wrap around


def _bad_hash(value: object, field: str) -> BadRow:
    expected = "64-bit integers or decimal strings"
    return BadRow("not_a_hash", f"found {shown(value)}", field=field, expected=expected)


def _code(codes: dict[Any, int], key: object) -> int:
    if key in _MISSING or key != key:
        return -1
    return codes.setdefault(key, len(codes))
