"""`sbs-gym simulate`: one run, its tables, and its files if output_dir is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table

from sbs_gym.commands.progress import ProgressReport
from sbs_gym.commands.words import require_trace
from sbs_gym.config.run import RunConfig
from sbs_gym.report import tables
from sbs_gym.report.style import number
from sbs_gym.result import Result, check_output_dir
from sbs_gym.schema import load_settings
from sbs_gym.simulate import simulate
from sbs_gym.workload.trace.recorded import recorded

HELP = """
sbs-gym simulate [key=value ...]

Run one scheduler on one workload and print TTFT, waits, utilisation and throughput; with decode
instances also TPOT, their steps and KV, goodput, and tokens per GPU with their cost. With
output_dir the run is also written as summary.json, requests.parquet, passes.parquet,
steps.parquet, by_length.parquet, config.yaml and provenance.json.

  what runs     scheduler=sbs scheduler.order=shortest (any field of the scheduler)
  on what       cluster=h800_3p1d cluster.num_prefill=4 cluster.prefill_dp=16
                cluster.chunk_tokens=3072 cluster.dispatch_delay_s=0.001
                cluster.signal_delay_s=0.001
                cluster.num_decode=1 cluster.decode_dp=32
                timing=roofline|linear|constant|table timing.jitter_cv=0.05
  what arrives  workload=sbs_short arrivals=poisson, or
                workload=trace workload.path=FILE [workload.format=auto]
  how much      load=0.7 (of capacity) or rate_per_s=150; num_requests=20000 or horizon_s=600
  luck          seed=0
  files         output_dir=outputs/one

  sbs-gym simulate scheduler=round_robin load=0.9 seed=3
  sbs-gym simulate workload=trace workload.path=trace.jsonl scheduler=sbs output_dir=outputs/one
"""


SLO = ("slo.*",)  # listed among the known words; its fields are words of their own

_ENDS = ("start", "end")
_LONG_DRAIN = 0.2  # of the run: from here on rates are told to be below those of traffic


def run(words: Sequence[str]) -> None:
    """Run one simulation and print it."""
    settings = load_settings(words, also=SLO)
    require_trace(settings.run)
    if settings.output_dir is not None:
        check_output_dir(settings.output_dir, settings.run)
    with ProgressReport("simulating") as progress:
        result = simulate(settings.run, progress=progress)
    show_result(result)
    if settings.output_dir is not None:
        tables.show(f"written to {result.save(settings.output_dir)}")


def show_result(result: Result) -> None:
    """Print the tables of a run."""
    tables.show(
        f"{result.config.scheduler.name}, seed {result.config.seed}, {setting_line(result.config)}",
        *drawn_arrivals(result.config, result.summary),
        f"{tables.rate_line(result.summary)}; {tables.overload_line(result.summary)}",
        *_drain_told(result),
        "",
        tables.latency_table(result.summary),
        tables.engine_table(result.summary),
        *(made(result.summary) for made in _of_decode(result.config)),
        tables.length_table(result.by_length),
    )


def _drain_told(result: Result) -> list[str]:
    """Return the line that rates hold a long drain, none if it is short."""
    start_s, end_s = (float(result.summary[f"window_{name}_at_s"] or 0.0) for name in _ENDS)
    span_s = end_s - start_s
    drain_s = end_s - float(result.requests["arrived_at_s"].max())
    if not span_s > 0.0 or drain_s < _LONG_DRAIN * span_s:
        return []
    return [
        f"rates and engines hold the drain behind the last arrival, {100 * drain_s / span_s:.0f} % "
        "of the run; `sbs-gym compare` measures steady traffic"
    ]


def _of_decode(config: RunConfig) -> list[Callable[[Mapping[str, Any]], Table]]:
    return [tables.decode_table, tables.gpu_table] if config.cluster.num_decode else []


def setting_line(config: RunConfig) -> str:
    """Return cluster, workload, arrivals and timing in one line."""
    workload = config.workload
    arrivals = workload.path if workload.kind == "trace" else f"{config.arrivals.name} arrivals"
    return f"{workload.name}, {arrivals}, {_machine(config)}"


def drawn_arrivals(config: RunConfig, summary: Mapping[str, Any] | None) -> list[str]:
    """Return the line that a trace's arrivals are drawn, none if the file records them.

    Args:
        config: A run.
        summary: Of a run, for its requests per second; None if there are several rates.
    """
    if config.workload.kind != "trace" or recorded(config.workload).arrivals:
        return []
    at = "the rate of each load"
    if summary is not None:
        at = f"{number(summary['rate_per_s'])} per second"
    return [f"no arrival times read: {config.arrivals.name} arrivals at {at}"]


def cluster_line(config: RunConfig) -> str:
    """Return cluster, workload and timing in one line, without arrivals."""
    workload = config.workload
    path = f", {workload.path}" if workload.kind == "trace" else ""
    return f"{workload.name}{path}, {_machine(config)}"


def _machine(config: RunConfig) -> str:
    cluster = config.cluster
    ranks = f"{cluster.num_prefill} x {cluster.prefill_dp}"
    if cluster.num_decode:
        ranks += f" prefill and {cluster.num_decode} x {cluster.decode_dp} decode"
    return f"{ranks} ranks, chunk {cluster.chunk_tokens}, timing {config.timing.kind}"
