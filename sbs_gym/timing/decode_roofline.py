"""A decode step of DeepSeek-V3/R1 as the sum of its kernels over 61 layers.

The graph bucket of the largest batch sets the tokens of projections, experts and links on every
rank, since smaller batches are padded to it; the attention core follows the tokens of context in
a rank's KV cache, and the slowest rank sets it. Two microbatches overlap compute with communication
where every busy rank has enough tokens; docs/timing.md, "What a decode step is made of".

A low-latency dispatch or combine first issues its messages, or collects them, on the SMs: that
fixed part computes nothing else. The bytes then fly while the other microbatch computes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sbs_gym.config.timing import RooflineTiming
from sbs_gym.jit import compiled
from sbs_gym.timing.kernels import gemm_chain_s, linear_s
from sbs_gym.timing.shape import (
    COMBINE_BYTES,
    CONTEXT_BYTES,
    DECODE_AFTER_GEMMS,
    DECODE_BEFORE_GEMMS,
    DENSE_GEMMS,
    DISPATCH_BYTES,
    EXPERT_GEMMS,
    EXPERTS_PER_TOKEN,
    FLOP_PER_CONTEXT_TOKEN,
    GPUS_PER_NODE,
    NUM_DENSE_LAYERS,
    NUM_EXPERTS,
    NUM_MOE_LAYERS,
)
from sbs_gym.types import FloatArray

# Columns of the table; row `bucket_index(batch)`.
TOKENS = 0  # tokens of every rank, padded
WHOLE_S = 1  # the step in one microbatch, without core, experts and links
BEFORE_S = 2  # one of two microbatches and one layer: shared expert, attention up to the core
AFTER_S = 3  # likewise: the core's launch and what follows it
HALVES_S = 4  # dense layers of both microbatches without core, and the overhead
NUM_COLUMNS = 5
_EXACT_BUCKETS = 4  # 1, 2, 4, 8; then multiples of 8
# Share of the attention block's small kernels that run before the core: 27 of 47 us in the decode
# trace (norm, quantisation, absorb product of the queries and rope; absorb product of the values
# and quantisation come after it). Source: zdszero.github.io, notes on DeepSeek's decode profile.
BEFORE_SHARE = 27.0 / 47.0


@compiled
def bucket_index(batch):  # type: ignore[no-untyped-def]
    """Return the table row of the smallest bucket with room for `batch` requests, at least 1."""
    if batch <= 2:
        return batch - 1
    if batch <= 4:
        return 2
    return 2 + (batch + 7) // 8


@compiled
def bucket_requests(index):  # type: ignore[no-untyped-def]
    """Return the requests of a bucket: 1, 2, 4, 8, then multiples of 8."""
    if index < _EXACT_BUCKETS:
        return 1 << index
    return 8 * (index - 2)


@compiled
def roofline_step_s(timing, table, most, least, kv_tokens, skew):  # type: ignore[no-untyped-def]
    """Return the seconds of a step; see decode.decode_step_s.

    Args:
        most, least: Largest batch, and smallest batch of the busy ranks, requests.
        kv_tokens: Tokens of context of the rank with most.
    """
    row = bucket_index(most)
    if least * timing.q_tokens >= timing.overlap_min_tokens:
        return overlapped_step_s(timing, table, row, kv_tokens, skew)
    return sequential_step_s(timing, table, row, kv_tokens, skew)


@compiled
def sequential_step_s(timing, table, row, kv_tokens, skew):  # type: ignore[no-untyped-def]
    """Return the seconds of a step in one microbatch, block after block."""
    load = table[row, TOKENS] * skew
    core = timing.core_kv_token_s * kv_tokens
    links = (
        timing.dispatch_launch_s
        + timing.combine_launch_s
        + (timing.dispatch_token_s + timing.combine_token_s) * load
    )
    layer = core + links + masked_experts_s(timing, load)
    return table[row, WHOLE_S] + timing.moe_layers * layer + NUM_DENSE_LAYERS * core


@compiled
def overlapped_step_s(timing, table, row, kv_tokens, skew):  # type: ignore[no-untyped-def]
    """Return the seconds of a step in two microbatches, each computing while the other sends."""
    load = table[row, TOKENS] * skew / 2.0
    core = timing.core_kv_token_s * kv_tokens / 2.0
    half_layer = (
        max(table[row, BEFORE_S], timing.dispatch_token_s * load)
        + timing.dispatch_launch_s
        + masked_experts_s(timing, load)
        + max(table[row, AFTER_S] + core, timing.combine_token_s * load)
        + timing.combine_launch_s
    )
    layers = timing.moe_layers * half_layer + NUM_DENSE_LAYERS * core
    return table[row, HALVES_S] + 2.0 * layers


@compiled
def masked_experts_s(timing, load):  # type: ignore[no-untyped-def]
    """Return the seconds of one layer's routed experts for `load` tokens per GPU."""
    grouped = gemm_chain_s(
        EXPERT_GEMMS,
        timing.experts_per_gpu,
        EXPERTS_PER_TOKEN * load / timing.experts_per_gpu,
        timing.masked_launch_s,
        timing.masked_flop_per_s,
        timing.masked_bytes_per_s,
        timing.masked_softness,
    )
    return grouped + timing.expert_fixed_s


