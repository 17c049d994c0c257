"""The names under which Gymnasium knows the environments."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium as gym

_CLASSES = {
    "SBS/Window": "WindowEnv",
    "SBS/WindowBudget": "WindowBudgetEnv",
    "SBS/PrefillAllocation": "PrefillAllocationEnv",
    "SBS/DecodeAllocation": "DecodeAllocationEnv",
    "SBS/Serving": "ServingEnv",
}
IDS = tuple(f"{name}-v0" for name in _CLASSES)


def _make_vector(task: str, **options: Any) -> Any:
    from sbs_gym.envs.vector import VectorSchedulingEnv

    return VectorSchedulingEnv(task, **options)


def register() -> None:
    """Make the environments known to `gymnasium.make` and `gymnasium.make_vec`."""
    for task, name in _CLASSES.items():
        gym.register(
            id=f"{task}-v0",
            entry_point=f"sbs_gym.envs.environments:{name}",
            vector_entry_point=functools.partial(_make_vector, task),
        )
