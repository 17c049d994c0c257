"""One environment: Gymnasium's `Env` over a batch of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from sbs_gym.envs.actions import ActionCodec
from sbs_gym.envs.config import EnvConfig, env_config
from sbs_gym.envs.core import EnvBatch
from sbs_gym.envs.episodes import MOST_SEED
from sbs_gym.envs.made_of import require_keys
from sbs_gym.envs.observation import observer_of
from sbs_gym.envs.tasks import Task
from sbs_gym.errors import ConfigError
from sbs_gym.sim.agent_state import TERMS
from sbs_gym.sim.records import RunRecords

RENDER_FPS = 10


class SchedulingEnv(gym.Env[Any, Any]):
    """A task as a Gymnasium environment; `sbs_gym.envs.environments` has one class per task.

    Attributes:
        core: The batch of one that does the work.
        config: What the environment is made of.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": RENDER_FPS}  # noqa: RUF012
    task: Task

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ConfigError(
                f"render_mode={render_mode!r} is not known; expected one of: "
                f"{', '.join(self.metadata['render_modes'])}"
            )
        config = env_config(**options)
        self.render_mode = render_mode
        # A picture shows the passes of the last seconds.
        self.config: EnvConfig = dataclasses.replace(
            config, record=config.record or render_mode is not None
        )
        self.core = EnvBatch(self.task, self.config, 1)
        self.actions = ActionCodec(self.core.layout, 1)
        self._observer = observer_of(self.core)
        self.observation_space = self._observer.space
        self.action_space = self.actions.space
        self._is_seeded, self._is_over = False, True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; options: `load`, and `offset_s` of a trace."""
        super().reset(seed=seed)
        if seed is not None or not self._is_seeded:
            first = int(self.np_random.integers(MOST_SEED)) if seed is None else seed
            self.core.seed(0, first)
            self._is_seeded = True
        self.core.reset(0, options)
        self._is_over = False
        self._observer.start(0)
        return self._observer.look_at(0), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Answer the question that stands, and go on to the next one or the horizon."""
        if self._is_over:
            raise ConfigError("step() without a running episode; expected reset() first")
        self.core.step(*self.actions.decode(np.asarray(action)[None]))
        outcome = self.core.outcomes[0]
        self._observer.push()
        terminated, truncated = bool(outcome["terminated"]), bool(outcome["truncated"])
        self._is_over = terminated or truncated
        return (
            self._observer.look_at(0),
            float(outcome["reward"]),
            terminated,
            truncated,
            self._info(),
        )

    def _info(self) -> dict[str, Any]:
        core, outcome = self.core, self.core.outcomes[0].item()
        values = dict(zip(core.outcomes.dtype.names, outcome, strict=True))
        info: dict[str, Any] = {
            "elapsed_s": values["elapsed_s"],
            "discount": values["discount"],
            "num_invalid_actions": values["num_invalid"],
            "reward_terms": {name: values[name] for name in TERMS},
        }
        if core.layout.form != "box":
            info["action_mask"] = self.action_masks()
        if self.config.reward.baseline is not None:
            info["privileged"] = core.privileged()[0]
        return info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the legal actions, as sb3-contrib's MaskablePPO asks for them."""
        masks: NDArray[np.bool_] = self.actions.masks(self.core.legal)[0]
        return masks

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs to go on exactly from here, see `EnvBatch.state`."""
        return {
            **self.core.state(),
            "stack": self._observer.stack.copy(),
            "is_over": self._is_over,
        }

    def restore(self, state: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Go on where `state` was taken, see `EnvBatch.restore`; return observation and info."""
        require_keys(state, ("stack", "is_over"))
        self.core.restore(state)
        self._observer.stack[...] = state["stack"]
        self._is_seeded, self._is_over = True, bool(state["is_over"])
        return self._observer.look_at(0), self._info()

    def records(self) -> RunRecords:
        """Return the records of the running episode; needs `record=True`."""
        return self.core.records(0)

    def render(self) -> Any:
        """Return the instant as text (`ansi`) or as a picture (`rgb_array`)."""
        from sbs_gym.report.scene import scene_of
        from sbs_gym.report.scene_image import scene_image
        from sbs_gym.report.scene_text import scene_text

        if self.render_mode is None:
            raise ConfigError("render_mode=None renders nothing; expected ansi or rgb_array")
        scene = scene_of(self.core.world(0), title=self.task.id)
        return scene_text(scene) if self.render_mode == "ansi" else scene_image(scene)

    def close(self) -> None:
        """Nothing to close."""
