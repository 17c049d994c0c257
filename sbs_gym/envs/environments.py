"""The five environments, one class each; what they share is in single.py."""

from __future__ import annotations

from sbs_gym.envs.single import SchedulingEnv
from sbs_gym.envs.tasks import TASKS


class WindowEnv(SchedulingEnv):
    """Choose how long to hold requests back before the next release."""

    task = TASKS["SBS/Window"]


class WindowBudgetEnv(SchedulingEnv):
    """Choose how long to hold requests back, and how many tokens a rank may take then."""

    task = TASKS["SBS/WindowBudget"]


class PrefillAllocationEnv(SchedulingEnv):
    """Choose the rank of every request of a release, or leave it in the buffer."""

    task = TASKS["SBS/PrefillAllocation"]


class DecodeAllocationEnv(SchedulingEnv):
    """Choose the decode rank of every prompt that is done."""

    task = TASKS["SBS/DecodeAllocation"]


class ServingEnv(SchedulingEnv):
    """Choose window, budget, order, prefill rank and decode rank."""

    task = TASKS["SBS/Serving"]
