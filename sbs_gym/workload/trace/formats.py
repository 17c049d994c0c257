"""The known trace formats: how each is recognised and what its columns mean.

To add one: append a `TraceFormat` here and its name to `config.workload.TRACE_FORMATS`; a nested
record also needs a function in `nested.py` that flattens it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sbs_gym.workload.trace import nested
from sbs_gym.workload.trace.report import Intake
from sbs_gym.workload.trace.source import Records

Flatten = Callable[[Records, Intake], Records]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFormat:
    """One format: flat records (after `flatten`) and the meaning of their fields.

    Attributes:
        name: As in `workload.format`.
        recognised_by: Sets of fields; a first record with all fields of one set is of this format.
        columns: Meaning -> field of the record. `arrived_at` is in `time_unit`; `measured_*` and
            `delay` end in `_ms` where the source has milliseconds.
        time_unit: s, ms, us, ns or datetime.
        block_tokens: Tokens per block; None if the records say so (`block_tokens`) or have none.
        flatten: Turns nested records into flat ones.
        session_clock: Times count from each session's own start.
    """

    name: str
    recognised_by: tuple[frozenset[str], ...]
    columns: Mapping[str, str]
    time_unit: str = "s"
    block_tokens: int | None = None
    flatten: Flatten | None = None
    session_clock: bool = False
    notes: tuple[str, ...] = field(default=())


def _keys(*names: str) -> tuple[frozenset[str], ...]:
    return (frozenset(names),)


BAILIAN = TraceFormat(
    name="bailian",
    recognised_by=_keys("chat_id", "parent_chat_id"),
    columns={
        "arrived_at": "timestamp",
        "input_tokens": "input_length",
        "output_tokens": "output_length",
        "request_id": "chat_id",
        "parent_id": "parent_chat_id",
        "session_id": "session_id",
        "turn": "turn",
        "block_hashes": "hash_ids",
    },
    block_tokens=16,
    flatten=nested.name_bailian_sessions,
)
MOONCAKE = TraceFormat(
    name="mooncake",
    recognised_by=(
        frozenset({"timestamp", "input_length"}),
        frozenset({"delay", "input_length", "session_id"}),
    ),
    columns={
        "arrived_at": "timestamp",
        "input_tokens": "input_length",
        "output_tokens": "output_length",
        "session_id": "session_id",
        "delay_ms": "delay",
        "priority": "priority",
        "block_hashes": "hash_ids",
    },
    time_unit="ms",
    block_tokens=512,
    flatten=nested.date_mooncake_turns,
)
RTP_LLM = TraceFormat(
    name="rtp_llm",
    recognised_by=_keys("ts", "il"),
    columns={
        "arrived_at": "ts",
        "input_tokens": "il",
        "output_tokens": "ol",
        "priority": "priority",
        "measured_ttft_ms": "ttfb",
        "measured_e2e_ms": "total",
        "cached_tokens": "cached",
        "block_hashes": "bh",
    },
    time_unit="ms",
    block_tokens=1024,
)
AZURE = TraceFormat(
    name="azure",
    recognised_by=_keys("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    columns={
        "arrived_at": "TIMESTAMP",
        "input_tokens": "ContextTokens",
        "output_tokens": "GeneratedTokens",
    },
    time_unit="datetime",
)
BURSTGPT = TraceFormat(
    name="burstgpt",
    recognised_by=_keys("Timestamp", "Request tokens"),
    columns={
        "arrived_at": "Timestamp",
        "input_tokens": "Request tokens",
        "output_tokens": "Response tokens",
        "session_id": "Session ID",
        "measured_e2e_s": "Elapsed time",
    },
    notes=("a zero output marks a failed request in this format",),
)
VIDUR = TraceFormat(
    name="vidur",
    recognised_by=_keys("num_prefill_tokens"),
    columns={
        "arrived_at": "arrived_at",
        "input_tokens": "num_prefill_tokens",
        "output_tokens": "num_decode_tokens",
    },
)
SPLITWISE = TraceFormat(
    name="splitwise",
    recognised_by=_keys("arrival_timestamp", "prompt_size"),
    columns={
        "arrived_at": "arrival_timestamp",
        "input_tokens": "prompt_size",
        "output_tokens": "token_size",
    },
)
LLMSERVINGSIM = TraceFormat(
    name="llmservingsim",
    recognised_by=(frozenset({"input_toks"}), frozenset({"sub_requests"})),
    columns={
        "arrived_at": "arrival_time_ns",
        "input_tokens": "input_toks",
        "output_tokens": "output_toks",
        "session_id": "session_id",
        "delay_s": "delay_s",
    },
    time_unit="ns",
    flatten=nested.flatten_llmservingsim,
)
DYNAMO = TraceFormat(
    name="dynamo",
    recognised_by=_keys("event"),
    columns={
        "arrived_at": "request_received_ms",
        "input_tokens": "input_tokens",
        "output_tokens": "output_tokens",
        "session_id": "session_id",
        "measured_ttft_ms": "ttft_ms",
        "measured_e2e_ms": "total_time_ms",
        "cached_tokens": "cached_tokens",
        "block_hashes": "input_sequence_hashes",
        "block_tokens": "trace_block_size",
    },
    time_unit="ms",
    flatten=nested.flatten_dynamo,
)
AGENTIC = TraceFormat(
    name="agentic",
    recognised_by=_keys("requests", "block_size"),
    columns={
        "arrived_at": "t",
        "input_tokens": "in",
        "output_tokens": "out",
        "session_id": "session_id",
        "delay_s": "think_time",
        "measured_ttft_s": "ttft",
        "measured_e2e_s": "api_time",
        "block_hashes": "hash_ids",
        "block_tokens": "block_size",
        "hash_scope": "hash_scope",
    },
    flatten=nested.flatten_agentic,
    session_clock=True,
)
FORMATS = (
    BAILIAN,
    MOONCAKE,
    RTP_LLM,
    AZURE,
    BURSTGPT,
    VIDUR,
    SPLITWISE,
    LLMSERVINGSIM,
    DYNAMO,
    AGENTIC,
)
