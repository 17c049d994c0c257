"""The cluster: prefill instances, their ranks, and the link between scheduler and engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sbs_gym.config.groups import section_from_mapping
from sbs_gym.errors import ConfigError, require_choice, require_number

START_RULES = ("eager", "on_release", "free_running")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What the requests run on.

    Attributes:
        name: Name of the preset, for results.
        num_prefill: Prefill instances, 1 to 64.
        prefill_dp: DP ranks of one prefill instance, 1 to 512.
        prefill_ep: GPUs that its experts span, 1 to 1024; null: as many as it has ranks.
        chunk_tokens: Most prompt tokens one rank takes in one pass, 1 to 1,000,000.
        start_rule: When an idle engine starts a pass: eager, on_release or free_running.
        dispatch_delay_s: Scheduler to engine, seconds, 0 to 60.
        signal_delay_s: Engine to scheduler, seconds, 0 to 60.
        signal_loss_frac: Share of EndForward signals that never arrive, 0 to 1.
        num_decode: Decode instances; 0 is prefill only, the one value that is modelled so far.
        decode_dp, decode_ep: Ranks and expert span of a decode instance; null as above.

    Source: deployment of 3 prefill instances with DP16 and EP16 and one decode instance with DP32
    is assumed (arXiv 2512.16134 gives no evaluation settings); link delays assumed, 1 ms each.
    """

    name: str = "custom"
    num_prefill: int = 3
    prefill_dp: int = 16
    prefill_ep: int | None = None
    chunk_tokens: int = 3072
    start_rule: str = "eager"
    dispatch_delay_s: float = 0.001
    signal_delay_s: float = 0.001
    signal_loss_frac: float = 0.0
    num_decode: int = 0
    decode_dp: int = 32
    decode_ep: int | None = None

    def __post_init__(self) -> None:
        require_number("cluster.num_prefill", self.num_prefill, 1, 64, integer=True)
        require_number("cluster.prefill_dp", self.prefill_dp, 1, 512, integer=True)
        require_number("cluster.chunk_tokens", self.chunk_tokens, 1, 1_000_000, integer=True)
        require_choice("cluster.start_rule", self.start_rule, START_RULES)
        require_number("cluster.dispatch_delay_s", self.dispatch_delay_s, 0, 60, unit="s")
        require_number("cluster.signal_delay_s", self.signal_delay_s, 0, 60, unit="s")
        require_number("cluster.signal_loss_frac", self.signal_loss_frac, 0, 1)
        if self.num_decode != 0:
            raise ConfigError(
                f"cluster.num_decode={self.num_decode!r} is not allowed; "
                "expected 0: this version models the prefill side only"
            )
        require_number("cluster.decode_dp", self.decode_dp, 1, 512, integer=True)
        for name in ("prefill_ep", "decode_ep"):
            if getattr(self, name) is not None:
                require_number(f"cluster.{name}", getattr(self, name), 1, 1024, integer=True)

    @property
    def prefill_expert_span(self) -> int:
        """GPUs that the experts of a prefill instance span."""
        return self.prefill_dp if self.prefill_ep is None else self.prefill_ep


def cluster_from_mapping(values: Mapping[str, Any]) -> ClusterConfig:
    """Return the cluster that a mapping (a YAML group with overrides) describes."""
    return section_from_mapping(ClusterConfig, "cluster", values)
