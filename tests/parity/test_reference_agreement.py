"""The compiled core does what the reference does, on every instant and every pass, exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sbs_gym.config.timing import ConstantTiming
from sbs_gym.timing.coefficients import Kind
from tests.parity.core import cluster_config, differences, must_drain, run_core
from tests.parity.scenarios import draw_scenario
from tests.property.laws import check_everything_ended, check_laws
from tests.reference import scheduler
from tests.reference.rules import Allocation
from tests.reference.scenario import Scenario
from tests.reference.simulator import run_reference
from tests.reference.toy import decode_scenario, scenario
from tests.reference.toys import TOYS

_BLOCK, _NUM_BLOCKS, _NUM_SLOW_BLOCKS = 20, 20, 250


def check_agreement(given: Scenario, name: str) -> None:
    core = run_core(given)
    found = differences(run_reference(given), core)
    assert not found, "\n".join([name, *found])
    check_laws(core, cluster_config(given))
    if must_drain(given):
        check_everything_ended(core)


@pytest.mark.parametrize("block", range(_NUM_BLOCKS))
def test_core_agrees_with_the_reference(block: int) -> None:
    for number in range(block * _BLOCK, (block + 1) * _BLOCK):
        check_agreement(draw_scenario(number), f"scenario {number}")


@pytest.mark.slow
@pytest.mark.parametrize("block", range(_NUM_BLOCKS, _NUM_BLOCKS + _NUM_SLOW_BLOCKS))
def test_core_agrees_with_the_reference_on_many_more(block: int) -> None:
    for number in range(block * _BLOCK, (block + 1) * _BLOCK):
        check_agreement(draw_scenario(number), f"scenario {number}")


@pytest.mark.parametrize(("name", "given", "expected"), TOYS, ids=[name for name, _, _ in TOYS])
def test_toy_ends_in_the_core_as_worked_out_by_hand(
    name: str, given: Scenario, expected: dict[str, Any]
) -> None:
    check_agreement(given, name)
    records = run_core(given)
    for table in (records.requests, records.decode):
        for column in expected.keys() & set(() if table is None else table.dtype.names):
            np.testing.assert_array_equal(table[column], expected[column])


class TiesToTheLastRank(Allocation):
    """The reference with ranks counted from the other end."""

    def _place_in_tie(self, rank: int) -> int:
        return -rank


def test_relabelled_ranks_relabel_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "Allocation", TiesToTheLastRank)
    same_for_every_rank = ("pbaa", "lpt", "least_tokens", "least_requests")
    drawn = [draw_scenario(number) for number in range(0, 800, 2)]  # those without decode
    checked = 0
    for given in drawn:
        kind = given.timing.coefficients[0]["kind"]
        if given.allocation not in same_for_every_rank or kind == Kind.ROOFLINE:
            continue  # a rule by index or hash; a sum of floats over ranks
        if given.slow_rank_factor > 1.0:
            continue  # it is always the first
        mirrored = run_reference(given)
        last = given.dp - 1
        mirrored.rank = [last - rank if rank >= 0 else -1 for rank in mirrored.rank]
        mirrored.passes = [
            replace(p, tokens=p.tokens[::-1], pairs=p.pairs[::-1]) for p in mirrored.passes
        ]
        assert differences(mirrored, run_core(given)) == []
        checked += given.dp > 1
    assert checked > 100


TINY = ConstantTiming(pass_s=0.0009765625)
CROWDS: dict[str, Scenario] = {
    "signals_outlive_thousands_of_passes": scenario(
        [(0.00390625 * r, 10) for r in range(3000)],
        timing=TINY,
        release="immediate",
        routing="round_robin",
        signal_delay_s=60.0,
    ),
    "gated_signals_outlive_many_passes": scenario(
        [(0.0, 10)] * 400, timing=TINY, num_prefill=3, dispatch_delay_s=1.0, signal_delay_s=1.0
    ),
    "one_burst_of_immediate_releases": scenario(
        [(0.5, 1 + r % 13) for r in range(5000)],
        num_prefill=2,
        dp=3,
        release="immediate",
        routing="least_tokens",
        dispatch_delay_s=0.25,
    ),
    "one_burst_for_a_gated_rule": scenario(
        [(0.5, 1 + r % 13) for r in range(1000)], num_prefill=2, dp=3, dispatch_delay_s=0.25
    ),
    "free_running_instances_idle_for_long": scenario(
        [(0.0, 10), (20.0, 10)], timing=TINY, num_prefill=3, start_rule="free_running"
    ),
    "one_burst_to_be_decoded": decode_scenario(
        [(0.5, 1 + r % 13, 1 + r % 29) for r in range(1500)],
        num_prefill=2,
        dp=3,
        decode_dp=2,
        num_decode=2,
        decode_kv_blocks=90,
        report_period_s=0.75,
        placement="bf_io",
        tokens_per_step=1.5,
        mtp_tokens=2,
    ),
    "one_burst_bound_at_dispatch": decode_scenario(
        [(0.5, 1 + r % 13, 2 + r % 29) for r in range(1500)],
        release="immediate",
        routing="least_tokens",
        dp=3,
        decode_dp=3,
        decode_binding="at_dispatch",
        report_period_s=0.25,
        decode_kv_blocks=100_000,
        placement="jsq",
    ),
    "thousands_of_steps_and_swaps": decode_scenario(
        [(0.25 * r, 4, 40) for r in range(400)],
        decode_timing=ConstantTiming(step_s=0.03125),
        decode_kv_blocks=100,
        report_period_s=0.5,
        decode_reserve_tokens=0,
    ),
}


@pytest.mark.parametrize("name", CROWDS)
def test_arrays_grow_with_what_is_under_way(name: str) -> None:
    check_agreement(CROWDS[name], name)
