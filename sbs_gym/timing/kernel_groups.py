"""Which rows of kernels.csv fit which kernel formula, and which are kept out and why.

A group may read the numbers of the groups before it, so the order of GROUPS matters.
`dense_alone_s` is the launch cost of a benchmark that starts kernels one by one; a pass pays
DENSE_LAUNCH_S instead. Element-wise time is a rate fitted from 4096 tokens on: below, launches
dominate the benchmarks of modules, and the check groups show how far off the rate is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sbs_gym.timing.kernel_rows import (
    Parameters,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelGroup:
    """One kernel formula and its rows.

    Attributes:
        name: Group in reports; parameters are called `<name>_<parameter>` elsewhere.
        phase: `prefill` or `decode`; only prefill groups exist so far.
        metrics: Metrics of kernels.csv that belong here.
        about: What the rows measure, in a few words.
        start: Parameter names and start values, near the result; empty for a check, which
            predicts rows that no group is fitted to.
        predict: Seconds of a row; reads parameters of this and earlier groups by full name.
        keep: None, or the reason to keep a row out; rows of other groups' metrics never get here.
        split: What is left out together when errors are estimated: an EP size or a shape.
    """

    name: str
    about: str
    phase: str
    metrics: tuple[str, ...]
    start: Mapping[str, float]
    predict: Callable[[Parameters, Measurement], float]
    keep: Callable[[Measurement], str | None]
    split: Callable[[Measurement], str]


def _all(row: Measurement) -> str | None:
    return None


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


def _shape(row: Measurement) -> str:
    return f"K={row.note.get('K')};N={row.note.get('N')}"


def _ep(row: Measurement) -> str:
    return f"EP{row.ep}"


def _tokens(row: Measurement) -> str:
    return f"{row.tokens_per_rank} tokens"


def _context(row: Measurement) -> str:
    return f"context {row.context_len}"


def _group(
    name: str,
    about: str,
    metrics: tuple[str, ...],
    start: Mapping[str, float],
    predict: Callable[[Parameters, Measurement], float],
    keep: Callable[[Measurement], str | None],
    split: Callable[[Measurement], str],
) -> KernelGroup:
    return KernelGroup(
        name=name,
        about=about,
        phase="prefill",
        metrics=metrics,
        start=start,
        predict=predict,
        keep=keep,
        split=split,
    )


_GROUPED = "gemm_fp8_grouped_contiguous"
_LINKS = tuple(f"deepep_normal_{kind}_bottleneck_bw" for kind in ("dispatch", "combine"))
_LINK_RATES = {
    f"{kind}_{nodes}_per_s": 5e10
    for kind in ("dispatch", "combine")
    for nodes in ("one", "two", "more")
}
GROUPS = (
    _group(
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
        _shape,
    ),
    _group(
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
        _all,
        _ep,
    ),
    _group(
        "core",
        "attention core alone on the GPU",
        ("mla_prefill_core_time",),
        {"launch_s": 46.4e-6, "flop_per_s": 0.62 * BF16_FLOP_PER_S},
        core,
        _alone,
        _context,
    ),
    _group(
        "core_shared",
        "attention core beside communication kernels",
        ("mla_prefill_core_time",),
        {"flop_per_s": 0.56 * BF16_FLOP_PER_S},
        core_shared,
        _beside,
        _context,
    ),
    _group(
        "shared_expert",
        "shared expert with its activation",
        ("shared_expert_time",),
        {"launch_s": 25e-6, "token_s": 0.068e-6},
        shared_expert,
        _all,
        _tokens,
    ),
    _group(
        "attention",
        "whole attention block: element-wise time is fitted",
        ("mla_module_prefill_time",),
        {"token_s": 0.045e-6},
        attention_module,
        _large_attention,
        _context,
    ),
    _group(
        "expert",
        "whole expert block, uniform routing: element-wise time is fitted",
        ("moe_experts_prefill_time",),
        {"token_s": 0.04e-6, "token_gpu_s": 0.009e-6},
        expert_module,
        _large_expert,
        _ep,
    ),
    _group(
        "link",
        "dispatch and combine, one rate per kind and nodes",
        _LINKS,
        _LINK_RATES,
        link,
        _current_link,
        _ep,
    ),
    _group(
        "check_dense_readme",
        "FP8 products of another benchmark, as a pass pays for them",
        ("gemm_fp8_dense_tflops",),
        {},
        dense_in_pass,
        _all,
        _shape,
    ),
    _group(
        "check_grouped_readme",
        "expert products of another benchmark",
        (f"{_GROUPED}_tflops",),
        {},
        grouped,
        _all,
        _shape,
    ),
    _group(
        "check_attention_small",
        "attention block below 4096 tokens",
        ("mla_module_prefill_time",),
        {},
        attention_module,
        _small_attention,
        _context,
    ),
    _group(
        "check_expert_small",
        "expert block below 4096 tokens, uniform routing",
        ("moe_experts_prefill_time",),
        {},
        expert_module,
        _small_expert,
        _ep,
    ),
    _group(
        "check_link_tuned",
        "dispatch and combine with a third party's tuning",
        _LINKS,
        {},
        link,
        _tuned_link,
        _ep,
    ),
    _group(
        "check_link_training",
        "dispatch and combine in a training trace, overlapped",
        ("deepep_normal_dispatch_time", "deepep_normal_combine_time"),
        {},
        link,
        lambda row: None if row.gpu == "H800" else "H100: another NVLink, or congested",
        _ep,
    ),
)
