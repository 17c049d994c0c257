"""One run in Weights & Biases; whatever it holds is on disk too.

Without the library, without network, or when the connection is lost, work goes on: a mirror that
breaks says so once and is left alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from agents.config import WandbConfig


class Mirror:
    """A run of wandb, or nothing under mode=disabled.

    Args:
        settings: Mode, project, entity, further tags.
        directory: Where its files go.
        group: What it is compared with: the configuration, but for the seed.
        job_type: train, eval or baseline.
        name: Of the run.
        tags: To find it by.
        config: All of it.
    """

    def __init__(
        self,
        settings: WandbConfig,
        *,
        directory: Path,
        group: str,
        job_type: str,
        name: str,
        tags: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings, self._directory = settings, directory
        self._told = {"group": group, "job_type": job_type, "name": name, "config": config}
        self._tags = [*tags, *settings.tags]
        self._run: Any = None

    def __enter__(self) -> Mirror:
        if self._settings.mode != "disabled":
            self._guarded(self._start)
        return self

    def __exit__(self, kind: type[BaseException] | None, *problem: object) -> None:
        if self._run is not None:
            self._guarded(self._run.finish, exit_code=int(kind is not None))

    def _start(self) -> None:
        # wandb takes this package for another one named agents, and advertises its tracing.
        os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
        import wandb

        self._directory.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            mode=self._settings.mode,
            project=self._settings.project,
            entity=self._settings.entity,
            dir=str(self._directory),
            tags=self._tags,
            settings=wandb.Settings(silent=True),
            **self._told,
        )

    def log(self, values: Mapping[str, Any]) -> None:
        """Add a row of numbers."""
        if self._run is not None:
            self._guarded(self._run.log, dict(values))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Say what came out; nested values are left out."""
        if self._run is not None:
            told = {k: v for k, v in values.items() if not isinstance(v, (dict, list))}
            self._guarded(self._run.summary.update, told)

    def table(self, name: str, rows: pd.DataFrame) -> None:
        """Add a table."""
        if self._run is not None:
            self._guarded(self._add_table, name, rows)

    def artifact(
        self, name: str, files: Sequence[Path], metadata: Mapping[str, Any], kind: str = "model"
    ) -> None:
        """Add files under a name, such as weights with what is known of them."""
        if self._run is not None:
            self._guarded(self._add_artifact, name, files, metadata, kind)

    def _add_table(self, name: str, rows: pd.DataFrame) -> None:
        import wandb

        self._run.log({name: wandb.Table(dataframe=rows)})

    def _add_artifact(
        self, name: str, files: Sequence[Path], metadata: Mapping[str, Any], kind: str
    ) -> None:
        import wandb

        artifact = wandb.Artifact(name, type=kind, metadata=dict(metadata))
        for path in files:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def _guarded(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            call(*args, **kwargs)
        except Exception as problem:  # a mirror must not end a run
            self._run = None
            print(f"wandb is left alone from here on: {problem}", file=sys.stderr)
