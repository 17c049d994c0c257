"""Readers of nested or linked records: each turns a stream of records into flat ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sbs_gym.workload.trace.report import BadRow, Intake, key_of, shown
from sbs_gym.workload.trace.source import Record, Records

_DYNAMO_SCHEMA = "dynamo.request.trace."


def name_bailian_sessions(records: Records, intake: Intake) -> Records:
    """Yield Bailian records with `session_id`: the first chat of their chain of parents."""
    first_chat: dict[Any, Any] = {}
    for line, record in records:
        chat, parent = key_of(record.get("chat_id")), key_of(record.get("parent_chat_id"))
        record["session_id"] = first_chat.setdefault(chat, first_chat.get(parent, chat))
        yield line, record


def date_mooncake_turns(records: Records, intake: Intake) -> Records:
    """Yield Mooncake records; a later turn without a stamp is dated `delay` after the one before.

    The source's delay counts from the previous answer, which an open loop does not know.
    """
    last_ms: dict[Any, float] = {}
    for line, record in records:
        session = key_of(record.get("session_id"))
        if session is not None:
            if record.get("timestamp") is None and session in last_ms:
                record["timestamp"] = last_ms[session] + _number(record.get("delay"))
                intake.skipped["turns without a stamp, dated by their delay"] += 1
            last_ms[session] = _number(record.get("timestamp"))
        yield line, record


def flatten_llmservingsim(records: Records, intake: Intake) -> Records:
    """Yield one record per (sub-)request; a sub-request follows the one before after its tool."""
    for line, record in records:
        turns = record.get("sub_requests")
        if turns is None:
            yield line, record
            continue
        if not _is_list_of_objects(turns):
            _reject(intake, line, "sub_requests", turns)
            continue
        at_ns: Any = record.get("arrival_time_ns")
        tool_ns: Any = None
        for turn in turns:
            if tool_ns is not None:
                at_ns = _number(at_ns) + _number(tool_ns)
            delay_s = None if tool_ns is None else _number(tool_ns) / 1e9
            shared = {"session_id": record.get("session_id"), "delay_s": delay_s}
            yield line, {**shared, "arrival_time_ns": at_ns, **turn}
            tool_ns = turn.get("tool_duration_ns") or 0


def flatten_dynamo(records: Records, intake: Intake) -> Records:
    """Yield one record per finished request of a Dynamo request trace; other events are skipped."""
    for line, record in records:
        event = record.get("event")
        schema = event.get("schema") if isinstance(event, dict) else None
        if not isinstance(event, dict) or not str(schema).startswith(_DYNAMO_SCHEMA):
            bad = BadRow(
                "wrong_schema",
                f"found {shown(schema)}",
                field="event.schema",
                expected=f"{_DYNAMO_SCHEMA}v1",
            )
            intake.reject(bad, line)
        elif event.get("event_type") != "request_end":
            intake.skipped["events that are not the end of a request"] += 1
        elif not isinstance(event.get("request"), dict):
            _reject(intake, line, "event.request", event.get("request"))
        else:
            request = event["request"]
            parts = (request, request.get("replay"), event.get("agent_context"))
            yield line, {k: v for part in parts if isinstance(part, dict) for k, v in part.items()}


def flatten_agentic(records: Records, intake: Intake) -> Records:
    """Yield one record per request of coding sessions, those of subagents included.

    Block ids mean nothing outside a session: `hash_scope` names it. A subagent is a session of its
    own that shares its parent's block ids; its times count from its start.
    """
    for line, session in records:
        if not _is_list_of_objects(session.get("requests")):
            _reject(intake, line, "requests", session.get("requests"))
            continue
        name = str(session.get("id", f"line {line}"))
        shared = {"block_size": session.get("block_size"), "hash_scope": name}
        for request in _with_subagents(session["requests"], name, 0.0):
            yield line, {**request, **shared}


def _with_subagents(requests: list[Record], session: str, start_s: float) -> Iterator[Record]:
    for index, request in enumerate(requests):
        if _is_list_of_objects(request.get("requests")):
            agent = f"{session}/{request.get('agent_id', index)}"
            yield from _with_subagents(
                request["requests"], agent, start_s + _number(request.get("t"))
            )
        else:
            at_s = request.get("t")
            at_s = at_s if at_s is None else start_s + _number(at_s)
            yield {**request, "t": at_s, "session_id": session}


def _number(value: object) -> float:
    # A value that is no number stays visible: NaN is refused when the row is read.
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _reject(intake: Intake, line: int, field: str, value: object) -> None:
    bad = BadRow("missing_field", f"found {shown(value)}", field=field, expected="JSON objects")
    intake.reject(bad, line)
