"""Environments that are stored half-way, and all that they give, as bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from tests.env.setups import choose, options_for

NUM_ENVS = 3
BEFORE, AFTER = 150, 250  # steps: several episodes each
EVERYTHING: dict[str, Any] = {
    "horizon_s": 3.0,
    "warmup_s": (0.5, 1.5),
    "reward": {"baseline": "sbs"},
    "history": 3,
}


def kept(state: dict[str, Any]) -> Mapping[str, Any]:
    """Return a state as a file would give it back."""
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    found: Mapping[str, Any] = np.load(file, allow_pickle=False)
    return found


def told(given: Any) -> bytes:
    """Return whatever an environment gave as bytes."""
    if isinstance(given, Mapping):
        return b"".join(name.encode() + told(given[name]) for name in sorted(given))
    if isinstance(given, (list, tuple)):
        return b"".join(told(one) for one in given)
    if isinstance(given, np.ndarray) and given.dtype.names:
        return told({name: given[name] for name in given.dtype.names})
    if isinstance(given, np.ndarray) and given.dtype != object:
        return str(given.dtype).encode() + given.tobytes()
    return told(given.tolist()) if isinstance(given, np.ndarray) else repr(given).encode()


def sb3(id: str, num_envs: int = NUM_ENVS, **changes: Any) -> Any:
    """Return small environments as a `VecEnv`, with two threads."""
    from sbs_gym.envs.sb3 import SB3SchedulingEnv  # torch takes its time

    return SB3SchedulingEnv(id, num_envs, num_threads=2, **options_for(id, **changes))


def vector(id: str, mode: AutoresetMode, num_threads: int = 1, **changes: Any) -> Any:
    """Return small environments as a vector."""
    options = options_for(id, **changes)
    return gym.make_vec(id, NUM_ENVS, autoreset_mode=mode, num_threads=num_threads, **options)


def play(env: Any, num_steps: int, seed: int = 0) -> list[bytes]:
    """Step any shell with random actions, one in ten careless; return what it gave."""
    rng = np.random.default_rng(seed)
    space = getattr(env, "single_action_space", None) or env.action_space
    story = []
    for _ in range(num_steps):
        actions = [choose(rng, space, legal, careless=0.1) for legal in env.core.legal]
        story.append(told(env.step(np.array(actions))) + env.action_masks().tobytes())
    return story
