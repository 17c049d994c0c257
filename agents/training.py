"""A training run from its configuration to a policy that the compiled loop plays."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger

from agents import checkpoint
from agents.building import (
    build_env,
    build_model,
    env_seed,
    measure_statistics,
    require_learnable,
    without_pay,
)
from agents.callbacks import Supervisor
from agents.config import TrainConfig
from agents.curve import LearningCurve
from agents.export import played_cluster, shape_of
from agents.files import BEST, LOCK, RESULT
from agents.imitation import imitate, require_imitable
from agents.only_one import only_one
from agents.stopping import GentleStop
from agents.tracking import Tracker
from agents.validation import Validation
from agents.versions import versions
from sbs_gym.artifacts import (
    CONFIG_FILE,
    check_output_dir,
    json_writer,
    read_json,
    write_all,
    yaml_writer,
)
from sbs_gym.commands.progress import ProgressReport


def train(config: TrainConfig) -> dict[str, Any]:
    """Return what `result.json` holds, after training or going on where a run stopped.

    In `output_dir`: config.yaml; progress.csv, one row per rollout; checkpoint.pt; policy.npz, the
    best weights of validation; last.npz; result.json once it is finished.

    Raises:
        ConfigError: If the configuration does not fit together, or `output_dir` holds a run of
            another one, or another process trains there; before any work.
    """
    directory = Path(config.output_dir)
    mapping = config.to_mapping()
    check_output_dir(directory, mapping)
    if (directory / RESULT).is_file():
        return dict(read_json(directory / RESULT))
    env = build_env(config)
    try:
        require_learnable(config, env)  # what does not fit is refused before anything is written
        require_imitable(config, env)
        validation = _validation(config, env)
        with only_one(directory / LOCK):
            write_all(directory, {CONFIG_FILE: yaml_writer(mapping)})
            with Tracker(config) as tracker:
                return _train(config, env, tracker, validation)
    finally:
        env.close()


def _validation(config: TrainConfig, env: Any) -> Validation | None:
    if config.validation.suite is None:
        return None
    validation = Validation(config.validation, env.core.task.id)
    if config.policy.kind == "mlp":
        validation.require_shape(shape_of(played_cluster(env)))
    return validation


def _train(
    config: TrainConfig, env: Any, tracker: Tracker, validation: Validation | None
) -> dict[str, Any]:
    directory, began_at_s = Path(config.output_dir), time.monotonic()
    stored = checkpoint.load(directory)
    if not stored:
        print("measuring what is seen, before training", file=sys.stderr)
    statistics = checkpoint.statistics_in(stored) if stored else measure_statistics(config)
    env.seed(env_seed(config))
    model = build_model(config, env, statistics)
    notes: dict[str, Any] | None = None
    if stored:
        notes = checkpoint.restore(model, stored)
    elif config.imitation.rule is not None:
        _warm_start(config, model)
    curve = LearningCurve(notes.pop("curve") if notes else None)
    model.set_logger(Logger(folder=None, output_formats=[curve, tracker.writer()]))
    for name, value in (notes.pop("pending") if notes else {}).items():
        model.logger.record(name, value)
    with GentleStop() as stop, ProgressReport(f"{config.name} seed {config.seed}") as progress:
        supervisor = Supervisor(
            config, statistics, curve, tracker, stop, progress, validation, notes, began_at_s
        )
        _learn(config, model, supervisor)
        found = {**supervisor.finish(), "versions": versions(), "seed": config.seed}
    write_all(directory, {RESULT: json_writer(found)})
    tracker.finish(found, directory / BEST)
    return found


def _warm_start(config: TrainConfig, model: BaseAlgorithm) -> None:
    asked = [None] if config.imitation.windows is None else [None, ["release"]]
    with contextlib.ExitStack() as stack:
        envs = [build_env(without_pay(config, questions)) for questions in asked]
        for env in envs:
            stack.callback(env.close)
        run = f"{config.name} seed {config.seed}"
        report = stack.enter_context(ProgressReport(run))
        alike = imitate(
            model,
            envs,
            config.imitation,
            env_seed(config) + 1,
            lambda part, what, *counts: report.tell(f"{what} {part}, {run}", *counts),
        )
    print(f"answers {alike:.1%} of questions as {config.imitation.taught_by} does", file=sys.stderr)


def _learn(config: TrainConfig, model: BaseAlgorithm, supervisor: Supervisor) -> None:
    left = config.total_steps - model.num_timesteps
    if left > 0 or model._last_obs is None:
        model.learn(
            left,
            callback=supervisor,
            log_interval=1,
            reset_num_timesteps=model.num_timesteps == 0 and model._last_obs is None,
        )
    else:  # stopped behind the last checkpoint: only the end is missing
        supervisor.init_callback(model)
