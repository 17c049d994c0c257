"""Runs that training asks for again and again, kept in the cache directory."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sbs_gym.cells import CellStore, inputs_of
from sbs_gym.config.run import RunConfig
from sbs_gym.jit import cached_under
from sbs_gym.result import Summary, code_digest
from sbs_gym.simulate import measured_run


def summaries(runs: Sequence[RunConfig]) -> list[Summary]:
    """Return the summaries of several runs, played on all cores unless they were played before.

    They are kept per user (`SBS_GYM_CACHE_DIR` moves them), for this version of the package and
    these contents of the files that the runs name: another seed of a training, or one that was
    stopped, reads what the first one has played.
    """
    summary = functools.partial(_summary, cached_under("runs", code_digest()))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # compiled runs hold no lock
        return list(pool.map(summary, runs))


def _summary(directory: Path, run: RunConfig) -> Summary:
    store, cell = CellStore(directory, inputs_of(run)), ("measured", run.seed)
    kept = store.read({cell: run})
    if kept:
        return kept[cell]["summary"]  # type: ignore[no-any-return]
    summary = measured_run(run).summary
    with contextlib.suppress(OSError):  # a directory that cannot be written keeps nothing
        store.write(cell, run, {"summary": summary, "by_length": []})
    return summary
