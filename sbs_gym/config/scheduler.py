"""A scheduler as a composition of rules: release, routing, order, allocation, budget, placement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sbs_gym.config.groups import section_from_mapping
from sbs_gym.config.learned import PREFIX
from sbs_gym.errors import ConfigError, require_choice, require_number

GATED_RELEASES = ("sbs", "fixed_window")
UNGATED_RELEASES = ("immediate", "size_or_timeout")
ROUTINGS = (
    "staggered",
    "round_robin",
    "random",
    "least_requests",
    "least_tokens",
    "power_of_two",
)
ORDERS = ("age_longest", "longest", "arrival", "shortest")
ALLOCATIONS = ("pbaa", "lpt", "least_tokens", "least_requests", "round_robin", "random")
BUDGETS = ("full", "fixed", "backlog")
UNITS = ("tokens", "cost")
LEFTOVERS = ("join", "alone")
LIMIT_ACTIONS = ("keep", "reject", "force")
PLACEMENTS = (
    "round_robin",
    "random",
    "jsq",
    "power_of_two",
    "least_kv",
    "vllm_count",
    "vllm_kv",
    "total_tokens",
    "iqr_lex",
    "bf_io",
    "br_0",
    "exp_weighted",
)
KV_UNITS = ("blocks", "tokens")
_MOST_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Which rule answers which question, and the rules' numbers.

    Attributes:
        name: Name of the preset, for results.
        release: When requests leave the buffer: immediate, size_or_timeout, sbs (adaptive
            interval; multiplier 0 is the work-conserving queue) or fixed_window.
        routing: Which instance; gated releases (sbs, fixed_window) take `staggered`.
        order: Who goes first out of the buffer.
        allocation: Which DP rank.
        budget: Tokens a rank may take in a pass: full chunk, fixed, or by the backlog.
        multiplier: Factor on the interval (pass + link) / instances, 0 to 100.
        window_s: Constant interval of fixed_window, seconds.
        min_interval_s, max_interval_s: Clip of the interval; max null is two full-chunk passes.
        full_batch_bypass: Release at once when leftovers and buffer fill a pass.
        full_batch_frac: The fill of a pass that counts as full, (0, 1].
        leftovers: join: the rest of a split prompt starts with new requests; alone: a gated release
            waits until an instance has nothing left, kept to show how that collapses.
        watchdog_factor: Predicted passes without a signal until an instance counts as ready.
        size, timeout_s: Limits of size_or_timeout.
        budget_tokens: Budget of `fixed`; never above the chunk.
        alpha, floor_tokens: `backlog` budget: alpha * backlog / dp, at least floor_tokens.
        budget_unit: Whether the engine counts a budget in tokens or in their cost with context.
        charge: Whether PBAA fills ranks by tokens or by cost.
        n_limit, n_limit_action: Releases a request may wait; then keep (it goes first), reject
            or force (placed even where no room is left).
        reserved: Instances kept free of long prompts, 0 to 1000: a long prompt stays in the buffer
            while all others hold one, and this one none; one instance at least takes them. Of gated
            releases.
        long_tokens: With `reserved`, a prompt above this is long; null: above a chunk.
        placement: Which decode rank; docs/semantics.md section 15 has every rule.
        placement_kv: What iqr_lex, least_kv and exp_weighted call KV load: blocks or tokens.
        placement_iqr_k: iqr_lex masks ranks above Q3 + k * (Q3 - Q1), 0 to 100.
        placement_min_safe_ranks: iqr_lex ignores a mask that leaves fewer ranks, 1 to 32,768.
        placement_horizon_steps: Steps that bf_io looks ahead, 0 to 1000.
        placement_decay: exp_weighted draws with weight exp(-decay * KV tokens), 0 to 1.
        custom: Name of the user's class that answers some questions in place of the rules above
            (docs/own_scheduler.md), with which `name` begins; null: none.
        learned: Name or path of the weights of a network that answers some questions in place of
            the rules above (docs/learned_schedulers.md); `name` is then learned:NAME; null: none.

    Source: Staggered Batch Scheduling, arXiv 2512.16134, for release, PBAA and iqr_lex; the
    interval formula, n_limit, reserved and all defaults are this project's assumptions, see
    docs/semantics.md. bf_io: arXiv 2601.17855; br_0: arXiv 2605.06113; exp_weighted: FlexLB of
    github.com/alibaba/rtp-llm at 4b8d39c; vllm_kv: vLLM's core_client.py at 00080ee.
    """

    name: str = "custom"
    release: str = "sbs"
    routing: str = "staggered"
    order: str = "age_longest"
    allocation: str = "pbaa"
    budget: str = "full"
    multiplier: float = 1.0
    window_s: float = 0.2
    min_interval_s: float = 0.0
    max_interval_s: float | None = None
    full_batch_bypass: bool = True
    full_batch_frac: float = 0.9
    leftovers: str = "join"
    watchdog_factor: float = 3.0
    size: int = 8
    timeout_s: float = 0.3
    budget_tokens: int = 1024
    alpha: float = 0.8
    floor_tokens: int = 512
    budget_unit: str = "tokens"
    charge: str = "tokens"
    n_limit: int = 32
    n_limit_action: str = "keep"
    reserved: int = 0
    long_tokens: int | None = None
    placement: str = "iqr_lex"
    placement_kv: str = "blocks"
    placement_iqr_k: float = 1.5
    placement_min_safe_ranks: int = 1
    placement_horizon_steps: int = 8
    placement_decay: float = 0.001
    custom: str | None = None
    learned: str | None = None

    def __post_init__(self) -> None:
        require_choice("scheduler.release", self.release, GATED_RELEASES + UNGATED_RELEASES)
        require_choice("scheduler.routing", self.routing, ROUTINGS)
        require_choice("scheduler.order", self.order, ORDERS)
        require_choice("scheduler.allocation", self.allocation, ALLOCATIONS)
        require_choice("scheduler.budget", self.budget, BUDGETS)
        require_choice("scheduler.budget_unit", self.budget_unit, UNITS)
        require_choice("scheduler.charge", self.charge, UNITS)
        require_choice("scheduler.leftovers", self.leftovers, LEFTOVERS)
        require_choice("scheduler.n_limit_action", self.n_limit_action, LIMIT_ACTIONS)
        require_number("scheduler.multiplier", self.multiplier, 0, 100)
        require_number("scheduler.window_s", self.window_s, 0, 3600, unit="s")
        require_number("scheduler.min_interval_s", self.min_interval_s, 0, 3600, unit="s")
        if self.max_interval_s is not None:
            low = self.min_interval_s
            require_number("scheduler.max_interval_s", self.max_interval_s, low, 3600, unit="s")
        require_number("scheduler.full_batch_frac", self.full_batch_frac, 0, 1, low_open=True)
        require_number("scheduler.watchdog_factor", self.watchdog_factor, 1, 1000, low_open=True)
        require_number("scheduler.size", self.size, 1, 1_000_000, integer=True)
        require_number("scheduler.timeout_s", self.timeout_s, 0, 3600, unit="s", low_open=True)
        for field in ("budget_tokens", "floor_tokens"):
            value = getattr(self, field)
            require_number(f"scheduler.{field}", value, 1, _MOST_TOKENS, integer=True)
        require_number("scheduler.alpha", self.alpha, 0, 100, low_open=True)
        require_number("scheduler.n_limit", self.n_limit, 0, 1_000_000_000, integer=True)
        require_number("scheduler.reserved", self.reserved, 0, 1000, integer=True)
        if self.long_tokens is not None:
            long = self.long_tokens
            require_number("scheduler.long_tokens", long, 1, 1_000_000_000, integer=True)
        self._check_placement()
        self._check_composition()
        if self.custom is not None and self.name.partition(":")[0] != self.custom:
            raise ConfigError(
                f"scheduler.custom={self.custom!r} does not go with scheduler.name={self.name!r}; "
                f"expected scheduler={self.custom}"
            )
        if self.learned is not None:
            self._check_learned(f"{PREFIX}{self.learned}")

    def _check_learned(self, name: str) -> None:
        if self.custom is not None:
            raise ConfigError(
                f"scheduler.learned={self.learned!r} and scheduler.custom={self.custom!r} exclude "
                "each other; give one"
            )
        if self.name != name and not self.name.startswith(f"{name}:"):
            raise ConfigError(
                f"scheduler.learned={self.learned!r} does not go with scheduler.name="
                f"{self.name!r}; expected scheduler={name}"
            )

    def _check_placement(self) -> None:
        require_choice("scheduler.placement", self.placement, PLACEMENTS)
        require_choice("scheduler.placement_kv", self.placement_kv, KV_UNITS)
        require_number("scheduler.placement_iqr_k", self.placement_iqr_k, 0, 100)
        require_number("scheduler.placement_decay", self.placement_decay, 0, 1)
        for field, low, high in (
            ("placement_min_safe_ranks", 1, 32_768),
            ("placement_horizon_steps", 0, 1000),
        ):
            require_number(f"scheduler.{field}", getattr(self, field), low, high, integer=True)

    def _check_composition(self) -> None:
        if self.gated and self.routing != "staggered":
            raise ConfigError(
                f"scheduler.routing={self.routing!r} does not go with scheduler.release="
                f"{self.release!r}, which waits for instances to be ready; expected 'staggered'"
            )
        if not self.gated and self.reserved > 0:
            raise ConfigError(
                f"scheduler.reserved={self.reserved} needs a release that waits for readiness; "
                f"with scheduler.release={self.release!r} of {self.name!r} expected 0"
            )
        if not self.gated and self.routing == "staggered":
            allowed = ", ".join(r for r in ROUTINGS if r != "staggered")
            raise ConfigError(
                f"scheduler.routing='staggered' needs a release that waits for readiness; with "
                f"scheduler.release={self.release!r} expected one of: {allowed}"
            )

    @property
    def gated(self) -> bool:
        """Whether releases wait for an instance to be ready."""
        return self.release in GATED_RELEASES


def scheduler_from_mapping(values: Mapping[str, Any]) -> SchedulerConfig:
    """Return the scheduler that a mapping (a YAML group with overrides) describes."""
    return section_from_mapping(SchedulerConfig, "scheduler", values)
