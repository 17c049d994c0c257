"""The loop that asks: advance a world, let the rules answer, stop where an agent has to."""

from __future__ import annotations

from sbs_gym.jit import compiled
from sbs_gym.schedulers.placement import run_placement
from sbs_gym.schedulers.release import run_round
from sbs_gym.sim.codes import Phase, Status
from sbs_gym.sim.loop import advance, room_for_releases
from sbs_gym.sim.rows import rows_at

_AFTER_ROUND, _AFTER_PLACEMENT = int(Phase.AFTER_ROUND), int(Phase.AFTER_PLACEMENT)
_ROUND_DUE, _PLACEMENT_DUE = int(Status.ROUND_DUE), int(Status.PLACEMENT_DUE)
_EVENTS_FULL, _DECISION_DUE = int(Status.EVENTS_FULL), int(Status.DECISION_DUE)


@compiled
def serve(w, rules):  # type: ignore[no-untyped-def]
    """Advance world `w`, asking the rules at every round, until it is over or an array is full.

    Where `w.agent` answers a question instead of the rules, come back with DECISION_DUE.
    """
    while True:
        status = advance(w)
        if status == _ROUND_DUE:
            if not room_for_releases(w, w.buffer.num):
                return _EVENTS_FULL
            if not run_round(w, rules):
                return _DECISION_DUE
            w.clock.phase = _AFTER_ROUND
        elif status == _PLACEMENT_DUE:
            if not room_for_releases(w, w.clock.num_waiting):
                return _EVENTS_FULL
            if not run_placement(w, rules):
                return _DECISION_DUE
            w.clock.phase = _AFTER_PLACEMENT
        else:
            return status


@compiled
def play(blocks, e, rules):  # type: ignore[no-untyped-def]
    """Serve world `e` of a batch; see sim/rows.py."""
    return serve(rows_at(blocks, e), rules)
