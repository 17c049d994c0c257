"""What happens between the rollouts of a training run: validation, checkpoints, progress."""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from agents import checkpoint
from agents.config import TrainConfig
from agents.curve import LearningCurve
from agents.export import export
from agents.files import BEST, LAST
from agents.observations import Statistics
from agents.stopping import GentleStop
from agents.tracking import Tracker
from agents.validation import Validation
from sbs_gym.commands.progress import ProgressReport


class Supervisor(BaseCallback):
    """Validates, keeps the best weights, writes checkpoints, shows progress.

    Everything happens at the start of a rollout, when all that was collected has been learned
    from: what is stored then is a state from which training goes on exactly.
    """

    def __init__(
        self,
        config: TrainConfig,
        statistics: Statistics,
        curve: LearningCurve,
        tracker: Tracker,
        stop: GentleStop,
        progress: ProgressReport,
        validation: Validation | None,
        notes: dict[str, Any] | None,
        began_at_s: float,
    ) -> None:
        super().__init__()
        self._stop, self._progress, self._validation = stop, progress, validation
        self._config, self._statistics = config, statistics
        self._curve, self._tracker = curve, tracker
        self._directory = Path(config.output_dir)
        self._notes = notes or {"best_loss": None, "validated": 0, "stored": 0, "spent_s": 0.0}
        self._began_at_s = began_at_s - self._notes["spent_s"]

    def _on_rollout_start(self) -> None:
        steps, notes = self.num_timesteps, self._notes
        self._progress(steps, self._config.total_steps)
        if self._validation is not None and self._validation_is_due(steps):
            self.validate()
        if self._stop.asked:
            if steps > notes["stored"]:
                self.store()
            raise KeyboardInterrupt
        if steps >= notes["stored"] + self._config.checkpoint_every_steps:
            self.store()
        elif self._curve.is_behind():
            self._curve.save(self._directory)

    def _on_step(self) -> bool:
        return True

    def _validation_is_due(self, steps: int) -> bool:
        if steps == 0:  # what was imitated may stay the best
            return self._config.imitation.rule is not None and self._notes["best_loss"] is None
        return bool(steps >= self._notes["validated"] + self._config.validation.every_steps)

    def validate(self) -> None:
        """Play the validation cells with the present weights, and keep them if they are better."""
        self._notes["validated"] = self.num_timesteps
        self.export_to(LAST)
        if self._validation is None:
            return
        run = f"validating, {self._config.name} seed {self._config.seed}"
        tell = functools.partial(self._progress.tell, run)
        score = self._validation.score(self._directory / LAST, tell)
        found = {f"validation/{k}": v for k, v in dataclasses.asdict(score).items()}
        found["validation/loss"] = score.loss
        self._curve.write(found, {}, self.num_timesteps)
        self._tracker.log_at(found, self.num_timesteps)
        best = self._notes["best_loss"]
        if best is None or score.loss < best:
            self._notes |= {"best_loss": score.loss, "best_steps": self.num_timesteps, **found}
            self.export_to(BEST)

    def export_to(self, name: str) -> None:
        """Write the present policy as a weights file."""
        config, steps = self._config, self.num_timesteps
        about = {
            "about": f"{config.name}, seed {config.seed}, after {steps} decisions",
            "training": config.to_mapping(),
            "steps": steps,
        }
        export(self.model, self.training_env, self._directory / name, about=about)

    def store(self) -> None:
        """Write a checkpoint and the learning curve."""
        self._notes["stored"] = self.num_timesteps
        self._notes["spent_s"] = time.monotonic() - self._began_at_s
        pending = dict(self.logger.name_to_value)  # of the last update, not yet logged
        notes = {**self._notes, "curve": self._curve.rows, "pending": pending}
        checkpoint.save(self._directory, self.model, self._statistics, notes)
        self._curve.save(self._directory)

    def finish(self) -> dict[str, Any]:
        """Validate and store once more; return what is worth remembering of the run."""
        self.validate()
        if self._validation is None:
            self.export_to(BEST)
        self.store()
        self._progress(self.num_timesteps, self._config.total_steps)
        return {k: v for k, v in self._notes.items() if k != "curve"}
