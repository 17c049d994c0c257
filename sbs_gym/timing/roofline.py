"""A prefill pass of DeepSeek-V3/R1 as the sum of its kernels over 61 layers.

Attention and the shared expert follow the slowest rank, experts and links the tokens of all ranks
times the expert skew. Two microbatches overlap compute with communication where every busy rank
has enough tokens; otherwise one microbatch runs block after block. The order of the
two microbatches is that of DeepSeek's profile, docs/timing.md, "Overlap".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sbs_gym.config.timing import RooflineTiming
from sbs_gym.errors import ConfigError
from sbs_gym.jit import compiled
from sbs_gym.timing.kernels import copies_per_token, gemm_chain_s, linear_s, soft_max
from sbs_gym.timing.shape import (
    ATTENTION_GEMMS,
    COMBINE_BYTES,
    DENSE_GEMMS,
    DISPATCH_BYTES,
    EXPERT_GEMMS,
    EXPERTS_PER_TOKEN,
    FLOP_PER_PAIR,
    GPUS_PER_NODE,
    NUM_DENSE_LAYERS,
    NUM_EXPERTS,
    NUM_MOE_LAYERS,
    TOTAL_SMS,
)
from sbs_gym.types import FloatArray

# Columns of the table; row n holds the seconds of one layer for n tokens on a rank, core excepted.
ATTENTION, ATTENTION_HALF = 0, 1  # all tokens on all SMs; one microbatch beside communication
SHARED, SHARED_HALF = 2, 3  # shared expert, likewise
DENSE, DENSE_HALVES = 4, 5  # a whole dense layer: at once; as two microbatches
NUM_COLUMNS = 6
MAX_ELEMENTWISE_GPUS = 64  # the widest EP whose element-wise time was measured


@compiled
def roofline_pass_s(timing, table, tokens, pairs, skew):  # type: ignore[no-untyped-def]
    """Return the seconds of a pass with at least one token; see model.prefill_pass_s."""
    overlap = True
    for d in range(timing.dp):
        if 0 < tokens[d] < timing.overlap_min_tokens:
            overlap = False
    if overlap:
        return overlapped_s(timing, table, tokens, pairs, skew)
    return sequential_s(timing, table, tokens, pairs, skew)


@compiled
def sequential_s(timing, table, tokens, pairs, skew):  # type: ignore[no-untyped-def]
    """Return the seconds of a pass in one microbatch, block after block."""
    core = timing.core_pair_s
    load = gpu_tokens(timing, tokens) * skew
    layer = (
        slowest_rank_s(timing, table, ATTENTION, tokens, pairs, core)
        + linear_s(load, timing.link_launch_s, timing.dispatch_token_s)
        + experts_s(timing, load, timing.grouped_flop_per_s)
        + slowest_rank_s(timing, table, SHARED, tokens, pairs, 0.0)
        + linear_s(load, timing.link_launch_s, timing.combine_token_s)
    )
    dense = slowest_rank_s(timing, table, DENSE, tokens, pairs, core)
    return NUM_MOE_LAYERS * layer + NUM_DENSE_LAYERS * dense + timing.overhead_s


@compiled
def overlapped_s(timing, table, tokens, pairs, skew):  # type: ignore[no-untyped-def]
    """Return the seconds of a pass in two microbatches, each computing while the other sends."""
    load = gpu_tokens(timing, tokens) * skew / 2.0
    attention = slowest_rank_s(
        timing, table, ATTENTION_HALF, tokens, pairs, timing.core_pair_shared_s / 2.0
    )
    shared = slowest_rank_s(timing, table, SHARED_HALF, tokens, pairs, 0.0)
    experts = experts_s(timing, load, timing.grouped_flop_shared_per_s)
    slowdown, p = timing.link_slowdown, timing.overlap_softness
    dispatch = slowdown * linear_s(load, timing.link_launch_s, timing.dispatch_token_s)
    combine = slowdown * linear_s(load, timing.link_launch_s, timing.combine_token_s)
    layer = (
        soft_max(attention + shared, combine, p)
        + soft_max(attention, dispatch, p)
        + soft_max(experts, dispatch, p)
        + soft_max(experts + shared, combine, p)
    )
    dense = slowest_rank_s(timing, table, DENSE_HALVES, tokens, pairs, timing.core_pair_s)
    return NUM_MOE_LAYERS * layer + NUM_DENSE_LAYERS * dense + timing.overhead_s


@compiled
def slowest_rank_s(timing, table, column, tokens, pairs, pair_s):  # type: ignore[no-untyped-def]
    """Return the largest table entry plus core time over ranks, seconds of one layer."""
    slowest = 0.0
    for d in range(timing.dp):
        slowest = max(slowest, table[tokens[d], column] + pair_s * (pairs[d] / 2.0))
    return slowest


@compiled
def gpu_tokens(timing, tokens):  # type: ignore[no-untyped-def]
    """Return the tokens per GPU that experts and links carry at skew 1."""
    total = 0
    most = 0
    for d in range(timing.dp):
        total += tokens[d]
        most = max(most, tokens[d])
    if timing.expert_by_max == 1:
        return float(most)
    return total / timing.dp


@compiled
def experts_s(timing, load, flop_per_s):  # type: ignore[no-untyped-def]
    """Return the seconds of the routed experts of one layer for `load` tokens per GPU."""
    grouped = gemm_chain_s(
        EXPERT_GEMMS,
        timing.experts_per_gpu,
        EXPERTS_PER_TOKEN * load / timing.experts_per_gpu,
        timing.grouped_launch_s,
        flop_per_s,
        timing.grouped_bytes_per_s,
        timing.grouped_softness,
    )
    return grouped + timing.expert_token_s * load


def roofline_coefficients(config: RooflineTiming, ep: int) -> dict[str, float]:
    """Return the coefficients of experts and links for experts on `ep` GPUs, by field name."""
    if ep > NUM_EXPERTS:
        raise ConfigError(f"cluster.ep={ep} is out of range; expected 1 to {NUM_EXPERTS} GPUs")
    rates = min(-(-ep // GPUS_PER_NODE), 3) - 1
    copies = copies_per_token(ep) if ep > 1 else 0.0
    return {
        "overlap_min_tokens": config.overlap_min_tokens,
        "expert_by_max": int(config.expert_load == "max"),
        "experts_per_gpu": -(-NUM_EXPERTS // ep),
        "grouped_launch_s": config.grouped_launch_s,
        "grouped_flop_per_s": config.grouped_flop_per_s,
        "grouped_flop_shared_per_s": config.grouped_flop_per_s * config.compute_sms / TOTAL_SMS,
        "grouped_bytes_per_s": config.grouped_bytes_per_s,
        "grouped_softness": config.grouped_softness,
        "expert_token_s": config.expert_token_s
        + config.expert_token_gpu_s * min(ep, MAX_ELEMENTWISE_GPUS),
        "link_launch_s": config.link_launch_s if ep > 1 else 0.0,
        "dispatch_token_s": copies * DISPATCH_BYTES / config.dispatch_bytes_per_s[rates],
        "combine_token_s": copies * COMBINE_BYTES / config.combine_bytes_per_s[rates],
        "link_slowdown": config.link_slowdown,
        "core_pair_s": FLOP_PER_PAIR / config.core_flop_per_s,
        "core_pair_shared_s": FLOP_PER_PAIR / config.core_shared_flop_per_s,
        "overlap_softness": config.overlap_softness,
        "overhead_s": config.overhead_s,
    }


def roofline_costs(timing: Any, table: FloatArray) -> tuple[float, float]:
    """Return what one token and one query-key pair of a rank cost, in the regime of a full chunk.

    The token: slope of the pass over its last quarter chunk, equal on all ranks, without pairs,
    at mean skew. The pair: the attention core over all layers.
    """
    chunk = table.shape[0] - 1
    overlap = chunk >= timing.overlap_min_tokens
    pass_s = overlapped_s if overlap else sequential_s
    core_s = timing.core_pair_shared_s if overlap else timing.core_pair_s
    none = np.zeros(timing.dp, dtype=np.int64)
    fewer = chunk - max(1, chunk // 4)
    most_s, fewer_s = (
        pass_s(timing, table, np.full(timing.dp, n), none, timing.skew_mean) for n in (chunk, fewer)
    )
    pair_s = NUM_MOE_LAYERS * core_s + NUM_DENSE_LAYERS * timing.core_pair_s
    return float((most_s - fewer_s) / (chunk - fewer)), float(pair_s)


def roofline_table(config: RooflineTiming, chunk_tokens: int) -> FloatArray:
    """Return the seconds of a rank's own blocks for 0 to `chunk_tokens` tokens, see the columns."""
    table = np.zeros((chunk_tokens + 1, NUM_COLUMNS), dtype=np.float64)
    _fill_rows(
        table,
        config.dense_launch_s,
        config.dense_flop_per_s,
        config.dense_bytes_per_s,
        config.dense_softness,
        config.compute_sms / TOTAL_SMS,
        config.core_launch_s,
        config.attention_token_s,
        config.shared_expert_launch_s,
        config.shared_expert_token_s,
    )
    return table


