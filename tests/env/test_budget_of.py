"""Budgets of the chunk: the ablation of those that follow the backlog."""

from __future__ import annotations

import math

import pytest

from sbs_gym.envs.config import scheduler_named
from sbs_gym.envs.play import RulePlayer
from sbs_gym.errors import ConfigError
from sbs_gym.schedulers.questions import BUDGET_SHARES
from tests.env.setups import BUDGET, make
from tests.env.test_parity_law import differences
from tests.learned.test_parity import plain_run


@pytest.mark.parametrize("place", range(len(BUDGET_SHARES)))
def test_half_a_share_of_the_chunk_is_the_fixed_budget_of_that_many_tokens(place: int) -> None:
    env = make(BUDGET, action="multi", warmup_s=0.0, record=True, budget_of="chunk", load=0.9)
    env.reset(seed=2)
    over = False
    while not over:
        *_, terminated, truncated, _ = env.step([4, place])  # the interval once
        over = terminated or truncated
    tokens = math.ceil(BUDGET_SHARES[place] / 2 * env.config.cluster.chunk_tokens)
    plain = plain_run(env, scheduler_named(f"sbs:budget=fixed:budget_tokens={tokens}"))
    assert differences(env, env.records(), plain) == []
    assert env.records().rank_tokens.max() == tokens


def test_a_rule_whose_budget_follows_the_backlog_cannot_play_it() -> None:
    env = make(BUDGET, budget_of="chunk")
    with pytest.raises(ConfigError, match=r"budget_of='chunk'.*Expected budget_of='backlog'"):
        RulePlayer(env, "sbs_budget")
    RulePlayer(env, "sbs")


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="budget_of"):
        make(BUDGET, budget_of="moon")
