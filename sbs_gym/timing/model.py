"""Seconds of one synchronous prefill pass: one compiled scalar function for every kind."""

from __future__ import annotations

import math
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
from sbs_gym.timing.coefficients import COEFFICIENTS, Kind
from sbs_gym.timing.passes import read_passes
from sbs_gym.timing.roofline import (
    roofline_coefficients,
    roofline_costs,
    roofline_pass_s,
    roofline_table,
)
from sbs_gym.timing.table import fit_table, table_pass_s
from sbs_gym.types import FloatArray, IntArray

__all__ = [
    "COEFFICIENTS",
    "TimingModel",
    "build_timing",
    "empty_pass_s",
    "prefill_pass_s",
    "rank_cost_s",
]

_CONSTANT, _TABLE, _ROOFLINE = int(Kind.CONSTANT), int(Kind.TABLE), int(Kind.ROOFLINE)


@compiled
def prefill_pass_s(timing, table, tokens, pairs, skew):  # type: ignore[no-untyped-def]
    """Return the seconds of one pass, from launch to barrier; 0.0 if every rank is empty.

    Args:
        timing: One record of COEFFICIENTS.
        table: float64, the model's table; its meaning belongs to the kind.
        tokens: int64, new prompt tokens per rank, shape (dp,).
        pairs: int64, sum of q*(2*ctx + q) over a rank's chunks, shape (dp,): twice its
            query-key pairs.
        skew: Expert skew g of the instance, >= 1.
    """
    most = 0
    total = 0
    for d in range(timing.dp):
        total += tokens[d]
        most = max(most, tokens[d])
    if total == 0:
        return 0.0
    if timing.kind == _CONSTANT:
        return timing.pass_s
    if timing.kind == _ROOFLINE:
        if most >= table.shape[0]:
            raise SimulationError("a rank has more tokens than its chunk")
        return roofline_pass_s(timing, table, tokens, pairs, skew)
    mean = total / timing.dp
    if timing.kind == _TABLE:
        return table_pass_s(timing, table, most, mean, pairs)
    load = timing.max_weight * most + (1.0 - timing.max_weight) * mean
    return timing.fixed_s + timing.per_token_s * load


@compiled
def empty_pass_s(timing):  # type: ignore[no-untyped-def]
    """Return the seconds of a pass without tokens; only free-running engines run one."""
    return timing.pass_s


@compiled
def rank_cost_s(timing, tokens, pairs):  # type: ignore[no-untyped-def]
    """Return what one rank's share costs, for budgets and bubbles; not a part of the pass."""
    return timing.token_cost_s * tokens + timing.pair_cost_s * pairs / 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TimingModel:
    """A timing made ready for compiled code, for instances of `dp` ranks.

    Attributes:
        config: What the user asked for.
        coefficients: COEFFICIENTS, shape (1,).
        table: float64, shape (rows, columns); zero rows where the kind has none.
        dp: Ranks per instance.
        chunk_tokens: Most tokens of one rank in one pass.
    """

    config: TimingConfig
    coefficients: NDArray[Any]
    table: FloatArray
    dp: int
    chunk_tokens: int

    def prefill_pass_s(
        self, tokens: IntArray, context: IntArray, *, skew: float | None = None
    ) -> float:
        """Return the duration of one synchronous prefill pass.

        Args:
            tokens: New prompt tokens per DP rank, shape (dp,), each in [0, chunk_tokens].
            context: Prompt tokens already cached per DP rank, shape (dp,); one chunk per rank.
            skew: Expert skew g, at least 1; the model's mean if absent.

        Returns:
            Seconds from launch to barrier, so set by the slowest rank; 0.0 if every rank is empty.

        Raises:
            ConfigError: If the shapes differ, a rank exceeds its chunk or a count is negative.

        Source: lockstep rule, vLLM docs "Data Parallel Deployment"; coefficients,
        `conf/timing/<name>.yaml`.
        """
        new, past = np.asarray(tokens, dtype=np.int64), np.asarray(context, dtype=np.int64)
        if new.shape != (self.dp,) or past.shape != (self.dp,):
            raise ConfigError(f"tokens and context need shape ({self.dp},), one entry per rank")
        if new.min() < 0 or new.max() > self.chunk_tokens or past.min() < 0:
            raise ConfigError(
                f"tokens={new.max()} or context={past.min()} is out of range; expected tokens in "
                f"[0, {self.chunk_tokens}] and context of at least 0"
            )
        g = float(self.coefficients[0].skew_mean) if skew is None else skew
        pairs = new * (2 * past + new)
        return float(prefill_pass_s(self.coefficients[0], self.table, new, pairs, g))

    def full_chunk_pass_s(self) -> float:
        """Return the seconds of a full chunk on every rank, without context, at mean luck."""
        return self.even_pass_s(self.chunk_tokens)

    def even_pass_s(self, tokens: int) -> float:
        """Return the seconds of `tokens` on every rank, without context, at mean luck."""
        same = np.full(self.dp, tokens, dtype=np.int64)
        return self.prefill_pass_s(same, np.zeros_like(same))


