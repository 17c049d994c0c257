"""What a run leaves behind: one row per request, per pass and per decode step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# One row per request. Instants are seconds; NaN where the instant was never reached.
REQUEST_RECORD = np.dtype(
    [
        ("arrived_at_s", np.float64),
        ("dispatched_at_s", np.float64),  # left the buffer
        ("delivered_at_s", np.float64),  # reached its engine
        ("prefill_started_at_s", np.float64),  # start of the first pass with tokens of it
        ("first_token_at_s", np.float64),  # barrier of the pass that ended the prompt
        ("rejected_at_s", np.float64),
        ("input_tokens", np.int32),
        ("output_tokens", np.int32),
        ("instance", np.int16),  # -1 before dispatch
        ("rank", np.int16),  # -1 before dispatch
        ("waited_releases", np.int32),  # releases between arrival and its own; -1 before dispatch
    ]
)

# One row per finished pass, in the order of the ends.
PASS_RECORD = np.dtype(
    [
        ("started_at_s", np.float64),
        ("ended_at_s", np.float64),
        ("cost_sum_s", np.float64),  # sum over ranks of the timing model's rank cost
        ("cost_max_s", np.float64),  # cost of the slowest rank
        ("tokens", np.int64),  # prompt tokens over all ranks
        ("pairs", np.int64),  # sum of q * (2 * context + q) over all chunks
        ("leftover_tokens", np.int64),  # still queued on the instance when the pass was formed
        ("max_rank_tokens", np.int32),
        ("budget_tokens", np.int32),
        ("num_requests", np.int32),  # requests with a chunk in this pass
        ("num_finished", np.int32),  # requests whose prompt ends here
        ("instance", np.int32),
        ("pass_index", np.int32),  # counts the passes of the instance from 0
    ]
)

# One row per request where decode is modelled: what follows its first token.
DECODE_RECORD = np.dtype(
    [
        ("bound_at_s", np.float64),  # room on a decode rank was granted
        ("transferred_at_s", np.float64),  # its KV had arrived there
        ("admitted_at_s", np.float64),  # start of its first step
        ("second_token_at_s", np.float64),  # end of its first step
        ("finished_at_s", np.float64),  # its last token; the first one, if that is all
        ("decode_instance", np.int16),  # -1 before it is bound
        ("decode_rank", np.int16),  # within the instance; -1 before it is bound
        ("num_preempted", np.int16),
    ]
)

# One row per finished decode step, in the order of the ends.
STEP_RECORD = np.dtype(
    [
        ("started_at_s", np.float64),
        ("ended_at_s", np.float64),
        ("cost_sum_s", np.float64),  # sum over ranks of the timing model's rank cost
        ("cost_max_s", np.float64),  # cost of the slowest rank
        ("kv_sum_tokens", np.float64),  # context tokens over all ranks
        ("kv_square_sum", np.float64),  # sum over ranks of their square
        ("kv_max_tokens", np.float64),  # of the fullest rank
        ("blocks", np.int64),  # KV blocks held or reserved over all ranks
        ("batch_sum", np.int32),  # running requests over all ranks
        ("batch_max", np.int32),  # of the fullest rank
        ("num_admitted", np.int32),  # at its start, returned ones included
        ("num_finished", np.int32),  # at its end
        ("num_preempted", np.int32),  # at its end
        ("instance", np.int32),
        ("step_index", np.int32),  # counts the steps of the instance from 0
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunRecords:
    """The records of one run.

    Attributes:
        requests: REQUEST_RECORD, shape (num_requests,), in table order; requests that had not
            arrived when the run stopped have NaN instants but for arrived_at_s.
        passes: PASS_RECORD, shape (num_passes,).
        rank_tokens: int32, shape (num_passes, dp), tokens per rank; None if not recorded.
        rank_pairs: int64, shape (num_passes, dp), pairs per rank; None if not recorded.
        decode: DECODE_RECORD, shape (num_requests,), in table order; None without decode.
        steps: STEP_RECORD, shape (num_steps,); empty without decode.
        step_batch: int32, shape (num_steps, decode_dp), running requests per rank; None if not
            recorded or without decode.
        step_kv_tokens: float64, same shape, context tokens per rank.
        step_blocks: int32, same shape, KV blocks held or reserved at the start of the step.
        ended_at_s: The clock when the run stopped, seconds.
        num_releases: Releases of the scheduler.
        num_signals_lost: EndForward signals that never arrived.
        num_watchdogs: Watchdogs that expired.
        num_refusals: Placements that a decode rank refused for want of KV room.
        prefill_kv_blocked_s: Rank-seconds in which a prefill rank could not begin its next prompt
            for want of KV room.
    """

    requests: NDArray[Any]
    passes: NDArray[Any]
    rank_tokens: NDArray[np.int32] | None
    rank_pairs: NDArray[np.int64] | None
    decode: NDArray[Any] | None
    steps: NDArray[Any]
    step_batch: NDArray[np.int32] | None
    step_kv_tokens: NDArray[np.float64] | None
    step_blocks: NDArray[np.int32] | None
    ended_at_s: float
    num_releases: int
    num_signals_lost: int
    num_watchdogs: int
    num_refusals: int
    prefill_kv_blocked_s: float
