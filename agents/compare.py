"""`python -m agents.compare`: trainings side by side, from their files alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from agents.suite import figures
from agents.suite.sheets import Sheet, interval, ratio
from agents.suite.training_figures import curves_figure, suite_figure
from agents.suite.trainings import Training, is_training, read_training
from sbs_gym import artifacts
from sbs_gym.artifacts import Writer
from sbs_gym.commands.words import items, refuse_other, split_words
from sbs_gym.errors import ConfigError, SbsGymError
from sbs_gym.report import tables
from sbs_gym.report.style import ABSENT, number

OWN = ("runs", "output_dir")
HELP = """
python -m agents.compare runs=[DIR,DIR,…] [output_dir=DIR]

One line per training: experiment, seed, decisions, last validation ratio, and what its suite said.
Read from config.yaml, progress.csv, policy.npz and, where it was evaluated with
`python -m agents.evaluate policies=[DIR] output_dir=DIR/suite`, suite/suite.json.

  runs        directories of trainings; `outputs/*` means those among them
  output_dir  gets trainings.json, trainings.md, curves.png (validation ratio over decisions, line
              and band over the seeds of an experiment) and suite.png

  python -m agents.compare 'runs=outputs/ppo/*' output_dir=outputs/compared
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; mistakes are one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or any(word in ("--help", "-h", "help") for word in words):
        print(HELP.strip())
        return 0 if words else 2
    try:
        own, rest = split_words(words, OWN)
        refuse_other(rest, OWN, "python -m agents.compare")
        found = [read_training(path) for path in _directories(own.get("runs", ""))]
        tables.show(training_sheet(found).rich())
        if own.get("output_dir"):
            directory = Path(own["output_dir"]).expanduser()
            write(found, directory)
            tables.show(f"written to {directory}")
    except (SbsGymError, OSError) as problem:
        print("compare: " + " ".join(str(problem).split()), file=sys.stderr)
        return 2
    return 0


def training_sheet(found: Sequence[Training]) -> Sheet:
    """Return one row per training, experiments together."""
    rows = []
    for one in sorted(found, key=_place):
        told = one.headline or {}
        rows.append(
            (
                one.experiment,
                ABSENT if one.seed is None else str(one.seed),
                number(one.num_steps, 0),
                ratio(one.validation),
                interval(told, "ttft_ratio"),
                ratio(told.get("worst_ratio")),
                ratio(told.get("ttft_ratio_to_better_rival")),
                one.suite or ABSENT,
            )
        )
    columns = (
        "experiment",
        "seed",
        "decisions",
        "validation",
        "suite TTFT",
        "worst cell",
        "vs rival",
        "suite",
    )
    return Sheet(title="trainings (ratios to the baseline)", columns=columns, rows=rows)


def write(found: Sequence[Training], directory: Path) -> None:
    """Write the table and the figures, all whole, or none."""
    sheet = training_sheet(found)
    rows = [
        {
            "directory": str(one.directory),
            "experiment": one.experiment,
            "seed": one.seed,
            "num_steps": one.num_steps,
            "validation_ratio": one.validation,
            "suite": one.suite,
            "headline": one.headline,
        }
        for one in found
    ]
    files: dict[str, Writer] = {
        "trainings.json": artifacts.json_writer(rows),
        "trainings.md": artifacts.text_writer(sheet.markdown()),
    }
    if any(len(one.curve) for one in found):
        files["curves.png"] = figures.png_writer(curves_figure(found))
    if any(one.headline for one in found):
        files["suite.png"] = figures.png_writer(suite_figure(found))
    artifacts.write_all(directory, files)


def _place(one: Training) -> tuple[str, int]:
    return one.experiment, -1 if one.seed is None else one.seed


def _directories(text: str) -> list[Path]:
    found: list[Path] = []
    for item in items(text):
        path = Path(item).expanduser()
        if not any(letter in item for letter in "*?"):
            found.append(path)
            continue
        root = Path(path.anchor) if path.anchor else Path()
        matches = sorted(root.glob(str(path.relative_to(path.anchor))))
        trainings = [match for match in matches if is_training(match)]
        if not trainings:
            raise ConfigError(f"runs={item!r} matches no directory of a training")
        found += trainings
    if not found:
        raise ConfigError("runs=[DIR,…] is missing; see --help")
    if len({path.resolve() for path in found}) != len(found):
        raise ConfigError(f"runs={text!r} names one twice")
    return found


if __name__ == "__main__":
    sys.exit(main())
