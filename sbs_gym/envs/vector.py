"""Many environments: Gymnasium's `VectorEnv` over a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from sbs_gym.envs.actions import ActionCodec
from sbs_gym.envs.config import env_config
from sbs_gym.envs.core import EnvBatch
from sbs_gym.envs.episodes import fresh_seed
from sbs_gym.envs.made_of import require_keys
from sbs_gym.envs.observation import observer_of
from sbs_gym.envs.tasks import TASKS
from sbs_gym.errors import ConfigError, require_choice


class VectorSchedulingEnv(VectorEnv[Any, Any, Any]):
    """A task as a Gymnasium vector environment, made by `gymnasium.make_vec(id, num_envs, …)`.

    Args:
        task: Name of the task.
        num_envs: Environments of the batch.
        autoreset_mode: NEXT_STEP (an ended environment is reset by the next step, whose action is
            ignored, with reward 0), SAME_STEP (it is reset at once; `infos["final_obs"]` and
            `infos["final_info"]` have the end) or DISABLED (`reset(options={"reset_mask": …})`).
        num_threads: Threads that share the work; the results do not depend on it.
        options: As of the single environment.
    """

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        num_threads: int = 1,
        **options: Any,
    ) -> None:
        if options.pop("render_mode", None) is not None:
            raise ConfigError("a vector environment renders nothing; expected render_mode=None")
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {"autoreset_mode": self.autoreset_mode, "render_modes": []}
        self.config = env_config(**options)
        self.num_envs = num_envs
        self.core = EnvBatch(TASKS[task], self.config, num_envs, num_threads=num_threads)
        self.actions = ActionCodec(self.core.layout, num_envs)
        self._observer = observer_of(self.core)
        self.single_observation_space = self._observer.space
        self.single_action_space = self.actions.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._is_seeded = False
        self._ended = np.zeros(num_envs, dtype=np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every environment; environment i of `seed=s` has the seed s + i.

        Options: `load` and `offset_s` for all, `reset_mask` to reset some only.
        """
        given = dict(options or {})
        which = self._to_reset(given.pop("reset_mask", None))
        self._take_seeds(seed)
        for e in which:
            self._reset_one(int(e), given)
        return self._observer.look(), self._infos()

    def _to_reset(self, mask: Any) -> NDArray[np.intp]:
        """Return the environments that a `reset_mask` names; all without one."""
        if mask is None:
            return np.arange(self.num_envs)
        given = np.asarray(mask)
        if given.dtype != np.bool_ or given.shape != (self.num_envs,) or not given.any():
            raise ConfigError(
                f"options['reset_mask'] of {given.dtype} and shape {given.shape} is not allowed; "
                f"expected bool, shape ({self.num_envs},), at least one of them True"
            )
        return np.flatnonzero(given)

    def _take_seeds(self, seed: int | Sequence[int | None] | None) -> None:
        if seed is None and self._is_seeded:
            return
        if seed is None:
            seed = fresh_seed()
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else list(seed)
        if len(seeds) != self.num_envs:
            raise ConfigError(f"{len(seeds)} seeds; expected num_envs={self.num_envs}")
        for e, one in enumerate(seeds):
            if one is not None:
                self.core.seed(e, one)
        self._is_seeded = True

    def _reset_one(self, e: int, options: dict[str, Any]) -> None:
        self.core.reset(e, options)
        self._observer.start(e)
        self._ended[e] = False

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Answer the question of every environment; ended ones are reset as the mode says."""
        core = self.core
        restarted = self._ended.nonzero()[0].tolist()
        if restarted and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ConfigError(
                f"environment {restarted[0]} has ended; expected reset(options={{'reset_mask': …}})"
            )
        core.step(*self.actions.decode(actions))
        self._observer.push()
        for e in restarted:
            self._reset_one(e, {})
        terminated, truncated = core.terminated.copy(), core.truncated.copy()
        rewards, infos = core.rewards.copy(), self._infos()
        self._ended = terminated | truncated
        ended = self._ended.nonzero()[0].tolist()
        if self.autoreset_mode is AutoresetMode.SAME_STEP and ended:
            infos = self._reset_at_once(ended, infos)
        return self._observer.look(), rewards, terminated, truncated, infos

    def _reset_at_once(self, ended: list[int], infos: dict[str, Any]) -> dict[str, Any]:
        """Reset the ended environments; return the infos of now, with those of the end inside."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for e in ended:
            final_obs[e] = self._observer.look_at(e)
        flags = self._ended.copy()
        for e in ended:
            self._reset_one(e, {})
        ends = {"final_obs": final_obs, "_final_obs": flags}
        return {**self._infos(), **ends, "final_info": infos, "_final_info": flags.copy()}

    def _infos(self) -> dict[str, Any]:
        """Return arrays of shape (num_envs, …): one dictionary, not one per environment."""
        core = self.core
        infos: dict[str, Any] = {
            "elapsed_s": core.elapsed_s.copy(),
            "discount": core.discounts.copy(),
            "num_invalid_actions": core.outcomes["num_invalid"].copy(),
            "reward_terms": core.terms(),
        }
        if core.layout.form != "box":
            infos["action_mask"] = self.action_masks()
        if self.config.reward.baseline is not None:
            infos["privileged"] = core.privileged()
        return infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the legal actions of every environment, as sb3-contrib asks for them."""
        return self.actions.masks(self.core.legal)

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs to go on exactly from here, see `EnvBatch.state`."""
        return {
            **self.core.state(),
            "stack": self._observer.stack.copy(),
            "ended": self._ended.copy(),
        }

    def restore(self, state: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Go on where `state` was taken, see `EnvBatch.restore`.

        Returns:
            Observations and infos as the last call there gave them, without those of an end.
        """
        require_keys(state, ("stack", "ended"))
        self.core.restore(state)
        self._observer.stack[...] = state["stack"]
        self._is_seeded, self._ended = True, np.array(state["ended"])
        return self._observer.look(), self._infos()

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the threads."""
        self.core.close()


def _autoreset_mode(given: AutoresetMode | str) -> AutoresetMode:
    known = [mode.value for mode in AutoresetMode]
    if not isinstance(given, AutoresetMode):
        require_choice("autoreset_mode", given, known)
    return AutoresetMode(given)
