"""One instant of a run as pictures need it: read from the world, which is not changed.

The truth about the engines is read here, beside what the scheduler believes: a scene is for eyes,
never for a scheduler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.sim.codes import Kind, Life
from sbs_gym.sim.state import World
from sbs_gym.timing.model import rank_cost_s
from sbs_gym.types import FloatArray, IntArray

# The function behind the compiled one: it takes whole arrays and compiles nothing.
_COSTS_S = getattr(rank_cost_s, "py_func", rank_cost_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassScene:
    """One pass of an instance.

    Attributes:
        started_at_s, ended_at_s: Its instants; of the running pass, the true end to come.
        tokens: Prompt tokens over all ranks.
        bubble_frac: Rank time idle at the barrier / rank time of the pass, in [0, 1].
        index: Counts the passes of the instance from 0.
    """

    started_at_s: float
    ended_at_s: float
    tokens: int
    bubble_frac: float
    index: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstanceScene:
    """One prefill instance.

    Attributes:
        running: The pass under way; None if the instance is idle.
        pass_tokens: Tokens of the running pass per rank, shape (dp,); zeros if idle.
        queued_tokens: Delivered tokens not yet in a pass per rank, shape (dp,).
        coming_requests, coming_tokens: Released to it and not yet delivered.
        passes: Passes that ended inside the window, oldest first.
        believed_end_s: When the scheduler thinks that the pass ends; NaN if it believes in none.
        release_pending: The scheduler has sent a release that waits for the believed pass to end.
    """

    running: PassScene | None
    pass_tokens: IntArray
    queued_tokens: IntArray
    coming_requests: int
    coming_tokens: int
    passes: tuple[PassScene, ...]
    believed_end_s: float
    release_pending: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodeScene:
    """All decode instances; the arrays have the shape (num_decode, decode_dp).

    Attributes:
        running: Requests in the step, or between two of them.
        waiting: Bound and not running: KV under way, not yet admitted, or evicted.
        kv_frac: KV blocks held or reserved / blocks of the rank, in [0, 1].
        max_running: Most requests that run on a rank.
        unbound: Prompts that wait for a decode rank.
    """

    running: IntArray
    waiting: IntArray
    kv_frac: FloatArray
    max_running: int
    unbound: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalsScene:
    """Requests so far.

    Attributes:
        arrived, first_tokens, finished, rejected: How many have got so far.
        mean_ttft_s: Mean TTFT of those with a first token inside the window; NaN for none.
    """

    arrived: int
    first_tokens: int
    finished: int
    rejected: int
    mean_ttft_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """All that a picture of one simulated instant shows.

    Attributes:
        title: Stands above the picture.
        now_s: The instant.
        window_s: Seconds before it that count as recent.
        dp: Ranks per prefill instance.
        chunk_tokens: Most tokens of one rank in one pass.
        buffered_tokens: Prompt tokens of every buffered request, oldest first.
        buffered_age_s: Seconds since each of them arrived.
        instances: The prefill instances.
        decode: None where decode is not modelled.
        totals: Requests so far.
    """

    title: str
    now_s: float
    window_s: float
    dp: int
    chunk_tokens: int
    buffered_tokens: IntArray
    buffered_age_s: FloatArray
    instances: tuple[InstanceScene, ...]
    decode: DecodeScene | None
    totals: TotalsScene


def scene_of(world: World, window_s: float = 6.0, title: str = "") -> Scene:
    """Return what is to be seen of `world` now.

    Args:
        world: A run between two calls of its loop; it is only read.
        window_s: Seconds of passes and first tokens to look back at.
        title: Stands above the picture.
    """
    now_s = float(world.clock.now_s)
    buffered = _buffered(world)
    num = int(world.setup.num_prefill)
    passes = _recent_passes(world, now_s - window_s)
    ends_s = _pass_ends_s(world)
    coming = _coming(world)
    return Scene(
        title=title,
        now_s=now_s,
        window_s=window_s,
        dp=int(world.setup.dp),
        chunk_tokens=int(world.setup.chunk_tokens),
        buffered_tokens=world.requests["input_tokens"][buffered].astype(np.int64),
        buffered_age_s=now_s - world.requests["arrived_at_s"][buffered],
        instances=tuple(
            _instance(world, i, passes[i], ends_s.get(i, now_s), coming[i]) for i in range(num)
        ),
        decode=_decode(world) if world.setup.num_decode else None,
        totals=_totals(world, now_s - window_s),
    )


def mean_of_neighbours(values: NDArray[Any], most: int) -> tuple[FloatArray, int]:
    """Return at most `most` means of equally many neighbours, and how many one stands for.

    The last mean may stand for fewer.
    """
    size = max(1, -(-len(values) // max(1, most)))
    starts = np.arange(0, len(values), size)
    sums = np.add.reduceat(values.astype(np.float64), starts)
    return sums / np.diff(np.append(starts, len(values))), size


def whole_chunks(tokens: IntArray, chunk_tokens: int) -> int:
    """Return the least power of two of chunks that holds every entry: a scale that rarely jumps."""
    most = int(tokens.max()) if len(tokens) else 0
    return 1 << max(0, math.ceil(most / chunk_tokens) - 1).bit_length()


def full_batch(decode: DecodeScene) -> float:
    """Return the requests of a full bar: the most that run on a rank, halved while all fit."""
    most, full = int((decode.running + decode.waiting).max()), float(decode.max_running)
    while full > 1.0 and most <= 0.5 * full:
        full /= 2
    return full


def _buffered(world: World) -> NDArray[np.int64]:
    """Return the ids of the requests in the buffer, in order of arrival."""
    requests = world.requests[: int(world.clock.next_arrival)]
    is_there = np.isnan(requests["dispatched_at_s"]) & (requests["life"] != Life.REJECTED)
    return np.flatnonzero(is_there)


def _recent_passes(world: World, since_s: float) -> list[tuple[PassScene, ...]]:
    """Return, per instance, the passes that ended after `since_s`, in order of their ends."""
    rows = world.passes[: int(world.clock.num_passes)]
    rows = rows[(rows["ended_at_s"] > since_s) & (rows["ended_at_s"] <= world.clock.now_s)]
    rows = rows[np.argsort(rows["ended_at_s"], kind="stable")]
    found: list[list[PassScene]] = [[] for _ in range(int(world.setup.num_prefill))]
    for row in rows:
        whole_s = float(row["cost_max_s"]) * int(world.setup.dp)
        shown = PassScene(
            started_at_s=float(row["started_at_s"]),
            ended_at_s=float(row["ended_at_s"]),
            tokens=int(row["tokens"]),
            bubble_frac=_bubble_frac(float(row["cost_sum_s"]), whole_s),
            index=int(row["pass_index"]),
        )
        found[int(row["instance"])].append(shown)
    return [tuple(passes) for passes in found]


def _bubble_frac(used_s: float, whole_s: float) -> float:
    """Return the idle share of rank time; 0 for a pass that costs nothing."""
    return min(1.0, max(0.0, 1.0 - used_s / whole_s)) if whole_s > 0.0 else 0.0


def _pass_ends_s(world: World) -> dict[int, float]:
    """Return when the running pass of each busy instance will end."""
    events = world.events[: int(world.clock.num_events)]
    ends = events[events["kind"] == int(Kind.PASS_END)]
    return {int(event["instance"]): float(event["time_s"]) for event in ends}


def _coming(world: World) -> list[tuple[int, int]]:
    """Return, per instance, the requests and tokens that were released and not yet delivered."""
    found = [(0, 0)] * int(world.setup.num_prefill)
    log = world.log[: int(world.clock.num_dispatched)]
    events = world.events[: int(world.clock.num_events)]
    for event in events[events["kind"] == int(Kind.DISPATCH_DELIVERED)]:
        ids = log[int(event["first"]) : int(event["end"])]
        requests, tokens = found[int(event["instance"])]
        sent = int(world.requests["input_tokens"][ids].sum())
        found[int(event["instance"])] = (requests + len(ids), tokens + sent)
    return found


def _instance(
    world: World,
    i: int,
    passes: tuple[PassScene, ...],
    ends_at_s: float,
    coming: tuple[int, int],
) -> InstanceScene:
    dp = int(world.setup.dp)
    ranks, view = world.ranks[i * dp : (i + 1) * dp], world.views[i]
    busy = bool(world.instances["busy"][i])
    tokens = world.shares["tokens"][i * dp : (i + 1) * dp].copy()  # the last pass's while it idles
    return InstanceScene(
        running=_running(world, i, ends_at_s) if busy else None,
        pass_tokens=tokens if busy else np.zeros_like(tokens),
        queued_tokens=ranks["queued_tokens"].astype(np.int64),
        coming_requests=coming[0],
        coming_tokens=coming[1],
        passes=passes,
        believed_end_s=float(view["run_end_s"]) if view["running"] else math.nan,
        release_pending=bool(view["pending"]),
    )


def _running(world: World, i: int, ends_at_s: float) -> PassScene:
    dp = int(world.setup.dp)
    shares = world.shares[i * dp : (i + 1) * dp]
    costs_s = _COSTS_S(world.timing, shares["tokens"], shares["pairs"])
    return PassScene(
        started_at_s=float(world.instances["started_at_s"][i]),
        ended_at_s=ends_at_s,
        tokens=int(shares["tokens"].sum()),
        bubble_frac=_bubble_frac(float(costs_s.sum()), float(costs_s.max()) * dp),
        index=int(world.instances["pass_index"][i]),
    )


def _decode(world: World) -> DecodeScene:
    setup, ranks = world.setup, world.decode_ranks
    shape = (int(setup.num_decode), int(setup.decode_dp))
    running = ranks["num_running"].astype(np.int64)
    used = 1.0 - ranks["free_blocks"] / max(1, int(setup.decode_blocks))
    return DecodeScene(
        running=running.reshape(shape),
        waiting=(ranks["num_bound"] - running).reshape(shape),
        kv_frac=np.clip(used, 0.0, 1.0).reshape(shape),
        max_running=int(setup.max_running),
        unbound=int(world.clock.num_waiting),
    )


def _totals(world: World, since_s: float) -> TotalsScene:
    requests = world.requests[: int(world.clock.next_arrival)]
    first_s = requests["first_token_at_s"]
    recent = first_s > since_s  # False for NaN
    ttft_s = first_s[recent] - requests["arrived_at_s"][recent]
    return TotalsScene(
        arrived=len(requests),
        first_tokens=int(np.count_nonzero(~np.isnan(first_s))),
        finished=int(np.count_nonzero(requests["life"] == Life.FINISHED)),
        rejected=int(np.count_nonzero(requests["life"] == Life.REJECTED)),
        mean_ttft_s=float(ttft_s.mean()) if len(ttft_s) else math.nan,
    )
