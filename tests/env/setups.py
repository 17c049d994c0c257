"""The small environments of this folder, and how an agent without a policy plays them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import sbs_gym  # noqa: F401 - registers the environments
from sbs_gym.envs.registration import IDS
from sbs_gym.envs.single import SchedulingEnv

WINDOW, BUDGET, PREFILL, DECODE, SERVING = IDS
# Every environment in every form of its action.
FORMS = (
    (WINDOW, "discrete"),
    (WINDOW, "box"),
    (BUDGET, "multi"),
    (BUDGET, "flat"),
    (PREFILL, "discrete"),
    (DECODE, "discrete"),
    (SERVING, "discrete"),
)
PREFILL_ONLY: dict[str, Any] = {"num_prefill": 2, "prefill_dp": 4}
WHOLE_PATH: dict[str, Any] = PREFILL_ONLY | {
    "num_decode": 2,
    "decode_dp": 2,
    "prefill_kv_tokens": 100_000,
    "decode_kv_tokens": 100_000,
}
# Decode ranks that hold about two requests: they refuse, evict and let prompts wait.
TINY_ROOM: dict[str, Any] = WHOLE_PATH | {
    "decode_kv_tokens": 9_000,
    "decode_reserve_tokens": 0,
    "prefill_kv_tokens": 12_000,
    "report_period_s": 0.05,
}
_SHORT = {"horizon_s": 6.0, "warmup_s": (0.0, 2.0), "timing": "linear", "load": 0.8}


def options_for(id: str, **changes: Any) -> dict[str, Any]:
    """Return the options of a small environment: at most 8 s, some hundred requests."""
    cluster = WHOLE_PATH if id in (DECODE, SERVING) else PREFILL_ONLY
    return {"cluster": cluster, **_SHORT, **changes}


def make(id: str, **changes: Any) -> SchedulingEnv:
    """Return a small single environment, without wrappers."""
    env = gym.make(id, **options_for(id, **changes)).unwrapped
    assert isinstance(env, SchedulingEnv)
    return env


def choose(
    rng: np.random.Generator, space: gym.Space[Any], mask: NDArray[np.bool_], careless: float = 0.0
) -> Any:
    """Return a random legal action, or with probability `careless` any action of the space."""
    if isinstance(space, gym.spaces.Box):
        return rng.uniform(-1.0, 1.0, size=1).astype(np.float32)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return rng.integers(space.nvec)
    if rng.random() < careless:
        return int(rng.integers(len(mask)))
    return int(rng.choice(np.flatnonzero(mask)))


def as_bytes(observation: Any, row: int | None = None) -> bytes:
    """Return an observation, or one row of a batch of them, as bytes."""
    if isinstance(observation, dict):
        return b"".join(as_bytes(observation[name], row) for name in sorted(observation))
    return bytes((observation if row is None else observation[row]).tobytes())


@dataclass(frozen=True, slots=True)
class Step:
    """What a learner was given once; a reset is a step without reward."""

    observation: bytes
    mask: bytes  # empty at the end of an episode and for a box
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    elapsed_s: float = 0.0
    discount: float = 1.0

    @property
    def ends(self) -> bool:
        """Whether the episode ends with it."""
        return self.terminated or self.truncated


@dataclass(slots=True)
class Story:
    """Everything that one environment gave, step by step, and who chose the actions."""

    rng: np.random.Generator
    steps: list[Step] = field(default_factory=list)

    @property
    def num_episodes(self) -> int:
        """Episodes that have ended."""
        return sum(step.ends for step in self.steps)

    def first(self, episodes: int) -> list[Step]:
        """Return the steps of the first episodes."""
        ends = [n for n, step in enumerate(self.steps) if step.ends]
        return self.steps[: ends[episodes - 1] + 1]


def story_of(seed: int) -> Story:
    """Return an empty story whose actions depend on the seed of the environment alone."""
    return Story(np.random.default_rng(seed))


def steps_of(
    env: SchedulingEnv, rng: np.random.Generator, *, careless: float = 0.0, most: int = 100_000
) -> Iterator[tuple[Any, float, bool, bool, dict[str, Any]]]:
    """Play the running episode to its end with random actions, at most `most` of them."""
    for _ in range(most):
        action = choose(rng, env.action_space, env.core.legal[0], careless)
        result = env.step(action)
        yield result
        if result[2] or result[3]:
            return
    raise AssertionError(f"the episode has not ended after {most} steps")
