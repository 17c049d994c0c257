"""Windows that also say how many instances are kept free of long prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sbs_gym.envs.play import RulePlayer, play
from sbs_gym.errors import ConfigError
from sbs_gym.schedulers.questions import RESERVED
from tests.env.setups import BUDGET, PREFILL, PREFILL_ONLY, SERVING, WHOLE_PATH, WINDOW, make
from tests.env.test_parity_law import ALONE, assert_parity, plain_run

THREE = {"num_prefill": 3}
CASES = (
    (WINDOW, {"action": "discrete", "cluster": PREFILL_ONLY | THREE}),
    (BUDGET, {"action": "flat", "cluster": PREFILL_ONLY | THREE}),
    (SERVING, {"asks": ("release",), "cluster": WHOLE_PATH | THREE}),
    (SERVING, {"cluster": WHOLE_PATH | THREE}),
)


@pytest.mark.parametrize("reserved", RESERVED)
@pytest.mark.parametrize("id, options", CASES)
def test_every_number_of_reserved_instances(id: str, options: Any, reserved: int) -> None:
    rule = f"sbs:reserved={reserved}"
    assert_parity(id, rule, reserves=True, workload="sbs_long", **options, **ALONE)


def test_the_numbers_differ_from_each_other() -> None:
    """Else the test above could pass with any of them."""
    found = {
        assert_parity(
            WINDOW,
            f"sbs:reserved={reserved}",
            reserves=True,
            workload="sbs_long",
            cluster=PREFILL_ONLY | THREE,
            **ALONE,
        ).requests.tobytes()
        for reserved in RESERVED
    }
    assert len(found) == len(RESERVED)


@pytest.mark.parametrize("reserved", RESERVED)
@pytest.mark.parametrize("id", [WINDOW, PREFILL, SERVING])
def test_those_of_the_background_hold_where_no_window_says_so(id: str, reserved: int) -> None:
    scheduler = f"sbs:reserved={reserved}"
    cluster = (PREFILL_ONLY if id != SERVING else WHOLE_PATH) | THREE
    changes: dict[str, Any] = {"workload": "sbs_long", "cluster": cluster, "warmup_s": 0.0}
    assert_parity(id, scheduler, scheduler=scheduler, **changes)


def test_those_of_the_warm_up_hold_until_the_first_answer() -> None:
    env = make(WINDOW, reserves=True, scheduler="sbs:reserved=2", warmup_s=2.0, record=True)
    env.reset(seed=4)
    assert env.core.world(0).agent.reserved == 2
    env.step(4 * len(RESERVED) + 1)
    assert env.core.world(0).agent.reserved == RESERVED[1]


@pytest.mark.parametrize("reserved", RESERVED)
def test_what_a_rule_keeps_out_is_left_where_ranks_are_chosen(reserved: int) -> None:
    cluster = PREFILL_ONLY | THREE
    options: dict[str, Any] = {"workload": "heavy_tail", "cluster": cluster, "horizon_s": 60.0}
    env = make(PREFILL, observation="dict", record=True, **options, **ALONE)
    found = play(env, f"sbs:reserved={reserved}", seed=3)
    left = found.actions == env.core.config.cluster.prefill_dp
    long = found.observations["request"][:, 0] > 1.0
    assert not left[~long].any()
    assert (0.1 if reserved else 0.0) <= left[long].mean() <= (0.99 if reserved else 0.0)
    mine = env.records().requests["first_token_at_s"] - env.records().requests["arrived_at_s"]
    plain = plain_run(env, f"sbs:reserved={reserved}").requests
    theirs = plain["first_token_at_s"] - plain["arrived_at_s"]
    assert np.nanmean(mine) == pytest.approx(np.nanmean(theirs), rel=0.05)


def test_what_the_background_keeps_out_no_rule_can_place() -> None:
    env = make(PREFILL, cluster=PREFILL_ONLY | THREE, scheduler="sbs_reserve")
    with pytest.raises(ConfigError, match="reserved=0, which SBS/PrefillAllocation does not"):
        RulePlayer(env, "sbs")


def test_a_rule_with_other_numbers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"reserved=1, which SBS/Window does not choose"):
        RulePlayer(make(WINDOW), "sbs:reserved=1")
    with pytest.raises(ConfigError, match=r"rule\.reserved"):
        RulePlayer(make(WINDOW, reserves=True), "sbs:reserved=5")


@pytest.mark.parametrize("id, action", [(WINDOW, "box"), (BUDGET, "multi"), (PREFILL, "discrete")])
def test_forms_that_cannot_say_it_are_refused(id: str, action: str) -> None:
    with pytest.raises(ConfigError, match="reserves=True"):
        make(id, action=action, reserves=True)


def test_only_windows_can_say_it() -> None:
    with pytest.raises(ConfigError, match="does not ask for windows here"):
        make(SERVING, asks=("prefill",), reserves=True)
    with pytest.raises(ConfigError, match="reserves='yes'"):
        make(WINDOW, reserves="yes")


def test_what_is_long_must_be_the_same_for_a_baseline_behind_a_warm_up() -> None:
    baseline = "sbs:long_tokens=100"
    with pytest.raises(ConfigError, match="long_tokens"):
        make(WINDOW, warmup_s=1.0, reward={"baseline": baseline})
    make(WINDOW, warmup_s=0.0, reward={"baseline": baseline})


def test_ungated_rules_keep_nothing_out() -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.reserved=1 needs a release"):
        make(WINDOW, scheduler="round_robin:reserved=1")
