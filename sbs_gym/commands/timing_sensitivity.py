"""`sbs-gym timing sensitivity`: do rankings survive a change of every parameter of the timing?"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from sbs_gym import artifacts
from sbs_gym.capacity import capacities
from sbs_gym.commands.progress import ProgressReport, kept_runs_told
from sbs_gym.commands.simulate import cluster_line
from sbs_gym.commands.words import (
    decimal,
    items,
    output_file,
    refuse_keys,
    require_trace,
    scheduler_names,
    split_words,
    whole,
)
from sbs_gym.config.run import RunConfig
from sbs_gym.errors import ConfigError
from sbs_gym.rankings import Interval, Measured, Ranking, Sensitivity, Swap
from sbs_gym.report import tables
from sbs_gym.report.style import ABSENT, milliseconds, number
from sbs_gym.schema import load_settings
from sbs_gym.timing.changes import Unchanged
from sbs_gym.timing_sensitivity import sensitivity

OWN = (
    "schedulers", "placements", "decode_workload", "load", "seeds", "jobs", "frac", "output",
)  # fmt: skip
DEFAULTS = {
    "schedulers": "[round_robin,least_tokens,work_conserving,sbs]",
    "placements": "[round_robin,random,jsq,iqr_lex]",
    "decode_workload": "pd_online_like",
    "load": "0.7",
    "seeds": "6",
    "jobs": "1",
    "frac": "0.2",
}
_NUM_REQUESTS = 3000
_WIDTH = 80
_PREFILL_LOAD = 0.5  # of the placement runs: prefill shall not be what decides there
_REFUSED = ("scheduler", "load_side", "rate_per_s")
HELP = f"""
sbs-gym timing sensitivity [timing=roofline] [frac={DEFAULTS["frac"]}] [jobs=1] [key=value ...]

Multiply every number of the timing by 1 - frac and by 1 + frac, one at a time, run again, and say
whether the ranking of rules survives. Two rankings: schedulers by mean TTFT, and rules of decode
placement (of sbs) by mean TPOT, the latter on a cluster with so many prefill instances that they
are loaded to {_PREFILL_LOAD:g}. The load is relative to the capacity of the changed timing. All
rules meet the same requests and luck. A ranking is changed only where two rules swap that differ
both with and without the change: beyond the 95 % interval of their ratio, paired by seed. A pair
that differs only without it is counted as a tie. Tuples are scaled as a whole, of a skew its excess
over 1; what cannot be changed is named with the reason.

  schedulers       presets to rank by TTFT; default {DEFAULTS["schedulers"]}.
                   Followed is the ratio of the last one to the best of the immediate ones
  placements       rules to rank by TPOT; default {DEFAULTS["placements"]}. Followed is the
                   ratio of the last one to the first. [] leaves a ranking out
  workload         of the TTFT runs; default that of `sbs-gym simulate`
  decode_workload  of the TPOT runs, with long-tailed answers; default {DEFAULTS["decode_workload"]}
  load             of prefill in the TTFT runs, of decode in the others; default {DEFAULTS["load"]}
  seeds            runs per rule and timing, at seed, seed + 1, …; default {DEFAULTS["seeds"]}
  jobs             processes
  frac             0.001 to 0.9; default {DEFAULTS["frac"]}
  output           everything as JSON
  output_dir       keep finished runs there; the same command goes on where it was interrupted

The other words are those of `sbs-gym simulate`; num_requests is {_NUM_REQUESTS:,} if not given.

  sbs-gym timing sensitivity jobs=2 output=sensitivity.json output_dir=outputs/sensitivity
  sbs-gym timing sensitivity timing=linear 'schedulers=[least_tokens,lpt,sbs]' placements=[]
  sbs-gym timing sensitivity timing.expert_load=max workload=sbs_long load=0.8 frac=0.3
