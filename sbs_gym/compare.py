"""Schedulers side by side: same requests, same luck, paired differences with intervals."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sbs_gym import artifacts
from sbs_gym.cells import Cell, CellStore, Finished, Progress, inputs_of, run_cells, sources_of
from sbs_gym.config.run import RunConfig, run_from_mapping
from sbs_gym.errors import ConfigError, require_choice, require_number
from sbs_gym.metrics.columns import LENGTH_COLUMNS, SUMMARY_KEYS
from sbs_gym.metrics.intervals import mean_interval
from sbs_gym.result import code_digest

PAIRED_METRICS = ("ttft_mean_s", "ttft_p50_s", "ttft_p90_s", "ttft_p99_s")
DECODE_METRICS = (
    "ttft_client_mean_s",
    "ttft_client_p99_s",
    "tpot_mean_s",
    "tpot_p99_s",
    "e2e_mean_s",
    "goodput_per_s",
)
PAIRED_COLUMNS = (
    "scheduler",
    "reference",
    "metric",
    "ratio",
    "ratio_low",
    "ratio_high",
    "num_pairs",
)
_CONFIDENCE = 0.95
_DEFAULT_REFERENCE = "sbs"
_FILES = ("comparison.json", "runs.parquet", "by_length.parquet")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """What several schedulers did with the same requests and luck.

    Attributes:
        configs: The run of every scheduler, at the first seed.
        num_seeds: Runs per scheduler, at seed, seed + 1, ….
        reference: The scheduler that the others are compared with first.
        runs: One row per scheduler and seed: `scheduler`, `seed`, then the keys of the summary.
        paired: One row per metric and pair of schedulers: `ratio` = geometric mean over seeds of
            scheduler / reference (below 1 means lower latency or goodput), `ratio_low` and
            `ratio_high` its 95 % t-interval (NaN for one pair), `num_pairs` the seeds that count.
            PAIRED_METRICS, and DECODE_METRICS too where decode is modelled.
        by_length: One row per scheduler, seed and prompt-length bucket, columns as
            `column_docs()` of by_length.
        inputs: The files that the configurations name, path to sha256 of the content; of a user's
            scheduler module:class, and that of its file.
        num_reused: Runs that were taken from `output_dir`; 0 for a comparison that was loaded.
    """

    configs: Mapping[str, RunConfig]
    num_seeds: int
    reference: str
    runs: pd.DataFrame
    paired: pd.DataFrame
    by_length: pd.DataFrame
    inputs: Mapping[str, str] = field(default_factory=dict)
    num_reused: int = 0

    @property
    def has_decode(self) -> bool:
        """Return whether decode is modelled; the schedulers share the cluster."""
        return next(iter(self.configs.values())).cluster.num_decode > 0

    def save(self, directory: str | Path) -> Path:
        """Write comparison.json, runs.parquet and by_length.parquet, all whole, or none.

        Raises:
            ConfigError: If the directory holds a comparison of other workloads or clusters.
        """
        shared = _shared_mapping(self.configs)
        artifacts.check_output_dir(directory, shared)
        artifacts.write_all(
            directory,
            {
                artifacts.CONFIG_FILE: artifacts.yaml_writer(shared),
                "runs.parquet": artifacts.parquet_writer(self.runs),
                "by_length.parquet": artifacts.parquet_writer(self.by_length),
                "comparison.json": artifacts.json_writer(self._to_mapping()),
            },
        )
        return Path(directory)

    @classmethod
    def load(cls, directory: str | Path) -> Comparison:
        """Return the comparison that `save` wrote.

        Raises:
            ConfigError: If files are missing or cannot be read.
        """
        path = artifacts.require_files(directory, _FILES)
        found = artifacts.read_json(path / "comparison.json")
        paired = pd.DataFrame(found["paired"], columns=list(PAIRED_COLUMNS))
        bounds = dict.fromkeys(("ratio", "ratio_low", "ratio_high"), float)
        return cls(
            configs={k: run_from_mapping(v) for k, v in found["configs"].items()},
            num_seeds=found["num_seeds"],
            reference=found["reference"],
            runs=pd.read_parquet(path / "runs.parquet"),
            paired=paired.astype(bounds),
            by_length=pd.read_parquet(path / "by_length.parquet"),
            inputs=found.get("inputs", {}),
        )

    def _to_mapping(self) -> dict[str, Any]:
        return {
            "reference": self.reference,
            "num_seeds": self.num_seeds,
            "confidence": _CONFIDENCE,
            "code_digest": code_digest(),
            "inputs": self.inputs,
            "paired": self.paired.to_dict(orient="records"),
            "configs": {k: v.to_mapping() for k, v in self.configs.items()},
        }


def compare(
    configs: Mapping[str, RunConfig],
    seeds: int,
    *,
    reference: str | None = None,
    output_dir: str | Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    pool: ProcessPoolExecutor | None = None,
) -> Comparison:
    """Return the comparison of schedulers under the same requests and luck.

    Every scheduler and seed is one `measured_run`: a cell. With `output_dir` a cell is written as
    soon as it is finished, and cells found there are not run again if configuration, content of
    the files it names, and code are the same; an interrupted comparison goes on where it stopped.
    The tables themselves are written by `Comparison.save`.

    Args:
        configs: One run per scheduler name; they may differ in the scheduler only.
        seeds: Runs per scheduler, at config.seed, config.seed + 1, …; 1 to 10,000.
        reference: Scheduler to compare with first; `sbs` if it is there, else the first one.
            Every scheduler is compared with each immediate one too.
        output_dir: Where finished cells go; None keeps everything in memory.
        jobs: Processes that run cells, 1 to 256.
        progress: Called with (cells done, cells in all), also at the start.
        pool: Those processes, if the caller keeps them for several calls (`cells.worker_pool`).

    Raises:
        ConfigError: If the configurations differ in more than the scheduler, the reference is
            not one of them, or `output_dir` holds something else; before any run.
        SbsGymError: If a file that the configurations name changes while it is compared.
    """
    require_number("seeds", seeds, 1, 10_000, integer=True)
    require_number("jobs", jobs, 1, 256, integer=True)
    shared = _shared_mapping(configs)
    chosen = _reference(configs, reference)
    cells = {
        (name, config.seed + k): dataclasses.replace(config, seed=config.seed + k)
        for name, config in configs.items()
        for k in range(seeds)
    }
    inputs = inputs_of(next(iter(configs.values())))  # the schedulers share workload and timing
    store = None if output_dir is None else _open_store(output_dir, shared, inputs)
    done, num_reused = run_cells(
        cells, store, inputs=inputs, jobs=jobs, progress=progress, pool=pool
    )
    runs = _runs_table(done)
    return Comparison(
        configs=dict(configs),
        num_seeds=seeds,
        reference=chosen,
        runs=runs,
        paired=paired_table(runs, _pairs(configs, chosen), _metrics(configs)),
        by_length=_length_table(done),
        inputs={**inputs, **sources_of(configs)},
        num_reused=num_reused,
    )


def paired_table(
    runs: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    metrics: Sequence[str] = PAIRED_METRICS,
) -> pd.DataFrame:
    """Return the ratios of the metrics for pairs (scheduler, reference), paired by seed.

    Args:
        runs: One row per scheduler and seed, as in `Comparison.runs`.
        pairs: Which scheduler over which reference.
        metrics: Keys of the summary.
    """
    rows = []
    for metric, (scheduler, reference) in itertools.product(metrics, pairs):
        by_seed = runs.pivot(index="seed", columns="scheduler", values=metric)
        ratio, low, high, count = ratio_interval(
            by_seed[scheduler].to_numpy(), by_seed[reference].to_numpy()
        )
        rows.append((scheduler, reference, metric, ratio, low, high, count))
    return pd.DataFrame(rows, columns=list(PAIRED_COLUMNS))


def ratio_interval(
    values: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]
) -> tuple[float, float, float, int]:
    """Return the geometric mean of values / reference, its 95 % interval and the pairs it rests on.

    The interval is Student's for the mean of the log ratios; NaN for one pair, the point itself
    if all ratios are equal. Pairs with a NaN, or a zero on both sides, are left out. A zero on one
    side only, such as no goodput in a seed, makes the ratio 0, or NaN where it is the reference's,
    without an interval.

    Not a bootstrap: in small samples its bias-corrected interval covers the mean too rarely
    (arXiv 2508.10083).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.asarray(values, dtype=float) / np.asarray(reference, dtype=float))
    count = int((~np.isnan(logs)).sum())
    if np.isinf(logs).any():
        return math.nan if np.isposinf(logs).any() else 0.0, math.nan, math.nan, count
    mean, low, high = mean_interval(logs)
    return math.exp(mean), math.exp(low), math.exp(high), count


