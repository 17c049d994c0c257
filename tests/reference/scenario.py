"""What the reference simulator is given and what it hands back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from sbs_gym.timing.coefficients import Kind

IMMEDIATE, SBS, FIXED_WINDOW, SIZE_OR_TIMEOUT = (
    "immediate",
    "sbs",
    "fixed_window",
    "size_or_timeout",
)
EAGER, ON_RELEASE, FREE_RUNNING = "eager", "on_release", "free_running"
AT_PREFILL_END, AT_DISPATCH = "at_prefill_end", "at_dispatch"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One run: cluster, scheduler, requests and timing; `work_conserving` is sbs, multiplier 0."""

    # cluster
    num_prefill: int
    dp: int
    chunk_tokens: int
    start_rule: str = EAGER
    dispatch_delay_s: float = 0.0
    signal_delay_s: float = 0.0
    signal_loss_frac: float = 0.0
    slow_rank_factor: float = 1.0  # of rank 0 of instance 0
    # cluster, what follows prefill; 0 decode instances: a request ends with its first token
    num_decode: int = 0
    decode_dp: int = 1
    decode_binding: str = AT_PREFILL_END
    transfer_overlap: str = "chunked"  # or "none"
    kv_bytes_per_token: int = 70272
    nic_bytes_per_s: float = 45e9
    transfer_latency_s: float = 0.001
    decode_reserve_tokens: int = 512
    kv_block_tokens: int = 64
    prefill_kv_tokens: int = 0
    decode_kv_blocks: int = 0
    max_requests_per_rank: int = 256
    max_step_tokens: int = 256
    mtp_tokens: int = 2
    tokens_per_step: float = 1.7
    preempt: str = "swap"  # or "recompute"
    host_bytes_per_s: float = 50e9
    recompute_tokens_per_s: float = 7800.0
    report_period_s: float = 0.1
    # scheduler
    release: str = SBS
    routing: str = "staggered"
    order: str = "age_longest"
    allocation: str = "pbaa"
    budget: str = "full"
    multiplier: float = 1.0
    window_s: float = 0.0  # the constant interval of fixed_window
    min_interval_s: float = 0.0
    max_interval_s: float | None = None  # None: twice the full-chunk pass
    leftovers: str = "join"  # or "alone"
    full_batch_bypass: bool = False
    full_batch_frac: float = 0.9
    watchdog_factor: float = 3.0
    size: int = 1
    timeout_s: float = 0.0
    budget_tokens: int = 0
    alpha: float = 1.0
    floor_tokens: int = 1
    budget_unit: str = "tokens"
    charge: str = "tokens"
    n_limit: int = 32
    n_limit_action: str = "keep"
    reserved: int = 0
    long_tokens: int | None = None  # None: the chunk
    placement: str = "iqr_lex"
    placement_kv: str = "blocks"  # or "tokens"
    placement_iqr_k: float = 1.5
    placement_min_safe_ranks: int = 1
    placement_horizon_steps: int = 8
    placement_decay: float = 0.001
    seed: int = 0
    # requests, in order of arrival
    arrived_at_s: list[float]
    input_tokens: list[int]
    output_tokens: list[int] = field(default_factory=list)  # may be empty without decode
    # timing: `.coefficients[0]` is the record, `.table` its table
    timing: Any
    decode_timing: Any = None
    stop_at_s: float = math.inf
    measured: tuple[int, int] | None = None  # requests [first, last)

    def __post_init__(self) -> None:
        if not self.gated and self.start_rule == ON_RELEASE:
            raise ValueError("ungated rules need an engine that starts by itself")
        if self.gated != (self.routing == "staggered"):
            raise ValueError("gated rules, and only they, take the ready order (staggered)")
        if self.start_rule == FREE_RUNNING:
            if self.timing.coefficients[0]["kind"] != Kind.CONSTANT:
                raise ValueError("free-running instances need constant timing")
            if not self.has_instant_link or self.signal_loss_frac > 0.0:
                raise ValueError("free-running instances need zero link delays, no lost signals")
            if self.num_decode > 0:
                raise ValueError("free-running instances know no KV room")
        if not 1 <= self.tokens_per_step <= self.mtp_tokens:
            raise ValueError("a step yields between one and mtp_tokens tokens")

    @property
    def long(self) -> int:
        """A prompt of more tokens is long."""
        return self.chunk_tokens if self.long_tokens is None else self.long_tokens

    @property
    def gated(self) -> bool:
        return self.release in (SBS, FIXED_WINDOW)

    @property
    def has_instant_link(self) -> bool:
        return self.dispatch_delay_s == 0.0 and self.signal_delay_s == 0.0

    @property
    def num_requests(self) -> int:
        return len(self.arrived_at_s)

    def ends_with_first_token(self, request: int) -> bool:
        return self.num_decode == 0 or self.output_tokens[request] <= 1

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.kv_block_tokens)

    def blocks_to_bind(self, request: int) -> int:
        return self.blocks(self.input_tokens[request] + self.decode_reserve_tokens)

    def fits_the_cluster(self, request: int) -> bool:
        """Return whether the request can ever be served; others are rejected at arrival."""
        if self.num_decode == 0:
            return True
        tokens = self.input_tokens[request]
        most = tokens + max(self.decode_reserve_tokens, self.output_tokens[request])
        return tokens <= self.prefill_kv_tokens and self.blocks(most) <= self.decode_kv_blocks


@dataclass(frozen=True)
class FinishedPass:
    """One pass as it ran; `pairs` is twice the query-key pairs of each rank."""

    instance: int
    index: int
    started_at_s: float
    ended_at_s: float
    budget: int
    tokens: list[int]
    pairs: list[int]


@dataclass(frozen=True)
class FinishedStep:
    """One decode step as it ran: per rank what ran, its KV, and blocks held or reserved."""

    instance: int
    index: int
    started_at_s: float
    ended_at_s: float
    batch: list[int]
    kv_tokens: list[float]
    blocks: list[int]
    num_admitted: int
    num_finished: int
    num_preempted: int


@dataclass
class ReferenceResult:
    """Instants per request (NaN where not reached), place (-1 where none), passes as they ended.

    `waited_releases` counts the releases between a request's arrival and its own;
    `decode_rank` counts within its instance.
    """

    dispatched_at_s: list[float]
    delivered_at_s: list[float]
    prefill_started_at_s: list[float]
    first_token_at_s: list[float]
    rejected_at_s: list[float]
    bound_at_s: list[float]
    transferred_at_s: list[float]
    admitted_at_s: list[float]
    second_token_at_s: list[float]
    finished_at_s: list[float]
    instance: list[int]
    rank: list[int]
    waited_releases: list[int]
    decode_instance: list[int]
    decode_rank: list[int]
    num_preempted: list[int]
    passes: list[FinishedPass] = field(default_factory=list)
    steps: list[FinishedStep] = field(default_factory=list)
    ended_at_s: float = 0.0
    num_refusals: int = 0
    prefill_kv_blocked_s: float = 0.0
    num_releases: int = 0
    num_signals_lost: int = 0
    num_watchdogs: int = 0

    @classmethod
    def nothing_yet(cls, num_requests: int) -> ReferenceResult:
        never = [[math.nan] * num_requests for _ in range(10)]
        nowhere = [[-1] * num_requests for _ in range(5)]
        return cls(*never, *nowhere, [0] * num_requests)

    def is_settled(self, request: int) -> bool:
        """Return whether the request has its last token or was rejected."""
        instants = (self.finished_at_s[request], self.rejected_at_s[request])
        return not all(math.isnan(instant) for instant in instants)
