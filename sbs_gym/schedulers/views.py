"""The parts of what a user's scheduler sees; their arrays cannot be written to.

Instants and durations are seconds; NaN means that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbs_gym.types import FloatArray, IntArray

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestView:
    """The request that is to be placed.

    Attributes:
        id: Number in order of arrival, from 0.
        input_tokens: Length of the prompt.
        age_s: Seconds since it arrived.
        waited_releases: Releases made while it was in the buffer.
        may_leave: Whether it may be left in the buffer. Not past n_limit; nor the first of a
            release while no instance has work, for then nobody might ask again. False for decode.
    """

    id: int
    input_tokens: int
    age_s: float
    waited_releases: int
    may_leave: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BufferView:
    """The requests in the buffer in order of arrival, those left there included.

    Attributes:
        ids: Numbers, shape (num,).
        input_tokens: Lengths of the prompts, shape (num,).
        age_s: Seconds since they arrived, shape (num,).
        waited_releases: Releases made since then, shape (num,).
    """

    ids: IntArray
    input_tokens: IntArray
    age_s: FloatArray
    waited_releases: IntArray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstancesView:
    """The prefill instances as the scheduler believes them to be, shape (num_prefill,) each.

    A scheduler that does not wait for readiness predicts no passes: `running` and `pending` are
    False then, and leftovers are all that is outstanding.

    Attributes:
        running: Believed to run a pass.
        ends_at_s: Predicted end of that pass; NaN if not running.
        idle_since_s: Instant at which its last pass ended; NaN if running.
        error_s: Moving average of |end - predicted end|, seconds.
        pending: A release for its next pass is under way.
        outstanding_tokens: Sent and not known to be done.
        outstanding_requests: Likewise, requests.
        leftover_tokens: Of the outstanding ones, those behind the believed pass.
        last_budget_tokens: Tokens per rank that the last release allowed; the chunk before it.
        rank_leftover_tokens: Leftovers by rank, shape (num_prefill, prefill_dp).
        rank_unacked_requests: Requests not known to be done by rank, likewise.
    """

    running: BoolArray
    ends_at_s: FloatArray
    idle_since_s: FloatArray
    error_s: FloatArray
    pending: BoolArray
    outstanding_tokens: IntArray
    outstanding_requests: IntArray
    leftover_tokens: IntArray
    last_budget_tokens: IntArray
    rank_leftover_tokens: IntArray
    rank_unacked_requests: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RanksView:
    """The ranks of the instance that a release goes to, shape (prefill_dp,) each.

    Attributes:
        legal: Ranks that may be chosen: with room, or all if the release does not wait for
            readiness.
        room: Budget less load: tokens, or seconds of cost where the scheduler has charge=cost.
        load: Leftover and what was placed in this release, in the same unit.
        leftover_tokens: Leftover before this release, tokens.
        unacked_requests: Sent and not known to be done, those of this release included.
    """

    legal: BoolArray
    room: FloatArray
    load: FloatArray
    leftover_tokens: IntArray
    unacked_requests: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodeRanksView:
    """All decode ranks by the last reports and the grants since, shape (num_decode_ranks,) each.

    Rank d of instance j stands at j * decode_dp + d.

    Attributes:
        legal: Ranks that may be chosen for the request in question: those with room that have not
            refused; where there are none, all that have not refused. All False without one.
        has_room: Ranks with KV room for it, by the records; False without one.
        refused: Ranks that have refused a request since their last report.
        requests: Requests that run or wait there.
        waiting: Of them, those that wait.
        kv_tokens: Context tokens held.
        blocks: KV blocks held.
    """

    legal: BoolArray
    has_room: BoolArray
    refused: BoolArray
    requests: IntArray
    waiting: IntArray
    kv_tokens: FloatArray
    blocks: IntArray
