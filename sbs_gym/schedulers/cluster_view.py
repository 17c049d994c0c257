"""What a user's scheduler may see at a question: its own records, signals and reports.

A view is of one instant and is read when it is asked: what was read stays, what was not read by the
time of the answer is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.errors import SchedulerError
from sbs_gym.schedulers.asking import list_known, list_legal
from sbs_gym.schedulers.views import (
    BoolArray,
    BufferView,
    DecodeRanksView,
    InstancesView,
    RanksView,
    RequestView,
)
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.codes import Life
from sbs_gym.sim.state import World

_HELD = (int(Life.BUFFERED), int(Life.ASIDE))
_Part = TypeVar("_Part")


class Standing(NamedTuple):
    """A run that stands at a question, and the addresses of its arrays (sim/rows.py)."""

    world: World
    blocks: Any


class ClusterView:
    """What the scheduler knows at the instant of a question; read-only.

    Attributes:
        cluster: The cluster's parameters, none of which changes.
        now_s: The instant.
        instance: Number of the prefill instance that the release in question goes to; None in
            `release` and `place_decode`.
    """

    __slots__ = ("_parts", "_standing", "cluster", "instance", "now_s")
    cluster: ClusterConfig
    now_s: float
    instance: int | None
    _standing: Standing | None
    _parts: dict[str, Any]

    def __init__(self, standing: Standing, cluster: ClusterConfig) -> None:
        agent = standing.world.agent
        placing = int(agent["asked"]) == Question.PREFILL
        fix = object.__setattr__
        fix(self, "_standing", standing)
        fix(self, "_parts", {})
        fix(self, "cluster", cluster)
        fix(self, "now_s", float(standing.world.clock["now_s"]))
        fix(self, "instance", int(agent["instance"]) if placing else None)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name} of a ClusterView cannot be set: it is read-only")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name} of a ClusterView cannot be deleted: it is read-only")

    def close(self) -> None:
        """Let go of the run; called when the question is answered."""
        object.__setattr__(self, "_standing", None)

    @property
    def buffer(self) -> BufferView:
        """The requests in the buffer."""
        return self._part("buffer", _buffer)

    @property
    def instances(self) -> InstancesView:
        """The prefill instances."""
        return self._part("instances", _instances)

    @property
    def ranks(self) -> RanksView | None:
        """The ranks of `instance`; None where that is None."""
        return None if self.instance is None else self._part("ranks", _ranks)

    @property
    def decode_ranks(self) -> DecodeRanksView | None:
        """The decode ranks; None where decode is not modelled."""
        return self._part("decode_ranks", _decode_ranks) if self.cluster.num_decode else None

    @property
    def mean_pass_s(self) -> float:
        """Moving average of the passes that were signalled; before the first, a full chunk's."""
        return self._part("mean_pass_s", lambda s: float(s.world.clock["pass_avg_s"]))

    @property
    def interval_s(self) -> float:
        """The interval at multiplier 1, not clipped: (mean pass + link) / instances."""
        link = self.cluster.dispatch_delay_s + self.cluster.signal_delay_s
        return (self.mean_pass_s + link) / self.cluster.num_prefill

    @property
    def last_release_at_s(self) -> float:
        """Instant of the last release, of any instance; -inf before the first."""
        return self._part("last_release_at_s", lambda s: float(s.world.clock["last_release_at_s"]))

    @property
    def num_releases(self) -> int:
        """Releases made so far."""
        return self._part("num_releases", lambda s: int(s.world.clock["release_number"]))

    @property
    def budget_tokens(self) -> int | None:
        """Tokens per rank that the release in question allows; None where `instance` is None."""
        if self.instance is None:
            return None
        return self._part("budget_tokens", lambda s: int(s.world.agent["budget"]))

    @property
    def num_waiting_for_decode(self) -> int:
        """Prompts without a decode rank, those placed in the running round included."""
        return self._part("num_waiting", lambda s: int(s.world.clock["num_waiting"]))

    @property
    def report_age_s(self) -> float:
        """Seconds since the youngest decode report was sampled; inf before the first."""
        sampled = self._part("sampled", lambda s: float(s.world.sight["report_sample_at_s"]))
        return self.now_s - sampled

    def _part(self, name: str, read: Callable[[Standing], _Part]) -> _Part:
        parts, standing = self._parts, self._standing
        if name not in parts:
            if standing is None:
                raise SchedulerError(
                    f"{name} of a ClusterView at {self.now_s:.6g} s was not read before its "
                    "question was answered; read it then and keep the arrays"
                )
            parts[name] = read(standing)
        part: _Part = parts[name]
        return part


