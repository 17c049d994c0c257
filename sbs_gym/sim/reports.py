"""Reports of decode ranks, and what the scheduler makes of them.

docs/semantics.md section 14 is the specification. Only `sample` reads true state.
"""

from __future__ import annotations

import math

from sbs_gym.jit import compiled, inlined
from sbs_gym.sim.codes import Kind
from sbs_gym.sim.events import push_event

_SAMPLE, _REPORT = int(Kind.SAMPLE), int(Kind.REPORT)


@inlined
def ask_for_sample(w, j):  # type: ignore[no-untyped-def]
    """Schedule the next look at decode instance `j`, unless one is scheduled."""
    if w.engines[j].sample_scheduled:
        return
    period_s, now = w.setup.report_period_s, w.clock.now_s
    number = math.floor(now / period_s) + 1
    if number * period_s <= now:
        number += 1
    w.engines[j].sample_scheduled = 1
    w.clock.num_report_events += 1
    push_event(w, number * period_s, _SAMPLE, j, 0, 0, 0)


@compiled
def sample(w, j):  # type: ignore[no-untyped-def]
    """Write a report of decode instance `j` and send it; look again if it holds requests."""
    setup, engine, dp = w.setup, w.engines[j], w.setup.decode_dp
    slot = j * setup.report_slots + engine.num_samples % setup.report_slots
    engine.num_samples += 1
    engine.sample_scheduled = 0
    for d in range(dp):
        rank, view = w.decode_ranks[j * dp + d], w.decode_views[j * dp + d]
        report = w.reports[slot * dp + d]
        steps = rank.num_running * engine.steps_done - rank.start_sum
        report.running = rank.num_running
        report.waiting = rank.num_bound - rank.num_running
        report.blocks = setup.decode_blocks - rank.free_blocks
        report.kv_tokens = float(
            rank.base_tokens + rank.coming_tokens
        ) + setup.tokens_per_step * float(steps)
        report.granted = view.granted
        report.granted_blocks = view.granted_blocks
        report.granted_tokens = view.granted_tokens
    push_event(w, w.clock.now_s + setup.signal_delay_s, _REPORT, j, slot, 0, 0)  # in its place
    if engine.num_bound > 0:
        ask_for_sample(w, j)


@compiled
def note_report(w, j, slot):  # type: ignore[no-untyped-def]
    """Take in the report of decode instance `j` that stands in ring slot `slot`."""
    dp = w.setup.decode_dp
    for d in range(dp):
        view, report = w.decode_views[j * dp + d], w.reports[slot * dp + d]
        view.running = report.running
        view.waiting = report.waiting
        view.blocks = report.blocks
        view.kv_tokens = report.kv_tokens
        view.granted_before = report.granted
        view.granted_blocks_before = report.granted_blocks
        view.granted_tokens_before = report.granted_tokens
        view.refused = 0
    w.sight.report_sample_at_s = w.clock.now_s - w.setup.signal_delay_s
    w.clock.num_report_events -= 1
    w.clock.idle_reports += 1
    w.clock.placement_asked = 1


@inlined
def note_grant(w, k, blocks, tokens):  # type: ignore[no-untyped-def]
    """Add a granted request to what the scheduler knows of decode rank `k`."""
    view = w.decode_views[k]
    view.granted += 1
    view.granted_blocks += blocks
    view.granted_tokens += tokens


@inlined
def known_waiting(w, k):  # type: ignore[no-untyped-def]
    """Return the requests that wait on decode rank `k`, by the scheduler's records."""
    view = w.decode_views[k]
    return view.waiting + (view.granted - view.granted_before)


@inlined
def known_requests(w, k):  # type: ignore[no-untyped-def]
    """Return the requests that run or wait on decode rank `k`, by the scheduler's records."""
    return w.decode_views[k].running + known_waiting(w, k)


@inlined
def known_blocks(w, k):  # type: ignore[no-untyped-def]
    """Return the KV blocks held on decode rank `k`, by the scheduler's records."""
    view = w.decode_views[k]
    return view.blocks + (view.granted_blocks - view.granted_blocks_before)


@inlined
def known_kv_tokens(w, k):  # type: ignore[no-untyped-def]
    """Return the context tokens on decode rank `k`, by the scheduler's records."""
    view = w.decode_views[k]
    return view.kv_tokens + float(view.granted_tokens - view.granted_tokens_before)


@inlined
def known_kv_load(w, k, in_tokens):  # type: ignore[no-untyped-def]
    """Return the KV load of decode rank `k` in tokens or in blocks, by the scheduler's records."""
    if in_tokens:
        return known_kv_tokens(w, k)
    return float(known_blocks(w, k))
