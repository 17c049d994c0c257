"""What `sbs-gym compare` prints: the tables of one comparison, or of one per load."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from sbs_gym.commands.simulate import drawn_arrivals, setting_line
from sbs_gym.compare import Comparison
from sbs_gym.config.run import RunConfig
from sbs_gym.load_sweep import LoadSweep
from sbs_gym.report import comparison, decode_comparison, load_tables, tables
from sbs_gym.report.style import number, percent, signed_percent
from sbs_gym.workload.trace.recorded import recorded

TABLES = ("ttft", "engines", "pairs", "lengths")
LOADS_TABLES = ("ttft", "pairs")
REPLAYED = "every seed replays this trace: intervals hold the luck of timing alone"
_STEADY_FRAC = 0.05
_SIDES = ("prefill", "decode")
_SCALED = {"thin": "the rows kept by thinning", "overlay": "the shifts of overlaid copies"}


def show_comparison(
    found: Comparison, shown: Sequence[str] = TABLES, changed: Sequence[str] = ()
) -> None:
    """Print the tables of a comparison, those named in `shown`, under the lines `changed`."""
    first = {str(key): value for key, value in found.runs.iloc[0].items()}
    config = any_config(found)
    made = _decode_tables(found) if found.has_decode else _prefill_tables(found)
    scaled = config.load is not None or config.rate_per_s is not None
    tables.show(
        setting_line(config),
        *changed,
        *drawn_arrivals(config, first),
        *_luck_of_seeds(config, scaled),
        f"{tables.rate_line(first)}; {_seeds(found)}",
        *_rejected([found]),
        *_still_filling([found]),
        "",
        *(table for name in shown for table in made[name]),
    )


def _rejected(found: Sequence[Comparison]) -> list[str]:
    """Return the line that requests were rejected in one of them, none if none was."""
    counts = [one.runs.groupby("scheduler")[["num_rejected", "num_arrived"]].sum() for one in found]
    most = max(float((c["num_rejected"] / c["num_arrived"]).max()) for c in counts)
    if not most > 0.0:
        return []
    return [
        f"rejected: up to {percent(most)} % of a scheduler's requests; latencies are those of the "
        "others, and the SLO counts them as missed"
    ]


def _still_filling(found: Sequence[Comparison]) -> list[str]:
    """Return the line that decode was not in a steady state in one of them, none if it was."""
    drift = max((float(one.runs["batch_drift_frac"].mean()) for one in found), key=abs)
    if not abs(drift) > _STEADY_FRAC:
        return []
    return [
        f"decode not steady: its batch changed by {signed_percent(drift)} % from the first half of "
        "the window to the second; TPOT and goodput need more requests"
    ]


def _prefill_tables(found: Comparison) -> dict[str, list[Table]]:
    return {
        "ttft": [comparison.ttft_table(found.runs)],
        "engines": [comparison.engines_table(found.runs)],
        "pairs": [comparison.paired_table(found.paired)],
        "lengths": [comparison.lengths_table(found.by_length)],
    }


def _decode_tables(found: Comparison) -> dict[str, list[Table]]:
    runs = found.runs
    return {
        "ttft": [decode_comparison.latencies_table(runs), decode_comparison.parts_table(runs)],
        "engines": [
            decode_comparison.throughput_table(runs),
            decode_comparison.prefill_table(runs),
            decode_comparison.decode_table(runs),
            decode_comparison.kv_table(runs),
        ],
        "pairs": [decode_comparison.paired_table(found.paired)],
        "lengths": [comparison.lengths_table(found.by_length)],
    }


def show_loads(
    found: LoadSweep, shown: Sequence[str] = LOADS_TABLES, changed: Sequence[str] = ()
) -> None:
    """Print mean TTFT by load, and the differences to the reference and to the better immediate.

    With decode the same for mean TPOT and goodput.
    """
    config, better = any_config(found.first), found.better_immediate
    first = found.first.runs.iloc[0]
    capacity = number(first["capacity_requests_per_s"])
    if found.first.has_decode:
        sides = (f"{side} {number(first[f'capacity_{side}_requests_per_s'])}" for side in _SIDES)
        capacity += f" ({', '.join(sides)})"
    parts: list[RenderableType] = []
    if "ttft" in shown:
        seeds = found.first.num_seeds
        parts += [load_tables.means_table(found.table, better, seeds, m) for m in _metrics(found)]
    if "pairs" in shown:
        parts += [table for metric in _metrics(found) for table in _differences(found, metric)]
    tables.show(
        setting_line(config),
        *changed,
        *drawn_arrivals(config, None),
        *_luck_of_seeds(config, True),
        f"capacity {capacity} requests/s; {_seeds(found.first)}",
        *_rejected([*found.comparisons.values()]),
        *_still_filling([*found.comparisons.values()]),
        *load_tables.legend(found.table, better),
        "",
        *parts,
    )


def _metrics(found: LoadSweep) -> list[str]:
    return list(load_tables.METRICS) if found.first.has_decode else [load_tables.TTFT]


def _differences(found: LoadSweep, metric: str) -> list[Table]:
    reference, better = found.first.reference, found.better_immediate
    others = [name for name in found.first.configs if name != reference]
    ratio = functools.partial(found.ratio, metric=metric)
    what, how = load_tables.METRICS[metric][0], "(%, paired by seed, ± half 95 % interval)"
    against = dict.fromkeys(found.loads, reference)
    title = f"{what} against {reference} {how}"
    made = [load_tables.differences_table(title, others, against, ratio)]
    waiting = [n for n, c in found.first.configs.items() if c.scheduler.release != "immediate"]
    bases = {load: name for load, name in better.items() if name is not None}
    if waiting and len(bases) == len(better):
        title = f"{what} against {load_tables.BETTER} {how}"
        made.append(load_tables.differences_table(title, waiting, bases, ratio))
    return made


def _luck_of_seeds(config: RunConfig, scaled: bool) -> list[str]:
    """Return the line that tells what seeds share or do not share of a trace.

    Args:
        config: A run; without a trace there is no line.
        scaled: Whether the trace is brought to a rate that was asked for.
    """
    workload = config.workload
    if workload.kind != "trace":
        return []
    has = recorded(workload)
    differs = [] if has.arrivals else ["arrivals"]
    if has.arrivals and scaled and workload.scaling in _SCALED:
        differs.append(_SCALED[workload.scaling])
    if has.arrivals and workload.session_rate_per_s is not None:
        differs.append("session starts")  # of formats whose sessions have no common clock
    if has.arrivals and workload.spread_ticks_s > 0:
        differs.append("the spread over ticks")
    if workload.output_tokens is not None and not has.outputs:
        differs.append("answer lengths")
    return [f"drawn anew for every seed: {', '.join(differs)}"] if differs else [REPLAYED]


def any_config(found: Comparison) -> RunConfig:
    """Return the run of one of the schedulers; they share everything else."""
    return next(iter(found.configs.values()))


def _seeds(found: Comparison) -> str:
    first = any_config(found).seed
    return f"seeds {first} to {first + found.num_seeds - 1}"
