"""Part of a task's questions: the scheduler's rules answer the others."""

from __future__ import annotations

import pytest

from sbs_gym.envs.play import RulePlayer
from sbs_gym.errors import ConfigError
from sbs_gym.sim.features import GLOBAL
from tests.env.setups import BUDGET, SERVING, make
from tests.env.test_parity_law import assert_parity

FLAGS = [feature.name for feature in GLOBAL]
PARTS = [("release",), ("prefill",), ("decode",), ("release", "decode")]


@pytest.mark.parametrize("asks", PARTS)
def test_only_these_questions_are_asked_in_the_spaces_of_the_task(asks: tuple[str, ...]) -> None:
    env, whole = make(SERVING, asks=asks), make(SERVING)
    assert env.action_space == whole.action_space
    assert env.observation_space == whole.observation_space
    player, asked = RulePlayer(env, "sbs"), set()
    seen, _ = env.reset(seed=1)
    over = False
    while not over:
        asked |= {name for name in ("release", "prefill", "decode") if seen[_flag(name)]}
        seen, _, terminated, truncated, _ = env.step(player.actions()[0])
        over = terminated or truncated
    assert asked == set(asks)


def _flag(question: str) -> int:
    return FLAGS.index(f"asks_{question}")


@pytest.mark.parametrize("asks", PARTS)
@pytest.mark.parametrize("rule", ["sbs", "sbs_budget"])
def test_a_rule_that_plays_them_is_that_rule(asks: tuple[str, ...], rule: str) -> None:
    background = "sbs" if "release" in asks else rule
    assert_parity(SERVING, rule, asks=asks, scheduler=background, warmup_s=0.0)


@pytest.mark.parametrize(
    ("asks", "rule", "field"),
    [
        ("release", "sbs:allocation=lpt", "allocation='lpt'"),
        ("release", "sbs:placement=jsq", "placement='jsq'"),
        ("release", "sbs_reserve", "reserved=1"),
        ("prefill", "sbs_budget", "budget='backlog'"),
        ("prefill", "sbs:multiplier=0.3", r"multiplier=0\.3"),
        ("decode", "sbs:order=shortest", "order='shortest'"),
        ("decode", "sbs_reserve", "reserved=1"),
    ],
)
def test_a_rule_that_would_answer_more_than_is_asked_is_refused(
    asks: str, rule: str, field: str
) -> None:
    with pytest.raises(ConfigError, match=f"{field}, which SBS/Serving does not choose"):
        RulePlayer(make(SERVING, asks=(asks,)), rule)


def test_a_question_that_the_task_does_not_ask_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"SBS/WindowBudget does not ask 'decode'.*: release"):
        make(BUDGET, asks=("decode",))
    with pytest.raises(ConfigError, match="asks"):
        make(SERVING, asks=("luck",))
