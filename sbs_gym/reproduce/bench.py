"""Where the runs of studies are made: a folder, processes, and the count of what is done."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sbs_gym.cells import Progress

Told = Callable[[str, float, float], None]  # what is run, runs done, runs in all


@dataclass(slots=True)
class Count:
    """Runs of all studies: done, and expected in all."""

    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a study runs its panels with.

    Attributes:
        directory: The study's own folder.
        study: Its name, told while it runs.
        jobs: Processes.
        pool: Those processes; None for one job.
        told: Called with what is run, runs done and runs in all.
        count: Shared by all studies.
    """

    directory: Path
    study: str = ""
    jobs: int = 1
    pool: ProcessPoolExecutor | None = None
    told: Told | None = None
    count: Count = field(default_factory=Count)

    def of_study(self, name: str) -> Bench:
        """Return the bench of one study, in its own folder."""
        return dataclasses.replace(self, directory=self.directory / name, study=name)

    @contextlib.contextmanager
    def counted(self, what: str, num_runs: int) -> Iterator[Progress]:
        """Yield a progress that counts into all studies, of `num_runs` expected runs."""
        before, expected = self.count.done, self.count.total
        text = f"{self.study}: {what}"
        last = [num_runs]

        def progress(done: int, total: int) -> None:
            last[0] = total
            if self.told is not None:
                self.told(text, before + done, expected + total - num_runs)

        yield progress
        self.count.done = before + last[0]
        self.count.total = expected + last[0] - num_runs
