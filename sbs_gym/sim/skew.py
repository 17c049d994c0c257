"""The expert skew of an instance, advanced step by step of its grid as time goes on."""

from __future__ import annotations

import math

from sbs_gym.jit import inlined
from sbs_gym.timing.luck import skew_factor, skew_next, skew_start


@inlined
def skew_now(w, timing, holder, number):  # type: ignore[no-untyped-def]
    """Advance the AR(1) kept in `holder` to this instant's grid step and return its factor.

    `holder` is an instance of either phase, `number` its address in luck, `timing` the phase's.
    """
    if timing.skew_sigma == 0.0:
        return timing.skew_mean
    step = math.floor(w.clock.now_s / timing.skew_grid_s)
    if holder.skew_k < 0:
        holder.skew_x = skew_start(timing, w.setup.seed, number)
        holder.skew_k = 0
    while holder.skew_k < step:
        holder.skew_k += 1
        holder.skew_x = skew_next(timing, w.setup.seed, number, holder.skew_k, holder.skew_x)
    return skew_factor(timing, holder.skew_x)
