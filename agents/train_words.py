"""The words of `python -m agents.train`: what they mean, and what is wrong with them."""

from __future__ import annotations

import textwrap
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig

from sbs_gym.config.groups import conf_directory, group_names
from sbs_gym.config.learned import learned_names
from sbs_gym.errors import ConfigError, require_choice

_HELP = """
python -m agents.train experiment=NAME [key=value ...]

Train an agent and keep the weights that do best in validation, with the learning curve and all that
is needed to go on: the same command goes on where a run stopped.

  experiment   one of those below: environment, algorithm, network, what is randomised
  seed         of everything drawn by chance, 0 to 9999; default 0
  total_steps  decisions to learn from
  output_dir   gets policy.npz, progress.csv, checkpoint.pt, config.yaml and result.json;
               default outputs/train/NAME/seedSEED
  wandb.mode   offline (default), online or disabled: the mirror
  agent=… policy=… task=…
               another algorithm, network or path: files of conf/agent, conf/policy, conf/task
  agent.… policy.… env.… reward_unit imitation.… validation.…
               single values; +env.… adds an argument of the environment that is not yet given

  python -m agents.train experiment=window_budget_ppo seed=1
  python -m agents.train experiment=window_budget_ppo --cfg job       # all its values
  python -m agents.train experiment=window_budget_ppo agent.learning_rate=3e-4 env.load=[0.5,0.9] \\
      output_dir=outputs/mine
  python -m agents.train --multirun experiment=window_ppo seed=0,1,2,3,4

Mistakes exit with 2 before any work, an interrupted training with 130. More: docs/training.md.

Experiments:
"""


def help_text() -> str:
    """Return what `--help` prints."""
    lines = [_HELP.strip("\n")]
    for name in group_names("experiment"):
        comment = _first_comment(conf_directory() / "experiment" / f"{name}.yaml")
        about = comment.partition(". ")[0].rstrip(".")
        ships = "; ships" if name in learned_names() else ""
        lines += textwrap.wrap(
            f"{name:<28}{about}{ships}", 98, initial_indent="  ", subsequent_indent=" " * 30
        )
    return "\n".join(lines)


def _first_comment(path: Path) -> str:
    """Return the comment at the top of a file, without the line that is for Hydra."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            found.append(line.lstrip("# "))
    return " ".join(found)


def refused(problem: HydraException) -> str:
    """Return in one line what Hydra holds against the words of a call."""
    try:
        _name_what_is_known(problem)
    except ConfigError as told:
        return str(told)
    return " ".join(str(problem).split())


def _name_what_is_known(problem: HydraException) -> None:
    """Raise ConfigError if a key, or a choice of a file, is the mistake."""
    group = getattr(problem.__cause__, "parent_node", None)
    if isinstance(group, DictConfig):
        place, _, key = str(getattr(problem.__cause__, "full_key", "")).rpartition(".")
        if place.split(".")[0] != "env":  # which takes more than is given: Hydra says how
            known = [str(name) for name in group if name not in ("hydra", "about")]
            require_choice(f"{place}: key" if place else "key", key, known)
    if isinstance(problem, MissingConfigException) and problem.options:
        kind, _, name = str(problem.missing_cfg_file).rpartition("/")
        require_choice(kind, name, problem.options)
