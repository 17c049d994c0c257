"""`sbs-gym compare`: several schedulers under the same requests and luck."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sbs_gym.commands.comparison_text import (
    LOADS_TABLES,
    TABLES,
    any_config,
    show_comparison,
    show_loads,
)
from sbs_gym.commands.progress import ProgressReport
from sbs_gym.commands.simulate import SLO, setting_line
from sbs_gym.commands.words import (
    items,
    load_fractions,
    require_trace,
    scheduler_names,
    split_words,
    whole,
)
from sbs_gym.compare import Comparison, compare
from sbs_gym.config.run import RunConfig
from sbs_gym.errors import ConfigError, require_choice
from sbs_gym.load_sweep import compare_loads, load_directory
from sbs_gym.metrics.intervals import mean_interval
from sbs_gym.report import comparison, decode_comparison, plots, tables
from sbs_gym.report.loads_plot import family_of, loads_figure
from sbs_gym.report.parts_plot import parts_figure
from sbs_gym.schema import load_settings
from sbs_gym.simulate import measured_run

DEFAULT_SCHEDULERS = "[round_robin,least_tokens,work_conserving,sbs,sbs_budget]"
DEFAULT_SEEDS = "8"
OWN = ("schedulers", "seeds", "jobs", "reference", "show", "loads")
HELP = f"""
sbs-gym compare [schedulers=[a,b,…]] [seeds=8] [jobs=1] [reference=sbs] [key=value ...]

Run every scheduler with the same requests and the same luck, once per seed, and print TTFT, waits,
utilisation and throughput, differences paired by seed with 95 % intervals, and TTFT by prompt
length. The first tenth of every run is warm-up and is not measured, nor is its drain. Where the
cluster has decode instances: TTFT, TTFT of the client (second token), TPOT, where a request's time
goes, KV spread and goodput, and the differences in TTFT, TPOT and goodput.

  schedulers  presets, see `sbs-gym list schedulers`, also changed: sbs:placement=jsq; default
              {DEFAULT_SCHEDULERS}
  seeds       runs per scheduler, at seed, seed + 1, …
  jobs        processes
  reference   whom to compare with first; every immediate scheduler is a reference too
  show        tables to print; default [ttft,engines,pairs,lengths]
  loads       several loads instead of load=…: one table of mean TTFT with the loads across, and
              differences to the reference and to the better immediate scheduler of every load (with
              decode also of mean TPOT and goodput); output_dir then gets a folder per load,
              loads.parquet and loads.png and .svg
  output_dir  also write comparison.json, runs.parquet, by_length.parquet, comparison.png and .svg,
              with decode parts.png and .svg too: where a request's time goes. Finished runs are
              kept there: the same command goes on where it was interrupted.

The other words are those of `sbs-gym simulate`, without scheduler=.

  sbs-gym compare 'schedulers=[round_robin,sbs]' workload=sbs_long load=0.8 seeds=8 jobs=2
  sbs-gym compare 'loads=[0.5,0.7,0.9]' workload=sbs_short jobs=2 output_dir=outputs/loads
  sbs-gym compare workload=trace workload.path=trace.jsonl output_dir=outputs/mine
"""


def run(words: Sequence[str]) -> None:
    """Run the comparison, print it, and write it if output_dir is given."""
    own, rest = split_words(words, OWN)
    asked = _Asked.read(own, rest)
    settings = {
        name: load_settings([*rest, f"scheduler={name}"], also=(*OWN, *SLO))
        for name in asked.schedulers
    }
    configs = {name: setting.run for name, setting in settings.items()}
    output_dir = settings[asked.schedulers[0]].output_dir
    require_trace(configs[asked.schedulers[0]])
    if asked.loads is None:
        _run_one_load(configs, asked, output_dir)
    else:
        _run_loads(configs, asked.loads, asked, output_dir)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The command's own words, checked."""

    schedulers: list[str]
    seeds: int
    jobs: int
    reference: str | None
    shown: list[str]
    loads: list[float] | None
    changed: list[str]

    @classmethod
    def read(cls, own: Mapping[str, str], rest: Sequence[str]) -> _Asked:
        given = {word.lstrip("+").partition("=")[0] for word in rest}
        if "scheduler" in given:
            raise ConfigError("scheduler=… is for one run; a comparison takes schedulers=[a,b]")
        if "loads" in own and given & {"load", "rate_per_s"}:
            raise ConfigError("loads=[…] and load=… or rate_per_s=… exclude each other; give one")
        known = LOADS_TABLES if "loads" in own else TABLES
        shown = items(own.get("show", ",".join(known)))
        for table in shown:
            require_choice("show", table, known)
        names = scheduler_names(own.get("schedulers", DEFAULT_SCHEDULERS))
        if "reference" in own:
            require_choice("reference", own["reference"], names)
        return cls(
            schedulers=names,
            seeds=whole("seeds", own.get("seeds", DEFAULT_SEEDS), 1, 10_000),
            jobs=whole("jobs", own.get("jobs", "1"), 1, 256),
            reference=own.get("reference"),
            shown=shown,
            loads=load_fractions(own["loads"]) if "loads" in own else None,
            changed=_changed(rest),
        )


