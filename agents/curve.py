"""The learning curve of a run: one row per rollout, on disk as progress.csv."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
from stable_baselines3.common.logger import KVWriter

from agents.files import CURVE, STEPS
from sbs_gym.artifacts import write_all

_SAVED_EVERY_S = 10.0


class LearningCurve(KVWriter):
    """Collects what Stable-Baselines3 logs.

    Attributes:
        rows: One mapping per logged rollout.
    """

    def __init__(self, rows: list[dict[str, Any]] | None = None) -> None:
        self.rows = list(rows or [])
        self._saved_at_s = time.monotonic()

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        """Keep a row of numbers."""
        del key_excluded
        numbers = {k: float(v) for k, v in key_values.items() if not isinstance(v, str)}
        self.rows.append({**numbers, STEPS: step})

    def is_behind(self) -> bool:
        """Return whether the file is older than a few seconds."""
        return time.monotonic() > self._saved_at_s + _SAVED_EVERY_S

    def close(self) -> None:
        """Nothing is open."""

    def save(self, directory: Path) -> None:
        """Write progress.csv, whole or not at all."""
        self._saved_at_s = time.monotonic()
        table = pd.DataFrame(self.rows, columns=None if self.rows else [STEPS])
        table = table[[STEPS, *sorted(set(table.columns) - {STEPS})]]
        write_all(directory, {CURVE: lambda path: table.to_csv(path, index=False)})
