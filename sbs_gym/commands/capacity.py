"""`sbs-gym capacity`: the largest rate at which schedulers keep the SLO, by simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from sbs_gym.commands.progress import ProgressReport, kept_runs_told
from sbs_gym.commands.simulate import drawn_arrivals, setting_line
from sbs_gym.commands.words import (
    decimal,
    refuse_keys,
    require_trace,
    scheduler_names,
    split_words,
    whole,
)
from sbs_gym.config.run import SloConfig
from sbs_gym.errors import ConfigError
from sbs_gym.report import tables
from sbs_gym.report.style import ABSENT, milliseconds, number, percent
from sbs_gym.schema import load_settings
from sbs_gym.slo_capacity import FULL_FRAC, SloCapacity, find_capacity, why_not

OWN = ("schedulers", "seeds", "jobs", "tolerance")
DEFAULT_SEEDS, DEFAULT_TOLERANCE = "4", "0.01"
HELP = f"""
sbs-gym capacity scheduler=NAME | schedulers=[a,b,…] [seeds={DEFAULT_SEEDS}] [key=value ...]

Find the largest rate at which at least slo.attainment_frac of the measured requests meet their SLO
(TTFT, and TPOT where the cluster decodes), by simulating one rate after the other: a bracket is
sought from 0.7 of the fluid capacity on (`sbs-gym balance`) and then halved. Every seed is a search
of its own; rates are means over seeds with 95 % intervals, and schedulers are compared seed by
seed. Measured are the same requests as in `sbs-gym compare`, without warm-up and drain.

  scheduler   one preset, also changed: sbs:placement=jsq; or
  schedulers  several, next to each other; ratios are to the first one
  seeds       searches per scheduler, at seed, seed + 1, …
  tolerance   a rate higher by this fraction missed the target; default {DEFAULT_TOLERANCE}
  jobs        processes
  slo         slo.ttft_s slo.ttft_per_token_s slo.ttft_free_tokens slo.tpot_s slo.attainment_frac
  output_dir  also write capacity.json: every rate tried. Finished runs are kept there: the same
              command goes on where it was interrupted.

Long answers fill decode slowly. Where the measured window is too early for that, a line says how
full decode was and how many requests are enough.

An SLO that not even {0.01:g} of the fluid capacity meets is reported as infeasible, with the shares
that meet TTFT and TPOT. Rates are those of the peak state where arrivals vary. The other words are
those of `sbs-gym simulate`, without load and rate_per_s.

  sbs-gym capacity scheduler=sbs
  sbs-gym capacity 'schedulers=[round_robin,sbs]' workload=sbs_long seeds=8 output_dir=outputs/cap
  sbs-gym capacity scheduler=sbs slo.ttft_s=2 slo.tpot_s=0.03 slo.attainment_frac=0.99
"""
_SEARCHED = ("load", "rate_per_s")
_PRODUCED = (
    ("input_tokens_per_prefill_gpu_s", 0),
    ("input_tokens_per_prefill_node_s", 0),
    ("output_tokens_per_decode_gpu_s", 0),
    ("output_tokens_per_decode_node_s", 0),
    ("cost_per_million_input_tokens", 2),
    ("cost_per_million_output_tokens", 2),
)


def run(words: Sequence[str]) -> None:
    """Search the rates, print them, and write them if output_dir is given."""
    own, rest = split_words(words, OWN)
    refuse_keys(rest, _SEARCHED, "is what is searched")
    seeds = whole("seeds", own.get("seeds", DEFAULT_SEEDS), 1, 10_000)
    jobs = whole("jobs", own.get("jobs", "1"), 1, 256)
    tolerance = decimal("tolerance", own.get("tolerance", DEFAULT_TOLERANCE), 1e-4, 0.5)
    also = (*OWN, "slo.*")
    settings = {
        name: load_settings([*others, f"scheduler={name}"], also=also)
        for name, others in _asked(own.get("schedulers"), rest).items()
    }
    configs = {name: setting.run for name, setting in settings.items()}
    output_dir = next(iter(settings.values())).output_dir
    require_trace(next(iter(configs.values())))
    with kept_runs_told(output_dir), ProgressReport("searching") as progress:
        found = find_capacity(
            configs,
            seeds,
            tolerance_frac=tolerance,
            output_dir=output_dir,
            jobs=jobs,
            progress=progress,
        )
    show_capacity(found)
    if output_dir is not None:
        if found.num_reused:
            told = f"{found.num_reused} of {found.num_runs}"
            tables.show(f"{told} runs were taken from {output_dir}")
        tables.show(f"written to {found.save(output_dir)}")


def show_capacity(found: SloCapacity) -> None:
    """Print rates, their ratios, and what the cluster produces at them."""
    config = next(iter(found.configs.values()))
    tables.show(
        setting_line(config),
        *drawn_arrivals(config, None),
        slo_line(config.slo, decodes=config.cluster.num_decode > 0),
        f"fluid capacity {number(found.fluid_per_s)} requests/s; {_seeds(found)}; a rate "
        f"{100 * found.tolerance_frac:g} % higher missed the target",
        *_reasons(found),
        *_too_short(found),
        "",
        _rates(found),
        _produced(found),
    )


def slo_line(slo: SloConfig, *, decodes: bool) -> str:
    """Return the SLO in one line."""
    ttft = f"TTFT {milliseconds(slo.ttft_s)} ms"
    if slo.ttft_per_token_s > 0:
        ttft += (
            f" + {slo.ttft_per_token_s * 1e3:g} ms per prompt token beyond {slo.ttft_free_tokens:,}"
        )
    tpot = f", TPOT {milliseconds(slo.tpot_s)} ms" if decodes else ""
    return f"SLO: {ttft}{tpot}, for {100 * slo.attainment_frac:g} % of requests"


def _asked(schedulers: str | None, rest: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the schedulers, each with the other words."""
    named = [word for word in rest if word.lstrip("+").partition("=")[0] == "scheduler"]
    if named and schedulers is not None:
        raise ConfigError("scheduler=… and schedulers=[…] exclude each other; give one")
    if not named and schedulers is None:
        raise ConfigError("capacity: scheduler=NAME or schedulers=[a,b,…] is missing")
    text = schedulers if schedulers is not None else named[-1].partition("=")[2]
    others = [word for word in rest if word not in named]
    return dict.fromkeys(scheduler_names(text, at_least=1), others)


