"""The rules of the Trace Event Format that viewers rely on, as a list of what breaks them."""

from __future__ import annotations

from collections import defaultdict

_PLACED = {"name", "cat", "ts", "pid", "tid"}
NEEDED = {
    "X": {*_PLACED, "dur"},
    "C": {"name", "ts", "pid", "args"},
    "M": {"name", "pid", "args"},
    **{phase: {*_PLACED, "id"} for phase in "be"},
    **{phase: {*_PLACED, "id", "bp"} for phase in "stf"},
}


def problems(trace):
    """Return what is wrong with a trace, nothing for a good one."""
    events = trace["traceEvents"]
    shape = [f"{e}: keys" for e in events if not NEEDED.get(e.get("ph"), {"?"}) <= set(e)]
    if shape:
        return shape
    checks = (_order, _durations, _names, _nesting, _spans, _flows, _counters)
    return [found for check in checks for found in check(events)]


def _order(events):
    first = [event["ph"] == "M" for event in events]
    if first != sorted(first, reverse=True):
        yield "metadata stands behind events"
    instants = [event["ts"] for event in events if event["ph"] != "M"]
    if instants != sorted(instants):
        yield "events are not in order of time"


def _durations(events):
    yield from (f"{e}: negative" for e in events if e.get("dur", 0) < 0 or e.get("ts", 0) < 0)


def _names(events):
    named = {kind: set() for kind in ("process_name", "thread_name")}
    for event in events:
        if event["ph"] == "M" and event["name"] in named and event["args"]["name"]:
            named[event["name"]].add((event["pid"], event["tid"]))
    processes = {pid for pid, _ in named["process_name"]}
    used = {(e["pid"], e["tid"]) for e in events if e["ph"] in "Xbestf"}
    yield from (f"thread {key} has no name" for key in used - named["thread_name"])
    yield from (f"process {e['pid']} has no name" for e in events if e["pid"] not in processes)


def _nesting(events):
    """Slices of a thread lie inside each other or apart, to the nanosecond."""
    rows = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            start = round(event["ts"] * 1e3)
            rows[event["pid"], event["tid"]].append((start, -round(event["dur"] * 1e3)))
    for row, slices in rows.items():
        open_ends = []
        for start, minus_length in sorted(slices):
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
            if open_ends and start - minus_length > open_ends[-1]:
                yield f"slices of {row} cross at {start} ns"
            open_ends.append(start - minus_length)


def _spans(events):
    """Begins and ends match by name, category and id, the last one opened closed first."""
    stacks = defaultdict(list)
    for event in events:
        key = (event.get("cat"), event.get("id"), event["pid"])
        if event["ph"] == "b":
            stacks[key].append(event["name"])
        elif event["ph"] == "e" and (not stacks[key] or stacks[key].pop() != event["name"]):
            yield f"{event}: ends what did not begin last"
    yield from (f"{key}: {names} never end" for key, names in stacks.items() if names)


def _flows(events):
    """An arrow starts once, ends once, and every stop is at the start of a slice that is there."""
    starts = {(e["pid"], e["tid"], e["ts"]) for e in events if e["ph"] == "X"}
    phases = defaultdict(list)
    for event in events:
        if event["ph"] in "stf":
            phases[event["cat"], event["id"]].append(event["ph"])
            if (event["pid"], event["tid"], event["ts"]) not in starts:
                yield f"{event}: no slice here"
    for key, found in phases.items():
        if found[0] != "s" or found[-1] != "f" or set(found[1:-1]) - {"t"}:
            yield f"arrow {key} goes {found}"


def _counters(events):
    for event in events:
        values = event["args"].values() if event["ph"] == "C" else ()
        if any(not isinstance(value, int | float) or value < 0 for value in values):
            yield f"{event}: no number"
