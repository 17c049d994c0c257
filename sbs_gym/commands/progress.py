"""Progress on stderr: a bar for a person at a terminal, plain lines for a log."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from sbs_gym.jit import PURE_PYTHON, cache_directory

_LINE_EVERY_S = 10.0
_MOST_WORDS = 44  # columns for what is being done: the bar needs the others of 80


def interactive() -> bool:
    """Return whether a person watches stderr: a terminal, and no CI."""
    return sys.stderr.isatty() and not os.environ.get("CI")


@contextlib.contextmanager
def kept_runs_told(output_dir: Path | None) -> Iterator[None]:
    """Let an interrupt say how many finished runs are in `output_dir`, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        told = "nothing was kept, because no output_dir was given"
        if output_dir is not None:
            finished = len(list(output_dir.rglob("cells/*.json")))
            told = f"{finished} finished runs are in {output_dir}; the same command goes on there"
        raise KeyboardInterrupt(told) from None


class ProgressReport:
    """Shows how much of a job is done; call it with (done, total), any number of times."""

    def __init__(self, what: str) -> None:
        self._what = what
        _announce_compilation()
        self._bar = _bar() if interactive() else None
        self._last_line_s = time.monotonic()
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(what, total=None)

    def __enter__(self) -> ProgressReport:
        return self

    def __exit__(self, *problem: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, what: str, done: float, total: float) -> None:
        """Show what is being done too."""
        self._what = what
        if self._bar is not None:
            self._bar.update(self._task, description=what)
        self(done, total)

    def __call__(self, done: float, total: float) -> None:
        """Show that `done` of `total` is done; a log gets a line every ten seconds."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
            return
        now_s = time.monotonic()
        if done >= total or now_s - self._last_line_s >= _LINE_EVERY_S:
            self._last_line_s = now_s
            print(f"{self._what}: {done:.0f} of {total:.0f}", file=sys.stderr, flush=True)


def _announce_compilation() -> None:
    """Say why nothing moves at first: numba compiles once for every version of the code."""
    compiled = PURE_PYTHON or any(cache_directory().rglob("*.nbi"))  # numba's index files
    if not compiled:
        print("compiling the simulator, once for this version (under a minute)", file=sys.stderr)


def _bar() -> Progress:
    what = Column(max_width=_MOST_WORDS, no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.description}", table_column=what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
