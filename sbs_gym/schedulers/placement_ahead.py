"""Placement rules that weigh the whole group of decode ranks: BF-IO, BR-0, exponential weights."""

from __future__ import annotations

import math

import numpy as np

from sbs_gym.jit import inlined
from sbs_gym.rng import Stream, uniform
from sbs_gym.schedulers.rules import PolicyPurpose
from sbs_gym.sim.reports import known_kv_load, known_kv_tokens, known_requests

_POLICY, _PLACE = int(Stream.POLICY), int(PolicyPurpose.PLACE)
_OUTLIER = 3.0  # times the mean: FlexLB drops ranks above


@inlined
def best_fit(w, rules, r, count):  # type: ignore[no-untyped-def]
    """Return the candidate that keeps the fullest rank lowest over the steps to come (BF-IO)."""
    setup = w.setup
    for h in range(rules.horizon_steps + 1):
        most = -math.inf
        for g in range(setup.num_decode_ranks):
            most = max(most, _load_ahead(w, g, h))
        w.look_ahead[h] = most
    weight = float(w.requests[r].input_tokens + 1)
    best, least_cost, least_kv = np.int64(-1), 0.0, 0.0
    for c in range(count):
        k = np.int64(w.candidates[c])
        cost = 0.0
        for h in range(rules.horizon_steps + 1):
            grown = float(h) * setup.tokens_per_step
            cost += max(w.look_ahead[h], (_load_ahead(w, k, h) + weight) + grown)
        kv = known_kv_tokens(w, k)
        if best < 0 or cost < least_cost or (cost == least_cost and kv < least_kv):
            best, least_cost, least_kv = k, cost, kv
    return best


@inlined
def _load_ahead(w, k, h):  # type: ignore[no-untyped-def]
    grown = float(h) * w.setup.tokens_per_step
    return known_kv_tokens(w, k) + grown * float(known_requests(w, k))


@inlined
def best_response(w, r, count):  # type: ignore[no-untyped-def]
    """Return the candidate with the largest gain for the fullest rank's margin (BR-0)."""
    num, most = w.setup.num_decode_ranks, -math.inf
    for g in range(num):
        most = max(most, known_kv_tokens(w, g))
    weight = float(w.requests[r].input_tokens + 1)
    best, most_gain, least_kv = np.int64(-1), 0.0, 0.0
    for c in range(count):
        k = np.int64(w.candidates[c])
        kv = known_kv_tokens(w, k)
        margin = most - kv
        gain = min(weight, margin) - float(num - 1) * max(0.0, weight - margin)
        if best < 0 or gain > most_gain or (gain == most_gain and kv < least_kv):
            best, most_gain, least_kv = k, gain, kv
    return best


@inlined
def draw_by_weight(w, rules, r, count):  # type: ignore[no-untyped-def]
    """Return a candidate drawn with weights that fall with its KV; far outliers are dropped."""
    left = _drop_outliers(w, rules, count)
    lightest = math.inf
    for c in range(left):
        lightest = min(lightest, known_kv_tokens(w, np.int64(w.candidates[c])))
    total = 0.0
    for c in range(left):
        total += _weight(w, rules, c, lightest)
    goal = uniform(w.setup.seed, _POLICY, _PLACE, r, 0) * total
    reached = 0.0
    for c in range(left):
        reached += _weight(w, rules, c, lightest)
        if reached > goal:
            return np.int64(w.candidates[c])
    return np.int64(w.candidates[left - 1])


@inlined
def _drop_outliers(w, rules, count):  # type: ignore[no-untyped-def]
    total = 0.0
    for c in range(count):
        total += known_kv_load(w, np.int64(w.candidates[c]), rules.kv_in_tokens)
    limit = _OUTLIER * total / count
    left = 0
    for c in range(count):
        if known_kv_load(w, np.int64(w.candidates[c]), rules.kv_in_tokens) <= limit:
            w.candidates[left] = w.candidates[c]
            left += 1
    return left


@inlined
def _weight(w, rules, c, lightest):  # type: ignore[no-untyped-def]
    kv = known_kv_tokens(w, np.int64(w.candidates[c]))
    return math.exp(-rules.decay * (kv - lightest))
