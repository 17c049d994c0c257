"""What tests of training share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def few_observations():
    """Standardise by a few hundred observations: enough for a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agents.observations.NUM_SEEN", 500)
        yield


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch):
    """Evaluations leave no run of wandb behind, but where a test asks for one."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
