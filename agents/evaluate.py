"""`python -m agents.evaluate`: policies on a suite of cells, as tables, figures and files."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.config import WandbConfig
from agents.suite import figures, sheets
from agents.suite.definition import SPLITS, Suite
from agents.suite.evaluation import Evaluation, evaluate
from agents.suite.mirrored import mirror_evaluation
from agents.suite.policies import read_policies
from agents.suite.reading import load_suite
from agents.suite.request import TABLES, Request, check
from sbs_gym import artifacts
from sbs_gym.commands.progress import ProgressReport, kept_runs_told
from sbs_gym.commands.words import items, split_words, whole
from sbs_gym.errors import ConfigError, SbsGymError, require_choice, require_number
from sbs_gym.report import tables

OWN = ("suite", "policies", "seeds", "split", "tables", "jobs", "output_dir", "static_dir")
_WANDB = ("wandb.mode", "wandb.project", "wandb.entity")
_SUITE = "suite."
HELP = """
python -m agents.evaluate policies=[a,b,…] output_dir=DIR [key=value ...]

Play policies on all cells of a suite, each with the same requests and luck, and compare their TTFT
with that of sbs, paired by seed with 95 % intervals. sbs, round_robin and sbs_budget always play.

  policies    presets of `sbs-gym list schedulers`, also changed: sbs:multiplier=0
              names of shipped agents, weights files (.npz), directories of trainings; trainings of
              one experiment are one policy, and so is {name: [file, file]}
              static_global: one window and budget for all cells, tuned on the train part at
              validation seeds; static_cell: tuned for each cell, an oracle
  output_dir  gets suite.json, overload.json, shift.json, runs.parquet, suite.md and figures.
              Finished runs are kept there: the same command, and one with more policies, goes on.
  suite       a name in conf/suite or a YAML file; default v1
  suite.part  train (workloads and arrivals that agents train on), test (all others) or all
  suite.path  prefill, full or all; default: where the agents act, prefill for presets alone
              Other fields of the suite are set likewise: suite.admission.cv_below=0.2
  seeds       how many, or which: [20000,20001]; default 20
  split       test, validation or train: whose seeds; default test, for the part train as well
  tables      of suite, overload, shift; default all three
  jobs        processes; default 1
  static_dir  where the tuning of the constants is kept; default output_dir/static
  wandb.mode  offline (default), online or disabled: the mirror, one run per policy, in
              output_dir/wandb; also wandb.project and wandb.entity

  python -m agents.evaluate policies=[sbs,work_conserving,static_global] jobs=2 output_dir=outputs/a
  python -m agents.evaluate policies=[outputs/ppo/seed0,outputs/ppo/seed1] suite.part=test \\
      tables=[suite] split=validation seeds=5 output_dir=outputs/b

