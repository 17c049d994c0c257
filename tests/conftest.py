"""What all tests share: golden files and a calm Hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Compiled functions are slow at their first call, which says nothing about the code.
settings.register_profile("sbs_gym", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sbs_gym")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update-golden."""
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the golden files; review their diff and list it under Changed results",
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten."""
    return bool(request.config.getoption("--update-golden"))
