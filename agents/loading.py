"""Trained agents from their weights files, without torch: as schedulers, and step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.inputs import CLIP, ROWS, SINGLE
from sbs_gym.config.learned import PREFIX, read_weights_file, weights_path
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.envs.config import EnvConfig, scheduler_named
from sbs_gym.errors import ConfigError
from sbs_gym.schedulers.questions import NUM_MULTIPLIERS

Array = NDArray[np.float32]
_SHAPING = ("history", "action", "budget_of", "reserves")  # options that shape spaces
_DEFAULTS = {one.name: one.default for one in fields(EnvConfig)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedAgent:
    """A trained agent.

    Attributes:
        name: Name, or path of its file.
        scheduler: It, as a rule of the compiled loop: RunConfig(scheduler=agent.scheduler).
        meta: What its file says of it: task, observation, training configuration.
        arrays: Its weights by name.
    """

    name: str
    scheduler: SchedulerConfig
    meta: Mapping[str, Any] = field(repr=False)
    arrays: Mapping[str, Array] = field(repr=False)

    @property
    def options(self) -> dict[str, Any]:
        """What an environment is made with that shows what it sees and takes what it answers."""
        meta, trained_on = self.meta, self.meta["training"]["env"]
        options = {"observation": "flat" if meta["kind"] == "mlp" else "dict"}
        options |= {name: trained_on.get(name, _DEFAULTS[name]) for name in _SHAPING}
        return {name: value for name, value in options.items() if value != _DEFAULTS[name]}

    def logits(self, observation: Any) -> Array:
        """Return the logits of all answers, shape (batch, actions).

        Args:
            observation: A batch in the form that it was trained on: flat, or by groups.
        """
        if self.meta["kind"] == "mlp":
            return self._perceptron(np.asarray(observation, dtype=np.float32))
        return self._over_sets(observation)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[NDArray[Any], None]:
        """Return the best actions of a batch or of one observation, as Stable-Baselines3 does.

        Args:
            observation: One, or a batch.
            state, episode_start: Not used; here for the signature.
            deterministic: Must be true: a shipped agent does not explore.
            action_masks: Legal actions, of the same batch.
        """
        del state, episode_start
        if not deterministic:
            raise ValueError("deterministic=False is not allowed; a loaded agent does not explore")
        self._require_seen(observation)
        whole = observation["global"] if isinstance(observation, Mapping) else observation
        is_one = np.asarray(whole).ndim == 1
        if is_one:
            observation = _as_batch(observation)
        logits = self.logits(observation)
        if action_masks is not None and self.meta["action"] not in ("multi", "box"):
            masks = np.asarray(action_masks, dtype=bool)
            if masks.size != logits.size:
                raise ConfigError(
                    f"agent {self.name!r}: action_masks of shape {masks.shape}, expected "
                    f"{logits.shape[1]} actions each, as in {self._way}"
                )
            logits = np.where(masks.reshape(logits.shape), logits, -np.inf)
        actions = self._actions(logits)
        return (actions[0] if is_one else actions), None

    def _require_seen(self, observation: Any) -> None:
        """Raise ConfigError unless the observation is of the form that it was trained on."""
        is_flat = self.meta["kind"] == "mlp"
        if isinstance(observation, Mapping) == is_flat:
            raise ConfigError(f"agent {self.name!r} answers observations of {self._way}")
        if is_flat:
            found = {"flat": np.asarray(observation).shape[-1]}
            wanted = {"flat": len(self.arrays["mean"])}
        else:
            single = [observation[name] for name in SINGLE if name in observation]
            found = {"single": sum(np.asarray(part).shape[-1] for part in single)}
            wanted = {"single": len(self.arrays["single_mean"])}
            for group in (name for name in ROWS if f"{name}_mean" in self.arrays):
                part = observation.get(group)
                found[group] = 0 if part is None else np.asarray(part).shape[-1]
                wanted[group] = len(self.arrays[f"{group}_mean"])
        if found != wanted:
            raise ConfigError(
                f"agent {self.name!r}: features {found}, expected {wanted}, as in {self._way}"
            )

    @property
    def _way(self) -> str:
        """How an environment is made that suits it."""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"gym.make('{self.meta['task']}-v0'{options})"

    def _actions(self, logits: Array) -> NDArray[Any]:
        if self.meta["action"] == "box":
            return np.clip(logits[:, :1], -1.0, 1.0)
        if self.meta["action"] == "multi":
            parts = (logits[:, :NUM_MULTIPLIERS], logits[:, NUM_MULTIPLIERS:])
            return np.stack([part.argmax(axis=1) for part in parts], axis=1)
        return logits.argmax(axis=1)

    def _act(self, values: Array) -> Array:
        return np.maximum(values, 0.0) if self.meta["activation"] == "relu" else np.tanh(values)

    def _perceptron(self, seen: Array) -> Array:
        a = self.arrays
        values = np.clip((seen - a["mean"]) / a["std"], -CLIP, CLIP)
        last = sum(name.startswith("w") for name in a) - 1
        for number in range(last):
            values = self._act(values @ a[f"w{number}"].T + a[f"b{number}"])
        return values @ a[f"w{last}"].T + a[f"b{last}"]

    def _over_sets(self, seen: Mapping[str, Any]) -> Array:
        a = self.arrays
        single = np.concatenate([seen[n] for n in SINGLE if n in seen], axis=1)
        context = self._act(self._standard("single", single) @ a["w_single"].T + a["b_single"])
        pooled, states, inputs = [context], {}, {}
        for group in (name for name in ROWS if name in seen):
            inputs[group] = self._standard_rows(group, seen[group])
            shared = (context @ a[f"{group}_context"].T)[:, None]
            rows = inputs[group] @ a[f"{group}_rows"].T
            states[group] = self._act(rows + shared + a[f"{group}_bias"])
            pooled += [states[group].mean(axis=1), states[group].max(axis=1)]
        joint = self._act(np.concatenate(pooled, axis=1) @ a["w_joint"].T + a["b_joint"])
        return np.concatenate(self._segments(joint, states, inputs), axis=1)

    def _segments(
        self, joint: Array, states: Mapping[str, Array], inputs: Mapping[str, Array]
    ) -> list[Array]:
        a, segments = self.arrays, []
        if "w_window" in a:
            segments.append(joint @ a["w_window"].T + a["b_window"])
        if "prefill_score" in a:
            leave = joint @ a["prefill_leave"].reshape(-1) + a["prefill_leave_bias"].reshape(-1)
            scores = self._scores("prefill", joint, states["ranks"], inputs["ranks"])
            segments += [scores, leave[:, None]]
        if "decode_score" in a:
            group = "decode_ranks"
            segments.append(self._scores("decode", joint, states[group], inputs[group]))
        return segments

    def _scores(self, which: str, joint: Array, rows: Array, seen: Array) -> Array:
        a = self.arrays
        shared = (joint @ a[f"{which}_joint"].T)[:, None]
        states = self._act(rows @ a[f"{which}_rows"].T + shared + a[f"{which}_bias"])
        scores: Array = states @ a[f"{which}_score"].reshape(-1)
        if f"{which}_direct" in a:
            scores += seen @ a[f"{which}_direct"].reshape(-1)
        return scores

    def _standard_rows(self, group: str, seen: Any) -> Array:
        values, spread = self._standard(group, seen), self.arrays.get(f"{group}_spread")
        if spread is None:
            return values
        apart = (seen - np.mean(seen, axis=1, keepdims=True)) / spread
        return np.concatenate([values, np.clip(apart, -CLIP, CLIP)], axis=2)

    def _standard(self, part: str, seen: Any) -> Array:
        values = (np.asarray(seen, np.float32) - self.arrays[f"{part}_mean"]) / (
            self.arrays[f"{part}_std"]
        )
        return np.clip(values, -CLIP, CLIP)


def load(agent: str | Path) -> LoadedAgent:
    """Return an agent by its name, its weights file or the directory of its training."""
    name = str(agent).removeprefix(PREFIX)
    file = read_weights_file(str(weights_path(name)))
    return LoadedAgent(
        name=name,
        scheduler=scheduler_named(f"{PREFIX}{name}"),
        meta=file.meta,
        arrays=file.arrays,
    )


def _as_batch(observation: Any) -> Any:
    if isinstance(observation, Mapping):
        return {name: np.asarray(part)[None] for name, part in observation.items()}
    return np.asarray(observation)[None]
