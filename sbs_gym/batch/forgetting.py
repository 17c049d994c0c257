"""Serving a world whose records nobody keeps: finished decode steps make room for new ones."""

from __future__ import annotations

from sbs_gym.jit import inlined
from sbs_gym.schedulers.serve import serve
from sbs_gym.sim.codes import Status

_STEPS_FULL = int(Status.STEPS_FULL)


@inlined
def serve_and_forget(w, rules):  # type: ignore[no-untyped-def]
    """Serve world `w`; where nobody keeps its records, finished steps make room for new ones."""
    while True:
        status = serve(w, rules)
        if status != _STEPS_FULL or w.agent.keeps_records:
            return status
        _forget_steps(w)


@inlined
def _forget_steps(w):  # type: ignore[no-untyped-def]
    """Keep the records of running steps only; they move to the front in their order."""
    kept, after = 0, -1
    while True:
        nearest = -1
        for j in range(w.setup.num_decode):
            if w.engines[j].busy and w.engines[j].row > after:
                if nearest < 0 or w.engines[j].row < w.engines[nearest].row:
                    nearest = j
        if nearest < 0:
            break
        after = w.engines[nearest].row
        _copy_step(w.steps[kept], w.steps[after])
        w.engines[nearest].row = kept
        kept += 1
    w.clock.num_steps = kept


@inlined
def _copy_step(to, origin):  # type: ignore[no-untyped-def]
    """Copy what is written at the start of a step."""
    to.started_at_s = origin.started_at_s
    to.ended_at_s = origin.ended_at_s
    to.cost_sum_s = origin.cost_sum_s
    to.cost_max_s = origin.cost_max_s
    to.kv_sum_tokens = origin.kv_sum_tokens
    to.kv_square_sum = origin.kv_square_sum
    to.kv_max_tokens = origin.kv_max_tokens
    to.blocks = origin.blocks
    to.batch_sum = origin.batch_sum
    to.batch_max = origin.batch_max
    to.num_admitted = origin.num_admitted
    to.instance = origin.instance
    to.step_index = origin.step_index
