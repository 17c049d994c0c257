"""One run: cluster, workload, arrivals, timing, scheduler, load, length and seed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sbs_gym.config.cluster import ClusterConfig, cluster_from_mapping
from sbs_gym.config.groups import read_group, section_from_mapping
from sbs_gym.config.learned import PREFIX, learned_mapping
from sbs_gym.config.scheduler import SchedulerConfig, scheduler_from_mapping
from sbs_gym.config.timing import TimingConfig, timing_from_mapping
from sbs_gym.config.workload import (
    ArrivalConfig,
    WorkloadConfig,
    arrivals_from_mapping,
    workload_from_mapping,
)
from sbs_gym.errors import ConfigError, require_choice, require_number

LOAD_SIDES = ("prefill", "decode", "bottleneck")
DEFAULT_LOAD = 0.7
DEFAULT_NUM_REQUESTS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SloConfig:
    """The latency that a request is promised.

    Attributes:
        ttft_s: TTFT allowed to any request, seconds.
        ttft_per_token_s: Further seconds per prompt token beyond `ttft_free_tokens`.
        ttft_free_tokens: Prompt tokens that the first number covers.
        tpot_s: Mean time per output token after the first, seconds, (0, 3600]; an answer of one
            token meets it.
        attainment_frac: Share of requests that must meet the promise, (0, 1].

    Source: assumed; 0.8 s alone cannot be met by prompts of several passes, and 50 ms are 20 tokens
    per second, about the 20 to 22 that DeepSeek states for its service
    (github.com/deepseek-ai/open-infra-index, 2025 open source week, day 6).
    """

    ttft_s: float = 0.8
    ttft_per_token_s: float = 0.0004
    ttft_free_tokens: int = 3072
    tpot_s: float = 0.05
    attainment_frac: float = 0.9

    def __post_init__(self) -> None:
        require_number("slo.ttft_s", self.ttft_s, 0, 3600, unit="s", low_open=True)
        require_number("slo.ttft_per_token_s", self.ttft_per_token_s, 0, 1, unit="s")
        require_number("slo.ttft_free_tokens", self.ttft_free_tokens, 0, 10_000_000, integer=True)
        require_number("slo.tpot_s", self.tpot_s, 0, 3600, unit="s", low_open=True)
        require_number("slo.attainment_frac", self.attainment_frac, 0, 1, low_open=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything a run needs; equal configurations give equal bytes.

    Attributes:
        cluster, workload, arrivals, timing, scheduler, slo: The parts.
        load: Rate / capacity of `load_side`, (0, 10]; null means 0.7 for synthetic workloads
            unless rate_per_s is given, and the trace's own rate for traces.
        load_side: Whose capacity load is of: prefill, decode, or bottleneck, the smaller of the
            two (prefill where there is no decode). Decode counts with its largest rate within
            slo.tpot_s; where no rate meets that, with what KV room and batch allow without it.
        rate_per_s: Requests per second, instead of load.
        num_requests: Requests of a synthetic workload (20,000 if horizon_s is null too), or the
            first ones of a trace.
        horizon_s: Seconds of arrivals, instead of num_requests; the run then drains.
        seed: Luck of workload, timing and policy, 0 to 2**62.
    """

    cluster: ClusterConfig
    workload: WorkloadConfig
    arrivals: ArrivalConfig
    timing: TimingConfig
    scheduler: SchedulerConfig
    slo: SloConfig = field(default_factory=SloConfig)
    load: float | None = None
    load_side: str = "bottleneck"
    rate_per_s: float | None = None
    num_requests: int | None = None
    horizon_s: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _refuse_both("load", self.load, "rate_per_s", self.rate_per_s)
        _refuse_both("num_requests", self.num_requests, "horizon_s", self.horizon_s)
        require_choice("load_side", self.load_side, LOAD_SIDES)
        if self.load_side == "decode" and self.cluster.num_decode == 0:
            raise ConfigError(
                "load_side='decode' needs decode instances, and cluster.num_decode=0; expected "
                "prefill or bottleneck, or cluster.num_decode of at least 1"
            )
        if self.load is not None:
            require_number("load", self.load, 0, 10, low_open=True)
        if self.rate_per_s is not None:
            require_number("rate_per_s", self.rate_per_s, 0, 1e7, unit="1/s", low_open=True)
        if self.num_requests is not None:
            require_number("num_requests", self.num_requests, 1, 200_000_000, integer=True)
        if self.horizon_s is not None:
            require_number("horizon_s", self.horizon_s, 0, 1e9, unit="s", low_open=True)
        require_number("seed", self.seed, 0, 2**62, integer=True)
        refuse_stranding(self.scheduler, self.cluster)
        if self.cluster.start_rule == "free_running":
            self._check_free_running()

    def _check_free_running(self) -> None:
        cluster = self.cluster
        if self.timing.kind != "constant":
            raise ConfigError(
                f"cluster.start_rule='free_running' needs timing=constant, not {self.timing.kind!r}"
            )
        for field_name in ("dispatch_delay_s", "signal_delay_s", "signal_loss_frac"):
            if getattr(cluster, field_name) != 0.0:
                raise ConfigError(
                    f"cluster.{field_name}={getattr(cluster, field_name)!r} is not allowed with "
                    "cluster.start_rule='free_running'; expected 0.0"
                )
        if cluster.slow_rank_factor != 1.0:
            raise ConfigError(
                f"cluster.slow_rank_factor={cluster.slow_rank_factor!r} is not allowed with "
                "cluster.start_rule='free_running'; expected 1.0"
            )

    def to_mapping(self) -> dict[str, Any]:
        """Return the configuration as plain mappings, lists, numbers and strings."""
        values = dataclasses.asdict(self)
        values["timing"] = {"kind": self.timing.kind, **values["timing"]}
        return json.loads(json.dumps(values))  # type: ignore[no-any-return]

    def digest(self) -> str:
        """Return a short checksum of the whole configuration."""
        text = json.dumps(self.to_mapping(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def refuse_stranding(scheduler: SchedulerConfig, cluster: ClusterConfig) -> None:
    """Raise ConfigError where split prompts would wait for releases that never come."""
    if not scheduler.gated and cluster.start_rule == "on_release":
        raise ConfigError(
            "cluster.start_rule='on_release' would strand split prompts under "
            f"scheduler.release={scheduler.release!r}; expected 'eager', or a release "
            "that waits for readiness (sbs, fixed_window)"
        )


def run_from_mapping(values: Mapping[str, Any]) -> RunConfig:
    """Return the run that a nested mapping describes; groups may also be names of presets."""
    parts = {
        "cluster": cluster_from_mapping,
        "workload": workload_from_mapping,
        "arrivals": arrivals_from_mapping,
        "timing": timing_from_mapping,
        "scheduler": scheduler_from_mapping,
    }
    built: dict[str, Any] = dict(values)
    for group, build in parts.items():
        given = values.get(group)
        if isinstance(given, str) and group == "scheduler" and given.startswith(PREFIX):
            given = learned_mapping(given)
        elif isinstance(given, str):
            given = {"name": given, **read_group(group, given)}
        if not isinstance(given, Mapping):
            raise ConfigError(f"{group}={given!r}: expected the name of a preset or a mapping")
        built[group] = build(given)
    built["slo"] = section_from_mapping(SloConfig, "slo", values.get("slo") or {})
    return section_from_mapping(RunConfig, "config", built)


def _refuse_both(first: str, a: object, second: str, b: object) -> None:
    if a is not None and b is not None:
        raise ConfigError(f"{first}={a!r} and {second}={b!r} exclude each other; give one")
