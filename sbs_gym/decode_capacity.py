"""What the decode instances of a cluster can do, as a fluid: no queues, no bursts, ranks alike.

A request is a number of steps, a mean context and a mean number of KV blocks; a rank that runs b of
them takes one step after the other. Left out are the time a finished prompt waits for room or for
the first step, batches and contexts that differ between ranks, and everything that varies in time:
a simulated cluster reaches this rate at best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.timing.decode import DecodeTiming
from sbs_gym.timing.memory import decode_kv_blocks, kv_room
from sbs_gym.types import FloatArray, IntArray, RequestTable

KV_FRAC = 0.9  # share of the KV room that may be held; assumed, what is left is for bursts
_FILL_POINTS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeDemand:
    """What the requests of a length mix ask of a decode rank.

    Attributes:
        decode_frac: Share of all requests that decode: more than one output token, and not too
            long for the cluster's KV room (those are rejected).
        steps: Mean decode steps of a request that decodes.
        steps_per_token: Mean over those requests of steps / (output tokens - 1), so that TPOT is
            this many step times.
        context_tokens: Mean context of a running request, prompt and answer so far, in tokens; a
            request counts in each of its steps.
        kv_blocks: Mean KV blocks that a running request holds, its reserve included; as above.
    """

    decode_frac: float
    steps: float
    steps_per_token: float
    context_tokens: float
    kv_blocks: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeCapacity:
    """The largest rate of a length mix that the decode instances keep up with.

    Attributes:
        requests_per_s: Rate of all requests, those that do not decode included. Where no rate
            meets the SLO, the rate that memory and batch allow without it: never 0, so that a load
            is defined.
        meets_slo: Whether the rate meets slo.tpot_s; if not, no rate does.
        limited_by: What forbids a larger batch: slo, kv (0.9 of the room) or batch (most running
            requests of a rank).
        batch: Requests running on every rank; below 1 where one does not fit 0.9 of the room, so
            that a part of the ranks is empty.
        step_s: Step time at that batch, seconds.
        tpot_s: Mean TPOT at that batch, seconds.
        kv_held_frac: KV held / room.
        least_tpot_s: Mean TPOT of one request per rank, seconds: what no rate beats.
    """

    requests_per_s: float
    meets_slo: bool
    limited_by: str
    batch: float
    step_s: float
    tpot_s: float
    kv_held_frac: float
    least_tpot_s: float

    def infeasible(self, tpot_slo_s: float) -> str | None:
        """Return the sentence that no rate meets the SLO, None if one does."""
        if self.meets_slo:
            return None
        return (
            f"no rate meets slo.tpot_s={tpot_slo_s:g}: one request per rank already takes "
            f"{self.least_tpot_s:.4g} s per token"
        )


def decode_demand(table: RequestTable, cluster: ClusterConfig) -> DecodeDemand | None:
    """Return what the requests ask of decode on average; None if none of them decodes.

    Args:
        table: The requests; every one counts the same.
        cluster: Tokens per step, KV blocks and reserve.

    Raises:
        ConfigError: If the weights leave no KV room.
    """
    decodes = which_decode(table, cluster)
    if not decodes.any():
        return None
    prompts = table.input_tokens[decodes].astype(np.int64)
    answers = table.output_tokens[decodes].astype(np.int64)
    steps = steps_needed(answers - 1, cluster.tokens_per_step)
    num_steps = float(steps.sum())
    generated = cluster.tokens_per_step * (steps * (steps - 1) / 2.0)
    context = float((steps * (prompts + 1.0) + generated).sum())
    return DecodeDemand(
        decode_frac=float(decodes.mean()),
        steps=float(steps.mean()),
        steps_per_token=float((steps / (answers - 1)).mean()),
        context_tokens=context / num_steps,
        kv_blocks=_block_steps(prompts, steps, cluster) / num_steps,
    )


def decode_capacity(
    demand: DecodeDemand, cluster: ClusterConfig, timing: DecodeTiming, tpot_slo_s: float
) -> DecodeCapacity:
    """Return the largest rate at which mean TPOT, KV and batch stay within their bounds.

    Whole batches are tried, one by one: time per step jumps at the sizes of captured graphs, so
    that requests per second do not always grow with the batch.

    Args:
        demand: Of the length mix.
        cluster: Ranks, KV room and most running requests.
        timing: Of one decode instance of the cluster.
        tpot_slo_s: Mean TPOT promised, seconds.
    """
    fill_room = decode_kv_blocks(cluster) / demand.kv_blocks  # requests
    most_by_kv = KV_FRAC * fill_room
    most = min(float(cluster.max_running), most_by_kv)
    batches = [float(b) for b in range(1, int(most) + 1)] or [most]
    step_s = [_step_s(demand, timing, batch) for batch in batches]
    within = [k for k, s in enumerate(step_s) if s * demand.steps_per_token <= tpot_slo_s]
    best = max(within or range(len(batches)), key=lambda k: batches[k] / step_s[k])
    memory = "kv" if most_by_kv < cluster.max_running else "batch"
    admitted = batches[best] / (demand.steps * step_s[best])  # requests per second and rank
    return DecodeCapacity(
        requests_per_s=cluster.num_decode_ranks * admitted / demand.decode_frac,
        meets_slo=bool(within),
        limited_by="slo" if within and len(within) < len(batches) else memory,
        batch=batches[best],
        step_s=step_s[best],
        tpot_s=step_s[best] * demand.steps_per_token,
        kv_held_frac=batches[best] / fill_room,
        least_tpot_s=step_s[0] * demand.steps_per_token,
    )


def which_decode(table: RequestTable, cluster: ClusterConfig) -> NDArray[np.bool_]:
    """Return which requests decode: answers of several tokens that the cluster does not reject."""
    prompts = table.input_tokens.astype(np.int64)
    answers = table.output_tokens.astype(np.int64)
    decodes: NDArray[np.bool_] = (answers >= 2) & _fits(prompts, answers, cluster)
    return decodes


def fill_frac(residence_s: FloatArray, since_s: float, until_s: float) -> float:
    """Return how much of its steady number of requests decode holds on average in a window.

    Requests arrive from time 0 on at a constant rate and stay for their residence. Long answers
    fill decode slowly: after t seconds it holds E[min(residence, t)] / E[residence] of the number
    that it holds in the long run.

    Args:
        residence_s: Seconds in decode, one entry per request of the length mix.
        since_s, until_s: The window, seconds from the first arrival.
    """
    instants = np.linspace(since_s, until_s, _FILL_POINTS)
    held = [np.minimum(residence_s, t).mean() for t in instants]
    return float(np.mean(held) / residence_s.mean())


def steps_needed(tokens: IntArray, tokens_per_step: float) -> IntArray:
    """Return the smallest k with floor(k * tokens_per_step) >= tokens, per entry, at least 1."""
    steps = np.maximum(1, np.ceil(tokens / tokens_per_step).astype(np.int64))
    # The quotient may be rounded across a whole number; the product is what the engine evaluates.
    steps -= (steps > 1) & (np.floor((steps - 1) * tokens_per_step) >= tokens)
    return steps + (np.floor(steps * tokens_per_step) < tokens)


def _step_s(demand: DecodeDemand, timing: DecodeTiming, batch: float) -> float:
    requests = max(1, round(batch))
    ranks: IntArray = np.full(timing.dp, requests, dtype=np.int64)
    context: FloatArray = np.full(timing.dp, requests * demand.context_tokens)
    return timing.step_s(ranks, context)


def _fits(prompts: IntArray, answers: IntArray, cluster: ClusterConfig) -> NDArray[np.bool_]:
    """Return which requests the cluster accepts, as at their arrival."""
    longest = prompts + np.maximum(cluster.decode_reserve_tokens, answers)
    fits_decode = _blocks(longest, cluster) <= decode_kv_blocks(cluster)
    accepted: NDArray[np.bool_] = fits_decode & (prompts <= kv_room(cluster, "prefill").kv_tokens)
    return accepted


def _block_steps(prompts: IntArray, steps: IntArray, cluster: ClusterConfig) -> float:
    """Return blocks held, summed over all steps of all requests.

    Before its step k + 1 a request holds blocks for its prompt and for the larger of the reserve
    and the answer so far, 1 + floor(k * tokens_per_step).
    """
    size = cluster.kv_block_tokens
    held = _blocks(prompts + max(1, cluster.decode_reserve_tokens), cluster)
    total = float((held * steps).sum())
    beyond = held * size - prompts  # answers of more tokens than this need one block more
    while len(beyond):
        more = steps - steps_needed(beyond, cluster.tokens_per_step)
        left = more > 0
        total += float(more[left].sum())
        beyond, steps = beyond[left] + size, steps[left]
    return total


def _blocks(tokens: IntArray, cluster: ClusterConfig) -> IntArray:
    return -(-tokens // cluster.kv_block_tokens)
