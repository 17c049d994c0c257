"""How good a policy is during training: compiled runs on validation seeds, against the rules."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.config import ValidationConfig
from agents.export import shape_of
from agents.suite.cells import suite_cells
from agents.suite.definition import Suite
from agents.suite.reading import load_suite
from sbs_gym.cells import Progress
from sbs_gym.config.run import RunConfig
from sbs_gym.envs.config import scheduler_named
from sbs_gym.envs.play import require_playable
from sbs_gym.envs.tasks import TASKS
from sbs_gym.errors import ConfigError
from sbs_gym.simulate import measured_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a validation found, all as ratios of mean TTFT (or of TPOT) over cells and seeds.

    Attributes:
        ratio: Geometric mean of policy / baseline.
        worst: The worst cell's.
        rival: Geometric mean of policy / the better of the rules that it could play, cell by cell.
        rival_worst: The worst cell's.
        excess: Mean, over cells and seeds, of the log ratio to the better rule where it is above 0.
    """

    ratio: float
    worst: float
    rival: float
    rival_worst: float
    excess: float

    @property
    def loss(self) -> float:
        """What the choice of a checkpoint minimises: mean log ratio, and how far rules are ahead.

        A policy that is better on average by losing cells is not what we want.
        """
        return math.log(self.ratio) + self.excess


class Validation:
    """Plays a weights file through the train part of a suite.

    Args:
        config: What is played.
        tasks: Task of the agent, which decides the path: prefill or full.
    """

    def __init__(self, config: ValidationConfig, task: str) -> None:
        suite = load_suite(config.suite)
        self._suite = config.suite
        first, _ = suite.splits["validation"]
        self._metric = "tpot_mean_s" if task == "SBS/DecodeAllocation" else "ttft_mean_s"
        self._runs = [
            dataclasses.replace(cell.config, num_requests=config.num_requests, seed=first + k)
            for cell in suite_cells(suite, [_path_of(suite, task)], "train")
            for k in range(config.seeds)
        ]
        self._rules = rules_within(task, (suite.baseline, suite.budget_rival))
        self._costs: dict[str, np.ndarray] = {}

    def require_shape(self, shape: Mapping[str, int]) -> None:
        """Raise ConfigError unless an mlp made for `shape` can play all runs."""
        for run in self._runs:
            found = shape_of(run.cluster)
            if found != shape:
                raise ConfigError(
                    f"validation.suite={self._suite!r}: it plays {found}, and an mlp trained with "
                    f"{dict(shape)} plays no other; expected that cluster, policy=set, or "
                    "validation.suite=null"
                )

    def score(self, weights: Path, progress: Progress | None = None) -> Score:
        """Return how the policy of a weights file does; rules are played for the first score only.

        Args:
            weights: The file.
            progress: Called with (runs done, runs to do).
        """
        names = [f"learned:{weights}", *(name for name in self._rules if name not in self._costs)]
        played = {
            name: self._play(name, number, len(names), progress)
            for number, name in enumerate(names)
        }
        mine = played.pop(names[0])
        self._costs |= played
        rules = [self._costs[name] for name in self._rules]
        ratios = np.log(mine / rules[0])
        rivals = np.log(mine / np.minimum.reduce(rules))
        return Score(
            ratio=math.exp(ratios.mean()),
            worst=math.exp(ratios.max()),
            rival=math.exp(rivals.mean()),
            rival_worst=math.exp(rivals.max()),
            excess=float(np.maximum(rivals, 0.0).mean()),
        )

    def _play(
        self, scheduler: str, number: int, count: int, progress: Progress | None
    ) -> np.ndarray:
        rules, costs = scheduler_named(scheduler), np.empty(len(self._runs))
        for k, run in enumerate(self._runs):
            costs[k] = _cost(run, rules, self._metric)
            if progress is not None:
                progress(number * len(costs) + k + 1, count * len(costs))
        return costs


def rules_within(task: str, rules: Sequence[str]) -> tuple[str, ...]:
    """Return those rules whose answers the actions of a task contain above the first of them.

    An agent that chooses no budget cannot be held to a rule that does.
    """
    background = scheduler_named(rules[0])
    found = []
    for name in rules:
        with contextlib.suppress(ConfigError):
            require_playable(TASKS[task], background, scheduler_named(name))
            found.append(name)
    return tuple(found)


def _cost(run: RunConfig, scheduler: object, metric: str) -> float:
    result = measured_run(dataclasses.replace(run, scheduler=scheduler))
    return float(result.summary[metric])


def _path_of(suite: Suite, task: str) -> str:
    return next(path.name for path in suite.paths if task in path.tasks)
