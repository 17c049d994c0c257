"""The cluster: prefill and decode instances, their ranks and KV memory, and the links between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sbs_gym.config.groups import section_from_mapping
from sbs_gym.errors import ConfigError, require_choice, require_number

START_RULES = ("eager", "on_release", "free_running")
BINDINGS = ("at_prefill_end", "at_dispatch")
OVERLAPS = ("chunked", "none")
PREEMPTIONS = ("swap", "recompute")
_MOST_TOKENS = 1_000_000_000


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
        signal_delay_s: Engine to scheduler, seconds, 0 to 60; decode reports take it too.
        signal_loss_frac: Share of EndForward signals that never arrive, 0 to 1.
        slow_rank_factor: Rank 0 of prefill instance 0 takes that many times as long for its share
            as any other rank would, 1 to 10; nobody tells the scheduler.
        num_decode: Decode instances, 0 to 64; 0 is prefill only: requests end with their first
            token, KV memory is not modelled and nothing below matters.
        decode_dp, decode_ep: Ranks and expert span of a decode instance; as above.
        decode_binding: When a decode rank is bound: at_prefill_end, or at_dispatch, before
            prefill may begin.
        report_period_s: Seconds between two reports of a decode instance, 0.001 to 3600.
        transfer_overlap: chunked: only the last pass's tokens are sent after prefill; none: all.
        kv_bytes_per_token: KV of one token over all layers, 1 to 1e8 bytes.
        nic_bytes_per_s: Network card of a rank, one transfer at a time, 1e6 to 1e14 bytes/s.
        transfer_latency_s: Fixed seconds of a transfer, 0 to 60.
        gpu_memory_bytes, reserve_bytes: Memory of a GPU, and what is neither weights nor KV.
        prefill_redundant_experts, decode_redundant_experts: Copies of experts held beyond one
            of each, 0 to 4096.
        prefill_kv_tokens, decode_kv_tokens: KV room of a rank in tokens, 1 to 1e9; null: what the
            weights leave of the memory, see `sbs-gym memory`.
        kv_block_tokens: Tokens of a KV block on decode ranks, 1 to 4096.
        decode_reserve_tokens: Tokens reserved for the answer when a rank is bound, 0 to 1e6.
        max_requests_per_rank, max_step_tokens: Most requests, and tokens, of a rank in a step.
        mtp_tokens: Tokens a request puts into a step, 1 to 8; 1 is no multi-token prediction.
        tokens_per_step: Tokens that come out of it on average, 1 to `mtp_tokens`.
        preempt: Where the KV of a request goes that a full rank evicts: swap or recompute.
        host_bytes_per_s: GPU to host, for swap, 1e6 to 1e14 bytes/s.
        recompute_tokens_per_s: Rate at which `recompute` builds KV anew, 1 to 1e9 tokens/s.
        gpus_per_node: For rates per node, 1 to 1024.
        gpu_price_per_hour: Price of one GPU for an hour in any currency, 0 to 1e6.

    Source: deployment of 3 prefill instances with DP16 and EP16 and one decode instance with DP32
    is assumed (arXiv 2512.16134 gives no evaluation settings). Assumed too: link delays, report
    period, transfer latency, reserve of memory, host link, price. KV bytes: 61 layers of 576
    BF16 numbers, config.json of DeepSeek-V3. NIC: one 400 Gb/s card per GPU, of which the
    low-latency kernels of DeepEP reach 46 GB/s, github.com/deepseek-ai/DeepEP. Reserve of 512
    tokens: SGLang's `num_reserved_decode_tokens`. MTP: second-token acceptance of 85 to 90 % in the
    DeepSeek-V3 report, arXiv 2412.19437, would be 1.85 to 1.9; 1.7 is assumed. Recompute: tokens
    per GPU of DeepSeek's prefill profile, github.com/deepseek-ai/profile-data.
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
    slow_rank_factor: float = 1.0
    num_decode: int = 0
    decode_dp: int = 32
    decode_ep: int | None = None
    decode_binding: str = "at_prefill_end"
    report_period_s: float = 0.1
    transfer_overlap: str = "chunked"
    kv_bytes_per_token: int = 70_272
    nic_bytes_per_s: float = 45e9
    transfer_latency_s: float = 0.001
    gpu_memory_bytes: float = 80e9
    reserve_bytes: float = 8e9
    prefill_redundant_experts: int = 0
    decode_redundant_experts: int = 0
    prefill_kv_tokens: int | None = None
    decode_kv_tokens: int | None = None
    kv_block_tokens: int = 64
    decode_reserve_tokens: int = 512
    max_requests_per_rank: int = 256
    max_step_tokens: int = 256
    mtp_tokens: int = 2
    tokens_per_step: float = 1.7
    preempt: str = "swap"
    host_bytes_per_s: float = 50e9
    recompute_tokens_per_s: float = 7_800.0
    gpus_per_node: int = 8
    gpu_price_per_hour: float = 2.0

    def __post_init__(self) -> None:
        for names, low, high, unit in _WHOLE:
            for name in names.split():
                value = getattr(self, name)
                if value is not None or name not in _NULLABLE:
                    require_number(f"cluster.{name}", value, low, high, unit=unit, integer=True)
        for names, least, most, unit in _REAL:
            for name in names.split():
                require_number(f"cluster.{name}", getattr(self, name), least, most, unit=unit)
        require_choice("cluster.start_rule", self.start_rule, START_RULES)
        require_choice("cluster.decode_binding", self.decode_binding, BINDINGS)
        require_choice("cluster.transfer_overlap", self.transfer_overlap, OVERLAPS)
        require_choice("cluster.preempt", self.preempt, PREEMPTIONS)
        require_number("cluster.tokens_per_step", self.tokens_per_step, 1, 8)
        if self.tokens_per_step > self.mtp_tokens:
            raise ConfigError(
                f"cluster.tokens_per_step={self.tokens_per_step} is more than a step is given, "
                f"cluster.mtp_tokens={self.mtp_tokens}; expected a number in [1, {self.mtp_tokens}]"
            )
        if self.num_decode > 0 and self.start_rule == "free_running":
            raise ConfigError(
                "cluster.start_rule='free_running' is for queueing theory and knows no KV room; "
                f"with cluster.num_decode={self.num_decode} expected eager or on_release"
            )
        if self.decode_kv_tokens is not None and self.decode_kv_tokens < self.kv_block_tokens:
            raise ConfigError(
                f"cluster.decode_kv_tokens={self.decode_kv_tokens} holds no block; expected at "
                f"least cluster.kv_block_tokens={self.kv_block_tokens}"
            )

    @property
    def prefill_expert_span(self) -> int:
        """GPUs that the experts of a prefill instance span."""
        return self.prefill_dp if self.prefill_ep is None else self.prefill_ep

    @property
    def decode_expert_span(self) -> int:
        """GPUs that the experts of a decode instance span."""
        return self.decode_dp if self.decode_ep is None else self.decode_ep

    @property
    def num_decode_ranks(self) -> int:
        """Decode ranks of all instances."""
        return self.num_decode * self.decode_dp

    @property
    def num_prefill_ranks(self) -> int:
        """Prefill ranks of all instances."""
        return self.num_prefill * self.prefill_dp

    @property
    def max_running(self) -> int:
        """Most requests that run on a decode rank at once."""
        return max(1, min(self.max_requests_per_rank, self.max_step_tokens // self.mtp_tokens))


_NULLABLE = ("prefill_ep", "decode_ep", "prefill_kv_tokens", "decode_kv_tokens")
_WHOLE = (
    ("num_prefill", 1, 64, ""),
    ("num_decode", 0, 64, ""),
    ("prefill_dp decode_dp", 1, 512, ""),
    ("prefill_ep decode_ep gpus_per_node", 1, 1024, ""),
    ("chunk_tokens", 1, 1_000_000, ""),
    ("kv_bytes_per_token", 1, 100_000_000, "bytes"),
    ("prefill_redundant_experts decode_redundant_experts", 0, 4096, ""),
    ("prefill_kv_tokens decode_kv_tokens", 1, _MOST_TOKENS, ""),
    ("kv_block_tokens max_requests_per_rank", 1, 4096, ""),
    ("max_step_tokens", 1, 32_768, ""),
    ("decode_reserve_tokens", 0, 1_000_000, ""),
    ("mtp_tokens", 1, 8, ""),
)
_REAL = (
    ("dispatch_delay_s signal_delay_s transfer_latency_s", 0, 60, "s"),
    ("signal_loss_frac", 0, 1, ""),
    ("slow_rank_factor", 1, 10, ""),
    ("report_period_s", 0.001, 3600, "s"),
    ("nic_bytes_per_s host_bytes_per_s", 1e6, 1e14, "bytes/s"),
    ("gpu_memory_bytes", 1e6, 1e13, "bytes"),
    ("reserve_bytes", 0, 1e13, "bytes"),
    ("recompute_tokens_per_s", 1, 1e9, "tokens/s"),
    ("gpu_price_per_hour", 0, 1e6, ""),
)


def cluster_from_mapping(values: Mapping[str, Any]) -> ClusterConfig:
    """Return the cluster that a mapping (a YAML group with overrides) describes."""
    return section_from_mapping(ClusterConfig, "cluster", values)
