"""What is asked of an evaluation, and whether it can be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.suite.cells import SuiteCell, suite_cells
from agents.suite.definition import Suite
from agents.suite.policies import Policy
from agents.suite.runs import job_of
from sbs_gym import artifacts
from sbs_gym.errors import ConfigError, require_number

TABLES = ("suite", "overload", "shift")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for.

    Attributes:
        suite: The suite with its part and path.
        policies: As named; the references of the suite are added.
        split: Of the seeds.
        seeds: Workload seeds, inside the split.
        output_dir: Where runs and results go.
        static_dir: Where searches for static_global and static_cell are kept.
        tables: Which of TABLES.
        jobs: Processes.
    """

    suite: Suite
    policies: Sequence[Policy]
    split: str
    seeds: Sequence[int]
    output_dir: Path
    static_dir: Path
    tables: Sequence[str] = TABLES
    jobs: int = 1

    def __post_init__(self) -> None:
        require_number("jobs", self.jobs, 1, 256, integer=True)

    @property
    def paths(self) -> list[str]:
        """The paths of the call: as said, else where the agents act, prefill for presets alone."""
        known = [path.name for path in self.suite.paths]
        if self.suite.path is not None:
            return known if self.suite.path == "all" else [self.suite.path]
        agents = [policy for policy in self.policies if policy.tasks]
        found = [name for name in known if any(p.paths(self.suite, [name]) for p in agents)]
        return found or known[:1]

    def config(self) -> dict[str, Any]:
        """Return what config.yaml of the output directory holds; policies may be added later."""
        suite = self.suite.to_mapping()
        del suite["part"], suite["path"]
        told = {"suite": suite, "split": self.split, "seeds": list(self.seeds)}
        found: dict[str, Any] = artifacts.plain(told)
        return found


def check(request: Request) -> None:
    """Raise ConfigError if something asked for cannot be played; nothing is run.

    Raises:
        ConfigError: If no policy plays on a path, an agent cannot act on a cluster of the suite,
            there is no cell, or the output directory holds another evaluation.
    """
    for policy in request.policies:
        played = policy.paths(request.suite, request.paths)
        if not played:
            raise ConfigError(
                f"policies: {policy.name!r} ({', '.join(policy.tasks) or 'tuned constants'}) does "
                f"not act on the path {', '.join(request.paths)}; give suite.path=all"
            )
        for cell in chosen_cells(request, played)[:1]:
            reason = policy.cannot_play(cell.config.cluster)
            if reason:
                raise ConfigError(f"policies: {policy.name!r}: {reason}")
    if not chosen_cells(request, request.paths):
        raise ConfigError(f"suite.part={request.suite.part!r} has no cell in this suite")
    for cell in chosen_cells(request, request.paths)[:1]:
        for policy in request.policies:
            if not policy.is_static:
                job_of(cell, {policy.name: policy.words}, request.seeds[:1])
    artifacts.check_output_dir(request.output_dir, request.config())


def chosen_cells(request: Request, paths: Sequence[str]) -> list[SuiteCell]:
    """Return the cells of the part asked for on these paths."""
    return suite_cells(request.suite, paths, request.suite.part)
