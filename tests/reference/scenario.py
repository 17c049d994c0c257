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
    seed: int = 0
    # requests, in order of arrival
    arrived_at_s: list[float]
    input_tokens: list[int]
    # timing: `.coefficients[0]` is the record, `.table` its table
    timing: Any
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

    @property
    def gated(self) -> bool:
        return self.release in (SBS, FIXED_WINDOW)

    @property
    def has_instant_link(self) -> bool:
        return self.dispatch_delay_s == 0.0 and self.signal_delay_s == 0.0

    @property
    def num_requests(self) -> int:
        return len(self.arrived_at_s)


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


@dataclass
class ReferenceResult:
    """Instants per request (NaN where not reached), place (-1 where none), passes as they ended.

    `waited_releases` counts the releases between a request's arrival and its own.
    """

    dispatched_at_s: list[float]
    delivered_at_s: list[float]
    prefill_started_at_s: list[float]
    first_token_at_s: list[float]
    rejected_at_s: list[float]
    instance: list[int]
    rank: list[int]
    waited_releases: list[int]
    passes: list[FinishedPass] = field(default_factory=list)
    num_releases: int = 0
    num_signals_lost: int = 0
    num_watchdogs: int = 0

    @classmethod
    def nothing_yet(cls, num_requests: int) -> ReferenceResult:
        never = [[math.nan] * num_requests for _ in range(5)]
        nowhere = [[-1] * num_requests for _ in range(3)]
        return cls(*never, *nowhere)

    def is_settled(self, request: int) -> bool:
        """Return whether the request has its first token or was rejected."""
        instants = (self.first_token_at_s[request], self.rejected_at_s[request])
        return not all(math.isnan(instant) for instant in instants)
