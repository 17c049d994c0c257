"""Building the decode side of a world, enlarging its records, and taking them out."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.sim import decode_state
from sbs_gym.sim.records import DECODE_RECORD, STEP_RECORD
from sbs_gym.sim.state import World
from sbs_gym.timing.decode import DECODE_COEFFICIENTS, DecodeTiming
from sbs_gym.timing.memory import decode_kv_blocks, kv_room

_STEPS_PER_PASS = 4
_MOST_AHEAD = 1001  # steps that a placement rule may look ahead, and the one it is in


def decode_setup(cluster: ClusterConfig) -> dict[str, float]:
    """Return the decode fields of SETUP."""
    if cluster.num_decode == 0:
        return {"num_decode": 0}
    same = (
        "num_decode",
        "decode_dp",
        "num_decode_ranks",
        "max_running",
        "nic_bytes_per_s",
        "transfer_latency_s",
        "host_bytes_per_s",
        "recompute_tokens_per_s",
        "tokens_per_step",
        "report_period_s",
    )
    return {
        **{name: getattr(cluster, name) for name in same},
        "prefill_kv_tokens": kv_room(cluster, "prefill").kv_tokens,
        "decode_blocks": decode_kv_blocks(cluster),
        "block_tokens": cluster.kv_block_tokens,
        "reserve_tokens": cluster.decode_reserve_tokens,
        "bind_at_dispatch": cluster.decode_binding == "at_dispatch",
        "send_all": cluster.transfer_overlap == "none",
        "recompute": cluster.preempt == "recompute",
        "kv_bytes": cluster.kv_bytes_per_token,
        "report_slots": math.ceil(cluster.signal_delay_s / cluster.report_period_s) + 2,
    }


def decode_arrays(
    num_requests: int,
    setup: Any,
    timing: DecodeTiming | None,
    *,
    capacity: int,
    record_ranks: bool,
) -> dict[str, Any]:
    """Return the decode arrays of a World; one row each where decode is not modelled."""
    modelled = timing is not None
    requests = num_requests if modelled else 1
    ranks, dp = max(1, int(setup.num_decode_ranks)), max(1, int(setup.decode_dp))
    steps = _STEPS_PER_PASS * capacity if modelled else 1
    recorded = steps * dp if modelled and record_ranks else 1
    num, slots = max(1, int(setup.num_decode)), max(1, int(setup.report_slots))
    coefficients = timing.coefficients if timing else np.zeros(1, dtype=DECODE_COEFFICIENTS)
    return {
        "decodes": _blank_decodes(requests),
        "engines": _filled(decode_state.ENGINE, num, skew_k=-1, newcomers=-1),
        "decode_ranks": _filled(
            decode_state.DECODE_RANK,
            ranks,
            free_blocks=int(setup.decode_blocks),
            arrived=-1,
            arrived_tail=-1,
            returned=-1,
            returned_tail=-1,
        ),
        "running": np.zeros(ranks * max(1, int(setup.max_running)), dtype=np.int64),
        "waiting": np.zeros(requests, dtype=np.int32),
        "decode_views": _filled(decode_state.DECODE_VIEW, ranks),
        "reports": _filled(decode_state.REPORT, num * slots * dp),
        "steps": np.zeros(steps, dtype=(np.record, STEP_RECORD)),
        "step_batch": np.zeros(recorded, dtype=np.int32),
        "step_kv": np.zeros(recorded, dtype=np.float64),
        "step_blocks": np.zeros(recorded, dtype=np.int32),
        "decode_timing": coefficients[0],
        "decode_table": timing.table if timing else np.zeros((0, 1)),
        "scratch_batch": np.zeros(dp, dtype=np.int64),
        "scratch_kv": np.zeros(dp, dtype=np.float64),
        "candidates": np.zeros(ranks, dtype=np.int32),
        "by_load": np.arange(ranks, dtype=np.int32),
        "look_ahead": np.zeros(max(ranks, _MOST_AHEAD), dtype=np.float64),
    }


def _blank_decodes(count: int) -> NDArray[Any]:
    blank = {name: math.nan for name in DECODE_RECORD.names or () if name.endswith("_at_s")}
    return _filled(decode_state.DECODE, count, decode_instance=-1, decode_rank=-1, next=-1, **blank)


def _filled(dtype: np.dtype[Any], count: int, **values: float) -> NDArray[Any]:
    row = np.zeros(1, dtype=dtype)
    for name, value in values.items():
        row[name] = value
    return np.repeat(row, count)


def grow_steps(world: World) -> World:
    """Return the world with room for more step records."""
    wanted = 2 * int(world.clock.step_capacity)
    world.clock.step_capacity = wanted
    world = world._replace(steps=longer(world.steps, wanted))
    if world.setup.record_ranks:
        per_rank = wanted * int(world.setup.decode_dp)
        world = world._replace(
            step_batch=longer(world.step_batch, per_rank),
            step_kv=longer(world.step_kv, per_rank),
            step_blocks=longer(world.step_blocks, per_rank),
        )
    return world


def longer(array: NDArray[Any], length: int) -> NDArray[Any]:
    """Return a copy of `array` with zeros behind it up to `length`."""
    grown = np.zeros(length, dtype=array.dtype)
    grown[: len(array)] = array
    return grown


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodeRecords:
    """The decode part of RunRecords, under the same names."""

    decode: NDArray[Any] | None
    steps: NDArray[Any]
    step_batch: NDArray[np.int32] | None
    step_kv_tokens: NDArray[np.float64] | None
    step_blocks: NDArray[np.int32] | None
    num_refusals: int
    prefill_kv_blocked_s: float


def collect_decode(world: World) -> DecodeRecords:
    """Return what the run left behind of decode; steps that have not ended are dropped."""
    if world.setup.num_decode == 0:
        return DecodeRecords(
            decode=None,
            steps=np.zeros(0, dtype=STEP_RECORD),
            step_batch=None,
            step_kv_tokens=None,
            step_blocks=None,
            num_refusals=0,
            prefill_kv_blocked_s=0.0,
        )
    started = world.steps[: world.clock.num_steps]
    order = np.argsort(started["ended_at_s"], kind="stable")  # NaN, not ended, comes last
    order = order[: len(order) - int(np.isnan(started["ended_at_s"]).sum())]
    recorded, dp = bool(world.setup.record_ranks), int(world.setup.decode_dp)
    return DecodeRecords(
        decode=world.decodes[list(DECODE_RECORD.names or ())],
        steps=np.asarray(started[order]),
        step_batch=world.step_batch.reshape(-1, dp)[order] if recorded else None,
        step_kv_tokens=world.step_kv.reshape(-1, dp)[order] if recorded else None,
        step_blocks=world.step_blocks.reshape(-1, dp)[order] if recorded else None,
        num_refusals=int(world.clock.num_refusals),
        prefill_kv_blocked_s=_blocked_s(world),
    )


def _blocked_s(world: World) -> float:
    since = world.rank_kv["blocked_since_s"]
    still = since < math.inf
    open_s = float(world.clock.now_s) - since[still]
    return float(world.rank_kv["blocked_s"].sum() + open_s.sum())
