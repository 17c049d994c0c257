"""The life of requests in a trace: the parts it goes through, and arrows from slice to slice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from sbs_gym.report.trace_events import Event, Track, complete, flow, span

# A part of a request's life and the instant that ends it; it begins where the last one ended.
PARTS = (
    ("in the buffer", "dispatched_at_s"),
    ("engine queue", "prefill_started_at_s"),
    ("prefill", "first_token_at_s"),
    ("waits for a decode rank", "bound_at_s"),
    ("KV on its way", "transferred_at_s"),
    ("waits for a step", "admitted_at_s"),
    ("decode", "finished_at_s"),
)
_SHOWN = ("input_tokens", "output_tokens", "instance", "rank", "decode_instance", "decode_rank")


def overlapping(requests: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    """Return the requests that are under way in a part of the stretch."""
    instants = [instant for _, instant in PARTS] + ["rejected_at_s", "arrived_at_s"]
    over_s = requests[instants].max(axis=1)
    unfinished = requests["finished_at_s"].isna() & requests["rejected_at_s"].isna()
    return requests[(requests["arrived_at_s"] < end_s) & ((over_s >= start_s) | unfinished)]


def life_events(requests: pd.DataFrame, track: Track) -> list[Event]:
    """Return every request as a span that holds its parts; an unfinished one ends where known."""
    return [event for row in _rows(requests) for event in _life(row, track)]


def release_events(
    requests: pd.DataFrame, chosen: pd.DataFrame, tracks: Mapping[int, Track]
) -> list[Event]:
    """Return a slice without length for every release that holds a chosen request.

    Args:
        requests: All requests of the run.
        chosen: Those that are in the trace.
        tracks: Instance to the row of what is released to it.
    """
    sent = requests[requests["dispatched_at_s"].notna()]
    groups = sent.groupby(["dispatched_at_s", "instance"], as_index=False).agg(
        requests=("request_id", "size"), tokens=("input_tokens", "sum")
    )
    wanted = chosen[["dispatched_at_s", "instance"]].drop_duplicates()
    return [
        complete(
            tracks[row["instance"]],
            "release",
            "releases",
            row["dispatched_at_s"],
            row["dispatched_at_s"],
            {"requests": row["requests"], "tokens": row["tokens"]},
        )
        for row in _rows(groups.merge(wanted, on=["dispatched_at_s", "instance"]))
    ]


def flow_events(
    requests: pd.DataFrame,
    releases: Mapping[int, Track],
    first_and_last: Mapping[int, tuple[tuple[Track, float], ...]],
    steps: Mapping[tuple[int, float], Track],
) -> list[Event]:
    """Return the arrows of every request: release, first and last pass, first decode step.

    Args:
        requests: Those in the trace.
        releases: Instance to the row of its releases.
        first_and_last: Request to the slices of its passes that are in the trace.
        steps: Decode instance and instant of a step's start to the step's row, of those in the
            trace.
    """
    events = []
    for row in _rows(requests):
        stops = []
        if not math.isnan(row["dispatched_at_s"]):
            stops.append((releases[row["instance"]], row["dispatched_at_s"]))
        stops += first_and_last.get(row["request_id"], ())
        step = (row["decode_instance"], row["admitted_at_s"])
        if step in steps:
            stops.append((steps[step], step[1]))
        events += flow(stops, row["request_id"])
    return events


def _life(row: Mapping[str, Any], track: Track) -> list[Event]:
    key, since_s, inside = row["request_id"], row["arrived_at_s"], []
    for name, instant in PARTS:
        until_s = row[instant]
        if math.isnan(until_s):
            continue
        # Under binding at dispatch a rank is bound before the first token: nothing was waited for.
        if until_s > since_s:
            inside += span(track, name, key, (since_s, until_s))
            since_s = until_s
    if not math.isnan(row["rejected_at_s"]):
        since_s = max(since_s, row["rejected_at_s"])
    shown = {name: row[name] for name in _SHOWN}
    begin, end = span(track, "request", key, (row["arrived_at_s"], since_s), **shown)
    return [begin, *inside, end]


def _rows(table: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """Return rows as mappings of Python's own numbers."""
    return table.to_dict(orient="records")  # type: ignore[return-value]
