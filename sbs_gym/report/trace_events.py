"""Events of the Trace Event Format, which Perfetto and chrome://tracing read.

Source: "Trace Event Format" of the Chromium project; `ts` and `dur` are microseconds. They are
written in whole nanoseconds, so that what touches in the run touches in the trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Event = dict[str, Any]
REQUESTS = "requests"  # category of what belongs to one request


@dataclass(frozen=True, slots=True)
class Track:
    """A row of the viewer: a thread of a process."""

    pid: int
    tid: int


def microseconds(instant_s: float) -> float:
    """Return seconds as microseconds, rounded to nanoseconds."""
    return round(instant_s * 1e9) / 1e3


def complete(
    track: Track, name: str, category: str, start_s: float, end_s: float, args: Mapping[str, Any]
) -> Event:
    """Return a slice with a start and a length (`X`)."""
    start_ns, end_ns = round(start_s * 1e9), round(end_s * 1e9)
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "ts": start_ns / 1e3,
        "dur": (end_ns - start_ns) / 1e3,
        "pid": track.pid,
        "tid": track.tid,
        "args": plain(args),
    }


def counter(track: Track, name: str, at_s: float, values: Mapping[str, float]) -> Event:
    """Return the values of a counter from an instant on (`C`)."""
    return {
        "ph": "C",
        "name": name,
        "ts": microseconds(at_s),
        "pid": track.pid,
        "tid": track.tid,
        "args": plain(values),
    }


def span(
    track: Track, name: str, key: int, ends_s: tuple[float, float], **args: Any
) -> list[Event]:
    """Return begin and end of a part of a request's life (`b`, `e`), which may hold others."""
    shared = {"name": name, "cat": REQUESTS, "id": key, "pid": track.pid, "tid": track.tid}
    begin = {"ph": "b", **shared, "ts": microseconds(ends_s[0]), "args": plain(args)}
    return [begin, {"ph": "e", **shared, "ts": microseconds(ends_s[1])}]


def flow(stops: list[tuple[Track, float]], key: int) -> list[Event]:
    """Return arrows from slice to slice (`s`, `t`, `f`); none for fewer than two stops."""
    if len(stops) < 2:
        return []
    phases = ["s", *["t"] * (len(stops) - 2), "f"]
    found = []
    for phase, (track, at_s) in zip(phases, stops, strict=True):
        event = {"ph": phase, "name": "request", "cat": REQUESTS, "id": key, "bp": "e"}
        event |= {"ts": microseconds(at_s), "pid": track.pid, "tid": track.tid}
        found.append(event)
    return found


def named(track: Track, process: str, thread: str | None = None) -> list[Event]:
    """Return the names of a process, or of a thread of it, and their places (`M`)."""
    whose, name, place = ("process", process, track.pid)
    if thread is not None:
        whose, name, place = ("thread", thread, track.tid)
    shared = {"ph": "M", "pid": track.pid, "tid": track.tid}
    return [
        {**shared, "name": f"{whose}_name", "args": {"name": name}},
        {**shared, "name": f"{whose}_sort_index", "args": {"sort_index": place}},
    ]


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as JSON knows them."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
