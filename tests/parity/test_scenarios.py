"""The drawn scenarios meet what they are drawn for."""

from __future__ import annotations

import dataclasses
from collections import Counter

from sbs_gym.config.scheduler import PLACEMENTS
from tests.parity.core import run_core
from tests.parity.scenarios import draw_scenario


def test_drawn_scenarios_keep_long_prompts_out() -> None:
    """Reserved instances change the run of enough of them; else agreement says nothing of it."""
    differing = 0
    for given in map(draw_scenario, range(400)):
        if given.reserved > 0 and given.num_prefill > 1:
            ours = run_core(given).requests
            free = run_core(dataclasses.replace(given, reserved=0)).requests
            differing += ours.tobytes() != free.tobytes()
    assert differing >= 25


def test_drawn_scenarios_meet_full_rooms() -> None:
    seen: Counter[str] = Counter()
    for given in map(draw_scenario, range(400)):
        if given.num_decode == 0:
            continue
        records = run_core(given)
        assert records.decode is not None
        rejected = [not given.fits_the_cluster(r) for r in range(given.num_requests)]
        seen["decode"] += 1
        seen["blocked"] += records.prefill_kv_blocked_s > 0.0
        seen["refused"] += records.num_refusals > 0
        seen["preempted"] += bool(records.decode["num_preempted"].any())
        seen["rejected"] += any(rejected)
        seen[given.decode_binding] += len(records.steps) > 0
        seen[given.placement] += len(records.steps) > 0
    assert seen["decode"] == 200
    for name in ("blocked", "refused", "preempted", "rejected", "at_dispatch", "at_prefill_end"):
        assert seen[name] >= 25, (name, seen)
    assert all(seen[name] >= 4 for name in PLACEMENTS), seen
