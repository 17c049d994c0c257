"""The mirror of a run in Weights & Biases; whatever it holds is on disk too.

A run without the library, without network, or whose connection is lost goes on: a mirror that
breaks says so once and is left alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from stable_baselines3.common.logger import KVWriter

from agents.config import TrainConfig


class Tracker:
    """One run of wandb, or nothing under mode=disabled."""

    def __init__(self, config: TrainConfig, *, job_type: str = "train") -> None:
        self._config, self._job_type = config, job_type
        self._run: Any = None

    def __enter__(self) -> Tracker:
        wandb = self._config.wandb
        if wandb.mode != "disabled":
            self._guarded(self._start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._run is not None:
            self._guarded(self._run.finish, exit_code=int(kind is not None))

    def _start(self) -> None:
        # wandb takes this package for another one named agents, and advertises its tracing.
        os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
        import wandb

        config = self._config
        directory = Path(config.output_dir)
        self._run = wandb.init(
            mode=config.wandb.mode,
            project=config.wandb.project,
            entity=config.wandb.entity,
            dir=str(directory),
            group=config.name,
            job_type=self._job_type,
            name=f"{config.name}-seed{config.seed}",
            id=None,
            tags=[config.name, str(config.env["id"]), config.agent.algorithm, *config.wandb.tags],
            config=config.to_mapping(),
            settings=wandb.Settings(silent=True),
        )

    def log(self, values: dict[str, Any], steps: int) -> None:
        """Mirror numbers at a count of decisions."""
        if self._run is not None:
            self._guarded(self._run.log, {**values, "time/total_timesteps": steps})

    def writer(self) -> KVWriter:
        """Return what mirrors the logger of Stable-Baselines3."""
        return _Writer(self)

    def finish(self, result: dict[str, Any], weights: Path) -> None:
        """Mirror the result and the weights file."""
        if self._run is not None:
            self._guarded(self._upload, result, weights)

    def _upload(self, result: dict[str, Any], weights: Path) -> None:
        import wandb

        self._run.summary.update({k: v for k, v in result.items() if not isinstance(v, dict)})
        artifact = wandb.Artifact(self._config.name, type="model", metadata=result)
        for path in (weights, weights.parent / "config.yaml", weights.parent / "result.json"):
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def _guarded(self, call: Any, *args: Any, **kwargs: Any) -> None:
        try:
            call(*args, **kwargs)
        except Exception as problem:  # a mirror must not end a run
            self._run = None
            print(f"wandb is left alone from here on: {problem}", file=sys.stderr)


class _Writer(KVWriter):
    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        del key_excluded
        numbers = {k: float(v) for k, v in key_values.items() if not isinstance(v, str)}
        self._tracker.log(numbers, step)

    def close(self) -> None:
        """The tracker is closed by whoever opened it."""
