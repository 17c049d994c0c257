"""What one row of kernels.csv measured, and what the kernel formulas make of it, in seconds.

Predictions read fitted numbers by full name, `<group>_<parameter>`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sbs_gym.timing.kernels import copies_per_token, gemm_chain_s, gemm_s, linear_s
from sbs_gym.timing.measurements import UNITS, Measurement
from sbs_gym.timing.roofline import MAX_ELEMENTWISE_GPUS
from sbs_gym.timing.shape import (
    ATTENTION_GEMMS,
    COMBINE_BYTES,
    DISPATCH_BYTES,
    EXPERT_GEMMS,
    EXPERTS_PER_TOKEN,
    FLOP_PER_PAIR,
    NUM_EXPERTS,
)

Parameters = Mapping[str, float]
DENSE_LAUNCH_S = 3.5e-6  # inside a pass; assumed, docs/timing.md, "Numbers that are not fitted"


def measured_s(row: Measurement) -> float:
    """Return the seconds a row reports: its time, or its work over its rate.

    A peak rate reports the seconds of one tera-operation or one gigabyte.
    """
    if row.unit == "us":
        return row.value
    if row.metric.endswith("_peak"):
        return UNITS[row.unit] / row.value
    if row.unit == "TFLOPS":
        groups = row.number("groups") if "groups" in row.note else 1.0
        flop = 2.0 * groups * _rows(row) * row.number("K") * row.number("N")
        return flop / row.value
    return _link_bytes(row) / row.value


def _rows(row: Measurement) -> float:
    return row.number("M") if "M" in row.note else row.number("m_per_group")


def _link_bytes(row: Measurement) -> float:
    size = COMBINE_BYTES if "combine" in row.metric else DISPATCH_BYTES
    return (row.tokens_per_rank or 0) * copies_per_token(row.ep or 1) * size


def _gemm(p: Parameters, row: Measurement, name: str, launch_s: float) -> float:
    groups = row.number("groups") if "groups" in row.note else 1.0
    return float(
        gemm_s(
            groups,
            _rows(row),
            row.number("K"),
            row.number("N"),
            launch_s,
            p[f"{name}_flop_per_s"],
            p[f"{name}_bytes_per_s"],
            p[f"{name}_softness"],
        )
    )


def dense(p: Parameters, row: Measurement) -> float:
    """Return a dense GEMM started alone."""
    return _gemm(p, row, "dense", p["dense_alone_s"])


def dense_in_pass(p: Parameters, row: Measurement) -> float:
    """Return a dense GEMM as a pass pays for it."""
    return _gemm(p, row, "dense", DENSE_LAUNCH_S)


def grouped(p: Parameters, row: Measurement) -> float:
    """Return a grouped contiguous GEMM."""
    return _gemm(p, row, "grouped", p["grouped_launch_s"])


def grouped_masked(p: Parameters, row: Measurement) -> float:
    """Return a grouped masked GEMM, as decode runs it."""
    return _gemm(p, row, "masked", p["masked_launch_s"])


def _pairs(row: Measurement) -> float:
    return (row.tokens_per_rank or 0) * (row.context_len or 0) / 2.0


def core(p: Parameters, row: Measurement) -> float:
    """Return the attention core alone on the GPU."""
    return p["core_launch_s"] + FLOP_PER_PAIR * _pairs(row) / p["core_flop_per_s"]


def core_shared(p: Parameters, row: Measurement) -> float:
    """Return the attention core beside communication kernels."""
    return p["core_launch_s"] + FLOP_PER_PAIR * _pairs(row) / p["core_shared_flop_per_s"]


def shared_expert(p: Parameters, row: Measurement) -> float:
    """Return the shared expert with its activation."""
    launch, each = p["shared_expert_launch_s"], p["shared_expert_token_s"]
    return float(linear_s(row.tokens_per_rank or 0, launch, each))


def attention_module(p: Parameters, row: Measurement) -> float:
    """Return a whole attention block: projections, core, element-wise."""
    tokens = float(row.tokens_per_rank or 0)
    names = ("alone_s", "flop_per_s", "bytes_per_s", "softness")
    gemms = gemm_chain_s(ATTENTION_GEMMS, 1.0, tokens, *(p[f"dense_{name}"] for name in names))
    return float(gemms) + core(p, row) + p["attention_token_s"] * tokens


def expert_module(p: Parameters, row: Measurement) -> float:
    """Return a whole expert block without communication, routing uniform."""
    tokens, ep = float(row.tokens_per_rank or 0), row.ep or 1
    experts = NUM_EXPERTS / ep
    names = ("launch_s", "flop_per_s", "bytes_per_s", "softness")
    rows = EXPERTS_PER_TOKEN * tokens / experts
    gemms = gemm_chain_s(EXPERT_GEMMS, experts, rows, *(p[f"grouped_{name}"] for name in names))
    each = p["expert_token_s"] + p["expert_token_gpu_s"] * min(ep, MAX_ELEMENTWISE_GPUS)
    return float(gemms) + each * tokens


def link(p: Parameters, row: Measurement) -> float:
    """Return a normal dispatch or combine kernel, its set-up not included."""
    kind = "combine" if "combine" in row.metric else "dispatch"
    nodes = {8: "one", 16: "two"}.get(row.ep or 0, "more")
    return _link_bytes(row) / p[f"link_{kind}_{nodes}_per_s"]
