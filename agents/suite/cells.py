"""The cells of a suite: one workload, load and arrival process on one cluster."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

from agents.suite.definition import Choice, LoadLevel, PathPart, Suite
from sbs_gym.config.run import RunConfig
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.schema import load_config


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteCell:
    """A setting in which policies are compared, at several seeds.

    Attributes:
        part: train or test; overload and shift for the parts beside the suite.
        path: prefill or full.
        workload, arrivals: Names.
        load: Fraction of capacity, of the peak for modulated arrivals.
        config: The run, of whatever scheduler and seed.
        change: Name of the shift; empty elsewhere.
        fixed_s: Fixed time of a pass that the shift sets, seconds.
    """

    part: str
    path: str
    workload: str
    load: float
    arrivals: str
    config: RunConfig
    change: str = ""
    fixed_s: float | None = None

    @property
    def key(self) -> str:
        """A name for files."""
        parts = (self.part, self.path, self.workload, f"{self.load:g}", self.arrivals, self.change)
        text = "_".join(part for part in parts if part)
        return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)

    @property
    def label(self) -> str:
        """A name for people."""
        return f"{self.workload} {self.load:g} {self.change or self.arrivals}"

    def run(self, scheduler: SchedulerConfig, seed: int) -> RunConfig:
        """Return the run of a scheduler and a seed."""
        return dataclasses.replace(self.config, scheduler=scheduler, seed=seed)


def suite_cells(suite: Suite, paths: Sequence[str], part: str) -> list[SuiteCell]:
    """Return the cells of a part on these paths, in the order of the file."""
    return [
        _cell(suite, path, workload, level, arrivals)
        for path in suite.paths
        if path.name in paths
        for workload in suite.workloads
        for level in path.loads
        for arrivals in suite.arrivals
        if part in (_part(workload, arrivals), "all")
    ]


def setting(machine: Sequence[str], workload: Sequence[str], arrivals: Sequence[str]) -> RunConfig:
    """Return the run that words of cluster and timing, of a workload and of arrivals describe.

    Composing takes a third of a second: each part is composed once, not each of their products.
    """
    return dataclasses.replace(
        _compose(tuple(machine)),
        workload=_compose(tuple(workload)).workload,
        arrivals=_compose(tuple(arrivals)).arrivals,
    )


@functools.lru_cache(maxsize=1024)
def _compose(words: tuple[str, ...]) -> RunConfig:
    return load_config(words)


def _part(workload: Choice, arrivals: Choice) -> str:
    return "train" if workload.trained and arrivals.trained else "test"


def _cell(
    suite: Suite, path: PathPart, workload: Choice, level: LoadLevel, arrivals: Choice
) -> SuiteCell:
    config = setting(path.words, workload.words, arrivals.words)
    return SuiteCell(
        part=_part(workload, arrivals),
        path=path.name,
        workload=workload.name,
        load=level.load,
        arrivals=arrivals.name,
        config=dataclasses.replace(
            config, load=level.load, rate_per_s=None, num_requests=level.num_requests
        ),
    )
