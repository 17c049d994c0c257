"""`sbs-gym trace-export`: a run as a trace that Perfetto opens."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sbs_gym.artifacts import write_all
from sbs_gym.commands.progress import ProgressReport
from sbs_gym.commands.simulate import SLO
from sbs_gym.commands.words import (
    decimal,
    output_file,
    refuse_keys,
    refuse_other,
    require_trace,
    split_words,
)
from sbs_gym.errors import ConfigError
from sbs_gym.report.perfetto import trace_of
from sbs_gym.result import Result
from sbs_gym.schema import load_settings
from sbs_gym.simulate import simulate

OWN = ("output", "run", "start_s", "end_s")
HELP = """
sbs-gym trace-export output=FILE.json[.gz] [key=value ...]

Write a run as a trace that ui.perfetto.dev opens (and chrome://tracing, where a browser has it):
every prefill instance with its passes and, rank by rank, work and bubble; every decode instance
with its steps, batch and KV; the scheduler with its releases, its buffer, and every request from
arrival to its last token, with arrows from release through pass to decode step.

  output     FILE.json, or FILE.json.gz for a small file
  run        DIR that `sbs-gym simulate output_dir=DIR` wrote; otherwise the other words describe
             the run, as in `sbs-gym simulate`
  start_s    0: what ends before is left out, seconds
  end_s      the end: what begins later is left out; what overlaps the stretch is there uncut

  sbs-gym trace-export scheduler=sbs load=0.8 num_requests=2000 output=run.trace.json.gz
  sbs-gym trace-export run=outputs/one start_s=10 end_s=14 output=four_seconds.trace.json
"""

_SUFFIXES = (".json", ".json.gz")
_LATEST_S = 1e12
_NO_RESULTS = "is for results; trace-export takes output=FILE.json"


def run(words: Sequence[str]) -> None:
    """Write the trace of a run."""
    own, rest = split_words(words, OWN)
    refuse_keys(rest, ("output_dir",), _NO_RESULTS)
    path = _output(own)
    start_s = decimal("start_s", own.get("start_s", "0"), 0, _LATEST_S)
    end_s = decimal("end_s", own["end_s"], 0, _LATEST_S) if "end_s" in own else math.inf
    trace = trace_of(_result(own, rest), start_s=start_s, end_s=end_s)
    write_all(path.parent, {path.name: lambda part: _write(part, trace, path.name)})
    print(f"{len(trace['traceEvents']):,} events written to {path}")
    print("open it in ui.perfetto.dev; the file stays on this machine")


def _output(own: dict[str, str]) -> Path:
    if "output" not in own:
        raise ConfigError("output is missing; expected output=FILE.json or output=FILE.json.gz")
    path = output_file(own["output"])
    if not path.name.lower().endswith(_SUFFIXES):
        raise ConfigError(f"output={own['output']!r} is not allowed; expected *.json or *.json.gz")
    return path


def _result(own: dict[str, str], rest: Sequence[str]) -> Result:
    """Return the saved run, or the one that the words describe."""
    if "run" in own:
        refuse_other(rest, OWN, "sbs-gym trace-export run=DIR")
        return Result.load(own["run"])
    settings = load_settings(rest, also=(*OWN, *SLO))
    require_trace(settings.run)
    with ProgressReport("simulating") as progress:
        return simulate(settings.run, progress=progress)


def _write(path: Path, trace: dict[str, Any], name: str) -> None:
    data = json.dumps(trace, separators=(",", ":"), allow_nan=False).encode()
    if name.lower().endswith(".gz"):
        data = gzip.compress(data, mtime=0)  # the same trace gives the same bytes
    path.write_bytes(data)
