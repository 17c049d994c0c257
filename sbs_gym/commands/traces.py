"""`sbs-gym traces describe`: what a request trace holds and what was done to its rows."""

from __future__ import annotations

from collections.abc import Sequence

from sbs_gym.errors import ConfigError, require_choice
from sbs_gym.report import tables
from sbs_gym.report.style import known
from sbs_gym.schema import load_settings
from sbs_gym.workload.trace.describe import describe
from sbs_gym.workload.trace.load import load_trace
from sbs_gym.workload.trace.report import TraceReport

HELP = """
sbs-gym traces describe PATH [workload.key=value ...]

Read a request trace and print its format, size, rate, burstiness, length quantiles, shared
prefixes, and how many rows were dropped, sorted or clipped. The file may be plain, .gz or .xz.
`sbs-gym list formats` names the formats; auto recognises all but the generic one.

  sbs-gym traces describe trace.jsonl.gz
  sbs-gym traces describe requests.csv workload.format=generic \\
      'workload.columns={arrived_at: time, input_tokens: prompt}' workload.time_unit=ms
"""


def run(words: Sequence[str]) -> None:
    """Print the description of the trace."""
    if not words:
        raise ConfigError("traces: expected `describe PATH`; see sbs-gym traces --help")
    require_choice("traces: command", words[0], ("describe",))
    if len(words) < 2:
        raise ConfigError("traces describe: the PATH of the trace is missing")
    path, options = words[1].removeprefix("workload.path="), words[2:]
    for word in options:
        if not word.startswith(("workload.", "+workload.", "++workload.")):
            raise ConfigError(f"{word!r}: a description takes words workload.key=value only")
    settings = load_settings(["workload=trace", f"workload.path={path}", *options])
    table, report = load_trace(settings.run.workload)
    facts = describe(table, report)
    tables.show(
        tables.fact_table("how it was read", _reading(report)),
        tables.fact_table(
            "what it holds", {k: v for k, v in facts.items() if known(v) and k != "file"}
        ),
    )


def _reading(report: TraceReport) -> dict[str, object]:
    found: dict[str, object] = {
        "file": report.path,
        "format": report.format,
        "rows read": report.rows_read,
        "rows kept": report.rows_kept,
    }
    found |= {f"dropped: {reason}": count for reason, count in report.dropped.items()}
    found["arrival times"] = "as recorded" if report.has_arrivals else "none in the file"
    found["answer lengths"] = "as recorded" if report.has_outputs else "none in the file"
    return found | {f"note {k}": note for k, note in enumerate(report.notes, start=1)}
