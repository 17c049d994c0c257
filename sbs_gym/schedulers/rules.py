"""The numbers and codes of a scheduler's rules, as the compiled loop reads them.

A rule is a compiled function chosen by a small integer code, so that all schedulers share one
compilation. To add a rule: a name in config/scheduler.py, a member here, a branch in the file of
its question (release, routing, allocation, budget), a preset in conf/scheduler/.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

import numpy as np

from sbs_gym.config.scheduler import SchedulerConfig


class Release(IntEnum):
    """When requests leave the buffer."""

    IMMEDIATE = 0
    SIZE_OR_TIMEOUT = 1
    SBS = 2
    FIXED_WINDOW = 3


class Routing(IntEnum):
    """Which instance an ungated release goes to; gated ones follow the ready order."""

    STAGGERED = 0
    ROUND_ROBIN = 1
    RANDOM = 2
    LEAST_REQUESTS = 3
    LEAST_TOKENS = 4
    POWER_OF_TWO = 5


class Allocation(IntEnum):
    """Which rank a request of a release goes to."""

    PBAA = 0
    LPT = 1
    LEAST_TOKENS = 2
    LEAST_REQUESTS = 3
    ROUND_ROBIN = 4
    RANDOM = 5


class Budget(IntEnum):
    """How many tokens a rank may take in a pass."""

    FULL = 0
    FIXED = 1
    BACKLOG = 2


class Placement(IntEnum):
    """Which decode rank a prompt goes to."""

    ROUND_ROBIN = 0
    RANDOM = 1
    JSQ = 2
    POWER_OF_TWO = 3
    LEAST_KV = 4
    VLLM_COUNT = 5
    VLLM_KV = 6
    TOTAL_TOKENS = 7
    IQR_LEX = 8
    BF_IO = 9
    BR_0 = 10
    EXP_WEIGHTED = 11


LONGEST_FIRST = (Placement.IQR_LEX, Placement.BF_IO, Placement.BR_0)


class LimitAction(IntEnum):
    """What happens to a request that has waited more than n_limit releases."""

    KEEP = 0
    REJECT = 1
    FORCE = 2


class PolicyPurpose(IntEnum):
    """What a number of the policy stream is for."""

    ROUTE = 1
    ROUTE_SECOND = 2
    ALLOCATE = 3
    PLACE = 4
    PLACE_SECOND = 5


RULES = np.dtype(
    (
        np.record,
        [
            ("release", np.int64),
            ("routing", np.int64),
            ("allocation", np.int64),
            ("budget", np.int64),
            ("limit_action", np.int64),
            ("charge_cost", np.int64),  # 1: room and load in seconds of cost, 0: in tokens
            ("full_batch_bypass", np.int64),
            ("size", np.int64),
            ("budget_tokens", np.int64),
            ("floor_tokens", np.int64),
            ("reserved", np.int64),
            ("multiplier", np.float64),
            ("window_s", np.float64),
            ("min_interval_s", np.float64),
            ("max_interval_s", np.float64),  # NaN: two full-chunk passes
            ("full_batch_frac", np.float64),
            ("timeout_s", np.float64),
            ("alpha", np.float64),
            ("placement", np.int64),
            ("longest_first", np.int64),  # 1: prompts that wait are placed longest first
            ("kv_in_tokens", np.int64),  # 1: KV load in tokens, 0: in blocks
            ("min_safe_ranks", np.int64),
            ("horizon_steps", np.int64),
            ("iqr_k", np.float64),
            ("decay", np.float64),
        ],
    )
)


def encode_rules(scheduler: SchedulerConfig, *, has_context: bool) -> Any:
    """Return the RULES record of a configuration; without context, cost is tokens."""
    rules = np.zeros(1, dtype=RULES)
    rules["release"] = Release[scheduler.release.upper()]
    rules["routing"] = Routing[scheduler.routing.upper()]
    rules["allocation"] = Allocation[scheduler.allocation.upper()]
    rules["budget"] = Budget[scheduler.budget.upper()]
    rules["limit_action"] = LimitAction[scheduler.n_limit_action.upper()]
    rules["charge_cost"] = scheduler.charge == "cost" and has_context
    rules["placement"] = Placement[scheduler.placement.upper()]
    rules["longest_first"] = Placement[scheduler.placement.upper()] in LONGEST_FIRST
    rules["kv_in_tokens"] = scheduler.placement_kv == "tokens"
    for name in ("min_safe_ranks", "horizon_steps", "iqr_k", "decay"):
        rules[name] = getattr(scheduler, f"placement_{name}")
    limit = scheduler.max_interval_s
    rules["max_interval_s"] = math.nan if limit is None else limit
    for name in (
        "full_batch_bypass",
        "size",
        "budget_tokens",
        "floor_tokens",
        "reserved",
        "multiplier",
        "window_s",
        "min_interval_s",
        "full_batch_frac",
        "timeout_s",
        "alpha",
    ):
        rules[name] = getattr(scheduler, name)
    return rules[0]
