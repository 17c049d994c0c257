"""`sbs-gym compare`: several schedulers under the same requests and luck."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sbs_gym.commands.progress import ProgressReport
from sbs_gym.commands.simulate import setting_line
from sbs_gym.commands.words import items, require_trace, scheduler_names, split_words, whole
from sbs_gym.compare import Comparison, compare
from sbs_gym.errors import ConfigError, require_choice
from sbs_gym.metrics.intervals import mean_interval
from sbs_gym.report import comparison, plots, tables
from sbs_gym.schema import load_settings
from sbs_gym.simulate import measured_run

DEFAULT_SCHEDULERS = "[round_robin,least_tokens,work_conserving,sbs,sbs_budget]"
DEFAULT_SEEDS = "8"
OWN = ("schedulers", "seeds", "jobs", "reference", "show")
TABLES = ("ttft", "engines", "pairs", "lengths")
REPLAYED = "every seed replays this trace: intervals hold the luck of timing alone"
HELP = f"""
sbs-gym compare [schedulers=[a,b,…]] [seeds=8] [jobs=1] [reference=sbs] [key=value ...]

Run every scheduler with the same requests and the same luck, once per seed, and print TTFT, waits,
utilisation and throughput, differences paired by seed with 95 % intervals, and TTFT by prompt
length. The first tenth of every run is warm-up and is not measured, nor is its drain.

  schedulers  presets, see `sbs-gym list schedulers`; default
              {DEFAULT_SCHEDULERS}
  seeds       runs per scheduler, at seed, seed + 1, …
  jobs        processes
  reference   whom to compare with first; every immediate scheduler is a reference too
  show        tables to print; default [ttft,engines,pairs,lengths]
  output_dir  also write comparison.json, runs.parquet, by_length.parquet, comparison.png and .svg.
              Finished runs are kept there: the same command goes on where it was interrupted.

The other words are those of `sbs-gym simulate`, without scheduler=.

  sbs-gym compare 'schedulers=[round_robin,sbs]' workload=sbs_long load=0.8 seeds=8 jobs=2
  sbs-gym compare workload=trace workload.path=trace.jsonl output_dir=outputs/mine
"""


def run(words: Sequence[str]) -> None:
    """Run the comparison, print it, and write it if output_dir is given."""
    own, rest = split_words(words, OWN)
    if any(word.partition("=")[0] == "scheduler" for word in rest):
        raise ConfigError("scheduler=… is for one run; a comparison takes schedulers=[a,b]")
    names = scheduler_names(own.get("schedulers", DEFAULT_SCHEDULERS))
    seeds = whole("seeds", own.get("seeds", DEFAULT_SEEDS), 1, 10_000)
    jobs = whole("jobs", own.get("jobs", "1"), 1, 256)
    shown = items(own.get("show", ",".join(TABLES)))
    for table in shown:
        require_choice("show", table, TABLES)
    if "reference" in own:
        require_choice("reference", own["reference"], names)
    settings = {name: load_settings([*rest, f"scheduler={name}"], also=OWN) for name in names}
    output_dir = settings[names[0]].output_dir
    require_trace(settings[names[0]].run)
    try:
        with ProgressReport("comparing") as progress:
            found = compare(
                {name: setting.run for name, setting in settings.items()},
                seeds,
                reference=own.get("reference"),
                output_dir=output_dir,
                jobs=jobs,
                progress=progress,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_kept(output_dir)) from None
    show_comparison(found, shown)
    if output_dir is not None:
        write(found, output_dir)


def show_comparison(found: Comparison, shown: Sequence[str] = TABLES) -> None:
    """Print the tables of a comparison, those named in `shown`."""
    first = {str(key): value for key, value in found.runs.iloc[0].items()}
    config = next(iter(found.configs.values()))
    made = {
        "ttft": comparison.ttft_table(found.runs),
        "engines": comparison.engines_table(found.runs),
        "pairs": comparison.paired_table(found.paired),
        "lengths": comparison.lengths_table(found.by_length),
    }
    trace = config.workload.kind == "trace"
    tables.show(
        setting_line(config),
        *([REPLAYED] * trace),
        f"{tables.rate_line(first)}; seeds {config.seed} to {config.seed + found.num_seeds - 1}",
        "",
        *(made[name] for name in shown),
    )


def write(found: Comparison, output_dir: Path) -> None:
    """Write the comparison's files and its figure."""
    found.save(output_dir)
    figure = plots.comparison_figure(_figures(found), _title(found))
    plots.save_figure(figure, output_dir, "comparison")
    tables.show(f"written to {output_dir}")


def _figures(found: Comparison) -> list[plots.SchedulerFigures]:
    figures = []
    for name, config in found.configs.items():
        runs = found.runs[found.runs["scheduler"] == name]
        mean, low, high = mean_interval(runs["ttft_mean_s"])
        requests = measured_run(config).requests
        figures.append(
            plots.SchedulerFigures(
                name=name,
                ttft_mean_s=mean,
                ttft_interval_s=(low, high),
                ttft_s=requests.loc[requests["measured"], "ttft_s"].to_numpy(),
                by_length_s=comparison.mean_by_length(found.by_length, name),
            )
        )
    return figures


def _title(found: Comparison) -> str:
    config = next(iter(found.configs.values()))
    load = float(found.runs["load_prefill_frac"].iloc[0])
    return f"{setting_line(config)}, load {load:.2f}, {found.num_seeds} seeds"


def _kept(output_dir: Path | None) -> str:
    if output_dir is None:
        return "nothing was kept, because no output_dir was given"
    finished = len(list((output_dir / "cells").glob("*.json")))
    return f"{finished} finished runs are in {output_dir}; the same command goes on from there"
