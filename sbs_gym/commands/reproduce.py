"""`sbs-gym reproduce`: the paper's claims measured, with verdicts, pictures and a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sbs_gym.commands.progress import ProgressReport, kept_runs_told
from sbs_gym.commands.words import decimal, existing_file, items, refuse_other, whole
from sbs_gym.errors import require_choice
from sbs_gym.report import tables
from sbs_gym.reproduce.claims import Claim
from sbs_gym.reproduce.preset import OWN_RATE, read_preset
from sbs_gym.reproduce.registry import STUDIES
from sbs_gym.reproduce.run import DEFAULT_TRACE_LOAD, reproduce
from sbs_gym.reproduce.text import (
    by_claim,
    common_range,
    counts,
    from_to,
    range_text,
    with_interval,
)

_KEYS = ("preset", "output_dir", "jobs", "trace", "trace_load", "studies", "show")
_SHOWN = ("all", "summary")
HELP = f"""
sbs-gym reproduce [preset=quick] [jobs=2] [output_dir=outputs/reproduce_<preset>] [trace=FILE ...]

Measure what the paper on Staggered Batch Scheduling (arXiv 2512.16134) claims, and what it leaves
open, and write one page that tells it: report.html, with verdicts that are computed from the runs.

  preset      quick (under two minutes on two cores) or full (under half an hour); or a YAML file
              of your own, made like conf/reproduce/quick.yaml
  studies     default: all of the preset; some of
              {", ".join(STUDIES)}
  trace       a trace file to replay too; give it several times for several
  trace_load  load that traces are brought to, default {DEFAULT_TRACE_LOAD};
              {OWN_RATE}: the rate at which they were recorded
  jobs        processes, default 2
  show        all (default): every verdict in the terminal; summary: how many per claim
  output_dir  gets report.html, verdicts.json, tables/ (CSV, JSON), figures/ (PNG, SVG),
              config.yaml, provenance.json and studies/, where every finished run is kept: the same
              command goes on where it was interrupted and ends with the same report

  sbs-gym reproduce
  sbs-gym reproduce preset=full jobs=4 output_dir=outputs/paper
  sbs-gym reproduce 'studies=[queueing]' trace=trace.jsonl
"""


def run(words: Sequence[str]) -> None:
    """Run the studies, print the verdicts, and say where the report is."""
    refuse_other(words, _KEYS, "sbs-gym reproduce")
    pairs = [word.partition("=")[::2] for word in words]
    given = dict(pairs)
    preset = read_preset(given.get("preset", "quick"))
    traces = [str(existing_file(value)) for key, value in pairs if key == "trace"]
    output_dir = Path(given.get("output_dir", f"outputs/reproduce_{preset.name}")).expanduser()
    jobs = whole("jobs", given.get("jobs", "2"), 1, 256)
    show = given.get("show", _SHOWN[0])
    require_choice("show", show, _SHOWN)
    load = given.get("trace_load", str(DEFAULT_TRACE_LOAD))
    trace_load = None if load == OWN_RATE else decimal("trace_load", load, 0.01, 10)
    with kept_runs_told(output_dir), ProgressReport("reproducing") as progress:
        found = reproduce(
            preset,
            output_dir,
            studies=items(given.get("studies", "")),
            traces=traces,
            trace_load=trace_load,
            jobs=jobs,
            told=progress.tell,
        )
    if show == "summary":
        show_summary(found.claims)
    else:
        show_verdicts(found.claims)
    print(f"the report: {found.report}")  # whole: a table would break a long path


def show_summary(claims: Sequence[Claim]) -> None:
    """Print what was measured of every claim over all settings, and how many verdicts of each."""
    rows = [
        (
            from_to(group),
            common_range(group),
            ", ".join(f"{verdict} {count}" for verdict, count in counts(group).items()),
            text,
        )
        for text, group in by_claim(claims).items()
    ]
    columns = ("measured", "claimed", "verdicts by setting", "claim")
    tables.show(tables.text_table("what the paper says, and what was measured", columns, rows))


def show_verdicts(claims: Sequence[Claim]) -> None:
    """Print every claim with what was measured and the verdict."""
    columns = ("verdict", "measured [interval]", "claimed", "where")
    for text, group in by_claim(claims).items():
        rows = [
            (
                claim.verdict,
                with_interval(claim.measured, claim.unit),
                range_text(claim.allowed, claim.unit),
                f"{claim.setting}{f', against {claim.against}' if claim.against else ''}",
            )
            for claim in group
        ]
        tables.show(tables.text_table(text, columns, rows))