def _reasons(found: SloCapacity) -> list[str]:
    """Return one line for every scheduler without a rate, and one for what is doubtful."""
    lines = []
    for name in found.configs:
        reasons = [
            reason
            for cell, search in found.searches.items()
            if cell[0] == name and (reason := why_not(search, found.summaries[cell]))
        ]
        if reasons:
            seeds = f"{len(reasons)} of {found.num_seeds} seeds: " if found.num_seeds > 1 else ""
            lines.append(f"{name}: {seeds}{reasons[0]}")
        elif found.mean(name, "overloaded") > 0:
            lines.append(
                f"{name}: TTFT still grew at the rate found in "
                f"{found.mean(name, 'overloaded'):.0%} of seeds: a longer run would find less; "
                "give more num_requests"
            )
    return lines


def _too_short(found: SloCapacity) -> list[str]:
    """Return the line that decode was still filling up, none if it was full."""
    filled, enough = found.decode_fill()
    if math.isnan(filled) or filled >= FULL_FRAC:
        return []
    return [
        f"decode was {100 * filled:.0f} % full in the measured window: its answers are long, fewer "
        "requests ran than would in the long run, and rates bound by TPOT or KV are too high; give "
        f"num_requests={enough}"
    ]


def _seeds(found: SloCapacity) -> str:
    first = next(iter(found.configs.values())).seed
    last = first + found.num_seeds - 1
    return f"seed {first}" if first == last else f"seeds {first} to {last}"


def _rates(found: SloCapacity) -> Table:
    first, *others = found.configs
    rows = []
    for name in found.configs:
        mean, low, high = found.interval(name)
        rows.append(
            (
                name,
                _outcome(found, name) if math.isnan(mean) else number(mean),
                number((high - low) / 2),
                number(mean / found.fluid_per_s, 2),
                *(_ratio(found, name, first) if others else ()),
                percent(found.mean(name, "slo_attainment_frac")),
                percent(found.mean(name, "ttft_attainment_frac")),
                percent(found.mean(name, "tpot_attainment_frac")),
            )
        )
    ratios = ("ratio", "±") if others else ()
    columns = ("scheduler", "req/s", "±", "load", *ratios, "SLO %", "TTFT", "TPOT")
    against = f"; ratio to {first}" if others else ""
    title = f"largest rate that keeps the SLO (± half 95 % interval over seeds{against})"
    return tables.number_table(title, columns, rows)


def _ratio(found: SloCapacity, name: str, first: str) -> tuple[str, str]:
    if name == first:
        return ABSENT, ABSENT
    ratio, low, high = found.ratio(name, first)
    return number(ratio, 3), number((high - low) / 2, 3)


def _outcome(found: SloCapacity, name: str) -> str:
    kinds = {search.outcome for search in found.of(name)} - {"found"}
    return "infeasible" if "infeasible" in kinds else "not found"


def _produced(found: SloCapacity) -> Table:
    columns = ("at that rate", "in/GPU", "in/node", "out/GPU", "out/node", "M in", "M out")
    rows = [
        (
            name,
            *(
                number(
                    math.nan if math.isnan(found.interval(name)[0]) else found.mean(name, key), n
                )
                for key, n in _PRODUCED
            ),
        )
        for name in found.configs
    ]
    return tables.number_table(
        "prompt tokens/s per prefill GPU, node; generated tokens/s per decode GPU, node; price of "
        "all GPUs per million prompt tokens, generated tokens",
        columns,
        rows,
    )
