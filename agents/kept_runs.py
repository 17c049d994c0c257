"""Runs that training asks for again and again, kept in the cache directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sbs_gym.artifacts import json_writer, read_json, write_all
from sbs_gym.cells import inputs_of
from sbs_gym.config.run import RunConfig
from sbs_gym.jit import cached_under
from sbs_gym.result import Summary, code_digest, summary_from_json
from sbs_gym.schedulers.registry import source_of
from sbs_gym.simulate import measured_run


def summaries(runs: Sequence[RunConfig]) -> list[Summary]:
    """Return the summaries of several runs, played on all cores unless they were played before.

    They are kept per user (`SBS_GYM_CACHE_DIR` moves them), for this version of the package and
    these contents of the files that the runs name: another seed of a training, or one that was
    stopped, reads what the first one has played.
    """
    directory, name = cached_under("runs", code_digest()), f"{_digest(runs)}.json"
    kept = _kept(directory / name)
    if kept is not None:
        return kept
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # compiled runs hold no lock
        found = list(pool.map(lambda run: measured_run(run).summary, runs))
    with contextlib.suppress(OSError):  # a directory that cannot be written keeps nothing
        write_all(directory, {name: json_writer(found)})
    return found


def _kept(path: Path) -> list[Summary] | None:
    with contextlib.suppress(OSError):
        return [summary_from_json(one) for one in read_json(path)]
    return None


def _digest(runs: Sequence[RunConfig]) -> str:
    told = [[run.digest(), inputs_of(run), source_of(run.scheduler)] for run in runs]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:20]
