"""Train an agent, or go on where it stopped: `python -m agents.train experiment=NAME`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from agents.config import TrainConfig, train_config
from agents.files import BEST, CHECKPOINT, RESULT
from agents.train_words import help_text, refused
from sbs_gym.errors import SbsGymError


def train_from(given: DictConfig) -> dict[str, Any]:
    """Return the result of the run that a Hydra configuration describes."""
    from agents.training import train  # torch takes seconds to import; --help should not wait

    config = train_config(OmegaConf.to_container(given, resolve=True))
    finished = (Path(config.output_dir) / RESULT).is_file()
    if (first := first_training(config)) is not None:
        train_from(first)
    try:
        result = train(config)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(config.output_dir) from None
    done = "finished before; " if finished else ""
    print(f"{config.output_dir}: {done}{BEST}, {_told(config, result.get('best_steps', 'all'))}")
    return result


def first_training(config: TrainConfig) -> DictConfig | None:
    """Return the training of windows that another one begins with; None if none is missing."""
    name, windows = config.imitation.windows_experiment, config.imitation.windows
    if name is None or windows is None or (Path(windows).parent / RESULT).is_file():
        return None
    mirror = config.wandb
    return compose(
        "train",
        overrides=[
            f"experiment={name}",
            f"seed={config.seed}",
            f"output_dir='{Path(windows).parent}'",
            f"wandb.mode={mirror.mode}",
            f"wandb.project={mirror.project}",
            f"wandb.entity={mirror.entity or 'null'}",
        ],
    )


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(given: DictConfig) -> None:
    """Train."""
    try:
        train_from(given)
    except SbsGymError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        directory = stop.args[0] if stop.args else given.output_dir
        stored = (Path(directory) / CHECKPOINT).is_file()
        told = "the same command goes on" if stored else "nothing is stored yet, it begins anew"
        print(f"stopped in {directory}; {told}", file=sys.stderr)
        sys.exit(130)


def _told(config: TrainConfig, steps: int | str) -> str:
    """Return which weights were kept."""
    if steps == 0:
        later = ": nothing later did better" if config.total_steps > 0 else ""
        return f"those of the imitation of {config.imitation.taught_by}{later}"
    return f"after {steps} {'states' if config.agent.algorithm == 'lookahead' else 'decisions'}"


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text())
        sys.exit()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # main() raises what Hydra would only print
    try:
        main()
    except HydraException as problem:
        print(f"error: {refused(problem)}", file=sys.stderr)
        sys.exit(2)