def request_view(standing: Standing) -> RequestView:
    """Return the request that the question is about."""
    w = standing.world
    r = int(w.agent["request"])
    request = w.requests[r]
    waited, may_leave = int(request["waited_releases"]), False
    if int(w.agent["asked"]) == Question.PREFILL:  # until dispatch: the number at its arrival
        waited = int(w.clock["release_number"]) - waited
        may_leave = bool(legal_choices(standing)[-1])
    return RequestView(
        id=r,
        input_tokens=int(request["input_tokens"]),
        age_s=float(w.clock["now_s"]) - float(request["arrived_at_s"]),
        waited_releases=waited,
        may_leave=may_leave,
    )


def legal_choices(standing: Standing) -> BoolArray:
    """Return which ranks the question allows, and last, for a prefill rank, whether to leave."""
    w = standing.world
    asks_prefill = int(w.agent["asked"]) == Question.PREFILL
    num = int(w.setup["dp"]) + 1 if asks_prefill else int(w.setup["num_decode_ranks"])
    out = np.zeros(num, dtype=np.bool_)
    list_legal(standing.blocks, 0, out)
    return out


def _buffer(standing: Standing) -> BufferView:
    w = standing.world
    first = int(w.agent["kept_oldest"] if w.agent["left"] >= 0 else w.buffer["oldest"])
    coming = w.requests[first : int(w.clock["next_arrival"])]
    held = np.flatnonzero(np.isin(coming["life"], _HELD))
    return BufferView(
        ids=_fixed(first + held),
        input_tokens=_fixed(coming["input_tokens"][held].astype(np.int64)),
        age_s=_fixed(float(w.clock["now_s"]) - coming["arrived_at_s"][held]),
        waited_releases=_fixed(
            int(w.clock["release_number"]) - coming["waited_releases"][held].astype(np.int64)
        ),
    )


def _instances(standing: Standing) -> InstancesView:
    w = standing.world
    running = w.views["running"] != 0
    by_rank = w.rank_views.reshape(len(w.views), -1)
    return InstancesView(
        running=_fixed(running),
        ends_at_s=_fixed(np.where(running, w.views["run_end_s"], np.nan)),
        idle_since_s=_fixed(np.where(running, np.nan, w.views["idle_since_s"])),
        error_s=_copied(w.views["error_s"]),
        pending=_fixed(w.views["pending"] != 0),
        outstanding_tokens=_copied(w.views["outstanding_tokens"]),
        outstanding_requests=_copied(w.views["outstanding_requests"]),
        leftover_tokens=_copied(w.views["leftover_tokens"]),
        last_budget_tokens=_copied(w.views["last_budget"]),
        rank_leftover_tokens=_copied(w.leftovers.reshape(len(w.views), -1)),
        rank_unacked_requests=_copied(by_rank["num_unacked"]),
    )


def _ranks(standing: Standing) -> RanksView:
    w = standing.world
    dp = int(w.setup["dp"])
    first = int(w.agent["instance"]) * dp
    known = w.rank_views[first : first + dp]
    return RanksView(
        legal=_fixed(legal_choices(standing)[:-1]),
        room=_copied(w.room),
        load=_copied(w.load),
        leftover_tokens=_copied(w.leftovers[first : first + dp]),
        unacked_requests=_copied(known["num_unacked"]),
    )


def _decode_ranks(standing: Standing) -> DecodeRanksView:
    w = standing.world
    num = int(w.setup["num_decode_ranks"])
    requests, waiting, held = (np.zeros(num, dtype=np.int64) for _ in range(3))
    kv_tokens, has_room = np.zeros(num), np.zeros(num, dtype=np.bool_)
    list_known(standing.blocks, 0, requests, waiting, held, kv_tokens, has_room)
    asked = int(w.agent["asked"]) == Question.DECODE
    return DecodeRanksView(
        legal=_fixed(legal_choices(standing) if asked else np.zeros(num, dtype=np.bool_)),
        has_room=_fixed(has_room),
        refused=_fixed(w.decode_views["refused"] != 0),
        requests=_fixed(requests),
        waiting=_fixed(waiting),
        kv_tokens=_fixed(kv_tokens),
        blocks=_fixed(held),
    )


def _copied(array: NDArray[Any]) -> NDArray[Any]:
    return _fixed(np.array(array))


def _fixed(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
