"""A run as a trace for Perfetto and chrome://tracing: what overlaps a stretch of time, uncut."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sbs_gym.errors import ConfigError
from sbs_gym.report.perfetto_requests import (
    PARTS,
    flow_events,
    life_events,
    overlapping,
    release_events,
)
from sbs_gym.report.rank_work import busy_frac, chunks_of
from sbs_gym.report.trace_events import Event, Track, complete, counter, named
from sbs_gym.result import Result
from sbs_gym.types import FloatArray

MOST_EVENTS = 500_000  # about 50 MB of JSON
_MOST_STEPS = 20_000  # beyond it decode is counters only
_SCHEDULER, _PREFILL, _DECODE = 1, 100, 10_000  # pids; an instance adds its number
_WHOLE = 0  # thread of the passes or steps of all ranks; rank r is thread r + 1
_OF_A_PASS = ("tokens", "num_requests", "num_finished", "leftover_tokens", "budget_tokens")
_OF_A_STEP = ("batch_sum", "batch_max", "kv_max_tokens", "num_admitted", "num_finished")
_REQUESTS = 1_000  # thread of the requests in the scheduler's process


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stretch:
    """What of a run is in the trace: its rows that overlap [start_s, end_s)."""

    result: Result
    start_s: float
    end_s: float
    passes: pd.DataFrame
    steps: pd.DataFrame
    requests: pd.DataFrame
    chunks: pd.DataFrame
    busy: FloatArray


def trace_of(
    result: Result, *, start_s: float = 0.0, end_s: float = math.inf, most_events: int = MOST_EVENTS
) -> dict[str, Any]:
    """Return the trace of a run as the Trace Event Format has it, ready for JSON.

    A process per instance, in it a thread for its passes and one per rank: the work of every pass
    with its tokens and requests, and the bubble behind it. Decode instances have their steps and
    counters of batch and KV, the scheduler has its releases, counters of the buffer, and every
    request as a span from arrival to its last token, with arrows through release, pass and step.

    Args:
        result: A run that recorded its ranks.
        start_s: What ends before is left out, seconds.
        end_s: What begins at or after it is left out.
        most_events: The trace is refused beyond that.

    Raises:
        ConfigError: If the stretch holds nothing, ranks were not recorded, or events are too many.
    """
    stretch = _cut(result, start_s, end_s)
    _refuse_too_many(stretch, most_events)
    events = [*_pass_events(stretch), *_step_events(stretch), *_counter_events(stretch)]
    releases = {i: Track(_SCHEDULER, i + 1) for i in range(result.config.cluster.num_prefill)}
    events += release_events(result.requests, stretch.requests, releases)
    events += life_events(stretch.requests, Track(_SCHEDULER, _REQUESTS))
    events += flow_events(stretch.requests, releases, _pass_stops(stretch), _step_stops(stretch))
    events.sort(key=lambda event: float(event["ts"]))  # stable: a begin stays before its end
    provenance = {key: str(value) for key, value in result.provenance.items() if key != "inputs"}
    about = {"scheduler": result.config.scheduler.name, "workload": result.config.workload.name}
    return {
        "traceEvents": [*_names(result), *events],
        "displayTimeUnit": "ms",
        "otherData": {**about, **provenance},
    }


def _cut(result: Result, start_s: float, end_s: float) -> _Stretch:
    if not end_s > start_s:
        raise ConfigError(f"end_s={end_s!r} is not allowed; expected more than start_s={start_s!r}")
    chunks = chunks_of(result)
    passes = _inside(result.passes.reset_index(drop=True), start_s, end_s)
    passes = passes[passes["tokens"] > 0]
    requests = overlapping(result.requests, start_s, end_s)
    if not len(passes) and not len(requests):
        first_s, last_s = result.requests["arrived_at_s"].min(), result.passes["ended_at_s"].max()
        raise ConfigError(
            f"start_s={start_s!r}, end_s={end_s!r}: nothing happened there; the run goes from "
            f"{first_s:.3f} to {last_s:.3f} s"
        )
    return _Stretch(
        result=result,
        start_s=start_s,
        end_s=end_s,
        passes=passes,
        steps=_inside(result.steps, start_s, end_s),
        requests=requests,
        chunks=chunks[chunks["pass_row"].isin(passes.index)],
        busy=busy_frac(result, chunks),
    )


def _inside(rows: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    return rows[(rows["ended_at_s"] > start_s) & (rows["started_at_s"] < end_s)]


def _refuse_too_many(stretch: _Stretch, most_events: int) -> None:
    per_pass = 1 + 2 * stretch.result.config.cluster.prefill_dp
    per_request = 2 * (len(PARTS) + 1) + 4 + 6  # spans, arrows, counters
    count = len(stretch.passes) * per_pass + len(stretch.requests) * per_request
    count += 3 * min(len(stretch.steps), _MOST_STEPS)
    if count > most_events:
        raise ConfigError(
            f"the trace would hold about {count:,} events; expected at most {most_events:,}: cut a "
            "stretch out with start_s=… and end_s=…, or run fewer requests"
        )


def _names(result: Result) -> Iterator[Event]:
    cluster = result.config.cluster
    yield from named(Track(_SCHEDULER, 0), "scheduler buffer")
    yield from named(Track(_SCHEDULER, _REQUESTS), "", "requests")
    for i in range(cluster.num_prefill):
        yield from named(Track(_SCHEDULER, i + 1), "", f"releases to prefill {i}")
        yield from named(Track(_PREFILL + i, _WHOLE), f"prefill {i}")
        yield from named(Track(_PREFILL + i, _WHOLE), "", "passes")
        for rank in range(cluster.prefill_dp):
            yield from named(Track(_PREFILL + i, rank + 1), "", f"rank {rank}")
    for i in range(cluster.num_decode):
        yield from named(Track(_DECODE + i, _WHOLE), f"decode {i}")
        yield from named(Track(_DECODE + i, _WHOLE), "", "steps")


def _pass_events(stretch: _Stretch) -> Iterator[Event]:
    work = _work_of_ranks(stretch)
    for at, row in zip(stretch.passes.index, stretch.passes.to_dict("records"), strict=True):
        pid, name = _PREFILL + int(row["instance"]), f"pass {row['pass_index']}"
        start_s, end_s = float(row["started_at_s"]), float(row["ended_at_s"])
        busy = stretch.busy[int(at)]
        args = {key: int(row[key]) for key in _OF_A_PASS}
        bubble = {"bubble_frac": round(1.0 - float(busy.mean()), 4)}
        yield complete(Track(pid, _WHOLE), name, "passes", start_s, end_s, args | bubble)
        for rank, share in enumerate(busy):
            track = Track(pid, rank + 1)
            done_s = end_s if share == 1.0 else start_s + float(share) * (end_s - start_s)
            if share > 0.0:
                yield complete(track, name, "work", start_s, done_s, work[at, rank])
            if done_s < end_s:
                yield complete(track, "bubble", "bubbles", done_s, end_s, {})


def _work_of_ranks(stretch: _Stretch) -> dict[Any, dict[str, Any]]:
    """Return pass and rank to its tokens and the requests that they are of."""
    found = {}
    for key, chunks in stretch.chunks.groupby(["pass_row", "rank"]):
        ids = chunks["request_id"].tolist()
        tokens = int(chunks["tokens"].sum())
        found[key] = {"tokens": tokens, "requests": len(ids), "request_ids": ids}
    return found


def _pass_stops(stretch: _Stretch) -> dict[int, tuple[tuple[Track, float], ...]]:
    """Return request to the row and start of its first and last pass in the trace."""
    started_s = stretch.passes["started_at_s"]
    found: dict[int, tuple[tuple[Track, float], ...]] = {}
    in_order = stretch.chunks.assign(started_at_s=stretch.chunks["pass_row"].map(started_s))
    columns = ["request_id", "instance", "rank", "started_at_s"]
    for key, i, rank, at_s in in_order.sort_values("started_at_s")[columns].itertuples(index=False):
        stop = (Track(_PREFILL + int(i), int(rank) + 1), float(at_s))
        found[int(key)] = (found[int(key)][0], stop) if int(key) in found else (stop,)
    return found


def _step_events(stretch: _Stretch) -> Iterator[Event]:
    """Yield every step and what its batch holds; of very many steps only every few a counter."""
    slices = len(stretch.steps) <= _MOST_STEPS
    each = -(-len(stretch.steps) // _MOST_STEPS)
    dp = stretch.result.config.cluster.decode_dp
    for at, row in enumerate(stretch.steps.to_dict(orient="records")):
        track, start_s = Track(_DECODE + row["instance"], _WHOLE), row["started_at_s"]
        if slices:
            args, name = {key: row[key] for key in _OF_A_STEP}, f"step {row['step_index']}"
            yield complete(track, name, "steps", start_s, row["ended_at_s"], args)
        if at % each == 0:
            batch = {"mean": row["batch_sum"] / dp, "most": row["batch_max"]}
            yield counter(track, "batch of a rank (requests)", start_s, batch)
            yield counter(track, "KV (tokens)", start_s, {"all ranks": row["kv_sum_tokens"]})


def _step_stops(stretch: _Stretch) -> dict[tuple[int, float], Track]:
    if len(stretch.steps) > _MOST_STEPS:
        return {}
    keys = zip(stretch.steps["instance"], stretch.steps["started_at_s"], strict=True)
    return {(int(i), float(at_s)): Track(_DECODE + int(i), _WHOLE) for i, at_s in keys}


def _counter_events(stretch: _Stretch) -> Iterator[Event]:
    """Yield who waits where, at every instant of the stretch at which it changes."""
    requests = stretch.result.requests
    buffer = Track(_SCHEDULER, 0)
    yield from _waiting(stretch, requests, "arrived_at_s", "dispatched_at_s", "buffer", buffer)
    for i in range(stretch.result.config.cluster.num_prefill):
        mine, track = requests[requests["instance"] == i], Track(_PREFILL + i, _WHOLE)
        yield from _waiting(stretch, mine, "delivered_at_s", "prefill_started_at_s", "queue", track)


def _waiting(
    stretch: _Stretch, requests: pd.DataFrame, since: str, until: str, name: str, track: Track
) -> Iterator[Event]:
    tokens = requests["input_tokens"]
    came = pd.DataFrame({"at_s": requests[since], "requests": 1, "tokens": tokens})
    left_at_s = requests[until].fillna(requests["rejected_at_s"])
    left = pd.DataFrame({"at_s": left_at_s, "requests": -1, "tokens": -tokens})
    changes = pd.concat([came, left]).dropna(subset="at_s").groupby("at_s").sum().cumsum()
    known = changes.index.to_numpy()
    first = max(0, int(np.searchsorted(known, stretch.start_s, "right")) - 1)
    last = int(np.searchsorted(known, stretch.end_s, "left"))
    for at_s, row in changes.iloc[first:last].iterrows():
        at = max(float(str(at_s)), stretch.start_s)
        yield counter(track, f"{name} (requests)", at, {"requests": int(row["requests"])})
        yield counter(track, f"{name} (tokens)", at, {"tokens": int(row["tokens"])})