def build_timing(config: TimingConfig, *, dp: int, ep: int, chunk_tokens: int) -> TimingModel:
    """Return the model of `config` for one instance.

    Args:
        config: Any kind of timing.
        dp: DP ranks of an instance, at least 1.
        ep: GPUs its experts span, at least 1; only `roofline` reads it.
        chunk_tokens: Most tokens of one rank in one pass, at least 1.
    """
    require_number("cluster.dp", dp, 1, 4096, integer=True)
    require_number("cluster.ep", ep, 1, 4096, integer=True)
    require_number("cluster.chunk_tokens", chunk_tokens, 1, 1 << 20, integer=True)
    coefficients = np.zeros(1, dtype=COEFFICIENTS)
    coefficients["dp"] = dp
    fill_luck(coefficients, config)
    table = np.zeros((0, 2), dtype=np.float64)
    if isinstance(config, ConstantTiming):
        fill(coefficients, kind=Kind.CONSTANT, pass_s=config.pass_s, token_cost_s=1.0)
    elif isinstance(config, LinearTiming):
        _fill_linear(coefficients, config)
    elif isinstance(config, TableTiming):
        table = _fill_table(coefficients, config)
    elif isinstance(config, RooflineTiming):
        if dp != ep:
            raise ConfigError(
                f"cluster.prefill_dp={dp} and cluster.prefill_ep={ep} differ; timing.kind=roofline "
                "models one DP rank per GPU and expects them equal"
            )
        table = _fill_roofline(coefficients, config, ep, chunk_tokens)
    else:
        raise ConfigError(f"timing.kind={config.kind!r} cannot be built")
    return TimingModel(
        config=config, coefficients=coefficients, table=table, dp=dp, chunk_tokens=chunk_tokens
    )


def fill(coefficients: NDArray[Any], **values: float) -> None:
    for name, value in values.items():
        coefficients[name] = value


def _fill_linear(coefficients: NDArray[Any], config: LinearTiming) -> None:
    fill(
        coefficients,
        kind=Kind.LINEAR,
        fixed_s=config.fixed_s,
        per_token_s=config.per_token_s,
        max_weight=config.max_weight,
        token_cost_s=config.per_token_s,
    )


def _fill_table(coefficients: NDArray[Any], config: TableTiming) -> FloatArray:
    fit = fit_table(read_passes(config.path), config.num_knots, config.path)
    rise = (fit.knots[-1] - fit.knots[0]).tolist()
    fill(
        coefficients,
        kind=Kind.TABLE,
        mean_token_s=fit.mean_token_s,
        token_cost_s=rise[1] / rise[0] + fit.mean_token_s,
        pair_cost_s=fit.pair_s,
    )
    return fit.knots


def _fill_roofline(
    coefficients: NDArray[Any], config: RooflineTiming, ep: int, chunk_tokens: int
) -> FloatArray:
    fill(coefficients, kind=Kind.ROOFLINE, **roofline_coefficients(config, ep))
    table = roofline_table(config, chunk_tokens)
    token_cost_s, pair_cost_s = roofline_costs(coefficients[0], table)
    fill(coefficients, token_cost_s=token_cost_s, pair_cost_s=pair_cost_s)
    return table


def fill_luck(coefficients: NDArray[Any], config: TimingConfig) -> None:
    fill(
        coefficients,
        jitter_sigma=math.sqrt(math.log(1.0 + config.jitter_cv * config.jitter_cv)),
        jitter_grid_s=config.jitter_grid_s,
        skew_mean=config.skew_mean,
        skew_sigma=config.skew_sigma,
        skew_rho=config.skew_rho,
        skew_grid_s=config.skew_grid_s,
    )
