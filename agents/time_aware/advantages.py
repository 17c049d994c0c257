"""Advantages of decisions that are unevenly spaced in time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def time_lambdas(elapsed_s: Floats, tau_s: float) -> Floats:
    """Return lambda of every step, exp(-elapsed / tau): 1 over steps that take no time."""
    return np.exp(-np.asarray(elapsed_s, dtype=np.float64) / tau_s)


def time_aware_advantages(
    rewards: Floats,
    values: Floats,
    last_values: Floats,
    ends: NDArray[np.bool_],
    discounts: Floats,
    lambdas: Floats,
) -> Floats:
    """Return GAE with a discount and a lambda of its own for every step.

    Args:
        rewards: Of every step, with the bootstrap of truncated ones, shape (steps, envs).
        values: Of the observation before every step, same shape.
        last_values: Of the observation behind the last step, shape (envs,).
        ends: Whether an episode ended with the step, shape (steps, envs).
        discounts: Weight of what follows a step, shape (steps, envs).
        lambdas: Weight of later advantages, shape (steps, envs).

    Source: Schulman et al., arXiv 1506.02438, with gamma and lambda per step.
    """
    goes_on = 1.0 - ends
    next_values = np.concatenate([values[1:], last_values[None]])
    deltas = rewards + discounts * goes_on * next_values - values
    carried = discounts * lambdas * goes_on
    advantages = np.empty_like(deltas)
    following = np.zeros_like(deltas[0])
    for step in range(len(deltas) - 1, -1, -1):
        following = deltas[step] + carried[step] * following
        advantages[step] = following
    return advantages
