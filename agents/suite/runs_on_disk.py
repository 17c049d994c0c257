"""Directories that trainings leave: which experiment, which seed, what it learned when."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sbs_gym import artifacts

WEIGHTS = "policy.npz"
PROGRESS = "progress.csv"
_CONFIG = artifacts.CONFIG_FILE


def is_run(path: Path) -> bool:
    """Return whether a directory is that of a training with its weights."""
    return path.is_dir() and (path / WEIGHTS).is_file()


def experiment_of(directory: Path) -> str:
    """Return the experiment of a training: as its config.yaml says, else its folder's name."""
    experiment = run_config(directory).get("experiment")
    if isinstance(experiment, Mapping):
        experiment = experiment.get("name")
    return str(experiment) if experiment else directory.resolve().name


def seed_of(directory: Path) -> int | None:
    """Return the seed of a training, None if its config.yaml does not say."""
    seed = run_config(directory).get("seed")
    return seed if isinstance(seed, int) else None


def run_config(directory: Path) -> dict[str, Any]:
    """Return what config.yaml of a training holds; nothing where there is none."""
    path = directory / _CONFIG
    found = artifacts.read_yaml(path) if path.is_file() else None
    return dict(found) if isinstance(found, Mapping) else {}