@compiled
def _fill_rows(  # type: ignore[no-untyped-def]
    table, launch, flops, rate, p, share, core_launch, token_s, shared_launch, shared_token_s
):
    for n in range(1, table.shape[0]):
        whole = float(n)
        half = whole / 2.0
        block = gemm_chain_s(ATTENTION_GEMMS, 1.0, whole, launch, flops, rate, p)
        half_block = gemm_chain_s(ATTENTION_GEMMS, 1.0, half, launch, flops, rate, p)
        beside = gemm_chain_s(ATTENTION_GEMMS, 1.0, half, launch, flops * share, rate, p)
        table[n, ATTENTION] = block + core_launch + token_s * whole
        table[n, ATTENTION_HALF] = beside + core_launch + token_s * half
        table[n, SHARED] = linear_s(whole, shared_launch, shared_token_s)
        table[n, SHARED_HALF] = linear_s(half, shared_launch, shared_token_s / share)
        ffn = gemm_chain_s(DENSE_GEMMS, 1.0, whole, launch, flops, rate, p)
        half_ffn = gemm_chain_s(DENSE_GEMMS, 1.0, half, launch, flops, rate, p)
        table[n, DENSE] = table[n, ATTENTION] + ffn
        table[n, DENSE_HALVES] = 2.0 * (half_block + core_launch + token_s * half + half_ffn)
