"""The mirror of a training run, its learning curve and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter

from agents.config import TrainConfig
from agents.files import RESULT, STEPS
from agents.mirror import Mirror
from sbs_gym.artifacts import CONFIG_FILE


class Tracker(Mirror):
    """One training in wandb, grouped with those that differ by seed only."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(
            config.wandb,
            directory=Path(config.output_dir),
            group=config.name,
            job_type="train",
            name=f"{config.name}-seed{config.seed}",
            tags=[config.name, str(config.env["id"]), config.agent.algorithm],
            config=config.to_mapping(),
        )
        self._agent = config.name

    def writer(self) -> KVWriter:
        """Return what mirrors the logger of Stable-Baselines3."""
        return _Writer(self)

    def log_at(self, values: dict[str, Any], steps: int) -> None:
        """Mirror numbers at a count of decisions."""
        self.log({**values, STEPS: steps})

    def finish(self, result: dict[str, Any], weights: Path) -> None:
        """Mirror the result and the weights file."""
        self.summarise(result)
        files = [weights, weights.parent / CONFIG_FILE, weights.parent / RESULT]
        self.artifact(self._agent, files, result)


class _Writer(KVWriter):
    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        del key_excluded
        numbers = {k: float(v) for k, v in key_values.items() if not isinstance(v, str)}
        self._tracker.log_at(numbers, step)

    def close(self) -> None:
        """The tracker is closed by whoever opened it."""
