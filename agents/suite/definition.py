"""What a suite holds: cells, splits of seeds, admission, candidates, overload, shifts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sbs_gym.errors import ConfigError, require_choice, require_number

Named = TypeVar("Named", "Choice", "PathPart")
PARTS = ("train", "test", "all")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A workload or an arrival process: words of `sbs-gym simulate`; do agents train on it?"""

    name: str
    words: tuple[str, ...]
    trained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLevel:
    """A load, as a fraction of capacity, and the requests of a run there, warm-up included."""

    load: float
    num_requests: int

    def __post_init__(self) -> None:
        require_number("suite.paths.loads.load", self.load, 0, 10, low_open=True)
        where = "suite.paths.loads.num_requests"
        require_number(where, self.num_requests, 10, 200_000_000, integer=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathPart:
    """Prefill alone or the full path: cluster and timing, the tasks that act there, its loads."""

    name: str
    words: tuple[str, ...]
    tasks: tuple[str, ...]
    loads: tuple[LoadLevel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What a cell must show to count: a steady mean TTFT that tells schedulers apart.

    Attributes:
        cv_below: Bound of the coefficient of variation over seeds, under the baseline.
        differs_by_frac: How far the blind scheduler's mean TTFT must be from the baseline's.
    """

    cv_below: float
    differs_by_frac: float

    def __post_init__(self) -> None:
        require_number("suite.admission.cv_below", self.cv_below, 0, 100, low_open=True)
        require_number("suite.admission.differs_by_frac", self.differs_by_frac, 0, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticSearch:
    """The windows and budgets among which static_global and static_cell are chosen.

    Attributes:
        path: Where they are tuned.
        scheduler: The preset whose window and budget they change.
        multipliers: Of its interval.
        shares: Of the backlog per rank; the full chunk is tried too.
        floor_tokens: Smallest budget, tokens.
        num_seeds: Seeds of the validation split, the first ones.
    """

    path: str
    scheduler: str
    multipliers: tuple[float, ...]
    shares: tuple[float, ...]
    floor_tokens: int
    num_seeds: int

    def __post_init__(self) -> None:
        if not self.multipliers:
            raise ConfigError("suite.static.multipliers is empty; expected at least one")
        require_number("suite.static.num_seeds", self.num_seeds, 1, 10_000, integer=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverloadCell:
    """An arrival process with times above capacity: its words, load of its peak, seconds."""

    name: str
    words: tuple[str, ...]
    load: float
    horizon_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """The overload part: every cell with every workload, and the keys it is scored by."""

    path: str
    workloads: tuple[str, ...]
    cells: tuple[OverloadCell, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One shift.

    Attributes:
        name: As tables show it.
        words: Words of `sbs-gym simulate`.
        fixed_s: Fixed time of a pass, seconds, at equal time of a full chunk.
        per_token_factor: Factor on the time per token.
        swap: Whether the other workload's lengths arrive from the middle on.
    """

    name: str
    words: tuple[str, ...] = ()
    fixed_s: float | None = None
    per_token_factor: float | None = None
    swap: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """The shift table: every change at every workload and load."""

    path: str
    workloads: tuple[str, ...]
    loads: tuple[float, ...]
    arrivals: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A suite; `conf/suite/v1.yaml` explains the fields."""

    name: str
    part: str
    path: str | None
    splits: Mapping[str, tuple[int, int]]
    baseline: str
    budget_rival: str
    blind: str
    paths: tuple[PathPart, ...]
    workloads: tuple[Choice, ...]
    arrivals: tuple[Choice, ...]
    admission: Admission
    static: StaticSearch
    overload: Overload | None
    shifts: Shifts | None

    def __post_init__(self) -> None:
        require_choice("suite.part", self.part, PARTS)
        known = [path.name for path in self.paths]
        if self.path is not None:
            require_choice("suite.path", self.path, [*known, "all"])
        for split in SPLITS:
            require_choice(f"suite.splits: {split}", split, self.splits)
        for group, entries in self._entries().items():
            for word in (word for one in entries for word in one.words):
                require_choice(f"suite.{group}: {word!r}: group", _group(word), [group])
        for part in (self.static, self.overload, self.shifts):
            if part is not None:
                require_choice("suite path", part.path, known)

    def _entries(self) -> dict[str, Sequence[Choice | OverloadCell]]:
        """Return what may only name workloads, and what may only name arrivals."""
        cells = () if self.overload is None else self.overload.cells
        return {"workload": self.workloads, "arrivals": (*self.arrivals, *cells)}

    def path_named(self, name: str) -> PathPart:
        """Return the path of a name."""
        return _named("suite.paths", name, self.paths)

    def workload(self, name: str) -> Choice:
        """Return the workload of a name."""
        return _named("suite.workloads", name, self.workloads)

    def arrival(self, name: str) -> Choice:
        """Return the arrival process of a name."""
        return _named("suite.arrivals", name, self.arrivals)

    def to_mapping(self) -> dict[str, Any]:
        """Return the suite as plain mappings, part and path included."""
        return dataclasses.asdict(self)


def _group(word: str) -> str:
    return word.partition("=")[0].partition(".")[0]


def _named(field: str, name: str, known: Sequence[Named]) -> Named:
    require_choice(field, name, [one.name for one in known])
    return next(one for one in known if one.name == name)