def _shared_mapping(configs: Mapping[str, RunConfig]) -> dict[str, Any]:
    """Return what all configurations share; an error if they differ beyond the scheduler."""
    if not configs:
        raise ConfigError("configs is empty; expected at least one scheduler")
    shared = {name: config.to_mapping() for name, config in configs.items()}
    for mapping in shared.values():
        del mapping["scheduler"]
    first_name, first = next(iter(shared.items()))
    for name, mapping in shared.items():
        if mapping != first:
            keys = ", ".join(artifacts.differing_keys(mapping, first))
            raise ConfigError(
                f"the runs of {first_name!r} and {name!r} differ in: {keys}; expected runs that "
                "differ in the scheduler only"
            )
    return first


def _open_store(
    output_dir: str | Path, shared: dict[str, Any], inputs: Mapping[str, str]
) -> CellStore:
    artifacts.check_output_dir(output_dir, shared)
    artifacts.write_all(output_dir, {artifacts.CONFIG_FILE: artifacts.yaml_writer(shared)})
    return CellStore(Path(output_dir) / "cells", inputs)


def _reference(configs: Mapping[str, RunConfig], asked: str | None) -> str:
    if asked is not None:
        require_choice("reference", asked, configs)
        return asked
    return _DEFAULT_REFERENCE if _DEFAULT_REFERENCE in configs else next(iter(configs))


def _pairs(configs: Mapping[str, RunConfig], reference: str) -> list[tuple[str, str]]:
    immediate = [k for k, v in configs.items() if v.scheduler.release == "immediate"]
    references = dict.fromkeys([reference, *immediate])
    return [(name, base) for base in references for name in configs if name != base]


def _metrics(configs: Mapping[str, RunConfig]) -> tuple[str, ...]:
    has_decode = next(iter(configs.values())).cluster.num_decode > 0
    return PAIRED_METRICS + (DECODE_METRICS if has_decode else ())


def _runs_table(cells: Mapping[Cell, Finished]) -> pd.DataFrame:
    rows = [{"scheduler": c[0], "seed": c[1], **done["summary"]} for c, done in cells.items()]
    return pd.DataFrame(rows, columns=["scheduler", "seed", *SUMMARY_KEYS])


def _length_table(cells: Mapping[Cell, Finished]) -> pd.DataFrame:
    rows = [
        {"scheduler": c[0], "seed": c[1], **row}
        for c, done in cells.items()
        for row in done["by_length"]
    ]
    table = pd.DataFrame(rows, columns=["scheduler", "seed", *LENGTH_COLUMNS])
    numbers = {name: float for name in LENGTH_COLUMNS if name.endswith(("_s", "_frac"))}
    return table.astype(numbers)
