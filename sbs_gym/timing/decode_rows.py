"""What one decode row of kernels.csv measured, in seconds by the kernel formulas.

Predictions read fitted numbers by full name, `<group>_<parameter>`.
"""

from __future__ import annotations

import math

from sbs_gym.timing.kernel_rows import DENSE_LAUNCH_S, Parameters
from sbs_gym.timing.kernels import gemm_chain_s, gemm_s
from sbs_gym.timing.measurements import Measurement
from sbs_gym.timing.shape import (
    COMBINE_BYTES,
    DECODE_AFTER_GEMMS,
    DECODE_BEFORE_GEMMS,
    DISPATCH_BYTES,
    EXPERT_GEMMS,
    EXPERTS_PER_TOKEN,
    FLOP_PER_CONTEXT_TOKEN,
    GPUS_PER_NODE,
    NUM_EXPERTS,
)

_RATES = ("flop_per_s", "bytes_per_s", "softness")
# Matrix products of the decode trace by metric: (inner, outer).
TRACE_GEMMS = {
    "trace_q_a_kv_a_gemm_time": (7168, 2112),
    "trace_q_b_gemm_time": (1536, 24576),
    "trace_shared_up_gemm_time": (7168, 4096),
    "trace_shared_down_gemm_time": (2048, 7168),
}


def masked_trace(p: Parameters, row: Measurement) -> float:
    """Return the down projection of the routed experts, tokens spread evenly."""
    return _experts(p, row, EXPERT_GEMMS[1:])


def experts_module(p: Parameters, row: Measurement) -> float:
    """Return both products of the routed experts and their activation, tokens spread evenly."""
    return _experts(p, row, EXPERT_GEMMS) + p["decode_expert_trace_moe_silu_quant_time"]


def _experts(p: Parameters, row: Measurement, shapes: tuple[tuple[int, int], ...]) -> float:
    experts = NUM_EXPERTS / (row.ep or 1)
    rows = EXPERTS_PER_TOKEN * float(row.tokens_per_rank or 0) / experts
    rates = (p[f"masked_{name}"] for name in _RATES)
    return float(gemm_chain_s(shapes, experts, rows, p["masked_launch_s"], *rates))


def decode_core(p: Parameters, row: Measurement) -> float:
    """Return the attention core; a row without tokens per rank has one token per request."""
    tokens = row.tokens_per_rank or row.batch_per_rank or 0
    flop = FLOP_PER_CONTEXT_TOKEN * float(tokens) * float(row.context_len or 0)
    return p["decode_core_launch_s"] + flop / p["decode_core_flop_per_s"]


def peak(p: Parameters, row: Measurement) -> float:
    """Return the seconds of one tera-operation or gigabyte at the core's rate."""
    if row.unit == "GB/s":
        return 1e9 / p["decode_core_memory_bytes_per_s"]
    return 1e12 / p["decode_core_flop_per_s"]


def attention_block(p: Parameters, row: Measurement) -> float:
    """Return a whole attention block of a step: projections, core, absorb and element-wise."""
    tokens = float(row.tokens_per_rank or 0)
    rates = (p[f"dense_{name}"] for name in _RATES)
    shapes = DECODE_BEFORE_GEMMS + DECODE_AFTER_GEMMS
    gemms = float(gemm_chain_s(shapes, 1.0, tokens, DENSE_LAUNCH_S, *rates))
    small = p["decode_attention_launch_s"] + p["decode_attention_token_s"] * tokens
    return gemms + decode_core(p, row) + small


def trace_gemm(p: Parameters, row: Measurement) -> float:
    """Return a dense product of the decode trace, as a step pays for it."""
    inner, outer = TRACE_GEMMS[row.metric]
    rates = (p[f"dense_{name}"] for name in _RATES)
    return float(gemm_s(1.0, float(row.tokens_per_rank or 0), inner, outer, DENSE_LAUNCH_S, *rates))


def gate_kernel(p: Parameters, row: Measurement) -> float:
    """Return a kernel of norms, gate or top-k."""
    return p[f"decode_gate_{row.metric}"]


def expert_kernel(p: Parameters, row: Measurement) -> float:
    """Return the activation of the routed experts."""
    return p[f"decode_expert_{row.metric}"]


def low_latency(p: Parameters, row: Measurement) -> float:
    """Return a low-latency dispatch or combine over several nodes."""
    kind = "combine" if "combine" in row.metric else "dispatch"
    nodes = (row.ep or 1) / GPUS_PER_NODE
    fixed = p[f"ll_{kind}_launch_s"] + p[f"ll_{kind}_hop_s"] * math.log2(nodes)
    return fixed + _sent(row) * (1.0 - 1.0 / nodes) / p[f"ll_{kind}_bytes_per_s"]


def low_latency_node(p: Parameters, row: Measurement) -> float:
    """Return a low-latency dispatch or combine inside one node of H100."""
    kind = "combine" if "combine" in row.metric else "dispatch"
    return p[f"ll_node_{kind}_launch_s"] + _sent(row) / p[f"ll_node_{kind}_h100_per_s"]


def low_latency_h800_node(p: Parameters, row: Measurement) -> float:
    """Return the same inside one node of H800; the fixed part is that of H100."""
    kind = "combine" if "combine" in row.metric else "dispatch"
    return p[f"ll_node_{kind}_launch_s"] + _sent(row) / p[f"ll_h800_node_{kind}_per_s"]


def _sent(row: Measurement) -> float:
    size = COMBINE_BYTES if "combine" in row.metric else DISPATCH_BYTES
    return EXPERTS_PER_TOKEN * float(row.tokens_per_rank or 0) * size