def _changed(words: Sequence[str]) -> list[str]:
    """Return lines that name the words which change all schedulers, the timing or the cluster."""
    plain = [word.lstrip("+") for word in words]
    schedulers = [word for word in plain if word.startswith("scheduler.")]
    others = [word for word in plain if word.startswith(("timing.", "cluster."))]
    lines = [f"changed in every scheduler: {' '.join(schedulers)}"] if schedulers else []
    return lines + ([f"with {' '.join(others)}"] if others else [])


def _run_one_load(configs: Mapping[str, RunConfig], asked: _Asked, output_dir: Path | None) -> None:
    with _kept_runs_told(output_dir), ProgressReport("comparing") as progress:
        found = compare(
            configs,
            asked.seeds,
            reference=asked.reference,
            output_dir=output_dir,
            jobs=asked.jobs,
            progress=progress,
        )
    show_comparison(found, asked.shown, asked.changed)
    _tell_reused([found], output_dir)
    if output_dir is not None:
        write(found, output_dir)


def _run_loads(
    configs: Mapping[str, RunConfig], loads: Sequence[float], asked: _Asked, output_dir: Path | None
) -> None:
    with _kept_runs_told(output_dir), ProgressReport("comparing") as progress:
        found = compare_loads(
            configs,
            loads,
            asked.seeds,
            reference=asked.reference,
            output_dir=output_dir,
            jobs=asked.jobs,
            progress=progress,
        )
    show_loads(found, asked.shown, asked.changed)
    _tell_reused([*found.comparisons.values()], output_dir)
    if output_dir is not None:
        found.save(output_dir)
        title = f"{setting_line(any_config(found.first))}, {found.first.num_seeds} seeds"
        families = {k: family_of(v.scheduler) for k, v in found.first.configs.items()}
        figure = loads_figure(found.table, title, families)
        plots.save_figure(figure, output_dir, "loads")
        for load, at_load in found.comparisons.items():
            _write_parts(at_load, load_directory(output_dir, load))
        tables.show(f"written to {output_dir}")


def _tell_reused(found: Sequence[Comparison], output_dir: Path | None) -> None:
    reused = sum(one.num_reused for one in found)
    if reused:
        num_runs = sum(len(one.runs) for one in found)
        tables.show(f"{reused} of {num_runs} runs were taken from {output_dir}")


def write(found: Comparison, output_dir: Path) -> None:
    """Write the comparison's files and its figures."""
    found.save(output_dir)
    figure = plots.comparison_figure(_figures(found), _title(found))
    plots.save_figure(figure, output_dir, "comparison")
    _write_parts(found, output_dir)
    tables.show(f"written to {output_dir}")


def _write_parts(found: Comparison, output_dir: Path) -> None:
    if found.has_decode:
        figure = parts_figure(decode_comparison.mean_parts(found.runs), _title(found))
        plots.save_figure(figure, output_dir, "parts")


def _figures(found: Comparison) -> list[plots.SchedulerFigures]:
    figures = []
    for name, config in found.configs.items():
        runs = found.runs[found.runs["scheduler"] == name]
        mean, low, high = mean_interval(runs["ttft_mean_s"])
        tpot, tpot_low, tpot_high = mean_interval(runs["tpot_mean_s"])
        requests = measured_run(config).requests
        requests = requests[requests["measured"]]
        figures.append(
            plots.SchedulerFigures(
                name=name,
                ttft_mean_s=mean,
                ttft_interval_s=(low, high),
                ttft_s=requests["ttft_s"].to_numpy(),
                by_length_s=comparison.mean_by_length(found.by_length, name),
                tpot_mean_s=tpot,
                tpot_interval_s=(tpot_low, tpot_high),
                tpot_s=requests["tpot_s"].to_numpy() if found.has_decode else None,
            )
        )
    return figures


def _title(found: Comparison) -> str:
    config = any_config(found)
    first = found.runs.iloc[0]
    load = float(first["rate_per_s"] / first["capacity_requests_per_s"])
    return f"{setting_line(config)}, load {load:.2f}, {found.num_seeds} seeds"


@contextlib.contextmanager
def _kept_runs_told(output_dir: Path | None) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_kept(output_dir)) from None


def _kept(output_dir: Path | None) -> str:
    if output_dir is None:
        return "nothing was kept, because no output_dir was given"
    finished = len(list(output_dir.rglob("cells/*.json")))
    return f"{finished} finished runs are in {output_dir}; the same command goes on from there"
