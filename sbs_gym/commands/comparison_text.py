"""What `sbs-gym compare` prints: the tables of one comparison, or of one per load."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from sbs_gym.commands.simulate import setting_line
from sbs_gym.compare import Comparison
from sbs_gym.config.run import RunConfig
from sbs_gym.load_sweep import LoadSweep
from sbs_gym.report import comparison, load_tables, tables
from sbs_gym.report.style import number

TABLES = ("ttft", "engines", "pairs", "lengths")
LOADS_TABLES = ("ttft", "pairs")
REPLAYED = "every seed replays this trace: intervals hold the luck of timing alone"


def show_comparison(found: Comparison, shown: Sequence[str] = TABLES) -> None:
    """Print the tables of a comparison, those named in `shown`."""
    first = {str(key): value for key, value in found.runs.iloc[0].items()}
    config = any_config(found)
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
        f"{tables.rate_line(first)}; {_seeds(found)}",
        "",
        *(made[name] for name in shown),
    )


def show_loads(found: LoadSweep, shown: Sequence[str] = LOADS_TABLES) -> None:
    """Print mean TTFT by load, and the differences to the reference and to the better immediate."""
    config, better = any_config(found.first), found.better_immediate
    capacity = found.first.runs["capacity_requests_per_s"].iloc[0]
    trace = config.workload.kind == "trace"
    parts: list[RenderableType] = []
    if "ttft" in shown:
        parts += [load_tables.means_table(found.table, better, found.first.num_seeds)]
    if "pairs" in shown:
        parts += _differences(found)
    tables.show(
        setting_line(config),
        *([REPLAYED] * trace),
        f"capacity {number(capacity)} requests/s; {_seeds(found.first)}",
        *load_tables.legend(found.table, better),
        "",
        *parts,
    )


def _differences(found: LoadSweep) -> list[Table]:
    reference, better = found.first.reference, found.better_immediate
    others = [name for name in found.first.configs if name != reference]
    made = [
        load_tables.differences_table(
            f"mean TTFT against {reference} (%, paired by seed, ± half 95 % interval)",
            others,
            dict.fromkeys(found.loads, reference),
            found.ratio,
        )
    ]
    waiting = [n for n, c in found.first.configs.items() if c.scheduler.release != "immediate"]
    bases = {load: name for load, name in better.items() if name is not None}
    if waiting and len(bases) == len(better):
        title = f"mean TTFT against {load_tables.BETTER} (%, paired by seed, ± half 95 % interval)"
        made.append(load_tables.differences_table(title, waiting, bases, found.ratio))
    return made


def any_config(found: Comparison) -> RunConfig:
    """Return the run of one of the schedulers; they share everything else."""
    return next(iter(found.configs.values()))


def _seeds(found: Comparison) -> str:
    first = any_config(found).seed
    return f"seeds {first} to {first + found.num_seeds - 1}"
