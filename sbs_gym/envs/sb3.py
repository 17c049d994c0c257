"""Many environments: the `VecEnv` of Stable-Baselines3 over a batch. Needs the extra [agents]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from sbs_gym.envs.actions import ActionCodec
from sbs_gym.envs.config import env_config
from sbs_gym.envs.core import EnvBatch
from sbs_gym.envs.episodes import fresh_seed
from sbs_gym.envs.made_of import require_keys
from sbs_gym.envs.observation import observer_of
from sbs_gym.envs.tasks import TASKS, task_of
from sbs_gym.errors import ConfigError, require_flag

_ENTRIES = ("stack", "has_seed", "next_seeds", "elapsed_s", "discounts")


class SB3SchedulingEnv(VecEnv):
    """A task as a `VecEnv`: `SB3SchedulingEnv("SBS/WindowBudget-v0", 64, load=(0.4, 0.95))`.

    Args:
        id: Name of the environment.
        num_envs: Environments of the batch.
        num_threads: Threads that share the work; the results do not depend on it.
        time_in_infos: Whether every entry of `infos` has `elapsed_s` and `discount`, for learners
            that see nothing else.
        options: As of the single environment.

    Attributes:
        elapsed_s, discounts: float64, shape (num_envs,): of the last step, for learners that
            discount by time.

    An ended environment is reset at once; its `infos` entry has `terminal_observation` and
    `TimeLimit.truncated`.
    """

    def __init__(
        self,
        id: str,
        num_envs: int,
        *,
        num_threads: int = 1,
        time_in_infos: bool = False,
        **options: Any,
    ) -> None:
        require_flag("time_in_infos", time_in_infos)
        self._time_in_infos = time_in_infos
        self.config = env_config(**options)
        self.render_mode = None
        self.core = EnvBatch(TASKS[task_of(id)], self.config, num_envs, num_threads=num_threads)
        self.actions = ActionCodec(self.core.layout, num_envs)
        self._observer = observer_of(self.core)
        self._asked: Any = None
        self._is_seeded = False
        super().__init__(num_envs, self._observer.space, self.actions.space)
        self.elapsed_s = np.zeros(num_envs)
        self.discounts = np.ones(num_envs)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Give environment i the seed `seed` + i, from the next reset on."""
        if seed is None:
            seed = fresh_seed()
        self._seeds = [seed + e for e in range(self.num_envs)]
        return self._seeds

    def reset(self) -> Any:
        """Begin an episode in every environment; `set_options` may give `load` and `offset_s`."""
        if not self._is_seeded and self._seeds[0] is None:
            self.seed()
        for e in range(self.num_envs):
            seed = self._seeds[e]
            if seed is not None:
                self.core.seed(e, seed)
            self.core.reset(e, self._options[e])
            self._observer.start(e)
        self._is_seeded = True
        self._reset_seeds()
        self._reset_options()
        return self._observer.look()

    def step_async(self, actions: Any) -> None:
        """Take the actions of a step."""
        self._asked = actions

    def step_wait(self) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Make the step."""
        core = self.core
        core.step(*self.actions.decode(self._asked))
        self._observer.push()
        self.elapsed_s, self.discounts = core.elapsed_s.copy(), core.discounts.copy()
        rewards = core.rewards.astype(np.float32)
        done = core.terminated | core.truncated
        infos = self._infos()
        for e in done.nonzero()[0].tolist():
            infos[e]["terminal_observation"] = self._observer.look_at(e)
            infos[e]["TimeLimit.truncated"] = bool(core.truncated[e])
            infos[e]["num_invalid_actions"] = int(core.outcomes["num_invalid"][e])
            core.reset(e)
            self._observer.start(e)
        return self._observer.look(), rewards, done, infos

    def _infos(self) -> list[dict[str, Any]]:
        if not self._time_in_infos:
            return [{} for _ in range(self.num_envs)]
        times = zip(self.elapsed_s.tolist(), self.discounts.tolist(), strict=True)
        return [{"elapsed_s": elapsed, "discount": discount} for elapsed, discount in times]

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the legal actions of every environment."""
        return self.actions.masks(self.core.legal)

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs to go on exactly from here, see `EnvBatch.state`."""
        if any(self._options):
            raise ConfigError("state() between set_options() and reset(); expected reset() first")
        return {
            **self.core.state(),
            "stack": self._observer.stack.copy(),
            "has_seed": np.array([seed is not None for seed in self._seeds]),
            "next_seeds": np.array([seed or 0 for seed in self._seeds], dtype=np.int64),
            "elapsed_s": self.elapsed_s.copy(),
            "discounts": self.discounts.copy(),
        }

    def restore(self, state: Mapping[str, Any]) -> Any:
        """Go on where `state` was taken, see `EnvBatch.restore`; return the observations there."""
        require_keys(state, _ENTRIES)
        self.core.restore(state)
        self._observer.stack[...] = state["stack"]
        self._is_seeded = True
        seeds = zip(state["has_seed"], state["next_seeds"].tolist(), strict=True)
        self._seeds = [seed if has_seed else None for has_seed, seed in seeds]
        self._reset_options()
        self.elapsed_s = np.array(state["elapsed_s"])
        self.discounts = np.array(state["discounts"])
        return self._observer.look()

    def has_attr(self, attr_name: str) -> bool:
        """Return whether the environments have an attribute."""
        return hasattr(self, attr_name)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute, once for every environment asked for."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: the environments share one configuration."""
        raise ConfigError(f"set_attr({attr_name!r}): environments of a batch cannot differ")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Return what a method gives, one entry for every environment asked for."""
        if method_name == "action_masks":
            return list(self.action_masks()[list(self._get_indices(indices))])
        raise ConfigError(f"env_method({method_name!r}) is not known. Known: action_masks")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return that no environment is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return no pictures."""
        return [None] * self.num_envs

    def close(self) -> None:
        """Stop the threads."""
        self.core.close()