"""


def run(words: Sequence[str]) -> None:
    """Run everything, print the table, and write what was asked for."""
    own, rest = split_words(words, OWN)
    refuse_keys(rest, _REFUSED, "is what timing sensitivity sets itself")
    asked = {**DEFAULTS, **own}
    seeds = whole("seeds", asked["seeds"], 2, 10_000)
    jobs = whole("jobs", asked["jobs"], 1, 256)
    frac = decimal("frac", asked["frac"], 0.001, 0.9)
    decimal("load", asked["load"], 0.001, 10)
    path = output_file(own["output"]) if "output" in own else None
    if not {"num_requests", "horizon_s"} & {word.lstrip("+").partition("=")[0] for word in rest}:
        rest.append(f"num_requests={_NUM_REQUESTS}")
    rest.append(f"load={asked['load']}")
    rankings = [*_of_schedulers(asked, rest), *_of_placements(asked, rest)]
    if not rankings:
        raise ConfigError("schedulers=[] placements=[]: expected rules to rank in one of them")
    output_dir = load_settings(rest, also=OWN).output_dir
    with kept_runs_told(output_dir), ProgressReport("changing the timing") as progress:
        found = sensitivity(
            rankings, seeds, frac=frac, output_dir=output_dir, jobs=jobs, progress=progress
        )
    show_sensitivity(found)
    if found.num_reused:
        tables.show(f"{found.num_reused} of {found.num_runs} runs were taken from {output_dir}")
    if path is not None:
        _write(path, found)


def _of_schedulers(asked: Mapping[str, str], words: Sequence[str]) -> Iterator[Ranking]:
    if not items(asked["schedulers"]):
        return
    names = scheduler_names(asked["schedulers"])
    configs = {
        name: _run_config([*words, "load_side=prefill", f"scheduler={name}"]) for name in names
    }
    others = names[:-1]
    immediate = [name for name in others if configs[name].scheduler.release == "immediate"]
    yield Ranking(
        name="ttft",
        metric="ttft_mean_s",
        configs=configs,
        subject=names[-1],
        bases=immediate or others,
    )


def _of_placements(asked: Mapping[str, str], words: Sequence[str]) -> Iterator[Ranking]:
    names = items(asked["placements"])
    if not names:
        return
    if len(names) < 2 or len(set(names)) != len(names):
        raise ConfigError(f"placements={asked['placements']!r}: expected at least two, each once")
    others = [word for word in words if word.partition("=")[0].partition(".")[0] != "workload"]
    others += [f"workload={asked['decode_workload']}"]
    prefill = _run_config([*others, "load_side=prefill"])
    if prefill.cluster.num_decode == 0:
        raise ConfigError(
            "placements need decode instances, and cluster.num_decode=0; expected at least 1, or "
            "placements=[]"
        )
    others += ["load_side=decode", f"cluster.num_prefill={_enough_prefill(prefill)}"]
    configs = {name: _run_config([*others, f"scheduler=sbs:placement={name}"]) for name in names}
    yield Ranking(
        name="tpot", metric="tpot_mean_s", configs=configs, subject=names[-1], bases=names[:1]
    )


def _run_config(words: Sequence[str]) -> RunConfig:
    config = load_settings(words, also=OWN).run
    require_trace(config)
    return config


def _enough_prefill(config: RunConfig) -> int:
    """Return the prefill instances that are loaded to _PREFILL_LOAD at the load of decode."""
    found = capacities(config)
    per_instance = found.prefill_requests_per_s / config.cluster.num_prefill
    rate_per_s = (config.load or 0.0) * found.decode_requests_per_s
    if math.isnan(rate_per_s):
        raise ConfigError(
            f"decode_workload={config.workload.name!r}: no request of it decodes; expected a "
            "workload with answers, or placements=[]"
        )
    return min(64, max(1, math.ceil(rate_per_s / (_PREFILL_LOAD * per_instance))))


def show_sensitivity(found: Sensitivity) -> None:
    """Print the rankings, the table of changes, what was left out, and the counts."""
    for name, ranking in found.rankings.items():
        tables.show(*_ranking_lines(name, ranking, found.unchanged[name]))
    swaps = found.swaps()
    tables.show("", _table(found), *(line for swap in swaps for line in _swap_lines(swap)))
    tables.show("not changed:", *(line for one in found.left_out for line in _left_out_lines(one)))
    tables.show(*_counts(found))


def _ranking_lines(name: str, ranking: Ranking, measured: Measured) -> list[str]:
    bases = " and ".join(ranking.bases)
    best = f"the best of {bases}" if len(ranking.bases) > 1 else bases
    texts = (
        f"{name.upper()} in ms: {cluster_line(ranking.config)}",
        f"  {_order(measured)}",
        f"  ratio of {ranking.subject} to {best}: {_interval(measured.followed(ranking))}",
    )
    return [line for text in texts for line in _wrapped(text)]


def _order(measured: Measured) -> str:
    """Return the rules, best first: `<` where neighbours differ, `=` for a tie."""
    rules = measured.order()
    text = _with_mean(measured, rules[0])
    for before, rule in itertools.pairwise(rules):
        sign = "<" if measured.better(before, rule) == 1 else "="
        text += f" {sign} {_with_mean(measured, rule)}"
    return text


def _with_mean(measured: Measured, rule: str) -> str:
    return f"{rule} {milliseconds(float(measured.values[rule].mean()))}"


def _table(found: Sensitivity) -> Table:
    lost = {(swap.ranking, swap.parameter) for swap in found.swaps()}
    factors = (1.0 - found.frac, 1.0 + found.frac)
    percents = [_percent(factor) for factor in factors]
    columns = ["parameter"]
    for name in found.rankings:
        columns += [f"{name.upper()} {text}" for text in percents]
    rows = []
    for parameter in found.parameters:
        row = [parameter]
        for name, ranking in found.rankings.items():
            for factor in factors:
                one = found.changed.get((parameter, factor))
                row.append(ABSENT if one is None else number(one[name].followed(ranking)[0], 3))
        changed = [name.upper() for name in found.rankings if (name, parameter) in lost]
        rows.append([*row, f"no: {' '.join(changed)}" if changed else "yes"])
    title = f"ratios with one parameter changed; {found.num_seeds} seeds"
    return tables.number_table(title, [*columns, "survives"], rows)


def _swap_lines(swap: Swap) -> list[str]:
    ratio = f"{swap.was_better} / {swap.was_worse}"
    return _wrapped(
        f"{swap.ranking.upper()}, {swap.parameter} {_percent(swap.factor)}: {swap.was_worse} is "
        f"before {swap.was_better}; {ratio} {_interval(swap.after)}, without the change "
        f"{_interval(swap.before)}"
    )


def _left_out_lines(one: Unchanged) -> list[str]:
    name = one.parameter if one.factor is None else f"{one.parameter} {_percent(one.factor)}"
    return _wrapped(f"  {name}: {one.reason}")


def _counts(found: Sensitivity) -> list[str]:
    """Return the lines that count: ranges of the ratios, ties, and what survives."""
    names, every = found.parameters, len(found.changed)
    lines = [""]
    for name, ranking in found.rankings.items():
        ratios = [one[name].followed(ranking)[0] for one in found.changed.values()]
        text = f"{name.upper()} ratio: {number(min(ratios), 3)} to {number(max(ratios), 3)}"
        ties = [f"{a} and {b} {n}" for (of, a, b), n in found.ties().items() if of == name]
        lines += _wrapped(f"{text}; changes that make a tie: {', '.join(ties) or 'none'}")
    if found.num_overloaded():
        lines.append(f"{found.num_overloaded()} of {found.num_runs} runs were overloaded")
    swaps = found.swaps()
    kept = len(names) - len({swap.parameter for swap in swaps})
    still = every - len({(swap.parameter, swap.factor) for swap in swaps})
    rankings = "ranking survives" if len(found.rankings) == 1 else "rankings survive"
    return [
        *lines,
        f"{rankings} {kept} of {len(names)} parameters, {still} of {every} changes by "
        f"{100 * found.frac:g} %",
    ]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="    ", break_long_words=False)


def _percent(factor: float) -> str:
    return f"{100 * (factor - 1):+.3g}%"


def _interval(ratio: Interval) -> str:
    middle, low, high = ratio
    return f"{number(middle, 3)} [{number(low, 3)}, {number(high, 3)}]"


def _write(path: Path, found: Sensitivity) -> None:
    artifacts.write_all(path.parent, {path.name: artifacts.json_writer(found.to_mapping())})
    tables.show(f"written to {path}")
