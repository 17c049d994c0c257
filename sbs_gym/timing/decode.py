"""Seconds of one decode step: one compiled scalar function for every kind of timing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.timing import (
    ConstantTiming,
    LinearTiming,
    RooflineTiming,
    TableTiming,
    TimingConfig,
)
from sbs_gym.errors import ConfigError, SimulationError, require_number
from sbs_gym.jit import compiled
from sbs_gym.timing.coefficients import Kind
from sbs_gym.timing.decode_coefficients import DECODE_COEFFICIENTS
from sbs_gym.timing.decode_roofline import (
    decode_coefficients,
    decode_costs,
    decode_table,
    moe_layers,
    roofline_step_s,
)
from sbs_gym.timing.model import fill, fill_luck
from sbs_gym.timing.steps import fit_steps, read_steps
from sbs_gym.timing.table import piecewise_s
from sbs_gym.types import FloatArray, IntArray

__all__ = [
    "DECODE_COEFFICIENTS",
    "DecodeTiming",
    "build_decode_timing",
    "decode_rank_cost_s",
    "decode_step_s",
]

_CONSTANT, _TABLE, _ROOFLINE = int(Kind.CONSTANT), int(Kind.TABLE), int(Kind.ROOFLINE)
MAX_EP = 512  # GPUs the experts may span; copies of experts beyond 256


@compiled
def decode_step_s(timing, table, batch, kv_tokens, skew):  # type: ignore[no-untyped-def]
    """Return the seconds of one decode step, from launch to barrier; 0.0 if every rank is empty.

    Args:
        timing: One record of DECODE_COEFFICIENTS.
        table: float64, the timing's table; its meaning belongs to the kind.
        batch: int64, requests per rank, shape (dp,).
        kv_tokens: float64, tokens of context in the KV cache, summed over a rank's requests, shape
            (dp,); may be fractional.
        skew: Expert skew g of the instance, >= 1.
    """
    most = 0
    least = 1 << 30
    most_kv = 0.0
    heaviest = 0.0
    for d in range(timing.dp):
        requests = batch[d]
        if requests > 0:
            most = max(most, requests)
            least = min(least, requests)
            most_kv = max(most_kv, kv_tokens[d])
            own = timing.per_request_s * requests + timing.per_kv_token_s * kv_tokens[d]
            heaviest = max(heaviest, own)
    if most == 0:
        return 0.0
    if timing.kind == _ROOFLINE:
        if most > timing.max_requests:
            raise SimulationError("a rank has more requests than its decode timing was built for")
        return roofline_step_s(timing, table, most, least, most_kv, skew)
    if timing.kind == _CONSTANT:
        return timing.step_s
    if timing.kind == _TABLE:
        return piecewise_s(table, most) + timing.per_kv_token_s * most_kv
    return timing.fixed_s + heaviest


@compiled
def decode_rank_cost_s(timing, batch, kv):  # type: ignore[no-untyped-def]
    """Return what one rank's share of a step costs, for bubbles; not a part of the step.

    Args:
        timing: One record of DECODE_COEFFICIENTS.
        batch: Requests of the rank.
        kv: Tokens of context of the rank.
    """
    return timing.request_cost_s * batch + timing.kv_token_cost_s * kv


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodeTiming:
    """A timing made ready for compiled code, for decode instances of `dp` ranks.

    Attributes:
        config: What the user asked for.
        coefficients: DECODE_COEFFICIENTS, shape (1,).
        table: float64, shape (rows, columns); zero rows where the kind has none.
        dp: Ranks per instance.
        q_tokens: Tokens that a request brings into a step: 1, or more with MTP.
        max_requests: Most requests of one rank in one step.
    """

    config: TimingConfig
    coefficients: NDArray[Any]
    table: FloatArray
    dp: int
    q_tokens: int
    max_requests: int

    def step_s(self, batch: IntArray, kv_tokens: FloatArray, *, skew: float | None = None) -> float:
        """Return the duration of one synchronous decode step.

        Args:
            batch: Requests per DP rank, shape (dp,), each in [0, max_requests].
            kv_tokens: Tokens of context per DP rank, summed over its requests, shape (dp,).
            skew: Expert skew g, at least 1; the timing's mean if absent.

        Returns:
            Seconds from launch to barrier, so set by the slowest rank; 0.0 if every rank is empty.

        Raises:
            ConfigError: If the shapes differ or a value is out of range.

        Source: lockstep rule, vLLM docs "Data Parallel Deployment"; coefficients,
        `conf/timing/<name>.yaml`.
        """
        requests = np.asarray(batch, dtype=np.int64)
        context = np.asarray(kv_tokens, dtype=np.float64)
        if requests.shape != (self.dp,) or context.shape != (self.dp,):
            raise ConfigError(f"batch and kv_tokens need shape ({self.dp},), one entry per rank")
        if requests.min() < 0 or requests.max() > self.max_requests:
            raise ConfigError(
                f"batch={requests.min()} to {requests.max()} is out of range; expected requests in "
                f"[0, {self.max_requests}]"
            )
        if not (np.isfinite(context).all() and context.min() >= 0.0):
            raise ConfigError(
                f"kv_tokens={context.min()} is out of range; expected a finite count of at least 0"
            )
        g = float(self.coefficients[0].skew_mean) if skew is None else skew
        require_number("skew", g, 1, 1000)
        return float(decode_step_s(self.coefficients[0], self.table, requests, context, g))


def build_decode_timing(
    config: TimingConfig, *, dp: int, ep: int, q_tokens: int, max_requests: int
) -> DecodeTiming:
    """Return the timing of `config` for one decode instance.

    Args:
        config: Any kind of timing.
        dp: DP ranks of an instance, in [1, 4096].
        ep: GPUs its experts span, in [1, 4096]; only `roofline` reads it, up to 512.
        q_tokens: Tokens that a request brings into a step, in [1, 16]: 1 plus those that MTP
            proposes.
        max_requests: Most requests of one rank in one step, in [1, 65536].

    Raises:
        ConfigError: If a value is out of range, or the kind cannot time a decode step.
    """
    require_number("cluster.decode_dp", dp, 1, 4096, integer=True)
    require_number("cluster.decode_ep", ep, 1, 4096, integer=True)
    require_number("q_tokens", q_tokens, 1, 16, integer=True)
    require_number("max_requests", max_requests, 1, 1 << 16, integer=True)
    coefficients = np.zeros(1, dtype=DECODE_COEFFICIENTS)
    coefficients["dp"] = dp
    fill_luck(coefficients, config)
    fill(coefficients, q_tokens=q_tokens, max_requests=max_requests)
    table = np.zeros((0, 2), dtype=np.float64)
    if isinstance(config, ConstantTiming):
        fill(coefficients, kind=Kind.CONSTANT, step_s=config.step_s, request_cost_s=1.0)
    elif isinstance(config, LinearTiming):
        _fill_linear(coefficients, config)
    elif isinstance(config, RooflineTiming):
        table = _fill_roofline(coefficients, config, dp, ep, q_tokens, max_requests)
    elif isinstance(config, TableTiming):
        table = _fill_table(coefficients, config)
    else:
        raise ConfigError(f"timing.kind={config.kind!r} cannot be built")
    return DecodeTiming(
        config=config,
        coefficients=coefficients,
        table=table,
        dp=dp,
        q_tokens=q_tokens,
        max_requests=max_requests,
    )


def _fill_linear(coefficients: NDArray[Any], config: LinearTiming) -> None:
    fill(
        coefficients,
        kind=Kind.LINEAR,
        fixed_s=config.decode_fixed_s,
        per_request_s=config.decode_per_request_s,
        per_kv_token_s=config.decode_per_kv_token_s,
        request_cost_s=config.decode_per_request_s,
        kv_token_cost_s=config.decode_per_kv_token_s,
    )


def _fill_table(coefficients: NDArray[Any], config: TableTiming) -> FloatArray:
    if config.steps_path is None:
        raise ConfigError(
            "timing.steps_path=None is not allowed with decode instances; expected the file of "
            "your measured decode steps (timing=table timing.path=FILE timing.steps_path=FILE), or "
            "cluster.num_decode=0 for prefill alone"
        )
    fit = fit_steps(read_steps(config.steps_path), config.steps_num_knots, config.steps_path)
    rise = fit.knots[-1] - fit.knots[0]
    fill(
        coefficients,
        kind=Kind.TABLE,
        per_kv_token_s=fit.kv_token_s,
        request_cost_s=rise[1] / rise[0],
        kv_token_cost_s=fit.kv_token_s,
    )
    return fit.knots


def _fill_roofline(
    coefficients: NDArray[Any],
    config: RooflineTiming,
    dp: int,
    ep: int,
    q_tokens: int,
    max_requests: int,
) -> FloatArray:
    if dp != ep:
        raise ConfigError(
            f"cluster.decode_dp={dp} and cluster.decode_ep={ep} differ; timing.kind=roofline "
            "models one DP rank per GPU and expects them equal"
        )
    require_number("cluster.decode_ep (timing.kind=roofline)", ep, 1, MAX_EP, integer=True)
    fill(coefficients, kind=Kind.ROOFLINE, **decode_coefficients(config, ep, q_tokens))
    table = decode_table(config, q_tokens, max_requests, moe_layers(q_tokens))
    request_cost_s, kv_token_cost_s = decode_costs(coefficients[0], table)
    fill(coefficients, request_cost_s=request_cost_s, kv_token_cost_s=kv_token_cost_s)
    return table
