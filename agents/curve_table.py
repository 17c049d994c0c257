"""The learning curves of several trainings as one tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from agents.files import CURVE, STEPS
from agents.suite.trainings import read_progress
from sbs_gym.artifacts import CONFIG_FILE, Writer, read_yaml, require_files, text_writer
from sbs_gym.report.curves_plot import CURVE_COLUMNS

_VALIDATION = {STEPS: "steps", "validation/ratio": "ratio", "validation/worst": "worst"}
_DIGITS = 4


def curve_table(runs: Sequence[Path]) -> pd.DataFrame:
    """Return the validations of all trainings, columns CURVE_COLUMNS, by seed and decisions.

    Args:
        runs: Directories of trainings.

    Raises:
        ConfigError: If files are missing or cannot be read.
    """
    table = pd.concat([_validations(run) for run in runs], ignore_index=True)
    return table.sort_values(["seed", "steps"], ignore_index=True)


def curves_writer(runs: Sequence[Path]) -> Writer:
    """Return a writer of `curve_table` as CSV; a training without validations has no row."""
    table = curve_table(runs).astype({"seed": int, "steps": int}).round(_DIGITS)
    return text_writer(table.to_csv(index=False, lineterminator="\n"))


def _validations(run: Path) -> pd.DataFrame:
    require_files(run, (CONFIG_FILE, CURVE))
    progress = read_progress(run / CURVE).reindex(columns=list(_VALIDATION))
    found = progress.rename(columns=_VALIDATION).dropna(subset="ratio")
    return found.assign(seed=int(read_yaml(run / CONFIG_FILE)["seed"]))[list(CURVE_COLUMNS)]
