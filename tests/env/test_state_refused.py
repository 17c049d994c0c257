"""A state that does not fit is refused, by the name of what differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from sbs_gym.errors import ConfigError
from tests.env.setups import BUDGET, WINDOW
from tests.env.storing import EVERYTHING, NUM_ENVS, sb3, told, vector


def begun(id: str = WINDOW, **changes: Any) -> Any:
    env = sb3(id, **EVERYTHING | changes)
    env.reset()
    return env


@pytest.mark.parametrize(
    ("id", "changes", "named"),
    [
        (WINDOW, {"load": 0.6}, r"load=\[0\.8, 0\.8\], here \[0\.6, 0\.6\]"),
        (WINDOW, {"history": 2}, "history=3, here 2"),
        (WINDOW, {"timing": "constant"}, r"timings\[0\]='LinearTiming', here 'ConstantTiming'"),
        (WINDOW, {"reward": {"baseline": None}}, "reward.baseline"),
        (BUDGET, {}, "task='SBS/Window', here 'SBS/WindowBudget'"),
    ],
)
def test_a_state_of_other_environments_is_refused_by_what_differs(
    id: str, changes: dict[str, Any], named: str
) -> None:
    state = begun().state()
    env = begun(id, **changes)
    before = told(env.state())
    with pytest.raises(ConfigError, match=named):
        env.restore(state)
    assert told(env.state()) == before


def test_a_state_of_another_number_of_environments_is_refused() -> None:
    env = sb3(WINDOW, NUM_ENVS + 1, **EVERYTHING)
    with pytest.raises(ConfigError, match="num_envs=3, here 4"):
        env.restore(begun().state())


def test_a_state_of_another_layout_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    env = begun()
    state = env.state()
    shorter = np.dtype([("status", np.int64)])
    monkeypatch.setattr("sbs_gym.envs.made_of.OUTCOME", shorter)
    with pytest.raises(ConfigError, match="layout of outcomes"):
        env.restore(state)


def test_requests_that_are_drawn_otherwise_are_refused() -> None:
    env = begun()
    state = env.state()
    state["table_sums"] = state["table_sums"] + 1
    with pytest.raises(ConfigError, match="requests of environment 0"):
        env.restore(state)


def test_damaged_rows_are_refused() -> None:
    env = begun()
    state = env.state()
    state["rows"] = np.zeros_like(state["rows"])
    with pytest.raises(ConfigError, match="world 0 is damaged"):
        env.restore(state)


def test_the_state_of_another_shell_is_refused() -> None:
    env = vector(WINDOW, AutoresetMode.SAME_STEP, **EVERYTHING)
    with pytest.raises(ConfigError, match="lacks ended"):
        env.restore(begun().state())


def test_there_is_no_state_before_the_first_reset() -> None:
    with pytest.raises(ConfigError, match=r"before the first reset\(\)"):
        sb3(WINDOW).state()


def test_options_that_wait_for_a_reset_are_not_stored_in_silence() -> None:
    env = begun()
    env.set_options({"load": 0.5})
    with pytest.raises(ConfigError, match="between set_options"):
        env.state()
