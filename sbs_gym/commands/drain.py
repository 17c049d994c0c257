"""`sbs-gym drain`: how fast the same backlog drains under several schedulers."""

from __future__ import annotations

from collections.abc import Sequence

from sbs_gym.capacity import BACKLOG_REQUESTS, Drain, drain
from sbs_gym.commands.progress import ProgressReport
from sbs_gym.commands.simulate import cluster_line
from sbs_gym.commands.words import require_trace, scheduler_names, split_words, whole
from sbs_gym.config.run import RunConfig
from sbs_gym.errors import ConfigError
from sbs_gym.report import tables
from sbs_gym.report.style import number, signed_percent
from sbs_gym.schema import load_settings

OWN = ("schedulers", "num_requests")
_NO_MATTER = ("scheduler", "arrivals", "load", "rate_per_s", "horizon_s", "output_dir")
HELP = f"""
sbs-gym drain schedulers=[a,b,…] [num_requests={BACKLOG_REQUESTS}] [key=value ...]

Let the same backlog, all of it there at time 0, drain under every scheduler at mean luck, and print
requests and prompt tokens per second, with the difference from the first scheduler. Every scheduler
drains it twice: in its own order, and with scheduler.order=arrival. The order matters: a backlog
taken longest first packs equal contexts together, and a pass waits for its longest context. Only
prefill is run: decode instances of the cluster are left out.

  schedulers    presets, see `sbs-gym list schedulers`; the first one is what the others are
                compared with
  num_requests  requests of the backlog; lengths are the workload's, drawn with seed

The other words describe cluster, workload, timing and seed, as in `sbs-gym simulate`; arrivals and
load do not matter to a backlog and are refused.

  sbs-gym drain 'schedulers=[round_robin,sbs]'
  sbs-gym drain 'schedulers=[round_robin,least_tokens,sbs]' workload=sbs_long num_requests=5000
"""
_WHY = "Longest first packs equal contexts together; the order of arrival does not."
_PREFILL_ONLY = "Prefill alone: the decode instances are left out."


def run(words: Sequence[str]) -> None:
    """Drain the backlog under every scheduler and print the rates."""
    own, rest = split_words(words, OWN)
    for word in rest:
        key = word.lstrip("+").partition("=")[0].partition(".")[0]
        if key in _NO_MATTER and not word.startswith("scheduler."):
            raise ConfigError(f"{word!r} does not matter to a backlog at time 0; leave it out")
    if "schedulers" not in own:
        raise ConfigError("drain: schedulers=[a,b,…] is missing")
    names = scheduler_names(own["schedulers"])
    count = whole("num_requests", own.get("num_requests", str(BACKLOG_REQUESTS)), 1, 200_000_000)
    runs = {name: _in_both_orders(name, rest) for name in names}
    config = runs[names[0]][0]
    require_trace(config)
    found: dict[str, list[Drain]] = {name: [] for name in names}
    with ProgressReport("draining") as progress:
        for done, (name, order) in enumerate((n, k) for n in names for k in (0, 1)):
            progress(done, 2 * len(names))
            found[name].append(drain(runs[name][order], count))
        progress(2 * len(names), 2 * len(names))
    columns = ("scheduler", "own req/s", "ktok/s", "%", "arrival req/s", "ktok/s", "%")
    title = f"drain (own order; in order of arrival; % against {names[0]})"
    tables.show(
        cluster_line(config),
        f"a backlog of {count:,} requests at time 0, seed {config.seed}, mean luck",
        _WHY,
        *([_PREFILL_ONLY] if config.cluster.num_decode else []),
        "",
        tables.number_table(title, columns, _rows(found)),
    )


def _in_both_orders(name: str, words: Sequence[str]) -> tuple[RunConfig, RunConfig]:
    chosen = [*words, f"scheduler={name}"]
    own = load_settings(chosen, also=OWN).run
    return own, load_settings([*chosen, "scheduler.order=arrival"], also=OWN).run


def _rows(found: dict[str, list[Drain]]) -> list[tuple[str, ...]]:
    first = next(iter(found.values()))
    rows: list[tuple[str, ...]] = []
    for name, drains in found.items():
        cells = [
            (
                number(rates.requests_per_s),
                number(rates.input_tokens_per_s / 1e3),
                signed_percent(rates.requests_per_s / base.requests_per_s - 1),
            )
            for rates, base in zip(drains, first, strict=True)
        ]
        rows.append((name, *cells[0], *cells[1]))
    return rows
