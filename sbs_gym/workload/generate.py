"""Synthetic request tables: arrival times joined with coupled prompt and answer lengths."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from sbs_gym.config.arrivals import ArrivalConfig
from sbs_gym.config.lengths import LengthConfig
from sbs_gym.config.workload import WorkloadConfig
from sbs_gym.errors import ConfigError, require_number
from sbs_gym.rng import uniform_array
from sbs_gym.types import FloatArray, RequestTable
from sbs_gym.workload.arrivals import Arrivals, arrivals_before, first_arrivals
from sbs_gym.workload.lengths import draw_tokens
from sbs_gym.workload.purposes import INPUT_TOKENS, OUTPUT_TOKENS, STREAM

_CHUNK = 1 << 18  # lengths are drawn in pieces, so that ten million need little memory
Lengths = tuple[NDArray[np.int32], NDArray[np.int32]]


def generate(
    workload: WorkloadConfig,
    arrivals: ArrivalConfig,
    *,
    rate_per_s: float,
    seed: int,
    num_requests: int | None = None,
    horizon_s: float | None = None,
    with_answers: bool = True,
) -> RequestTable:
    """Return the requests of a synthetic workload; the first rows do not depend on how many follow.

    Args:
        workload: Laws of lengths.
        arrivals: Shape of the arrival process.
        rate_per_s: Requests per second; the peak state's rate for modulated arrivals.
        seed: Seed of the WORKLOAD stream.
        num_requests: Number of rows; or
        horizon_s: all arrivals in [0, horizon_s). Give exactly one of the two.
        with_answers: Whether answer lengths are drawn; 1 token each if not.

    Raises:
        ConfigError: If both or none of the two are given, a number is out of range, or the
            workload is a trace (see `load_trace`).
    """
    require_number("rate_per_s", rate_per_s, 0, 1e7, unit="1/s", low_open=True)
    if (num_requests is None) == (horizon_s is None):
        raise ConfigError("num_requests and horizon_s: give exactly one of the two")
    if num_requests is not None:
        require_number("num_requests", num_requests, 1, 200_000_000, integer=True)
        when = first_arrivals(arrivals, rate_per_s=rate_per_s, seed=seed, count=num_requests)
    else:
        require_number("horizon_s", horizon_s, 0, 1e9, unit="s", low_open=True)
        before_s = float(horizon_s or 0.0)
        when = arrivals_before(arrivals, rate_per_s=rate_per_s, seed=seed, horizon_s=before_s)
    return _table(workload, when, seed, with_answers=with_answers)


def backlog(workload: WorkloadConfig, num_requests: int, seed: int) -> RequestTable:
    """Return `num_requests` requests of a synthetic workload that all arrive at time 0.

    Row i has the same lengths as row i of `generate` with this seed.
    """
    require_number("num_requests", num_requests, 1, 200_000_000, integer=True)
    return _table(workload, Arrivals(arrived_at_s=np.zeros(num_requests)), seed)


def with_arrivals(
    table: RequestTable, arrivals: ArrivalConfig, *, rate_per_s: float, seed: int
) -> RequestTable:
    """Return the rows of `table` in their order with new arrival times.

    For files that record lengths only. `rate_per_s` is the peak's rate for modulated arrivals;
    a closed_loop process also replaces the session columns.
    """
    require_number("rate_per_s", rate_per_s, 0, 1e7, unit="1/s", low_open=True)
    if len(table) == 0:
        return table
    when = first_arrivals(arrivals, rate_per_s=rate_per_s, seed=seed, count=len(table))
    given = {name: getattr(when, name) for name in when.__slots__}
    return replace(table, **{name: value for name, value in given.items() if value is not None})


def _table(
    workload: WorkloadConfig, when: Arrivals, seed: int, *, with_answers: bool = True
) -> RequestTable:
    count = len(when.arrived_at_s)
    inputs, outputs = draw_lengths(workload, count, seed, with_answers=with_answers)
    return RequestTable(
        arrived_at_s=when.arrived_at_s,
        input_tokens=inputs,
        output_tokens=outputs,
        name=workload.name,
        session_id=when.session_id,
        parent_id=when.parent_id,
        turn=when.turn,
        delay_s=when.delay_s,
    )


def draw_lengths(
    workload: WorkloadConfig, count: int, seed: int, *, with_answers: bool = True
) -> Lengths:
    """Return prompt and answer lengths of rows 0 to count - 1, int32."""
    input_law, output_law = workload.input_tokens, workload.output_tokens
    if workload.kind != "synthetic" or input_law is None or output_law is None:
        raise ConfigError(
            f"workload.kind={workload.kind!r}: lengths are drawn for 'synthetic' workloads only; "
            "read a trace with load_trace"
        )
    inputs = np.empty(count, dtype=np.int32)
    outputs = np.ones(count, dtype=np.int32)
    rho = 2.0 * math.sin(math.pi * workload.spearman / 6.0)
    for start in range(0, count, _CHUNK):
        here = slice(start, min(start + _CHUNK, count))
        levels = uniform_array(seed, STREAM, INPUT_TOKENS, here.stop - start, start=start)
        inputs[here] = draw_tokens(input_law, levels)
        if with_answers:
            outputs[here] = draw_tokens(output_law, _coupled(levels, rho, seed, start))
    return inputs, outputs


def draw_outputs(law: LengthConfig, count: int, seed: int) -> NDArray[np.int32]:
    """Return answer lengths of rows 0 to count - 1, independent of the prompts, int32."""
    return draw_tokens(law, uniform_array(seed, STREAM, OUTPUT_TOKENS, count))


def _coupled(levels: FloatArray, rho: float, seed: int, start: int) -> FloatArray:
    # Gaussian copula; rho = 2 sin(pi r / 6) for the rank correlation r.
    own = uniform_array(seed, STREAM, OUTPUT_TOKENS, len(levels), start=start)
    if rho == 0.0:
        return own
    rest = math.sqrt(max(0.0, 1.0 - rho * rho))
    coupled = ndtr(rho * ndtri(levels) + rest * ndtri(own))
    # 1.0 is reached by rounding only; levels must stay below it.
    levels_out: FloatArray = np.minimum(coupled, 1.0 - 2.0**-53)
    return levels_out
