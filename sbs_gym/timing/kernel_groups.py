"""Which rows of kernels.csv fit which kernel formula, and which are kept out and why.

A group may read the numbers of the groups before it, so the order of GROUPS matters.
`dense_alone_s` is the launch cost of a benchmark that starts kernels one by one; a pass pays
DENSE_LAUNCH_S instead. Element-wise time is a rate fitted from 4096 tokens on: below, the modules'
benchmarks are dominated by launches, and the check groups show how far off the rate is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sbs_gym.timing.kernels import copies_per_token, gemm_chain_s, gemm_s, linear_s
from sbs_gym.timing.measurements import Measurement
from sbs_gym.timing.roofline import MAX_ELEMENTWISE_GPUS
from sbs_gym.timing.shape import (
    ATTENTION_GEMMS,
    BF16_FLOP_PER_S,
    COMBINE_BYTES,
    DISPATCH_BYTES,
    EXPERT_GEMMS,
    EXPERTS_PER_TOKEN,
    FLOP_PER_PAIR,
    FP8_FLOP_PER_S,
    NUM_EXPERTS,
)

Parameters = Mapping[str, float]
DENSE_LAUNCH_S = 3.5e-6  # inside a graph; TIMING section 6.1, not fitted
_MODULE_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelGroup:
    """One kernel formula and its rows.

    Attributes:
        name: Group in reports; parameters are called `<name>_<parameter>` elsewhere.
        phase: `prefill` or `decode`; only prefill groups exist so far.
        metrics: Metrics of kernels.csv that belong here.
        start: Parameter names and start values, TIMING section 6.1; empty for a check, which
            predicts rows that no group is fitted to.
        predict: Seconds of a row; reads parameters of this and earlier groups by full name.
        keep: None, or the reason to keep a row out; rows of other groups' metrics never get here.
        split: What is left out together when errors are estimated: an EP size or a shape.
    """

    name: str
    phase: str
    metrics: tuple[str, ...]
    start: Mapping[str, float]
    predict: Callable[[Parameters, Measurement], float]
    keep: Callable[[Measurement], str | None]
    split: Callable[[Measurement], str]


def measured_s(row: Measurement) -> float:
    """Return the seconds a row reports: its time, or its bytes over its rate."""
    if row.unit == "us":
        return row.value
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


def _dense(p: Parameters, row: Measurement) -> float:
    return _gemm(p, row, "dense", p["dense_alone_s"])


def _dense_in_pass(p: Parameters, row: Measurement) -> float:
    return _gemm(p, row, "dense", DENSE_LAUNCH_S)


def _grouped(p: Parameters, row: Measurement) -> float:
    return _gemm(p, row, "grouped", p["grouped_launch_s"])


def _pairs(row: Measurement) -> float:
    return (row.tokens_per_rank or 0) * (row.context_len or 0) / 2.0


def _core(p: Parameters, row: Measurement) -> float:
    return p["core_launch_s"] + FLOP_PER_PAIR * _pairs(row) / p["core_flop_per_s"]


def _core_shared(p: Parameters, row: Measurement) -> float:
    return p["core_launch_s"] + FLOP_PER_PAIR * _pairs(row) / p["core_shared_flop_per_s"]


def _shared_expert(p: Parameters, row: Measurement) -> float:
    launch, each = p["shared_expert_launch_s"], p["shared_expert_token_s"]
    return float(linear_s(row.tokens_per_rank or 0, launch, each))


def _attention_module(p: Parameters, row: Measurement) -> float:
    tokens = float(row.tokens_per_rank or 0)
    names = ("alone_s", "flop_per_s", "bytes_per_s", "softness")
    gemms = gemm_chain_s(ATTENTION_GEMMS, 1.0, tokens, *(p[f"dense_{name}"] for name in names))
    return float(gemms) + _core(p, row) + p["attention_token_s"] * tokens


def _expert_module(p: Parameters, row: Measurement) -> float:
    tokens, ep = float(row.tokens_per_rank or 0), row.ep or 1
    experts = NUM_EXPERTS / ep
    names = ("launch_s", "flop_per_s", "bytes_per_s", "softness")
    rows = EXPERTS_PER_TOKEN * tokens / experts
    gemms = gemm_chain_s(EXPERT_GEMMS, experts, rows, *(p[f"grouped_{name}"] for name in names))
    each = p["expert_token_s"] + p["expert_token_gpu_s"] * min(ep, MAX_ELEMENTWISE_GPUS)
    return float(gemms) + each * tokens


def _link(p: Parameters, row: Measurement) -> float:
    kind = "combine" if "combine" in row.metric else "dispatch"
    nodes = {8: "one", 16: "two"}.get(row.ep or 0, "more")
    return _link_bytes(row) / p[f"link_{kind}_{nodes}_per_s"]


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
    metrics: tuple[str, ...],
    start: Mapping[str, float],
    predict: Callable[[Parameters, Measurement], float],
    keep: Callable[[Measurement], str | None],
    split: Callable[[Measurement], str],
) -> KernelGroup:
    return KernelGroup(
        name=name,
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
        ("gemm_fp8_dense_time",),
        {
            "alone_s": 8.7e-6,
            "flop_per_s": 0.72 * FP8_FLOP_PER_S,
            "bytes_per_s": 2.91e12,
            "softness": 2.6,
        },
        _dense,
        _no_odd_shape,
        _shape,
    ),
    _group(
        "grouped",
        (f"{_GROUPED}_up_time", f"{_GROUPED}_down_time"),
        {
            "launch_s": 1e-6,
            "flop_per_s": 0.668 * FP8_FLOP_PER_S,
            "bytes_per_s": 2.71e12,
            "softness": 1.75,
        },
        _grouped,
        _all,
        _ep,
    ),
    _group(
        "core",
        ("mla_prefill_core_time",),
        {"launch_s": 46.4e-6, "flop_per_s": 0.62 * BF16_FLOP_PER_S},
        _core,
        _alone,
        _context,
    ),
    _group(
        "core_shared",
        ("mla_prefill_core_time",),
        {"flop_per_s": 0.56 * BF16_FLOP_PER_S},
        _core_shared,
        _beside,
        _context,
    ),
    _group(
        "shared_expert",
        ("shared_expert_time",),
        {"launch_s": 25e-6, "token_s": 0.068e-6},
        _shared_expert,
        _all,
        _tokens,
    ),
    _group(
        "attention",
        ("mla_module_prefill_time",),
        {"token_s": 0.045e-6},
        _attention_module,
        _large_attention,
        _context,
    ),
    _group(
        "expert",
        ("moe_experts_prefill_time",),
        {"token_s": 0.04e-6, "token_gpu_s": 0.009e-6},
        _expert_module,
        _large_expert,
        _ep,
    ),
    _group("link", _LINKS, _LINK_RATES, _link, _current_link, _ep),
    _group("check_dense_readme", ("gemm_fp8_dense_tflops",), {}, _dense_in_pass, _all, _shape),
    _group("check_grouped_readme", (f"{_GROUPED}_tflops",), {}, _grouped, _all, _shape),
    _group(
        "check_attention_small",
        ("mla_module_prefill_time",),
        {},
        _attention_module,
        _small_attention,
        _context,
    ),
    _group(
        "check_expert_small", ("moe_experts_prefill_time",), {}, _expert_module, _small_expert, _ep
    ),
    _group("check_link_tuned", _LINKS, {}, _link, _tuned_link, _ep),
    _group(
        "check_link_training",
        ("deepep_normal_dispatch_time", "deepep_normal_combine_time"),
        {},
        _link,
        lambda row: None if row.gpu == "H800" else "H100: another NVLink, or congested",
        _ep,
    ),
)
