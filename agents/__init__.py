"""Training, evaluation and comparison of agents; run from the repository, never installed.

`agents.load("window_budget_ppo")` returns an agent that ships with the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.loading import LoadedAgent

__all__ = ["load"]


def load(agent: str) -> LoadedAgent:
    """Return a trained agent: the name of one that ships, a weights file, or a run's directory.

    Its `scheduler` plays in `sbs_gym.simulate`, its `predict` answers observations of its
    environment.

    Raises:
        ConfigError: If there is no such agent.
    """
    from agents.loading import load as load_agent  # agents stays cheap to import

    return load_agent(agent)
