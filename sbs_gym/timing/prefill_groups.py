"""Which rows of kernels.csv fit which kernel of a prefill pass, and which are kept out and why.

`dense_alone_s` is the launch cost of a benchmark that starts kernels one by one; a pass pays
DENSE_LAUNCH_S instead. Element-wise time is a rate fitted from 4096 tokens on: below, launches
dominate the benchmarks of modules, and the check groups show how far off the rate is there.
"""

from __future__ import annotations

import functools

from sbs_gym.timing.kernel_group import (
    by_context,
    by_ep,
    by_shape,
    by_tokens,
    group,
    keep_all,
)
from sbs_gym.timing.kernel_rows import (
    attention_module,
    core,
    core_shared,
    dense,
    dense_in_pass,
    expert_module,
    grouped,
    link,
    shared_expert,
)
from sbs_gym.timing.measurements import Measurement
from sbs_gym.timing.shape import BF16_FLOP_PER_S, FP8_FLOP_PER_S

_MODULE_TOKENS = 4096
_prefill = functools.partial(group, "prefill")


def _no_odd_shape(row: Measurement) -> str | None:
    return "K = 65536: no DeepSeek shape" if row.note.get("K") == "65536" else None


def _alone(row: Measurement) -> str | None:
    return None if row.source.startswith("InferSim") else "beside communication kernels"


def _beside(row: Measurement) -> str | None:
    return None if _alone(row) else "alone on the GPU"


def _large_attention(row: Measurement) -> str | None:
    if (row.context_len or 0) > 4096:
        return "context above 4096: the core's error exceeds the element-wise time"
    return _large(row)


def _small_attention(row: Measurement) -> str | None:
    return "see group attention" if _large(row) is None else None


def _large_expert(row: Measurement) -> str | None:
    return _large(row) if row.note.get("distribution") == "uniform" else "skewed routing"


def _small_expert(row: Measurement) -> str | None:
    small = _large(row) is not None and row.note.get("distribution") == "uniform"
    return None if small else "see group expert"


def _large(row: Measurement) -> str | None:
    large = (row.tokens_per_rank or 0) >= _MODULE_TOKENS
    return None if large else f"below {_MODULE_TOKENS} tokens: launches dominate"


def _current_link(row: Measurement) -> str | None:
    return None if "kernels v2" in row.source else "superseded, or tuned by a third party"


def _tuned_link(row: Measurement) -> str | None:
    return None if "contributed" in row.source else "see group link"


_GROUPED = "gemm_fp8_grouped_contiguous"
_LINKS = tuple(f"deepep_normal_{kind}_bottleneck_bw" for kind in ("dispatch", "combine"))
_LINK_RATES = {
    f"{kind}_{nodes}_per_s": 5e10
    for kind in ("dispatch", "combine")
    for nodes in ("one", "two", "more")
}
PREFILL_GROUPS = (
    _prefill(
        "dense",
        "FP8 matrix products, started one by one",
        ("gemm_fp8_dense_time",),
        {
            "alone_s": 8.7e-6,
            "flop_per_s": 0.72 * FP8_FLOP_PER_S,
            "bytes_per_s": 2.91e12,
            "softness": 2.6,
        },
        dense,
        _no_odd_shape,
        by_shape,
    ),
    _prefill(
        "grouped",
        "FP8 products of the routed experts",
        (f"{_GROUPED}_up_time", f"{_GROUPED}_down_time"),
        {
            "launch_s": 1e-6,
            "flop_per_s": 0.668 * FP8_FLOP_PER_S,
            "bytes_per_s": 2.71e12,
            "softness": 1.75,
        },
        grouped,
        keep_all,
        by_ep,
    ),
    _prefill(
        "core",
        "attention core alone on the GPU",
        ("mla_prefill_core_time",),
        {"launch_s": 46.4e-6, "flop_per_s": 0.62 * BF16_FLOP_PER_S},
        core,
        _alone,
        by_context,
    ),
    _prefill(
        "core_shared",
        "attention core beside communication kernels",
        ("mla_prefill_core_time",),
        {"flop_per_s": 0.56 * BF16_FLOP_PER_S},
        core_shared,
        _beside,
        by_context,
    ),
    _prefill(
        "shared_expert",
        "shared expert with its activation",
        ("shared_expert_time",),
        {"launch_s": 25e-6, "token_s": 0.068e-6},
        shared_expert,
        keep_all,
        by_tokens,
    ),
    _prefill(
        "attention",
        "whole attention block: element-wise time is fitted",
        ("mla_module_prefill_time",),
        {"token_s": 0.045e-6},
        attention_module,
        _large_attention,
        by_context,
    ),
    _prefill(
        "expert",
        "whole expert block, uniform routing: element-wise time is fitted",
        ("moe_experts_prefill_time",),
        {"token_s": 0.04e-6, "token_gpu_s": 0.009e-6},
        expert_module,
        _large_expert,
        by_ep,
    ),
    _prefill(
        "link",
        "dispatch and combine, one rate per kind and nodes",
        _LINKS,
        _LINK_RATES,
        link,
        _current_link,
        by_ep,
    ),
    _prefill(
        "check_dense_readme",
        "FP8 products of another benchmark, as a pass pays for them",
        ("gemm_fp8_dense_tflops",),
        {},
        dense_in_pass,
        keep_all,
        by_shape,
    ),
    _prefill(
        "check_grouped_readme",
        "expert products of another benchmark",
        (f"{_GROUPED}_tflops",),
        {},
        grouped,
        keep_all,
        by_shape,
    ),
    _prefill(
        "check_attention_small",
        "attention block below 4096 tokens",
        ("mla_module_prefill_time",),
        {},
        attention_module,
        _small_attention,
        by_context,
    ),
    _prefill(
        "check_expert_small",
        "expert block below 4096 tokens, uniform routing",
        ("moe_experts_prefill_time",),
        {},
        expert_module,
        _small_expert,
        by_ep,
    ),
    _prefill(
        "check_link_tuned",
        "dispatch and combine with a third party's tuning",
        _LINKS,
        {},
        link,
        _tuned_link,
        by_ep,
    ),
    _prefill(
        "check_link_training",
        "dispatch and combine in a training trace, overlapped",
        ("deepep_normal_dispatch_time", "deepep_normal_combine_time"),
        {},
        link,
        lambda row: None if row.gpu == "H800" else "H100: another NVLink, or congested",
        by_ep,
    ),
)
