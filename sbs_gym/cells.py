"""The single runs of a comparison: finished ones are found on disk, missing ones are run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sbs_gym import artifacts
from sbs_gym.capacity import capacity_requests_per_s
from sbs_gym.config.run import RunConfig
from sbs_gym.errors import SbsGymError
from sbs_gym.result import code_digest, summary_from_json
from sbs_gym.schedulers.learned.playing import learner_for
from sbs_gym.schedulers.registry import Registered, adopt, portable, source_of
from sbs_gym.simulate import measured_run

Progress = Callable[[int, int], None]
Cell = tuple[str, int]  # scheduler and seed
Finished = dict[str, Any]  # its "summary", and "by_length" as a list of rows
_LONGEST_NAME = 100  # file systems take 255 bytes, digests included


def run_cells(
    cells: Mapping[Cell, RunConfig],
    store: CellStore | None,
    *,
    inputs: Mapping[str, str],
    jobs: int,
    progress: Progress | None,
    pool: ProcessPoolExecutor | None = None,
) -> tuple[dict[Cell, Finished], int]:
    """Return all cells, in the order given, and how many of them were in the store.

    Args:
        cells: What to run.
        store: Where a cell goes as soon as it is finished; None keeps it in memory.
        inputs: The files that the configurations name, as `inputs_of` any of them gives.
        jobs: Processes that run cells.
        progress: Called with (cells done, cells in all), at the start too.
        pool: Those processes, if the caller keeps them for several calls (`worker_pool`).

    Raises:
        SbsGymError: If one of the inputs changes before the last cell is done.
    """
    found = {} if store is None else store.read(cells)
    missing = {cell: config for cell, config in cells.items() if cell not in found}
    report = progress or _silent
    num_reused = len(found)
    report(num_reused, len(cells))
    for scheduler, cluster in {(one.scheduler, one.cluster) for one in missing.values()}:
        learner_for(scheduler, cluster)  # refuses what could not be run, before anything is
    sources = {cell: source_of(config.scheduler) for cell, config in missing.items()}
    for cell, finished in _finish(missing, jobs, pool):
        _require_unchanged({**inputs, **sources[cell]}, cells[cell])
        if store is not None:
            store.write(cell, cells[cell], finished)
        found[cell] = finished
        report(len(found), len(cells))
    return {cell: found[cell] for cell in cells}, num_reused


def inputs_of(config: RunConfig) -> dict[str, str]:
    """Return the files that a configuration names: path to sha256 of the content."""
    return artifacts.input_digests(config.workload, config.timing)


def sources_of(configs: Mapping[str, RunConfig]) -> dict[str, str]:
    """Return where schedulers are not made of rules, each with the checksum of its file."""
    return {k: v for one in configs.values() for k, v in source_of(one.scheduler).items()}


@dataclass(frozen=True, slots=True)
class CellStore:
    """Finished cells in a directory, one file each, named by what it was run from.

    The name holds checksums of the configuration, the content of the files it names, and the code,
    that of a user's scheduler or a network's weights too:
    results of another trace or of other code are other results, and mixing them would compare
    versions instead of schedulers.
    """

    directory: Path
    inputs: Mapping[str, str]

    def read(self, cells: Mapping[Cell, RunConfig]) -> dict[Cell, Finished]:
        """Return those of the cells that are finished."""
        paths = {cell: self.directory / self._name(cell, config) for cell, config in cells.items()}
        return {cell: _read_cell(path) for cell, path in paths.items() if path.is_file()}

    def write(self, cell: Cell, config: RunConfig, finished: Finished) -> None:
        """Write one cell, whole."""
        writer = artifacts.json_writer(finished)
        artifacts.write_all(self.directory, {self._name(cell, config): writer})

    def _name(self, cell: Cell, config: RunConfig) -> str:
        word = cell[0][-_LONGEST_NAME:]  # the end of a path
        scheduler = "".join(c if c.isalnum() or c in "-_" else "-" for c in word)
        text = json.dumps(dict(self.inputs), sort_keys=True)
        inputs_digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        digests = (
            config.digest(),
            *([inputs_digest] if self.inputs else []),
            code_digest(),
            *(digest[:16] for digest in source_of(config.scheduler).values()),
        )
        return f"{scheduler}-seed{cell[1]}-{'-'.join(digests)}.json"


def _require_unchanged(before: Mapping[str, str], config: RunConfig) -> None:
    now = {**inputs_of(config), **source_of(config.scheduler)}
    changed = artifacts.differing_keys(before, now)
    if changed:
        raise SbsGymError(
            f"{', '.join(changed)} changed while the comparison ran; its runs would not be "
            "of the same requests and times. Give the same command again"
        )


def _read_cell(path: Path) -> Finished:
    stored: Finished = artifacts.read_json(path)
    return {**stored, "summary": summary_from_json(stored["summary"])}


@contextlib.contextmanager
def worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor | None]:
    """Yield processes that run cells, None for one job; leaving drops cells that have not begun.

    Raises:
        SbsGymError: If a process ends before its cell does.
    """
    if jobs == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin_work)
    try:
        yield pool
    except BrokenProcessPool:
        raise SbsGymError(
            f"a worker process ended before its run did (jobs={jobs}): out of memory, or a script "
            "without `if __name__ == '__main__':` around the call; finished runs are kept"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _finish(
    cells: Mapping[Cell, RunConfig], jobs: int, pool: ProcessPoolExecutor | None
) -> Iterator[tuple[Cell, Finished]]:
    """Yield cells as they are finished; closing the generator drops those that have not begun."""
    if jobs == 1 or len(cells) <= 1:
        for cell, config in cells.items():
            yield cell, _run_cell(config, None)
        return
    custom = {cell: portable(config.scheduler) for cell, config in cells.items()}
    _compile_once(next(iter(cells.values())))
    if pool is not None:
        yield from _finish_in(pool, cells, custom)
        return
    with worker_pool(min(jobs, len(cells))) as own:
        if own is not None:
            yield from _finish_in(own, cells, custom)


def _finish_in(
    pool: ProcessPoolExecutor,
    cells: Mapping[Cell, RunConfig],
    custom: Mapping[Cell, Registered | None],
) -> Iterator[tuple[Cell, Finished]]:
    with _interrupts_held_back():  # submitting is what spawns the workers
        running: dict[Future[Finished], Cell] = {
            pool.submit(_run_cell, config, custom[cell]): cell for cell, config in cells.items()
        }
    for future in as_completed(running):
        yield running[future], future.result()


def _compile_once(config: RunConfig) -> None:
    # Leaves the compiled loop in the cache, where the workers find it, instead of once in each.
    capacity_requests_per_s(config.cluster, config.workload, config.timing)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Hold Ctrl-C back here, and in processes spawned here until they let it through.

    A spawned worker imports for a second before its initializer runs; interrupted there, each would
    print a traceback. Blocked signals are inherited and stay pending, so none is lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_work() -> None:
    # Ctrl-C reaches every process of the terminal: a worker ends at once and without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A parent that is ended by SIGTERM or SIGKILL cannot stop its workers.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_cell(config: RunConfig, custom: Registered | None) -> Finished:
    if custom is not None:
        adopt(custom)
    result = measured_run(config)
    return {
        "summary": dict(result.summary),
        "by_length": result.by_length.to_dict(orient="records"),
    }


def _silent(done: int, total: int) -> None:
    del done, total
