"""`sbs-gym balance`: what prefill and decode of a cluster can do with every workload."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sbs_gym import artifacts
from sbs_gym.capacity import BACKLOG_REQUESTS, Capacities, capacities, mean_lengths
from sbs_gym.commands.progress import ProgressReport
from sbs_gym.commands.words import items, output_file, refuse_keys, split_words
from sbs_gym.config.groups import group_names, read_group
from sbs_gym.config.run import RunConfig
from sbs_gym.errors import ConfigError, require_choice
from sbs_gym.report import tables
from sbs_gym.report.style import milliseconds, number
from sbs_gym.result import code_digest
from sbs_gym.schema import load_settings

OWN = ("workloads", "output")
_NO_MATTER = (
    "workload", "arrivals", "scheduler", "load", "load_side", "rate_per_s", "num_requests",
    "horizon_s", "seed", "output_dir",
)  # fmt: skip
HELP = f"""
sbs-gym balance [workloads=[a,b,…]] [output=FILE] [key=value ...]

Print for every synthetic workload what prefill and decode of a cluster can do, in requests per
second, and which of the two is the bottleneck.

  prefill   rate at which a backlog of {BACKLOG_REQUESTS:,} requests drains in order of arrival
  decode    rate at which mean TPOT is at most slo.tpot_s, 0.9 of the KV room is held, and no rank
            runs more than its most requests. As a fluid: every rank holds the same batch and
            context at every time. Waiting for admission, ranks that differ and bursts are left out,
            so a simulated cluster stays below it.
  batch     requests running on every decode rank at that rate, and which of the three forbids more:
            slo, kv or batch; `none`: one request per rank already misses the SLO, and the rate is
            the one without it
  step      time of a decode step at that batch, ms
  ratio     decode / prefill: below 1 decode is the bottleneck

  workloads  default: all but traces
  output     write the table, with everything it was computed from, as JSON

The other words describe cluster, timing and slo, as in `sbs-gym simulate`.

  sbs-gym balance
  sbs-gym balance cluster=h800_2p4d 'workloads=[sbs_short,deepseek_r1_like]'
  sbs-gym balance slo.tpot_s=0.03 cluster.num_decode=2 output=balance.json
"""


def run(words: Sequence[str]) -> None:
    """Compute both capacities for every workload and print the table."""
    own, rest = split_words(words, OWN)
    refuse_keys(rest, _NO_MATTER, "does not matter to capacities")
    names = _workloads(own.get("workloads"))
    path = output_file(own["output"]) if "output" in own else None
    also = (*OWN, "slo.*")
    configs = {n: load_settings([*rest, f"workload={n}"], also=also).run for n in names}
    one = next(iter(configs.values()))
    _require_decode(one)
    rows: dict[str, dict[str, Any]] = {}
    with ProgressReport("balancing") as progress:
        for done, (name, config) in enumerate(configs.items()):
            progress(done, len(configs))
            rows[name] = _row(config, capacities(config))
        progress(len(configs), len(configs))
    _show(one, rows)
    if path is not None:
        artifacts.write_all(path.parent, {path.name: artifacts.json_writer(_mapping(one, rows))})
        tables.show(f"written to {path}")


def _workloads(text: str | None) -> list[str]:
    known = [n for n in group_names("workload") if read_group("workload", n)["kind"] != "trace"]
    names = known if text is None else list(dict.fromkeys(items(text)))
    for name in names:
        require_choice("workloads", name, known)
    if not names:
        raise ConfigError(f"workloads={text!r}: expected at least one")
    return names


def _require_decode(config: RunConfig) -> None:
    if config.cluster.num_decode == 0:
        raise ConfigError(
            "cluster.num_decode=0 leaves nothing to balance; expected at least 1 decode instance"
        )


def _row(config: RunConfig, found: Capacities) -> dict[str, Any]:
    prompt, answer = mean_lengths(config.workload)
    decode = found.decode
    row = {
        "input_tokens_mean": prompt,
        "output_tokens_mean": answer,
        "prefill_requests_per_s": found.prefill_requests_per_s,
        "decode_requests_per_s": found.decode_requests_per_s,
        "decode_over_prefill": found.decode_requests_per_s / found.prefill_requests_per_s,
        "bottleneck": found.bottleneck,
    }
    if decode is None:
        return row
    return row | {
        "meets_tpot_slo": decode.meets_slo,
        "infeasible": decode.infeasible(config.slo.tpot_s),
        "limited_by": decode.limited_by,
        "batch_per_rank": decode.batch,
        "step_s": decode.step_s,
        "tpot_s": decode.tpot_s,
        "kv_held_frac": decode.kv_held_frac,
    }


def _show(config: RunConfig, rows: dict[str, dict[str, Any]]) -> None:
    columns = ("workload", "in", "out", "prefill", "decode", "batch", "step", "ratio")
    cluster = config.cluster
    tables.show(
        f"{cluster.name}: prefill {cluster.num_prefill} x {cluster.prefill_dp} ranks, decode "
        f"{cluster.num_decode} x {cluster.decode_dp} ranks, timing {config.timing.kind}",
        f"TPOT of at most {milliseconds(config.slo.tpot_s)} ms (slo.tpot_s), KV of at most 0.9 of "
        f"the room, {cluster.max_running} requests per rank",
        *dict.fromkeys(f"{n}: {r['infeasible']}" for n, r in rows.items() if r.get("infeasible")),
        "",
        tables.number_table(
            "balance (mean tokens; requests/s, * the bottleneck; decode batch, step in ms)",
            columns,
            [_cells(name, row) for name, row in rows.items()],
        ),
    )


def _cells(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    marks = {"prefill": "", "decode": ""} | {row["bottleneck"]: "*"}
    batch = row.get("batch_per_rank", math.nan)
    return (
        name,
        number(row["input_tokens_mean"], 0),
        number(row["output_tokens_mean"], 0),
        number(row["prefill_requests_per_s"]) + marks["prefill"],
        number(row["decode_requests_per_s"]) + marks["decode"],
        f"{number(batch, 0 if batch >= 1 else 2)} {_limit(row)}".strip(),
        milliseconds(row.get("step_s", math.nan)),
        number(row["decode_over_prefill"], 2),
    )


def _limit(row: dict[str, Any]) -> str:
    """Return what forbids a larger batch, `none` if even the smallest misses the SLO."""
    limit = str(row.get("limited_by", ""))
    return limit if row.get("meets_tpot_slo", True) else "none"


def _mapping(config: RunConfig, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    values = config.to_mapping()
    return {
        "cluster": values["cluster"],
        "timing": values["timing"],
        "slo": values["slo"],
        "code_digest": code_digest(),
        "workloads": rows,
    }