def decode_coefficients(config: RooflineTiming, ep: int, q_tokens: int) -> dict[str, float]:
    """Return the coefficients of experts, links and core for experts on `ep` GPUs, by name.

    From 256 GPUs on every GPU has one expert, and popular ones have several homes.
    """
    slowdown = config.decode_link_slowdown
    values = {
        "q_tokens": q_tokens,
        "overlap_min_tokens": config.decode_overlap_min_tokens,
        "moe_layers": moe_layers(q_tokens),
        "core_kv_token_s": max(
            FLOP_PER_CONTEXT_TOKEN * q_tokens / config.decode_core_flop_per_s,
            CONTEXT_BYTES / config.decode_core_bytes_per_s,
        ),
        "experts_per_gpu": max(-(-NUM_EXPERTS // ep), 1),
        "masked_launch_s": config.masked_launch_s,
        "masked_flop_per_s": config.masked_flop_per_s,
        "masked_bytes_per_s": config.masked_bytes_per_s,
        "masked_softness": config.masked_softness,
        "expert_fixed_s": config.decode_expert_s,
    }
    for kind, launch, token in (
        ("dispatch", *low_latency_dispatch_s(config, ep)),
        ("combine", *low_latency_combine_s(config, ep)),
    ):
        values[f"{kind}_launch_s"] = slowdown * launch
        values[f"{kind}_token_s"] = slowdown * token
    return values


def moe_layers(q_tokens: int) -> int:
    """Return how many layers with experts a step runs.

    Each token that multi-token prediction proposes takes one layer of its own.
    """
    return NUM_MOE_LAYERS + q_tokens - 1


def low_latency_dispatch_s(config: RooflineTiming, ep: int) -> tuple[float, float]:
    """Return the fixed seconds of a low-latency dispatch and those per token, alone on the GPU."""
    return low_latency_s(
        ep,
        DISPATCH_BYTES,
        config.ll_dispatch_launch_s,
        config.ll_dispatch_hop_s,
        config.ll_dispatch_bytes_per_s,
    )


def low_latency_combine_s(config: RooflineTiming, ep: int) -> tuple[float, float]:
    """Return the fixed seconds of a low-latency combine and those per token, alone on the GPU."""
    return low_latency_s(
        ep,
        COMBINE_BYTES,
        config.ll_combine_launch_s,
        config.ll_combine_hop_s,
        config.ll_combine_bytes_per_s,
    )


def low_latency_s(
    ep: int,
    copy_bytes: float,
    launch_s: tuple[float, float],
    hop_s: float,
    bytes_per_s: tuple[float, float],
) -> tuple[float, float]:
    """Return fixed seconds and seconds per token of a low-latency kernel over `ep` GPUs.

    Eight copies of a token leave the GPU; of N nodes, a share of 1 - 1/N of them by the network
    card. `launch_s` and `bytes_per_s` hold one node, then more; `hop_s` counts per log2(N).
    """
    if ep <= 1:
        return 0.0, 0.0
    nodes = -(-ep // GPUS_PER_NODE)
    sent = EXPERTS_PER_TOKEN * copy_bytes
    if nodes == 1:
        return launch_s[0], sent / bytes_per_s[0]
    return (
        launch_s[1] + hop_s * float(np.log2(nodes)),
        sent * (1.0 - 1.0 / nodes) / bytes_per_s[1],
    )


def decode_table(
    config: RooflineTiming, q_tokens: int, max_requests: int, num_moe_layers: int
) -> FloatArray:
    """Return one row per graph bucket up to the one that holds `max_requests`, see the columns."""
    rows = int(bucket_index(max_requests)) + 1
    table = np.zeros((rows, NUM_COLUMNS), dtype=np.float64)
    for index in range(rows):
        tokens = float(bucket_requests(index) * q_tokens)
        before, after, shared, dense = _blocks_s(config, tokens)
        half_before, half_after, half_shared, half_dense = _blocks_s(config, tokens / 2.0)
        attention = before + after
        table[index, TOKENS] = tokens
        table[index, WHOLE_S] = (
            num_moe_layers * (attention + shared)
            + NUM_DENSE_LAYERS * (attention + dense)
            + config.decode_overhead_s
        )
        table[index, BEFORE_S] = half_shared + half_before
        table[index, AFTER_S] = half_after
        table[index, HALVES_S] = (
            2.0 * NUM_DENSE_LAYERS * (half_before + half_after + half_dense)
            + config.decode_overhead_s
        )
    return table


def _blocks_s(config: RooflineTiming, tokens: float) -> tuple[float, float, float, float]:
    """Return seconds before the core, from its launch on, shared expert, dense network."""
    rates = (
        config.dense_launch_s,
        config.dense_flop_per_s,
        config.dense_bytes_per_s,
        config.dense_softness,
    )
    before = gemm_chain_s(DECODE_BEFORE_GEMMS, 1.0, tokens, *rates)
    after = gemm_chain_s(DECODE_AFTER_GEMMS, 1.0, tokens, *rates)
    small = linear_s(tokens, config.decode_attention_launch_s, config.decode_attention_token_s)
    return (
        float(before + BEFORE_SHARE * small),
        float(
            after
            + (1.0 - BEFORE_SHARE) * small
            + config.decode_core_launch_s
            + config.decode_gate_s
        ),
        float(linear_s(tokens, config.shared_expert_launch_s, config.shared_expert_token_s)),
        float(gemm_chain_s(DENSE_GEMMS, 1.0, tokens, *rates)),
    )


def decode_costs(timing: Any, table: FloatArray) -> tuple[float, float]:
    """Return what one request and one token of context of a rank cost.

    The request: slope of the step over its last quarter of the batch, equal on all ranks, without
    context, at mean skew, in the regime of a full batch. The token: the core over all layers.
    A step without room for a second bucket has no slope; there the request costs the whole step.
    """
    last = table.shape[0] - 1
    full = int(table[last, TOKENS]) // int(timing.q_tokens)
    fewer = int(bucket_index(max(1, full - max(1, full // 4)))) if last else 0
    overlap = full * timing.q_tokens >= timing.overlap_min_tokens
    step_s = overlapped_step_s if overlap else sequential_step_s
    most_s = step_s(timing, table, last, 0.0, timing.skew_mean)
    kv_s = (timing.moe_layers + NUM_DENSE_LAYERS) * timing.core_kv_token_s
    if fewer == last:
        return float(most_s), float(kv_s)
    fewer_s = step_s(timing, table, fewer, 0.0, timing.skew_mean)
    requests = (table[last, TOKENS] - table[fewer, TOKENS]) / timing.q_tokens
    return float((most_s - fewer_s) / requests), float(kv_s)
