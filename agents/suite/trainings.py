"""Directories that trainings leave: which experiment, which seed, what it learned when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agents.files import BEST, CURVE, STEPS
from agents.statistics import Array
from sbs_gym import artifacts
from sbs_gym.errors import ConfigError

SUITE = Path("suite") / "suite.json"
_VALIDATION = "validation/ratio"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """A training as its directory tells it.

    Attributes:
        directory: Where it is.
        experiment, seed: As its config.yaml says; the folder's name and None where it does not.
        num_steps: Decisions of the last row of progress.csv.
        curve: Decisions and validation ratio to the baseline, shape (validations, 2).
        headline: What suite.json says of its agent over the admitted cells; None without one.
        suite: Name and part of that suite; empty without one.
    """

    directory: Path
    experiment: str
    seed: int | None
    num_steps: int
    curve: Array
    headline: Mapping[str, Any] | None
    suite: str

    @property
    def validation(self) -> float | None:
        """The last validation ratio; None if there was none."""
        return float(self.curve[-1, 1]) if len(self.curve) else None


def is_training(path: Path) -> bool:
    """Return whether a directory is that of a training with its weights."""
    return path.is_dir() and (path / BEST).is_file()


def experiment_of(directory: Path) -> str:
    """Return the experiment of a training: `name` of its config.yaml, else its folder's name."""
    name = _config(directory).get("name")
    return name if isinstance(name, str) and name else directory.resolve().name


def read_training(directory: Path) -> Training:
    """Return what a training left.

    Raises:
        ConfigError: If files are missing or cannot be read.
    """
    if not directory.is_dir():
        raise ConfigError(f"runs: {str(directory)!r} is not there; expected a training's directory")
    artifacts.require_files(directory, [artifacts.CONFIG_FILE, CURVE, BEST])
    seed = _config(directory).get("seed")
    progress = read_progress(directory / CURVE)
    suite = directory / SUITE
    told = artifacts.read_json(suite) if suite.is_file() else None
    return Training(
        directory=directory,
        experiment=experiment_of(directory),
        seed=seed if isinstance(seed, int) else None,
        num_steps=int(progress[STEPS].max()),
        curve=_curve(progress),
        headline=None if told is None else _headline(told, directory),
        suite="" if told is None else f"{told['name']}, part {told['part']}",
    )


def read_progress(path: Path) -> pd.DataFrame:
    """Return a training's progress.csv, one row per rollout.

    Raises:
        ConfigError: If it cannot be read or has no row.
    """
    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: cannot be read: {problem}") from None
    if STEPS not in table or not len(table):
        raise ConfigError(f"{path}: expected a column {STEPS} with at least one row")
    return table


def _config(directory: Path) -> dict[str, Any]:
    path = directory / artifacts.CONFIG_FILE
    found = artifacts.read_yaml(path) if path.is_file() else None
    return dict(found) if isinstance(found, Mapping) else {}


def _curve(progress: pd.DataFrame) -> Array:
    if _VALIDATION not in progress:
        return np.empty((0, 2))
    return progress[[STEPS, _VALIDATION]].dropna().sort_values(STEPS).to_numpy(dtype=float)


def _headline(told: Mapping[str, Any], directory: Path) -> Mapping[str, Any] | None:
    """Return the headline of the policy whose weights are this training's."""
    mine = directory.resolve() / BEST
    for name, policy in told["policies"].items():
        if any(Path(path).resolve() == mine for path in policy["weights"]):
            found: Mapping[str, Any] = next(h[name] for h in told["headline"].values() if name in h)
            return found
    agents = [name for name, policy in told["policies"].items() if policy["tasks"]]
    if len(agents) != 1:
        return None
    # The directory was moved since: its only agent is still its own.
    return next((h[agents[0]] for h in told["headline"].values() if agents[0] in h), None)
