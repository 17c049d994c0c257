"""What an observer of arrivals remembers: tokens over the last seconds, and how bursty they are."""

from __future__ import annotations

import math

import numpy as np

from sbs_gym.jit import inlined
from sbs_gym.sim.agent_state import NUM_BINS, SHORT_BINS


@inlined
def watch_arrivals(w):  # type: ignore[no-untyped-def]
    """Take in the arrivals up to now."""
    sight, now = w.sight, w.clock.now_s
    for r in range(sight.counted, w.clock.next_arrival):
        request = w.requests[r]
        _let_seconds_pass(w, math.floor(request.arrived_at_s))
        sight.tokens += request.input_tokens
        sight.bin_tokens += request.input_tokens
        sight.bin_count += 1
    sight.counted = w.clock.next_arrival
    _let_seconds_pass(w, math.floor(now))
    while sight.first < sight.counted and w.requests[sight.first].arrived_at_s < now - 1.0:
        sight.tokens -= w.requests[sight.first].input_tokens
        sight.first += 1


@inlined
def _let_seconds_pass(w, second):  # type: ignore[no-untyped-def]
    """Close the bins before `second`."""
    sight = w.sight
    while sight.bin < second:
        row = w.arrivals_per_s[sight.bin % NUM_BINS]
        old, new = np.int64(row.count), sight.bin_count
        sight.bins_sum += new - old
        sight.bins_square_sum += new * new - old * old
        sight.bins_tokens += sight.bin_tokens - row.tokens
        sight.short_tokens += sight.bin_tokens
        if sight.bin >= SHORT_BINS:
            sight.short_tokens -= w.arrivals_per_s[(sight.bin - SHORT_BINS) % NUM_BINS].tokens
        row.count = new
        row.tokens = sight.bin_tokens
        sight.bin_count = 0
        sight.bin_tokens = 0
        sight.bin += 1


@inlined
def tokens_per_s(sight, now_s, whole_tokens, num_bins):  # type: ignore[no-untyped-def]
    """Return the tokens per second of the last `num_bins` whole seconds and the one that runs."""
    since_s = now_s - max(0.0, float(sight.bin - num_bins))
    return (whole_tokens + sight.bin_tokens) / max(since_s, 1.0)


@inlined
def dispersion(sight):  # type: ignore[no-untyped-def]
    """Return variance / mean of the arrivals per whole second; 1, as of Poisson, without any."""
    bins = min(sight.bin, NUM_BINS)
    if bins == 0 or sight.bins_sum == 0:
        return 1.0
    mean = sight.bins_sum / bins
    return (sight.bins_square_sum / bins - mean * mean) / mean
