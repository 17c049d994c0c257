"""What a user may say about the duration of a prefill pass and of a decode step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

from sbs_gym.errors import ConfigError, require_choice, require_number


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingConfig:
    """Luck that every kind of timing shares; the kinds below add the duration itself.

    Attributes:
        jitter_cv: Coefficient of variation of the pass duration, in [0, 1].
            Source: assumed; nobody has published it.
        jitter_grid_s: Seconds for which an instance keeps its jitter, > 0. Source: assumed.
        skew_mean: Mean expert skew g = time of the busiest expert group over a balanced one,
            in [1, 10]. Source: assumed; docs/timing.md, "Numbers that are not fitted", says what
            was measured: 1 if rebalanced perfectly, up to 3.1 under a power law.
        skew_rho: Correlation of the skew from one grid point to the next, in [0, 1).
            Source: assumed.
        skew_sigma: Spread of log(g - 1), in [0, 3]; 0 keeps g at its mean. Source: assumed.
        skew_grid_s: Seconds between grid points of the skew, > 0. Source: assumed.
    """

    KIND: ClassVar[str] = ""

    jitter_cv: float = 0.0
    jitter_grid_s: float = 0.25
    skew_mean: float = 1.0
    skew_rho: float = 0.95
    skew_sigma: float = 0.0
    skew_grid_s: float = 1.0

    def __post_init__(self) -> None:
        require_number("timing.jitter_cv", self.jitter_cv, 0, 1)
        require_number("timing.jitter_grid_s", self.jitter_grid_s, 0, unit="s", low_open=True)
        require_number("timing.skew_mean", self.skew_mean, 1, 10)
        require_number("timing.skew_rho", self.skew_rho, 0, 0.999999)
        require_number("timing.skew_sigma", self.skew_sigma, 0, 3)
        require_number("timing.skew_grid_s", self.skew_grid_s, 0, unit="s", low_open=True)

    @property
    def kind(self) -> str:
        """Return the name that `timing_from_mapping` knows this class by."""
        return self.KIND


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearTiming(TimingConfig):
    """A pass takes a fixed time plus a time per token of a weighted rank load.

    A decode step takes a fixed time plus the largest, over ranks, of a time per request and a time
    per token of context.

    Attributes:
        fixed_s: Seconds of a pass apart from its tokens, in [0, 60].
            Source: assumed; docs/timing.md, "The linear model", compares it with the roofline.
        per_token_s: Seconds per token of one rank, in (0, 1]. Source: as `fixed_s`.
        max_weight: Weight of the fullest rank, the rest goes to the mean over ranks, in [0, 1].
            Source: assumed, likewise.
        decode_fixed_s: Seconds of a decode step apart from its ranks' load, in [0, 60].
            Source: assumed; docs/timing.md, "The linear model".
        decode_per_request_s: Seconds per request of one rank, in [0, 1]. Source: likewise.
        decode_per_kv_token_s: Seconds per token of context in one rank's KV cache, in [0, 1].
            Source: likewise.
    """

    KIND: ClassVar[str] = "linear"

    fixed_s: float = 0.06
    per_token_s: float = 1.0 / 6500.0
    max_weight: float = 0.7
    decode_fixed_s: float = 0.022
    decode_per_request_s: float = 0.00012
    decode_per_kv_token_s: float = 2.7e-8

    def __post_init__(self) -> None:
        TimingConfig.__post_init__(self)
        require_number("timing.decode_fixed_s", self.decode_fixed_s, 0, 60, unit="s")
        for name in ("decode_per_request_s", "decode_per_kv_token_s"):
            require_number(f"timing.{name}", getattr(self, name), 0, 1, unit="s")
        require_number("timing.fixed_s", self.fixed_s, 0, 60, unit="s")
        require_number("timing.per_token_s", self.per_token_s, 0, 1, unit="s", low_open=True)
        require_number("timing.max_weight", self.max_weight, 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantTiming(TimingConfig):
    """Every pass takes the same time, and every decode step; for theory tests.

    Attributes:
        pass_s: Seconds of a pass, in (0, 3600]. Source: chosen, no hardware behind it.
        step_s: Seconds of a decode step, in (0, 3600]. Source: likewise.
    """

    KIND: ClassVar[str] = "constant"

    pass_s: float = 0.5
    step_s: float = 0.03

    def __post_init__(self) -> None:
        TimingConfig.__post_init__(self)
        require_number("timing.pass_s", self.pass_s, 0, 3600, unit="s", low_open=True)
        require_number("timing.step_s", self.step_s, 0, 3600, unit="s", low_open=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableTiming(TimingConfig):
    """A model fitted to a user's own measured passes and steps; see `sbs_gym/timing/table.py`.

    Attributes:
        path: CSV or Parquet file of passes: `start_s`, `duration_s` (seconds) and per rank the new
            tokens and, if known, the cached context. Source: the user's own logs.
        num_knots: Knots of the duration over the fullest rank's tokens, in [1, 64].
            Source: chosen; two knots would be a straight line.
        steps_path: CSV or Parquet file of decode steps: `start_s`, `duration_s` and the requests
            and the tokens of context of the fullest rank, or of every rank
            (`sbs_gym/timing/steps.py`); None if no decode instance is timed. Source: as `path`.
        steps_num_knots: Knots of the duration over the fullest rank's requests, in [1, 64].
            Source: chosen.
    """

    KIND: ClassVar[str] = "table"

    path: str
    num_knots: int = 8
    steps_path: str | None = None
    steps_num_knots: int = 6

    def __post_init__(self) -> None:
        TimingConfig.__post_init__(self)
        if not isinstance(self.path, str) or not self.path:
            raise ConfigError(
                f"timing.path={self.path!r} is not allowed; expected the file of your measured "
                "passes (timing=table timing.path=FILE; example_passes.csv is a synthetic example)"
            )
        require_number("timing.num_knots", self.num_knots, 1, 64, integer=True)
        require_number("timing.steps_num_knots", self.steps_num_knots, 1, 64, integer=True)
        if self.steps_path is not None and not (
            isinstance(self.steps_path, str) and self.steps_path
        ):
            raise ConfigError(
                f"timing.steps_path={self.steps_path!r} is not allowed; expected the file of your "
                "measured decode steps, or null"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineTiming(TimingConfig):
    """Kernel formulas of DeepSeek-V3/R1 on H800, added up over layers.

    The numbers without a default are fitted and live in `conf/timing/roofline.yaml`, which names
    their data. "Shared" rates hold beside communication kernels, which take 24 of 132 SMs.
    The formulas, and the sources of what is assumed, are in docs/timing.md, "What a pass is made
    of" and "Numbers that are not fitted".

    Attributes:
        dense_launch_s: Fixed seconds of a dense GEMM inside a pass, in [0, 1e-3]. Source: assumed;
            benchmarks launch kernels one by one and cannot say.
        dense_flop_per_s, dense_bytes_per_s: Rates it reaches, in [1e12, 1e17], [1e10, 1e14]. Fit.
        dense_softness: Exponent between compute and memory time, in [1, 16]. Fit.
        grouped_launch_s, grouped_flop_per_s, grouped_bytes_per_s, grouped_softness: The same for
            grouped contiguous GEMMs. Fit.
        core_launch_s: Fixed seconds of the attention core, in [0, 1e-2]. Fit.
        core_flop_per_s, core_shared_flop_per_s: Its rates, in [1e12, 1e17]. Fit; the shared one
            from the training trace.
        shared_expert_launch_s, shared_expert_token_s: Shared expert with activation: fixed seconds
            in [0, 1e-2], seconds per token in [0, 1e-3]. Fit.
        attention_token_s: Element-wise seconds per token of the attention block, in [0, 1e-3]. Fit.
        expert_token_s: Element-wise seconds per token of the expert block, in [0, 1e-3]. Fit.
        expert_token_gpu_s: The same, more for each GPU the experts span up to 64, in [0, 1e-4].
            Fit.
        link_launch_s: Fixed seconds of a dispatch or combine, in [0, 1e-2]. Source: assumed.
        dispatch_bytes_per_s, combine_bytes_per_s: Rates on one, two, and three or more nodes, each
            in [1e9, 1e13]. Fit.
        link_slowdown: Factor kappa on links beside compute, in [0.5, 4]. Source: assumed:
            no slowdown.
        overlap_softness: Exponent of compute over communication, in [1, 16]. Fit on systems.
        overlap_min_tokens: Two-batch overlap from here on every busy rank, in [1, 1 << 30].
            Source: assumed; nobody has published where an engine switches.
        compute_sms: SMs left to compute beside communication, in [1, 132]. Source: 132 less the 24
            of DeepEP's prefill example, github.com/deepseek-ai/DeepEP/blob/0297fc8/docs/legacy.md.
        overhead_s: Seconds of a pass outside the layers, in [0, 10]. Source: assumed:
            the measured passes do not pin it.
        default_skew: Expert skew of a pass with SGLang's default expert distribution, in [1, 10];
            used only to compare with published systems. Fit on systems.
        expert_load: Whether expert and link time of a pass follow the `mean` or the `max` over
            ranks. Source: assumed, docs/timing.md, "From one rank to a group".
        masked_launch_s, masked_flop_per_s, masked_bytes_per_s, masked_softness: As `grouped_*`, for
            the masked grouped GEMMs of a decode step. Fit.
        decode_core_launch_s: Fixed seconds of the attention core of a step, in [0, 1e-2]. Fit.
        decode_core_flop_per_s, decode_core_bytes_per_s: Its rates, in [1e12, 1e17], [1e10, 1e14].
            Fit.
        decode_attention_launch_s, decode_attention_token_s: The rest of the attention block, absorb
            products and element-wise: seconds in [0, 1e-2], seconds per token in [0, 1e-3]. Fit.
        decode_gate_s, decode_expert_s: Norms, gate and top-k of a layer; activation of the routed
            experts; seconds in [0, 1e-2]. Fit.
        ll_dispatch_launch_s, ll_combine_launch_s: Fixed seconds of a low-latency dispatch or
            combine in one node, and beyond, in [0, 1e-2]. Fit.
        ll_dispatch_hop_s, ll_combine_hop_s: More of it per log2 of the nodes, in [0, 1e-2]. Fit.
        ll_dispatch_bytes_per_s, ll_combine_bytes_per_s: Rates in one node, and beyond, in
            [1e9, 1e13]. Fit.
        decode_link_slowdown: Factor kappa on low-latency links inside a step, in [0.5, 4].
            Source: assumed: no slowdown.
        decode_overhead_s: Seconds of a step outside the layers, in [0, 10]. Fit on systems.
        decode_overlap_min_tokens: Two-batch overlap of a step from here on every busy rank, in
            [1, 1 << 30]. Source: between 64 and 128 tokens SGLang's breaks even,
            lmsys.org/blog/2025-05-05-large-scale-ep; assumed: an engine that switches where this
            model does at EP32.
        decode_default_skew: As `default_skew`, for decode. Source: derived; the middle of what a
            rebalancer kept on another GPU, docs/timing.md, "Numbers that are not fitted".
    """

    KIND: ClassVar[str] = "roofline"

    jitter_cv: float = 0.02
    skew_mean: float = 1.1
    skew_sigma: float = 0.3

    dense_launch_s: float
    dense_flop_per_s: float
    dense_bytes_per_s: float
    dense_softness: float
    grouped_launch_s: float
    grouped_flop_per_s: float
    grouped_bytes_per_s: float
    grouped_softness: float
    core_launch_s: float
    core_flop_per_s: float
    core_shared_flop_per_s: float
    shared_expert_launch_s: float
    shared_expert_token_s: float
    attention_token_s: float
    expert_token_s: float
    expert_token_gpu_s: float
    link_launch_s: float
    dispatch_bytes_per_s: tuple[float, float, float]
    combine_bytes_per_s: tuple[float, float, float]
    link_slowdown: float
    overlap_softness: float
    overlap_min_tokens: int
    compute_sms: int
    overhead_s: float
    default_skew: float
    masked_launch_s: float
    masked_flop_per_s: float
    masked_bytes_per_s: float
    masked_softness: float
    decode_core_launch_s: float
    decode_core_flop_per_s: float
    decode_core_bytes_per_s: float
    decode_attention_launch_s: float
    decode_attention_token_s: float
    decode_gate_s: float
    decode_expert_s: float
    ll_dispatch_launch_s: tuple[float, float]
    ll_dispatch_hop_s: float
    ll_dispatch_bytes_per_s: tuple[float, float]
    ll_combine_launch_s: tuple[float, float]
    ll_combine_hop_s: float
    ll_combine_bytes_per_s: tuple[float, float]
    decode_link_slowdown: float
    decode_overhead_s: float
    decode_overlap_min_tokens: int = 128
    decode_default_skew: float = 1.18
    expert_load: str = "mean"

    def __post_init__(self) -> None:
        TimingConfig.__post_init__(self)
        for names, low, high, unit in _ROOFLINE_RANGES:
            for name in names.split():
                value = getattr(self, name)
                for item in value if isinstance(value, tuple) else (value,):
                    require_number(f"timing.{name}", item, low, high, unit=unit)
        for names, count, words in _ROOFLINE_TUPLES:
            for name in names.split():
                value = getattr(self, name)
                if not isinstance(value, tuple) or len(value) != count:
                    raise ConfigError(f"timing.{name}={value!r} is not allowed; expected {words}")
        for name in ("overlap_min_tokens", "decode_overlap_min_tokens"):
            require_number(f"timing.{name}", getattr(self, name), 1, 1 << 30, integer=True)
        require_number("timing.compute_sms", self.compute_sms, 1, 132, integer=True)
        require_choice("timing.expert_load", self.expert_load, ("mean", "max"))


_ROOFLINE_RANGES = (
    ("dense_launch_s", 0.0, 1e-3, "s"),
    ("grouped_launch_s core_launch_s shared_expert_launch_s link_launch_s", 0.0, 1e-2, "s"),
    ("dense_flop_per_s grouped_flop_per_s", 1e12, 1e17, "FLOP/s"),
    ("core_flop_per_s core_shared_flop_per_s", 1e12, 1e17, "FLOP/s"),
    ("dense_bytes_per_s grouped_bytes_per_s", 1e10, 1e14, "bytes/s"),
    ("dispatch_bytes_per_s combine_bytes_per_s", 1e9, 1e13, "bytes/s"),
    ("dense_softness grouped_softness overlap_softness", 1.0, 16.0, ""),
    ("shared_expert_token_s attention_token_s expert_token_s", 0.0, 1e-3, "s"),
    ("expert_token_gpu_s", 0.0, 1e-4, "s"),
    ("link_slowdown", 0.5, 4.0, ""),
    ("overhead_s", 0.0, 10.0, "s"),
    ("default_skew decode_default_skew", 1.0, 10.0, ""),
    ("decode_attention_launch_s decode_gate_s decode_expert_s", 0.0, 1e-2, "s"),
    ("decode_attention_token_s", 0.0, 1e-3, "s"),
    ("masked_launch_s decode_core_launch_s", 0.0, 1e-2, "s"),
    ("ll_dispatch_launch_s ll_dispatch_hop_s", 0.0, 1e-2, "s"),
    ("ll_combine_launch_s ll_combine_hop_s", 0.0, 1e-2, "s"),
    ("masked_flop_per_s decode_core_flop_per_s", 1e12, 1e17, "FLOP/s"),
    ("masked_bytes_per_s decode_core_bytes_per_s", 1e10, 1e14, "bytes/s"),
    ("ll_dispatch_bytes_per_s ll_combine_bytes_per_s", 1e9, 1e13, "bytes/s"),
    ("masked_softness", 1.0, 16.0, ""),
    ("decode_link_slowdown", 0.5, 4.0, ""),
    ("decode_overhead_s", 0.0, 10.0, "s"),
)
_ROOFLINE_TUPLES = (
    ("dispatch_bytes_per_s combine_bytes_per_s", 3, "three rates: one, two, more nodes"),
    ("ll_dispatch_launch_s ll_combine_launch_s", 2, "two times: one node, more nodes"),
    ("ll_dispatch_bytes_per_s ll_combine_bytes_per_s", 2, "two rates: one node, more nodes"),
)

KINDS: dict[str, type[TimingConfig]] = {
    kind.KIND: kind for kind in (LinearTiming, ConstantTiming, TableTiming, RooflineTiming)
}
_NOTES = ("about", "source")


def timing_from_mapping(mapping: Mapping[str, Any]) -> TimingConfig:
    """Return the timing that `mapping` describes; `kind` chooses, `about` and `source` are notes.

    Raises:
        ConfigError: If the kind or a key is unknown, or a value is out of range.
    """
    if "kind" not in mapping:
        raise ConfigError(f"timing.kind is missing. Known: {', '.join(sorted(KINDS))}")
    require_choice("timing.kind", mapping["kind"], KINDS)
    chosen = KINDS[mapping["kind"]]
    known = {field.name: field for field in fields(chosen)}
    values = {key: value for key, value in mapping.items() if key not in ("kind", *_NOTES)}
    for key in values:
        require_choice(f"timing key (kind={mapping['kind']})", key, known)
    for name, field in known.items():
        if field.default is MISSING and field.default_factory is MISSING and name not in values:
            raise ConfigError(f"timing.{name} is missing; kind={mapping['kind']} needs it")
    return chosen(**{key: _hashable(value) for key, value in values.items()})


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value
