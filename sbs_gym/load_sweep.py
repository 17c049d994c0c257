"""The same comparison at several loads."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sbs_gym import artifacts
from sbs_gym.cells import Progress
from sbs_gym.compare import Comparison, compare, ratio_interval
from sbs_gym.config.run import RunConfig
from sbs_gym.errors import ConfigError
from sbs_gym.metrics.intervals import mean_interval

# Key of the summary, and the columns of its mean over seeds and of the ends of its 95 % interval.
SWEEP_METRICS = {
    "ttft_mean_s": ("ttft_mean_s", "ttft_low_s", "ttft_high_s"),
    "tpot_mean_s": ("tpot_mean_s", "tpot_low_s", "tpot_high_s"),
    "goodput_per_s": ("goodput_per_s", "goodput_low_per_s", "goodput_high_per_s"),
}
SWEEP_COLUMNS = (
    "load",
    "rate_per_s",
    "scheduler",
    *itertools.chain.from_iterable(SWEEP_METRICS.values()),
    "overloaded_frac",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadSweep:
    """Comparisons of the same schedulers at several loads.

    Attributes:
        comparisons: Load to its comparison, in the order asked for.
        table: One row per load and scheduler: requests per second, and over seeds mean TTFT, mean
            TPOT (NaN without decode) and goodput with their 95 % intervals, and the share of
            overloaded seeds.
        better_immediate: Load to the immediate scheduler with the lowest mean TTFT there; None
            where no scheduler is immediate.
    """

    comparisons: Mapping[float, Comparison]
    table: pd.DataFrame
    better_immediate: Mapping[float, str | None]

    @property
    def first(self) -> Comparison:
        """Return the comparison at the first load."""
        return next(iter(self.comparisons.values()))

    @property
    def loads(self) -> list[float]:
        """Return the loads."""
        return list(self.comparisons)

    def ratio(
        self, load: float, scheduler: str, base: str, metric: str = "ttft_mean_s"
    ) -> tuple[float, float, float]:
        """Return a metric of `scheduler` over that of `base`, paired by seed, and its interval."""
        runs = self.comparisons[load].runs
        by_seed = runs.pivot(index="seed", columns="scheduler", values=metric)
        return ratio_interval(by_seed[scheduler].to_numpy(), by_seed[base].to_numpy())[:3]

    def save(self, directory: str | Path) -> Path:
        """Write loads.parquet, and every comparison to its folder `load_<load>`."""
        for load, comparison in self.comparisons.items():
            comparison.save(load_directory(directory, load))
        artifacts.write_all(directory, {"loads.parquet": artifacts.parquet_writer(self.table)})
        return Path(directory)


def compare_loads(
    configs: Mapping[str, RunConfig],
    loads: Sequence[float],
    seeds: int,
    *,
    reference: str | None = None,
    output_dir: str | Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    pool: ProcessPoolExecutor | None = None,
) -> LoadSweep:
    """Compare the schedulers at every load; the arguments are those of `compare`.

    Args:
        configs: Run of every scheduler; its load is replaced.
        loads: Loads as fractions of capacity, each once.
        seeds: Runs per scheduler and load.
        reference: Scheduler to compare with.
        output_dir: Gets one folder per load, each with its finished runs.
        jobs: Processes that run cells.
        progress: Called with (cells done, cells in all), over all loads.
        pool: Those processes, if the caller keeps them for several calls.

    Raises:
        ConfigError: If a load is named twice or out of range, a run asks for a rate instead, or
            `output_dir` holds something else; before any run.
    """
    if not loads or len(set(loads)) != len(loads):
        raise ConfigError(f"loads={list(loads)!r}: expected at least one, each once")
    per_load = {load: _at_load(configs, load) for load in loads}
    if output_dir is not None:
        _open(output_dir, configs)
    found: dict[float, Comparison] = {}
    for done, (load, at_load) in enumerate(per_load.items()):
        found[load] = compare(
            at_load,
            seeds,
            reference=reference,
            output_dir=None if output_dir is None else load_directory(output_dir, load),
            jobs=jobs,
            progress=_shifted(progress, done, len(per_load)),
            pool=pool,
        )
    return LoadSweep(
        comparisons=found,
        table=_table(found),
        better_immediate={load: _better_immediate(one) for load, one in found.items()},
    )


def load_directory(directory: str | Path, load: float) -> Path:
    """Return the folder of one load's comparison."""
    return Path(directory) / f"load_{load:g}"


def _at_load(configs: Mapping[str, RunConfig], load: float) -> dict[str, RunConfig]:
    return {name: dataclasses.replace(config, load=load) for name, config in configs.items()}


def _open(output_dir: str | Path, configs: Mapping[str, RunConfig]) -> None:
    """Refuse the folder of another sweep or of a comparison at one load."""
    shared = next(iter(configs.values())).to_mapping()
    del shared["scheduler"], shared["load"]
    mapping = {"loads": "one folder for each", **shared}
    artifacts.check_output_dir(output_dir, mapping)
    artifacts.write_all(output_dir, {artifacts.CONFIG_FILE: artifacts.yaml_writer(mapping)})


def _shifted(progress: Progress | None, done_loads: int, num_loads: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(done_loads * total + done, num_loads * total)


def _table(comparisons: Mapping[float, Comparison]) -> pd.DataFrame:
    rows = []
    for load, comparison in comparisons.items():
        for name, runs in comparison.runs.groupby("scheduler", sort=False):
            overloaded = float(runs["overloaded"].eq(True).mean())
            means = (mean_interval(runs[metric]) for metric in SWEEP_METRICS)
            rate_per_s = float(runs["rate_per_s"].mean())
            rows.append((load, rate_per_s, name, *itertools.chain.from_iterable(means), overloaded))
    return pd.DataFrame(rows, columns=list(SWEEP_COLUMNS))


def _better_immediate(comparison: Comparison) -> str | None:
    means = comparison.runs.groupby("scheduler")["ttft_mean_s"].mean()
    known = {
        name: float(means[name])
        for name, config in comparison.configs.items()
        if config.scheduler.release == "immediate" and not math.isnan(means[name])
    }
    return min(known, key=lambda name: known[name]) if known else None
