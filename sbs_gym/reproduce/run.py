"""Run the studies of a preset, and write what they found: the report is made from saved files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sbs_gym import artifacts
from sbs_gym.cells import worker_pool
from sbs_gym.errors import require_number
from sbs_gym.reproduce.bench import Bench, Count, Told
from sbs_gym.reproduce.claims import Claim
from sbs_gym.reproduce.preset import Preset
from sbs_gym.reproduce.study import Saved, Study
from sbs_gym.reproduce.write import write_report

STUDIES_FOLDER = "studies"
DEFAULT_TRACE_LOAD = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What was found.

    Attributes:
        claims: Every claim, measured, in the order of the report.
        report: The page.
    """

    claims: Sequence[Claim]
    report: Path


def reproduce(
    preset: Preset,
    output_dir: str | Path,
    *,
    studies: Sequence[str] = (),
    traces: Sequence[str] = (),
    trace_load: float | None = DEFAULT_TRACE_LOAD,
    jobs: int = 1,
    told: Told | None = None,
) -> Reproduction:
    """Run the studies of a preset and write report, verdicts, tables and figures.

    Every finished run is kept in `output_dir/studies` and not run again: an interrupted
    reproduction goes on where it stopped, and ends with the same report.

    Args:
        preset: What is run.
        output_dir: Where everything goes.
        studies: Names of studies; none: all of the preset.
        traces: Trace files to replay too.
        trace_load: Load that they are brought to, a fraction of capacity; None: their own rate.
        jobs: Processes that run simulations, 1 to 256.
        told: Called with what is run, runs done and runs in all.

    Raises:
        ConfigError: If a study is not known, a run is not possible, or `output_dir` holds the
            results of another preset.
    """
    require_number("jobs", jobs, 1, 256, integer=True)
    chosen = {**preset.studies(studies), **preset.traces(traces, trace_load)}
    place = Path(output_dir)
    config = artifacts.plain(preset.to_mapping())
    artifacts.check_output_dir(place, config)
    artifacts.write_all(place, {artifacts.CONFIG_FILE: artifacts.yaml_writer(config)})
    _run_all(chosen, place / STUDIES_FOLDER, jobs, told)
    saved = {name: _read(place / STUDIES_FOLDER / name) for name in chosen}
    chapters = [study.tell(saved[name]) for name, study in chosen.items()]
    return Reproduction(
        claims=[claim for chapter in chapters for claim in chapter.claims],
        report=write_report(place, preset, chapters, traces, trace_load),
    )


def _run_all(studies: Mapping[str, Study], place: Path, jobs: int, told: Told | None) -> None:
    count = Count(total=sum(study.num_runs for study in studies.values()))
    with worker_pool(jobs) as pool:
        bench = Bench(directory=place, jobs=jobs, pool=pool, told=told, count=count)
        for name, study in studies.items():
            tables = study.run(bench.of_study(name))
            writers = {f"{k}.parquet": artifacts.parquet_writer(v) for k, v in tables.items()}
            readable = {f"{k}.csv": artifacts.csv_writer(v) for k, v in tables.items()}
            artifacts.write_all(place / name, {**readable, **writers})


def _read(directory: Path) -> Saved:
    tables = {path.stem: pd.read_parquet(path) for path in sorted(directory.glob("*.parquet"))}
    return Saved(directory=directory, tables=tables)