Mistakes exit with 2 before anything is run, an interrupted evaluation with 130.
"""
_DEFAULT_SEEDS = "20"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; mistakes are one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or any(word in ("--help", "-h", "help") for word in words):
        print(HELP.strip())
        return 0 if words else 2
    try:
        settings, words = read_wandb(words)
        request = read_request(words)
        with kept_runs_told(request.output_dir):
            found = evaluate(request, _report)
        write(found, request.output_dir, request.suite.baseline)
        if found.suite is not None:
            mirror_evaluation(settings, request, found.suite)
    except (SbsGymError, OSError) as problem:
        return _complain(str(problem), 2)
    except KeyboardInterrupt as stop:
        return _complain(f"interrupted; {stop}" if str(stop) else "interrupted", 130)
    tables.show(*_shown(found, request.suite.baseline), f"written to {request.output_dir}")
    return 0


def read_wandb(words: Sequence[str]) -> tuple[WandbConfig, list[str]]:
    """Return the settings of the mirror, and the words that are not about it.

    Without a word the mode is that of the environment variable WANDB_MODE, else offline.
    """
    given = {"wandb.mode": os.environ.get("WANDB_MODE", "offline")}
    own, rest = split_words(words, _WANDB)
    values = {key.removeprefix("wandb."): value for key, value in (given | own).items() if value}
    return WandbConfig(**values), rest


def read_request(words: Sequence[str]) -> Request:
    """Return what the words ask for, checked; nothing is run.

    Raises:
        ConfigError: If a word is not known, or something asked for cannot be played.
    """
    own, rest = split_words(words, OWN)
    for word in rest:
        key, equals, _ = word.partition("=")
        if not equals or not key.startswith(_SUITE):
            require_choice("evaluate: key", key, [*OWN, "suite.part", "suite.path", *_WANDB])
            raise ConfigError(f"{word!r} is no setting; expected key=value; see --help")
    for key in ("policies", "output_dir"):
        if not own.get(key):
            raise ConfigError(f"{key}=… is missing; see --help")
    suite = load_suite(own.get("suite", "v1"), [word.removeprefix(_SUITE) for word in rest])
    split = own.get("split", "test")
    require_choice("split", split, SPLITS)
    shown = items(own.get("tables", ",".join(TABLES)))
    for table in shown:
        require_choice("tables", table, TABLES)
    output_dir = Path(own["output_dir"].strip("'\"")).expanduser()
    request = Request(
        suite=suite,
        policies=read_policies(own["policies"]),
        split=split,
        seeds=_seeds(own.get("seeds", _DEFAULT_SEEDS), suite, split),
        output_dir=output_dir,
        static_dir=Path(own.get("static_dir", str(output_dir / "static"))).expanduser(),
        tables=shown,
        jobs=whole("jobs", own.get("jobs", "1"), 1, 256),
    )
    check(request)
    return request


def write(found: Evaluation, directory: Path, baseline: str) -> None:
    """Write results, tables and figures, all whole, or none."""
    parts = {"suite": found.suite, "overload": found.overload, "shift": found.shift}
    told = {name: part for name, part in parts.items() if part is not None}
    files = {"runs.parquet": artifacts.parquet_writer(found.runs)}
    files |= {f"{name}.json": artifacts.json_writer(part) for name, part in told.items()}
    text = "\n".join(
        one.markdown() if isinstance(one, sheets.Sheet) else f"{one}\n"
        for one in _sheets(found, baseline)
    )
    files["suite.md"] = artifacts.text_writer(text)
    files |= {f"{n}.png": figures.png_writer(f) for n, f in _figures(found, baseline).items()}
    artifacts.write_all(directory, files)


def _seeds(text: str, suite: Suite, split: str) -> list[int]:
    first, last = suite.splits[split]
    if not text.strip().startswith("["):
        count = whole("seeds", text, 1, last - first + 1)
        return list(range(first, first + count))
    found = [whole("seeds", item, 0, 2**62) for item in items(text)]
    for seed in found:
        require_number(f"seeds (split={split})", seed, first, last, integer=True)
    if not found or len(set(found)) != len(found):
        raise ConfigError(f"seeds={text!r}: expected at least one, each once")
    return found


def _report(what: str) -> ProgressReport:
    return ProgressReport(what)


def _shown(found: Evaluation, baseline: str) -> list[Any]:
    """Return what the terminal shows: all sheets but the one of every cell."""
    return [
        one.rich() if isinstance(one, sheets.Sheet) else one
        for one in _sheets(found, baseline)
        if not (isinstance(one, sheets.Sheet) and one.is_long)
    ]


def _sheets(found: Evaluation, baseline: str) -> list[sheets.Sheet | str]:
    shown: list[sheets.Sheet | str] = []
    if found.suite is not None:
        cells = found.suite["cells"]
        shown += _setting_lines(found.suite)
        for path in found.suite["paths"]:
            metrics = sheets.metrics_of(path, cells)
            shown += [sheets.load_sheet(path, cells, baseline, one) for one in metrics]
            shown.append(sheets.headline_sheet(path, found.suite["headline"][path], baseline))
            shown += [sheets.cell_sheet(path, cells, baseline, one) for one in metrics]
            shown += sheets.median_lines(found.suite["headline"][path], found.suite["policies"])
        shown += sheets.refused_lines(cells)
    if found.overload is not None:
        shown.append(sheets.overload_sheet(found.overload["cells"]))
    if found.shift is not None:
        shown.append(sheets.shift_sheet(found.shift["cells"], baseline))
    return shown


def _setting_lines(told: Mapping[str, Any]) -> list[str]:
    seeds = told["seeds"]
    lines = [
        f"suite {told['name']}, part {told['part']}, {len(seeds)} {told['split']} seeds "
        f"({min(seeds)} to {max(seeds)})"
    ]
    if told["static"] is not None:
        lines.append(f"static_global is {told['static']['overall']}")
    return lines


def _figures(found: Evaluation, baseline: str) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    if found.suite is not None:
        for path in found.suite["paths"]:
            cells = [cell for cell in found.suite["cells"] if cell["path"] == path]
            drawn[f"heat_{path}"] = figures.heat_figure(cells, baseline)
            drawn[f"cells_{path}"] = figures.cells_figure(cells, baseline)
    if found.shift is not None:
        fixed = [cell for cell in found.shift["cells"] if cell["fixed_s"] is not None]
        if fixed:
            drawn["fixed_time"] = figures.fixed_time_figure(fixed, baseline)
    return drawn


def _complain(message: str, code: int) -> int:
    print("evaluate: " + " ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
