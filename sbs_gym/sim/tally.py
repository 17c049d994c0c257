"""What a learner is paid: every term of the reward, counted where it arises.

A term is kept undiscounted; the reward sums them with their weights, discounted by the time since
the decision, inside the step too. docs/environments.md defines the terms.
"""

from __future__ import annotations

import math

import numpy as np

from sbs_gym.jit import inlined

_A2, _A3, _A4, _A5, _A6, _A7 = (1.0 / n for n in range(2, 8))  # a division costs ten products


@inlined
def let_time_pass(w, until_s):  # type: ignore[no-untyped-def]
    """Count what accrues up to `until_s` with requests that wait, and that decode."""
    tally = w.tally
    if not tally.on:
        return
    passed_s = until_s - tally.since_s
    if passed_s <= 0.0:
        return
    tally.since_s = until_s
    waited_s, decoded_s = tally.num_waiting * passed_s, tally.num_decoding * passed_s
    tally.ttft -= waited_s
    tally.tpot -= decoded_s
    if tally.beta == 0.0:
        tally.reward -= tally.weight_ttft * waited_s + tally.weight_tpot * decoded_s
        return
    lost = _lost_share(tally.beta * passed_s)
    rate = tally.weight_ttft * tally.num_waiting + tally.weight_tpot * tally.num_decoding
    tally.reward -= rate * tally.discount * lost / tally.beta
    tally.discount -= tally.discount * lost


@inlined
def _lost_share(x):  # type: ignore[no-untyped-def]
    """Return 1 - exp(-x), x >= 0, to the last digit or two; instants are close, x mostly tiny."""
    if x > 0.03:
        return -math.expm1(-x)
    rest = 1.0 - _A5 * x * (1.0 - _A6 * x * (1.0 - _A7 * x))
    return x * (1.0 - _A2 * x * (1.0 - _A3 * x * (1.0 - _A4 * x * rest)))


@inlined
def tally_arrival(w):  # type: ignore[no-untyped-def]
    """Count an arrival."""
    let_time_pass(w, w.clock.now_s)
    w.tally.num_waiting += 1


@inlined
def tally_first_token(w, r, goes_on):  # type: ignore[no-untyped-def]
    """Count the first token of request `r`; whether more are to come."""
    tally = w.tally
    if not tally.on:
        return
    let_time_pass(w, w.clock.now_s)
    tally.num_waiting -= 1
    if goes_on:
        tally.num_decoding += 1
    if not _meets_ttft(w, r):
        _miss(w)


@inlined
def tally_finish(w, r):  # type: ignore[no-untyped-def]
    """Count the end of request `r` on a decode rank."""
    tally, request = w.tally, w.requests[r]
    if not tally.on:
        return
    let_time_pass(w, w.clock.now_s)
    tally.num_decoding -= 1
    gaps = np.int64(request.output_tokens) - 1
    allowed_s = tally.tpot_target_s * gaps
    tally.tpot += allowed_s
    tally.reward += tally.weight_tpot * tally.discount * allowed_s
    tpot_s = (w.clock.now_s - request.first_token_at_s) / gaps
    if tpot_s > tally.slo_tpot_s and _meets_ttft(w, r):
        _miss(w)


@inlined
def tally_rejection(w, r):  # type: ignore[no-untyped-def]
    """Count the rejection of request `r`."""
    tally = w.tally
    if not tally.on:
        return
    let_time_pass(w, w.clock.now_s)
    tally.num_waiting -= 1
    cost_s = max(tally.until_s - w.clock.now_s, 4.0 * _allowed_ttft_s(w, r))
    tally.rejection -= cost_s
    tally.reward -= tally.weight_rejection * tally.discount * cost_s
    _miss(w)


@inlined
def tally_pass(w, tokens, bubble_s):  # type: ignore[no-untyped-def]
    """Count a finished prefill pass: its tokens, and the rank-seconds lost at the barrier."""
    tally = w.tally
    if not tally.on:
        return
    tally.input_tokens += tokens
    tally.prefill_bubble -= bubble_s
    value = tally.weight_input_tokens * tokens - tally.weight_prefill_bubble * bubble_s
    if value != 0.0:
        let_time_pass(w, w.clock.now_s)
        tally.reward += tally.discount * value


@inlined
def tally_step(w, tokens, bubble_s):  # type: ignore[no-untyped-def]
    """Count a finished decode step."""
    tally = w.tally
    if not tally.on:
        return
    tally.output_tokens += tokens
    tally.decode_bubble -= bubble_s
    value = tally.weight_output_tokens * tokens - tally.weight_decode_bubble * bubble_s
    if value != 0.0:
        let_time_pass(w, w.clock.now_s)
        tally.reward += tally.discount * value


@inlined
def clear(w):  # type: ignore[no-untyped-def]
    """Forget what has been counted."""
    tally = w.tally
    tally.reward = 0.0
    tally.ttft = 0.0
    tally.tpot = 0.0
    tally.slo_miss = 0.0
    tally.rejection = 0.0
    tally.prefill_bubble = 0.0
    tally.decode_bubble = 0.0
    tally.input_tokens = 0.0
    tally.output_tokens = 0.0


@inlined
def _allowed_ttft_s(w, r):  # type: ignore[no-untyped-def]
    tally = w.tally
    beyond = max(0, np.int64(w.requests[r].input_tokens) - tally.slo_ttft_free_tokens)
    return tally.slo_ttft_s + tally.slo_ttft_per_token_s * beyond


@inlined
def _meets_ttft(w, r):  # type: ignore[no-untyped-def]
    request = w.requests[r]
    return request.first_token_at_s - request.arrived_at_s <= _allowed_ttft_s(w, r)


@inlined
def _miss(w):  # type: ignore[no-untyped-def]
    tally = w.tally
    tally.slo_miss -= 1.0
    tally.reward -= tally.weight_slo_miss * tally.discount
