"""The environment that training steps: rewards of all episodes in one unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.config import REWARD_UNITS
from agents.critic_sight import WithCriticSight, critic_sight
from agents.kept_runs import summaries
from sbs_gym.cells import Progress
from sbs_gym.config.run import RunConfig
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.envs.episodes import Episode
from sbs_gym.envs.sb3 import SB3SchedulingEnv
from sbs_gym.errors import ConfigError, require_choice

_LOAD_STEP = 0.05  # costs are measured at loads that far apart,
_STEPS_TO_CHOOSE = 2  # and schedulers compared at loads that many steps apart
_NUM_REQUESTS = 4_000
_SEED = 9_999  # the last of the training seeds
_RUNS_TO_CHOOSE, _REQUESTS_TO_CHOOSE = 2, 10_000  # from which the better scheduler is told
_Kind = tuple[int, int, int, int]  # numbers of workload, arrivals and timing, load in steps


class TrainingEnv(SB3SchedulingEnv):
    """A batch of environments with rewards in a unit of their episode.

    A reward sums over requests, so that an episode of many requests, or of slow ones, drowns the
    others. A constant factor per episode leaves its best policy as it is.

    Args:
        id: The environment.
        num_envs: How many.
        reward_scale: Factor on all rewards.
        reward_unit: baseline: the background's mean cost per request at such a workload, timing
            and load, times the arrival rate, so that 0.1 is a tenth of the background's TTFT (or
            what the task weighs) for a second; request: the arrival rate; none: plain sums.
        sees_baseline: Whether observations end with what only a critic may see; needs a baseline.
        options: As `SB3SchedulingEnv`.
    """

    def __init__(
        self,
        id: str,
        num_envs: int,
        *,
        reward_scale: float = 1.0,
        reward_unit: str = "baseline",
        sees_baseline: bool = False,
        **options: Any,
    ) -> None:
        require_choice("reward_unit", reward_unit, REWARD_UNITS)
        super().__init__(id, num_envs, **options)
        if sees_baseline:
            self._add_critic_sight()
        self._reward_scale, self._reward_unit = reward_scale, reward_unit
        self._costs: dict[_Kind, float] = {}
        self._cheapest: dict[tuple[Any, ...], int] = {}
        self._units: dict[int, float] = {}  # of the running episodes, by seed

    def _add_critic_sight(self) -> None:
        if self.config.reward.baseline is None:
            raise ConfigError(
                "sees_baseline=True: without env.reward.baseline there is no run to see"
            )
        self._observer = WithCriticSight(self._observer, self._critic_sight)
        self.observation_space = self._observer.space

    def _critic_sight(self) -> NDArray[np.float32]:
        units = np.array([1.0 if e is None else self._unit(e) for e in self.core.episodes])
        return critic_sight(self.core, units)

    def step_wait(self) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Make the step."""
        episodes = list(self.core.episodes)  # those that are stepped: some may end
        found, rewards, dones, infos = super().step_wait()
        factors = np.array([self._factor(episode) for episode in episodes])
        return found, (rewards * factors).astype(np.float32), dones, infos

    def reward_factor(self, e: int) -> float:
        """Return what the rewards of the running episode of environment `e` are multiplied by."""
        episode = self.core.episodes[e]
        if episode is None:
            raise ConfigError("reward_factor() before the first reset(); expected reset() first")
        return self._factor(episode)

    def _factor(self, episode: Episode) -> float:
        return self._reward_scale / self._unit(episode)

    def _unit(self, episode: Episode) -> float:
        if self._reward_unit == "none":
            return 1.0
        if episode.seed not in self._units:
            if len(self._units) > 4 * self.num_envs:
                self._units.clear()
            cost = self._cost(episode) if self._reward_unit == "baseline" else 1.0
            self._units[episode.seed] = cost * episode.rate_per_s
        return self._units[episode.seed]

    def cheapest(
        self,
        schedulers: Sequence[SchedulerConfig],
        p99_weight: float = 0.0,
        own_arrivals: bool = False,
        progress: Progress | None = None,
    ) -> NDArray[np.int64]:
        """Return which scheduler costs least in episodes like the running ones, (num_envs,).

        Args:
            schedulers: At least one.
            p99_weight: A 99th percentile of TTFT 1 % above that of the first one counts as a cost
                that is this many per cent higher; one below it counts for nothing.
            own_arrivals: Whether they are compared at the arrivals of the episode; else at the
                first of the configuration's.
            progress: Called with (kinds of episodes compared, kinds to compare).
        """
        rules, asked = tuple(schedulers), []
        for episode in self.core.episodes:
            if episode is None:
                raise ConfigError("cheapest() before the first reset(); expected reset() first")
            workload, arrivals, timing, step = self._kind(episode, own_arrivals)
            coarse = step if step < 0 else round(step / _STEPS_TO_CHOOSE) * _STEPS_TO_CHOOSE
            asked.append(((workload, arrivals, timing, coarse), rules, p99_weight))
        missing = [one for one in dict.fromkeys(asked) if one not in self._cheapest]
        for number, one in enumerate(missing):
            self._cheapest[one] = self._best_of(*one)
            if progress is not None:
                progress(number + 1, len(missing))
        return np.array([self._cheapest[one] for one in asked], dtype=np.int64)

    def _best_of(
        self, kind: _Kind, schedulers: Sequence[SchedulerConfig], p99_weight: float
    ) -> int:
        seeds = range(_SEED + 1 - _RUNS_TO_CHOOSE, _SEED + 1)
        found = summaries(
            [
                self._run(one, kind, _REQUESTS_TO_CHOOSE, seed)
                for one in schedulers
                for seed in seeds
            ]
        )
        costs, tails = np.array([[self._cost_in(one), one["ttft_p99_s"]] for one in found]).T
        costs, tails = (part.reshape(-1, len(seeds)).mean(axis=1) for part in (costs, tails))
        heavier = np.log(np.maximum(tails / tails[0], 1.0))
        return int((np.log(costs) + p99_weight * heavier).argmin())

    def _kind(self, episode: Episode, own_arrivals: bool = False) -> _Kind:
        """Return what episodes have in common that cost alike, with their arrivals or the first."""
        names = [workload.name for workload in self.config.workloads]
        step = -1 if math.isnan(episode.load) else round(episode.load / _LOAD_STEP)
        arrivals = episode.arrivals if own_arrivals else 0
        return names.index(episode.workload), arrivals, episode.timing, step

    def _cost(self, episode: Episode) -> float:
        """Return the background's mean weighted cost per request in episodes like this one."""
        kind = self._kind(episode)
        if kind not in self._costs:
            (found,) = summaries([self._run(self.config.scheduler, kind, _NUM_REQUESTS, _SEED)])
            self._costs[kind] = self._cost_in(found)
        return self._costs[kind]

    def _run(
        self, scheduler: SchedulerConfig, kind: _Kind, num_requests: int, seed: int
    ) -> RunConfig:
        config, (workload, arrivals, timing, step) = self.config, kind
        return RunConfig(
            cluster=config.cluster,
            workload=config.workloads[workload],
            arrivals=config.arrivals[arrivals],
            timing=config.timings[timing],
            scheduler=scheduler,
            slo=config.slo,
            load=None if step < 0 else max(step, 1) * _LOAD_STEP,
            rate_per_s=config.rate_per_s,
            load_side=config.load_side,
            num_requests=num_requests,
            seed=seed,
        )

    def _cost_in(self, summary: Mapping[str, Any]) -> float:
        weights = dict(self.config.reward.weights or self.core.task.weights)
        cost = abs(weights.get("ttft", 0.0)) * summary["ttft_mean_s"]
        if weights.get("tpot"):
            cost += abs(weights["tpot"]) * (summary["e2e_mean_s"] - summary["ttft_mean_s"])
        return cost if cost > 0.0 else 1.0
