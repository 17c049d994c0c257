"""Train an agent, or go on where it stopped: `python -m agents.train experiment=NAME`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from agents.config import train_config
from agents.files import BEST, CHECKPOINT
from sbs_gym.errors import SbsGymError


def train_from(given: DictConfig) -> dict[str, Any]:
    """Return the result of the run that a Hydra configuration describes."""
    from agents.training import train  # torch takes seconds to import; --help should not wait

    config = train_config(OmegaConf.to_container(given, resolve=True))
    result = train(config)
    print(f"{config.output_dir}: {BEST}, after {result.get('best_steps', 'all')} decisions")
    return result


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(given: DictConfig) -> None:
    """Train."""
    try:
        train_from(given)
    except SbsGymError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        stored = (Path(given.output_dir) / CHECKPOINT).is_file()
        told = "the same command goes on" if stored else "nothing is stored yet, it begins anew"
        print(f"stopped in {given.output_dir}; {told}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
