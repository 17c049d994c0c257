"""Which rows of kernels.csv fit which kernel of a decode step, and which are kept out and why.

Kernels of DeepSeek's decode trace that have no benchmark of their own are taken over: one number
per row. The rest of the trace is a check on what was fitted elsewhere.
"""

from __future__ import annotations

import functools

from sbs_gym.timing import decode_rows as rows
from sbs_gym.timing.kernel_group import by_batch, by_context, by_ep, by_metric, group, keep_all
from sbs_gym.timing.kernel_rows import grouped_masked
from sbs_gym.timing.measurements import Measurement
from sbs_gym.timing.shape import BF16_FLOP_PER_S, FP8_FLOP_PER_S, GPUS_PER_NODE

_decode = functools.partial(group, "decode")
_MASKED = "gemm_fp8_grouped_masked"
_LOW_LATENCY = tuple(f"deepep_ll_{kind}_time" for kind in ("dispatch", "combine"))
_GATE = tuple(f"trace_{name}_time" for name in ("input_norm", "post_norm", "gate_gemm", "topk"))
_ACTIVATION = ("trace_moe_silu_quant_time",)
_MODULE_CONTEXT = 1024


def _several_tokens(row: Measurement) -> str | None:
    few = row.number("groups") == 256 and row.number("m_per_group") == 1
    return "256 groups of one row: few experts active" if few else None


def _short_context(row: Measurement) -> str | None:
    if (row.context_len or 0) > _MODULE_CONTEXT:
        return f"context above {_MODULE_CONTEXT}: the core's error exceeds the element-wise time"
    return None


def _memory_peak(row: Measurement) -> str | None:
    return None if row.unit == "GB/s" else "see group decode_core_peak"


def _compute_peak(row: Measurement) -> str | None:
    return None if row.unit == "TFLOPS" else "see group decode_core_memory"


def _uniform(row: Measurement) -> str | None:
    return None if row.note.get("distribution") == "uniform" else "skewed routing"


def _several_nodes(row: Measurement) -> str | None:
    if "v1" in row.source:
        return "superseded: v1 does not use NVLink in the node"
    return None if (row.ep or 0) > GPUS_PER_NODE else "see group ll_node"


def _one_node(gpu: str, row: Measurement) -> str | None:
    if "v1" in row.source or _several_nodes(row) is None:
        return "see group ll_dispatch"
    return None if row.gpu == gpu else "see group ll_node or ll_h800_node"


DECODE_GROUPS = (
    _decode(
        "masked",
        "FP8 products of the routed experts, masked",
        (f"{_MASKED}_up_time", f"{_MASKED}_down_time"),
        {
            "launch_s": 9.4e-6,
            "flop_per_s": 0.88 * FP8_FLOP_PER_S,
            "bytes_per_s": 3.43e12,
            "softness": 1.08,
        },
        grouped_masked,
        _several_tokens,
        by_ep,
    ),
    _decode(
        "decode_core",
        "attention core of a step",
        ("mla_decode_core_time",),
        {"launch_s": 20.4e-6, "flop_per_s": 0.533 * BF16_FLOP_PER_S},
        rows.decode_core,
        keep_all,
        by_context,
    ),
    _decode(
        "decode_core_memory",
        "memory rate of the attention core, taken over",
        ("flashmla_decode_peak",),
        {"bytes_per_s": 3e12},
        rows.peak,
        _memory_peak,
        by_metric,
    ),
    _decode(
        "decode_attention",
        "whole attention block of a step: absorb and element-wise time is fitted",
        ("mla_module_decode_time",),
        {"launch_s": 25e-6, "token_s": 0.2e-6},
        rows.attention_block,
        _short_context,
        by_batch,
    ),
    _decode(
        "decode_gate",
        "norms, gate and top-k in the decode trace, taken over",
        _GATE,
        dict.fromkeys(_GATE, 5e-6),
        rows.gate_kernel,
        keep_all,
        by_metric,
    ),
    _decode(
        "decode_expert",
        "activation of the routed experts in the decode trace, taken over",
        _ACTIVATION,
        dict.fromkeys(_ACTIVATION, 8e-6),
        rows.expert_kernel,
        keep_all,
        by_metric,
    ),
    _decode(
        "ll_dispatch",
        "low-latency dispatch over two nodes and more",
        _LOW_LATENCY[:1],
        {"launch_s": 16e-6, "hop_s": 3.6e-6, "bytes_per_s": 46.5e9},
        rows.low_latency,
        _several_nodes,
        by_ep,
    ),
    _decode(
        "ll_combine",
        "low-latency combine over two nodes and more",
        _LOW_LATENCY[1:],
        {"launch_s": 24.2e-6, "hop_s": 0.44e-6, "bytes_per_s": 45.7e9},
        rows.low_latency,
        _several_nodes,
        by_ep,
    ),
    _decode(
        "ll_node",
        "both inside one node of H100: the fixed part carries over",
        _LOW_LATENCY,
        {
            "dispatch_launch_s": 15e-6,
            "dispatch_h100_per_s": 284e9,
            "combine_launch_s": 11e-6,
            "combine_h100_per_s": 238e9,
        },
        rows.low_latency_node,
        functools.partial(_one_node, "H100"),
        lambda row: f"{row.metric} {row.tokens_per_rank}",
    ),
    _decode(
        "ll_h800_node",
        "both inside one node of H800, one rate each, taken over",
        _LOW_LATENCY,
        {"dispatch_per_s": 122e9, "combine_per_s": 142e9},
        rows.low_latency_h800_node,
        functools.partial(_one_node, "H800"),
        by_metric,
    ),
    _decode(
        "check_masked_readme",
        "masked expert products of another benchmark",
        (f"{_MASKED}_tflops",),
        {},
        grouped_masked,
        keep_all,
        by_metric,
    ),
    _decode(
        "check_masked_trace",
        "down projection of the experts in the decode trace",
        ("trace_moe_down_gemm_time",),
        {},
        rows.masked_trace,
        keep_all,
        by_metric,
    ),
    _decode(
        "check_experts_decode",
        "whole expert block of a step, uniform routing",
        ("moe_experts_decode_time",),
        {},
        rows.experts_module,
        _uniform,
        by_ep,
    ),
    _decode(
        "check_core_trace",
        "attention core in the decode trace",
        ("trace_mla_decode_core_time",),
        {},
        rows.decode_core,
        keep_all,
        by_metric,
    ),
    _decode(
        "check_core_peak",
        "attention core at its best, as its authors say",
        ("flashmla_decode_peak",),
        {},
        rows.peak,
        _compute_peak,
        by_metric,
    ),
    _decode(
        "check_block_trace",
        "attention block in the decode trace",
        ("trace_attention_block_sum_time",),
        {},
        rows.attention_block,
        keep_all,
        by_metric,
    ),
    _decode(
        "check_dense_trace",
        "dense products in the decode trace, as a step pays for them",
        tuple(rows.TRACE_GEMMS),
        {},
        rows.trace_gemm,
        keep_all,
        by_metric,
    ),
)
