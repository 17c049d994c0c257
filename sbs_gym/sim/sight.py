"""What an observer of arrivals remembers: tokens over the last seconds, and how bursty they are."""

from __future__ import annotations

import math

from sbs_gym.jit import inlined
from sbs_gym.sim.agent_state import NUM_BINS, WINDOWS_S

_W0, _W1, _W2 = WINDOWS_S


@inlined
def watch_arrivals(w):  # type: ignore[no-untyped-def]
    """Take in the arrivals up to now."""
    sight, now = w.sight, w.clock.now_s
    for r in range(sight.counted, w.clock.next_arrival):
        request = w.requests[r]
        tokens = request.input_tokens
        sight.tokens_0 += tokens
        sight.tokens_1 += tokens
        sight.tokens_2 += tokens
        _let_seconds_pass(w, math.floor(request.arrived_at_s))
        sight.bin_count += 1
    sight.counted = w.clock.next_arrival
    _let_seconds_pass(w, math.floor(now))
    while sight.first_0 < sight.counted and w.requests[sight.first_0].arrived_at_s < now - _W0:
        sight.tokens_0 -= w.requests[sight.first_0].input_tokens
        sight.first_0 += 1
    while sight.first_1 < sight.counted and w.requests[sight.first_1].arrived_at_s < now - _W1:
        sight.tokens_1 -= w.requests[sight.first_1].input_tokens
        sight.first_1 += 1
    while sight.first_2 < sight.counted and w.requests[sight.first_2].arrived_at_s < now - _W2:
        sight.tokens_2 -= w.requests[sight.first_2].input_tokens
        sight.first_2 += 1


@inlined
def _let_seconds_pass(w, second):  # type: ignore[no-untyped-def]
    """Close the bins before `second`."""
    sight = w.sight
    while sight.bin < second:
        slot = sight.bin % NUM_BINS
        old, new = w.arrivals_per_s[slot], sight.bin_count
        sight.bins_sum += new - old
        sight.bins_square_sum += new * new - old * old
        w.arrivals_per_s[slot] = new
        sight.bin_count = 0
        sight.bin += 1


@inlined
def arriving_tokens_per_s(sight, now_s, k):  # type: ignore[no-untyped-def]
    """Return the tokens per second that arrived in window `k`, as far as there has been time."""
    if k == 0:
        return sight.tokens_0 / min(_W0, max(now_s, 1.0))
    if k == 1:
        return sight.tokens_1 / min(_W1, max(now_s, 1.0))
    return sight.tokens_2 / min(_W2, max(now_s, 1.0))


@inlined
def dispersion(sight):  # type: ignore[no-untyped-def]
    """Return variance / mean of the arrivals per whole second; 1, as of Poisson, without any."""
    bins = min(sight.bin, NUM_BINS)
    if bins == 0 or sight.bins_sum == 0:
        return 1.0
    mean = sight.bins_sum / bins
    return (sight.bins_square_sum / bins - mean * mean) / mean
