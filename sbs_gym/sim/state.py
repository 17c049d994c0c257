"""The state of one simulated run: one structured dtype per entity, fields documented here.

Arrays hold plain records, so that the code reads `w.ranks[k].queued_tokens += tokens` both compiled
and as plain Python. Rank k of instance i stands at row `i * dp + k`. Instants are seconds; -inf
means "never happened yet" and +inf "not scheduled". What the scheduler knows lives in `views` and
`rank_views` and is never read by the engine; the engine's truth is never read by a rule.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sbs_gym.sim.records import REQUEST_RECORD


def dtype_of(*fields: tuple[Any, ...]) -> np.dtype[Any]:
    """Return the dtype of one entity, whose rows compiled code reads by attribute."""
    return np.dtype((np.record, np.dtype(list(fields), align=True)))


# Parameters of the world; constant during a run.
SETUP = dtype_of(
    ("seed", np.int64),
    ("num_requests", np.int64),
    ("num_prefill", np.int64),
    ("dp", np.int64),
    ("chunk_tokens", np.int64),
    ("start_rule", np.int64),
    ("cost_budget", np.int64),  # 1: budgets count cost, 0: tokens
    ("gated", np.int64),  # 1: the scheduler waits for readiness and predicts passes
    ("leftovers_alone", np.int64),  # 1: never release to an instance that still runs
    ("order", np.int64),
    ("any_order", np.int64),  # 1: the order may change, both indices of the buffer are kept
    ("n_limit", np.int64),
    ("long_tokens", np.int64),  # a prompt above this is long
    ("mean_luck", np.int64),  # 1: no jitter, mean skew
    ("first_measured", np.int64),  # ids [first_measured, end_measured)
    ("end_measured", np.int64),
    ("record_ranks", np.int64),
    ("dispatch_delay_s", np.float64),
    ("signal_delay_s", np.float64),
    ("signal_loss_frac", np.float64),
    ("slow_rank_factor", np.float64),  # of rank 0 of instance 0
    ("watchdog_factor", np.float64),
    ("full_pass_s", np.float64),  # a full chunk on every rank, no context, mean luck
    ("stop_at_s", np.float64),
    # Decode; zeros where num_decode = 0.
    ("num_decode", np.int64),
    ("decode_dp", np.int64),
    ("num_decode_ranks", np.int64),
    ("prefill_kv_tokens", np.int64),  # room of a prefill rank
    ("decode_blocks", np.int64),  # room of a decode rank
    ("block_tokens", np.int64),
    ("reserve_tokens", np.int64),  # for the answer, when a rank is bound
    ("max_running", np.int64),  # requests of a rank in a step
    ("bind_at_dispatch", np.int64),
    ("send_all", np.int64),  # 1: no chunk is sent during earlier passes
    ("recompute", np.int64),  # 1: evicted KV is built anew, 0: swapped
    ("report_slots", np.int64),  # reports of an instance that can be under way
    ("kv_bytes", np.int64),  # of one token
    ("nic_bytes_per_s", np.float64),
    ("transfer_latency_s", np.float64),
    ("host_bytes_per_s", np.float64),
    ("recompute_tokens_per_s", np.float64),
    ("tokens_per_step", np.float64),
    ("report_period_s", np.float64),
)

# The clock and everything of which there is one.
CLOCK = dtype_of(
    ("now_s", np.float64),
    ("timer_at_s", np.float64),  # the scheduler's timer
    ("watchdog_at_s", np.float64),  # earliest watchdog of any instance
    ("pass_avg_s", np.float64),  # EMA of signalled pass durations
    ("last_release_at_s", np.float64),
    ("phase", np.int64),
    ("asked", np.int64),  # 1: a scheduler round is due in this instant
    ("signal_came", np.int64),  # in the instant of the round that runs
    ("arrival_came", np.int64),
    ("next_arrival", np.int64),  # id of the first request that has not arrived
    ("num_done", np.int64),  # finished or rejected
    ("num_measured_left", np.int64),
    ("num_events", np.int64),
    ("next_seq", np.int64),
    ("first_start", np.int64),  # passes of this instant: starts[first_start:end_start]
    ("end_start", np.int64),
    ("num_passes", np.int64),
    ("first_signal", np.int64),  # ring of signals under way: [first_signal, next_signal)
    ("next_signal", np.int64),
    ("release_number", np.int64),
    ("num_dispatched", np.int64),  # length of the dispatch log
    ("num_signals_lost", np.int64),
    ("num_watchdogs", np.int64),
    ("instants_left", np.int64),  # until SLICE_OVER
    ("event_capacity", np.int64),
    ("signal_capacity", np.int64),  # a power of 2
    ("pass_capacity", np.int64),
    ("num_waiting", np.int64),  # prompts that wait for a decode rank
    ("num_report_events", np.int64),  # samples and reports among the events
    ("idle_reports", np.int64),  # reports since anything else happened
    ("num_placements", np.int64),  # placement rounds so far
    ("placement_asked", np.int64),  # 1: a placement round is due if prompts wait
    ("next_place", np.int64),  # round robin over decode ranks
    ("next_scan", np.int64),  # where vllm_kv starts to look
    ("num_refusals", np.int64),
    ("num_steps", np.int64),
    ("step_capacity", np.int64),
)

# The scheduler's buffer; see sim/buffer.py for the index over `keys`.
BUFFER = dtype_of(
    ("num", np.int64),
    ("tokens", np.int64),
    ("chunk_tokens", np.int64),  # sum of min(input, chunk)
    ("oldest", np.int64),  # no request below this id is buffered
    ("num_keys", np.int64),  # keys ever added
    ("front", np.int64),  # the opened bucket is keys[front:front_end]
    ("front_end", np.int64),
    ("heap_size", np.int64),
)

# A request: what REQUEST_RECORD documents, and two links.
REQUEST = dtype_of(
    *[(name, REQUEST_RECORD[name]) for name in REQUEST_RECORD.names or ()],
    ("next", np.int32),  # next request of the same rank, in order of dispatch; -1 at the end
    ("life", np.int8),
    # until dispatch `waited_releases` holds the release number at arrival
)

# Truth of a prefill instance.
INSTANCE = dtype_of(
    ("started_at_s", np.float64),
    ("skew_x", np.float64),  # AR(1) value at grid step skew_k
    ("skew_k", np.int64),  # -1 before the first pass
    ("budget_tokens", np.int64),
    ("queued_tokens", np.int64),  # delivered and not yet in a pass, all ranks
    ("pass_index", np.int64),  # of the running pass, or of the next one
    ("pass_budget", np.int64),  # when the running pass was formed
    ("pass_leftover", np.int64),  # queued tokens that it left behind
    ("busy", np.int8),
    ("start_scheduled", np.int8),
    ("released", np.int8),  # a release arrived since the last pass started
)

# Truth of a rank.
RANK = dtype_of(
    ("queued_tokens", np.int64),
    ("head_done", np.int64),  # tokens of the head that are done or in the running pass
    ("head", np.int32),  # first request with tokens not yet in a pass; -1 for none
    ("pass_head", np.int32),  # first request that the running pass completes
    ("pass_head_done", np.int64),  # tokens of `pass_head` done before the running pass
)

# Its share in the running pass; the last one's while none runs.
SHARE = dtype_of(
    ("tokens", np.int64),
    ("pairs", np.int64),  # sum of q * (2 * context + q)
    ("num_finishing", np.int32),
    ("num_chunks", np.int32),
    ("done_tokens", np.int64),  # of all finished passes
)

# KV room and network card of a prefill rank; of no use where decode is not modelled.
RANK_KV = dtype_of(
    ("kv_free_tokens", np.int64),
    ("passed_over", np.int64),  # last placement round that left a prompt of it waiting
    ("nic_free_at_s", np.float64),
    ("blocked_since_s", np.float64),  # inf: its head, if any, fits
    ("blocked_s", np.float64),  # before that
)

# What the scheduler knows of an instance (docs/semantics.md section 5).
VIEW = dtype_of(
    ("last_at_s", np.float64),  # delivery of the last release
    ("last_budget", np.int64),
    ("budget_before", np.int64),  # of the release before the last
    ("known_index", np.int64),  # last pass known or assumed to have ended
    ("run_start_s", np.float64),
    ("run_end_s", np.float64),
    ("run_pred_s", np.float64),
    ("idle_since_s", np.float64),
    ("error_s", np.float64),  # EMA of |actual - predicted| ends
    ("watchdog_at_s", np.float64),
    ("outstanding_tokens", np.int64),
    ("outstanding_requests", np.int64),
    ("outstanding_long", np.int64),  # of them, those of more than setup.long_tokens
    ("leftover_tokens", np.int64),
    ("leftover_chunk_tokens", np.int64),  # sum over ranks of min(leftover, chunk)
    ("next_rank", np.int64),  # round robin counter
    ("running", np.int8),
    ("pending", np.int8),
    ("to_begin", np.int8),  # its next pass starts after this round, a release can still join it
    ("barred", np.int8),  # had no room in this round
)

# What the scheduler knows of a rank.
RANK_VIEW = dtype_of(
    ("sent_tokens", np.int64),
    ("acked_tokens", np.int64),
    ("last_tokens", np.int64),  # of the last release
    ("assumed_tokens", np.int32),  # of passes taken as ended; 0 from the next signal on
    ("run_tokens", np.int32),  # of the believed pass: within a chunk
    ("num_unacked", np.int32),
    ("head_done", np.int32),
    ("head", np.int32),  # first request not fully acked; -1 for none
    ("tail", np.int32),  # last request ever sent there
)

# `instance` or, for deliveries, the range [first, end) of the dispatch log and the budget.
EVENT = dtype_of(
    ("time_s", np.float64),
    ("seq", np.int64),
    ("kind", np.int64),
    ("instance", np.int64),
    ("first", np.int64),
    ("end", np.int64),
    ("budget", np.int64),
)

# An EndForward under way; the cumulative tokens per rank stand in `signal_tokens`, dp per slot.
SIGNAL = dtype_of(
    ("started_at_s", np.float64),
    ("ended_at_s", np.float64),
    ("pass_index", np.int64),
    ("tokens", np.int64),
)


class World(NamedTuple):
    """All arrays of one run, handed as one argument from function to function."""

    setup: Any  # record SETUP
    clock: Any  # record CLOCK
    buffer: Any  # record BUFFER
    requests: NDArray[Any]  # (num_requests,)
    instances: NDArray[Any]  # (num_prefill,)
    ranks: NDArray[Any]  # (num_prefill * dp,)
    shares: NDArray[Any]  # (num_prefill * dp,)
    rank_kv: NDArray[Any]  # (num_prefill * dp,)
    starts: NDArray[np.int64]  # instances in the order in which they start a pass, (num_prefill,)
    views: NDArray[Any]  # (num_prefill,)
    rank_views: NDArray[Any]  # (num_prefill * dp,)
    leftovers: NDArray[np.int64]  # tokens behind the believed pass by rank, (num_prefill * dp,)
    events: NDArray[Any]  # binary heap, (capacity,)
    signals: NDArray[Any]  # ring, (capacity,)
    signal_tokens: NDArray[np.int64]  # (capacity * dp,)
    keys: NDArray[np.int64]  # the buffer's index by age and length, (num_requests,)
    heap: NDArray[np.int64]  # its index by length alone, likewise
    log: NDArray[np.int32]  # request ids in order of dispatch, (num_requests,)
    passes: NDArray[Any]  # PASS_RECORD, (capacity,)
    pass_tokens: NDArray[np.int32]  # (capacity * dp,), or (dp,) if not recorded
    pass_pairs: NDArray[np.int64]  # likewise
    timing: Any  # record of timing.model.COEFFICIENTS
    table: NDArray[np.float64]  # of timing.model
    scratch_tokens: NDArray[np.int64]  # (dp,)
    scratch_pairs: NDArray[np.int64]  # (dp,)
    room: NDArray[np.float64]  # (dp,) room of the release being made, tokens or seconds of cost
    load: NDArray[np.float64]  # (dp,) leftover and placed, in the unit of room
    # Decode (sim/decode_state.py); arrays of one row where it is not modelled.
    decodes: NDArray[Any]  # (num_requests,)
    engines: NDArray[Any]  # (num_decode,)
    decode_ranks: NDArray[Any]  # (num_decode * decode_dp,)
    running: NDArray[np.int64]  # heaps of keys step << 32 | request, max_running per rank
    waiting: NDArray[np.int32]  # requests that wait for a decode rank
    decode_views: NDArray[Any]  # (num_decode * decode_dp,)
    reports: NDArray[Any]  # rings, (num_decode * report_slots * decode_dp,)
    steps: NDArray[Any]  # STEP_RECORD, (capacity,), in order of their starts
    step_batch: NDArray[np.int32]  # (capacity * decode_dp,), or (1,) if not recorded
    step_kv: NDArray[np.float64]  # likewise
    step_blocks: NDArray[np.int32]  # likewise
    decode_timing: Any  # record of timing.decode.DECODE_COEFFICIENTS
    decode_table: NDArray[np.float64]  # of timing.decode
    scratch_batch: NDArray[np.int64]  # (decode_dp,)
    scratch_kv: NDArray[np.float64]  # (decode_dp,)
    candidates: NDArray[np.int32]  # (num_decode_ranks,)
    by_load: NDArray[np.int32]  # decode ranks in rising order of KV load, kept between rounds
    look_ahead: NDArray[np.float64]  # scratch of placement rules
    # A learner (sim/agent_state.py).
    agent: Any  # record AGENT
    tally: Any  # record TALLY
    sight: Any  # record SIGHT
    arrivals_per_s: NDArray[Any]  # ring of NUM_BINS SECONDs
    lengths: NDArray[np.int64]  # scratch of the encoder
