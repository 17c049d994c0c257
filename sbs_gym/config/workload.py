"""What arrives: lengths of a synthetic workload, or a trace file and how to read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sbs_gym.config.arrivals import ArrivalConfig, arrivals_from_mapping
from sbs_gym.config.groups import section_from_mapping
from sbs_gym.config.lengths import MOST_TOKENS, LengthConfig, as_tuple, length_from_mapping
from sbs_gym.errors import ConfigError, require_choice, require_number

__all__ = [
    "ArrivalConfig",
    "LengthConfig",
    "WorkloadConfig",
    "arrivals_from_mapping",
    "workload_from_mapping",
]

KINDS = ("synthetic", "trace")
TRACE_FORMATS = (
    "auto",
    "mooncake",
    "bailian",
    "rtp_llm",
    "azure",
    "burstgpt",
    "vidur",
    "splitwise",
    "llmservingsim",
    "dynamo",
    "agentic",
    "generic",
)
TIME_UNITS = ("s", "ms", "us", "ns", "datetime")
SCALINGS = ("compress", "thin", "overlay")
COLUMNS = (
    "arrived_at",
    "arrived_at_s",
    "input_tokens",
    "output_tokens",
    "request_id",
    "parent_id",
    "session_id",
    "turn",
    "delay_s",
    "priority",
    "measured_ttft_s",
    "measured_e2e_s",
    "cached_tokens",
    "block_hashes",
)
_CHOICES = (
    ("kind", KINDS),
    ("format", TRACE_FORMATS),
    ("time_unit", TIME_UNITS),
    ("scaling", SCALINGS),
    ("on_bad_row", ("error", "drop")),
    ("on_zero_output", ("keep", "drop", "error")),
    ("on_unsorted", ("sort", "error")),
    ("on_too_long", ("error", "drop", "clip")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadConfig:
    """Lengths of requests, or a trace file.

    Attributes:
        kind: synthetic (lengths are drawn) or trace (rows are read from `path`).
        name: Name of the preset, for results.
        input_tokens: Law of prompt lengths; synthetic only.
        output_tokens: Law of answer lengths; for a trace, of the answers it does not record
            (null: 1 token each, prefill only).
        spearman: Rank correlation of prompt and answer (Gaussian copula), [-1, 1].
        path: The trace file, plain, .gz or .xz, text or Parquet.
        format: Reader of the trace; auto recognises it by content.
        columns: Pairs (meaning, column of the file) for the generic format; written as a mapping
            {arrived_at: column, input_tokens: column, ...}; meanings, `COLUMNS`.
        time_unit: Unit of the column mapped to `arrived_at`.
        block_tokens: Tokens per prefix block, where a generic file has `block_hashes`.
        keep_blocks: Keep prefix-block hashes in memory.
        on_bad_row: error, or drop and count rows that cannot be used.
        on_zero_output: keep (prefill-only), drop or error.
        on_unsorted: sort (stable, counted) or error.
        max_input_tokens: Longest prompt allowed, tokens; null for no limit but 100 million.
        on_too_long: error, drop, or clip to max_input_tokens.
        scaling: How a wanted rate is reached, see `sbs_gym.workload.scale_trace`.
        spread_ticks_s: Adds to each arrival its own uniform offset in [0, spread_ticks_s), then
            re-sorts: undoes stamps that were rounded down to ticks. Seconds, 0 for none.
        start_s, duration_s: Window of the trace, seconds from its first arrival; null duration
            means to its end. The first arrival inside becomes 0.
        session_rate_per_s: Sessions per second (Poisson) where sessions have no common clock
            (agentic); null lets all start at 0.

    Source: option names and edge cases, README of the trace collection.
    """

    kind: str = "synthetic"
    name: str = "custom"
    input_tokens: LengthConfig | None = None
    output_tokens: LengthConfig | None = None
    spearman: float = 0.0
    path: str | None = None
    format: str = "auto"
    columns: tuple[tuple[str, str], ...] = ()
    time_unit: str = "s"
    block_tokens: int | None = None
    keep_blocks: bool = True
    on_bad_row: str = "error"
    on_zero_output: str = "keep"
    on_unsorted: str = "sort"
    max_input_tokens: int | None = None
    on_too_long: str = "error"
    scaling: str = "compress"
    spread_ticks_s: float = 0.0
    start_s: float = 0.0
    duration_s: float | None = None
    session_rate_per_s: float | None = None

    def __post_init__(self) -> None:
        for field, known in _CHOICES:
            require_choice(f"workload.{field}", getattr(self, field), known)
        require_number("workload.spearman", self.spearman, -1, 1)
        require_number("workload.spread_ticks_s", self.spread_ticks_s, 0, 3600, unit="s")
        require_number("workload.start_s", self.start_s, 0, 1e9, unit="s")
        self._check_optional()
        self._check_columns()
        if self.kind == "synthetic":
            self._check_synthetic()

    def _check_optional(self) -> None:
        optional: tuple[tuple[str, float, bool], ...] = (
            ("block_tokens", 1_000_000, True),
            ("max_input_tokens", MOST_TOKENS, True),
            ("duration_s", 1e9, False),
            ("session_rate_per_s", 1e7, False),
        )
        for field, high, whole in optional:
            value = getattr(self, field)
            if value is not None:
                require_number(f"workload.{field}", value, 0, high, low_open=True, integer=whole)

    def _check_columns(self) -> None:
        for meaning, _ in self.columns:
            require_choice("workload.columns: meaning", meaning, COLUMNS)
        if self.columns and self.format not in ("auto", "generic"):
            raise ConfigError(
                f"workload.columns goes with workload.format='generic', not {self.format!r}"
            )

    def _check_synthetic(self) -> None:
        if self.path is not None:
            raise ConfigError(
                f"workload.path={self.path!r} needs workload.kind='trace' (workload=trace)"
            )
        for field in ("input_tokens", "output_tokens"):
            if getattr(self, field) is None:
                raise ConfigError(
                    f"workload.{field} is missing; expected the name of a file in conf/"
                    f"{field.removesuffix('_tokens')}_lengths or a mapping with a family"
                )


def workload_from_mapping(values: Mapping[str, Any]) -> WorkloadConfig:
    """Return the workload that a mapping describes; lengths may be names of presets."""
    given = dict(values)
    for side in ("input", "output"):
        field = f"{side}_tokens"
        if given.get(field) is not None:
            where = f"workload.{field}"
            given[field] = length_from_mapping(f"{side}_lengths", where, given[field])
    given["columns"] = _column_pairs(given.get("columns"))
    return section_from_mapping(WorkloadConfig, "workload", given)


def _column_pairs(columns: Any) -> tuple[tuple[str, str], ...]:
    if columns is None:
        return ()
    items: Iterable[Any] = columns.items() if isinstance(columns, Mapping) else columns
    pairs = [as_tuple(item) for item in items]
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise ConfigError(f"workload.columns={columns!r}: expected {{meaning: column, ...}}")
    return tuple((str(meaning), str(column)) for meaning, column in pairs)
