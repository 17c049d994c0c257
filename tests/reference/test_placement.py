"""Every placement rule on records written down by hand (section 15)."""

from __future__ import annotations

from typing import Any

import pytest

from sbs_gym.rng import Stream, hash64, uniform
from tests.reference.decode import RankSample
from tests.reference.placement import Placement, RankRecord, first_past, quantile
from tests.reference.toy import decode_scenario

Rank = tuple[int, int, int, float]  # running, waiting, blocks, KV tokens


def placement_on(ranks: list[Rank], rule: str, tokens: int = 4, **changes: Any) -> Placement:
    """Return the placement of a request of `tokens` tokens on ranks with these records."""
    rules = {"decode_dp": len(ranks), "placement": rule} | changes
    placement = Placement(decode_scenario([(0.0, tokens, 2)] * 3, **rules))
    placement.records = [RankRecord(RankSample(*rank)) for rank in ranks]
    return placement


def chosen(ranks: list[Rank], rule: str, tokens: int = 4, **changes: Any) -> int | None:
    return placement_on(ranks, rule, tokens, **changes).choose(0)


def loads(requests: tuple[int, ...], kv: tuple[int, ...]) -> list[Rank]:
    return [(b, 0, k, float(k)) for b, k in zip(requests, kv, strict=True)]


def test_iqr_lex_masks_an_outlier_with_the_fewest_requests() -> None:
    # Sorted 10, 12, 14, 100: x = .75 and 2.25, so Q1 = 10 + 2*.75 and Q3 = 14 + 86*.25. The limit
    # is 35.5 + 1.5*24 = 71.5: rank 3 is masked; of the rest B is equal and rank 0 has the least K.
    kv = (10, 12, 14, 100)
    assert quantile(list(kv), 0.25) == 11.5
    assert quantile(list(kv), 0.75) == 35.5
    assert chosen(loads((1, 1, 1, 0), kv), "iqr_lex") == 0
    assert chosen(loads((1, 1, 1, 0), kv), "iqr_lex", placement_kv="tokens") == 0


def test_iqr_lex_masks_nobody_among_fewer_than_four() -> None:
    assert chosen(loads((1, 1, 0), (10, 12, 100)), "iqr_lex") == 2


def test_iqr_lex_of_equal_loads_is_lexicographic() -> None:
    # Q1 = Q3 = limit = 7, and 7 is not above it.
    assert chosen(loads((2, 1, 1, 3), (7, 7, 7, 7)), "iqr_lex") == 1


def test_iqr_lex_takes_its_factor() -> None:
    # With k = 3 the limit is 35.5 + 3*24 = 107.5; with 2.6875 it is 100, which is not above itself.
    ranks = loads((1, 1, 1, 0), (10, 12, 14, 100))
    assert chosen(ranks, "iqr_lex", placement_iqr_k=3.0) == 3
    assert chosen(ranks, "iqr_lex", placement_iqr_k=2.6875) == 3
    assert chosen(ranks, "iqr_lex", placement_iqr_k=2.6874) == 0


def test_iqr_lex_drops_a_mask_that_leaves_too_few() -> None:
    ranks = loads((1, 1, 1, 0), (10, 12, 14, 100))
    assert chosen(ranks, "iqr_lex", placement_min_safe_ranks=3) == 0
    assert chosen(ranks, "iqr_lex", placement_min_safe_ranks=4) == 3


def test_iqr_lex_counts_candidates_only() -> None:
    # Rank 4 has no room for 4 + 2 blocks, so four candidates; with it Q3 would be 100.
    ranks = loads((1, 1, 1, 0, 0), (10, 12, 14, 100, 195))
    assert chosen(ranks, "iqr_lex", decode_kv_blocks=200) == 0


@pytest.mark.parametrize(
    ("rule", "changes", "expected"),
    [
        ("jsq", {}, 1),  # B = 3, 2, 4, 3
        ("least_kv", {}, 2),  # blocks 80, 90, 10, 70
        ("least_kv", {"placement_kv": "tokens"}, 3),  # 40, 50, 30, 20
        ("vllm_count", {}, 0),  # 3, 8, 16, 6
        ("total_tokens", {}, 3),
    ],
)
def test_least_of_a_number(rule: str, changes: dict[str, Any], expected: int) -> None:
    ranks = [(3, 0, 80, 40.0), (0, 2, 90, 50.0), (0, 4, 10, 30.0), (2, 1, 70, 20.0)]
    assert chosen(ranks, rule, **changes) == expected


def test_total_tokens_looks_at_requests_among_equal_tokens() -> None:
    assert chosen([(2, 0, 9, 30.0), (1, 0, 9, 30.0), (1, 0, 1, 30.0)], "total_tokens") == 1


def test_round_robin_goes_around_what_has_no_room() -> None:
    ranks = loads((0, 0, 0), (0, 98, 0))  # rank 1 has 2 of 100 blocks
    placement = placement_on(ranks, "round_robin", decode_kv_blocks=100)
    assert [placement.choose(0) for _ in range(4)] == [0, 2, 0, 2]


def test_vllm_kv_weighs_waiting_by_used_blocks() -> None:
    # Of 100 blocks: 3 + 6*2*(.75 - .5) = 6; 5 + 6*1*.1 = 5.6; 6 running, none waiting: 6; and 2 + 4
    # waiting, not above half: 6. After the first choice (rank 1) ties go on from the counter.
    ranks = [(1, 2, 75, 0.0), (4, 1, 60, 0.0), (6, 0, 90, 0.0), (2, 4, 50, 0.0)]
    placement = placement_on(ranks, "vllm_kv", decode_kv_blocks=100)
    assert placement.choose(0) == 1
    placement.records[1].refused = True
    assert [placement.choose(0) for _ in range(4)] == [2, 2, 3, 0]


def test_bf_io_avoids_to_raise_the_greatest_load() -> None:
    # w = 5. One step, h = 0: loads 20, 12, 14: M = 20; costs 25, 20, 20. The least T of 1 and 2.
    ranks = [(0, 0, 0, 20.0), (1, 0, 0, 12.0), (0, 0, 0, 14.0)]
    assert chosen(ranks, "bf_io", placement_horizon_steps=0) == 1
    # h = 1..4 at one token a step: M = 20. Rank 1 + 5 at h = 4: 12 + 4 + 5 + 4 = 25; rank 2: 23.
    # Costs: rank 1: 20, 20, 21, 23, 25 = 109; rank 2: 20, 20, 21, 22, 23 = 106.
    assert chosen(ranks, "bf_io", placement_horizon_steps=4) == 2


def test_bf_io_compares_with_ranks_that_have_no_room() -> None:
    # Rank 2 is full, but its 40 tokens are M. So 10 + 5 and 30 + 5 both cost 40 and the least T is
    # taken. Without it M would be 30: 30 and 35.
    ranks = [(0, 0, 0, 30.0), (0, 0, 0, 10.0), (0, 0, 100, 40.0)]
    changes = {"decode_kv_blocks": 100, "placement_horizon_steps": 0}
    assert chosen(ranks, "bf_io", **changes) == 1
    ranks[1] = (0, 0, 100, 10.0)
    assert chosen(ranks, "bf_io", **changes) == 0


def test_br_0_fills_the_gap_it_fits_in() -> None:
    # w = 5, loads 20, 18, 10, 14: gaps 0, 2, 10, 6. F = 0 - 3*5, 2 - 3*3, 5, 5: ranks 2 and 3 tie,
    # and rank 2 has the least T.
    ranks = [(0, 0, 0, t) for t in (20.0, 18.0, 10.0, 14.0)]
    assert chosen(ranks, "br_0") == 2
    # Without room on 2 and 3, rank 1.
    full = [*ranks[:2], *((0, 0, 100, t) for t in (10.0, 14.0))]
    assert chosen(full, "br_0", decode_kv_blocks=100) == 1


def test_random_draws_among_the_candidates() -> None:
    ranks = loads((0, 0, 0, 0), (0, 99, 0, 0))
    for seed in range(8):
        place = int(hash64(seed, int(Stream.POLICY), 4, 0, 0)) % 3
        given = {"seed": seed, "decode_kv_blocks": 100}
        assert chosen(ranks, "random", **given) == (0, 2, 3)[place]


def test_power_of_two_takes_the_shorter_of_two_drawn() -> None:
    ranks = loads((3, 0, 2, 1), (0, 99, 0, 0))
    for seed in range(8):
        first = int(hash64(seed, int(Stream.POLICY), 4, 0, 0)) % 3
        second = int(hash64(seed, int(Stream.POLICY), 5, 0, 0)) % 2
        second += second >= first
        expected = {0: 0, 1: 2, 2: 3}[max(first, second)]  # B falls with the number: 3, 2, 1
        given = {"seed": seed, "decode_kv_blocks": 100}
        assert chosen(ranks, "power_of_two", **given) == expected
    assert chosen(ranks[:1], "power_of_two") == 0


def test_exp_weighted_draws_by_tokens() -> None:
    # K = 10, 10, 10, 200: mean 57.5, and 200 > 172.5 is dropped. Weights of T = 0, 1, 2 with decay
    # 1: 1, e^-1, e^-2, sum 1.5032...
    ranks = [(0, 0, 10, 0.0), (0, 0, 10, 1.0), (0, 0, 10, 2.0), (0, 0, 200, 0.0)]
    seen = set()
    for seed in range(40):
        u = float(uniform(seed, int(Stream.POLICY), 4, 0, 0)) * 1.5032147
        expected = 0 if u < 1.0 else 1 if u < 1.3678794 else 2
        assert chosen(ranks, "exp_weighted", seed=seed, placement_decay=1.0) == expected
        seen.add(expected)
    assert seen == {0, 1, 2}


def test_first_past_the_mark() -> None:
    assert first_past(1.0, [1.0, 0.5, 0.5], [3, 5, 8]) == 5  # 1.0 does not exceed 1.0
    assert first_past(2.0, [1.0, 0.5, 0.5], [3, 5, 8]) == 8


def test_without_room_anywhere_the_rule_is_count() -> None:
    # Ranks 0 and 1 say they are full; 4*waiting + running = 4 and 3.
    ranks = [(0, 1, 98, 0.0), (3, 0, 98, 0.0)]
    assert chosen(ranks, "jsq", decode_kv_blocks=100) == 1
    assert chosen(ranks, "round_robin", decode_kv_blocks=100) == 1


def test_refused_ranks_are_no_candidates_until_their_report() -> None:
    placement = placement_on(loads((0, 1), (0, 0)), "jsq")
    placement.records[0].refused = True
    assert placement.choose(0) == 1
    placement.records[1].refused = True
    assert placement.choose(0) is None
    placement.hear(0, 1.0, [RankSample(3, 0, 0, 0.0), RankSample(2, 0, 0, 0.0)])
    assert placement.choose(0) == 1


def test_report_keeps_what_was_granted_since_its_sample() -> None:
    placement = placement_on(loads((0,), (0,)), "jsq")
    for at_s in (1.0, 2.0, 3.0):
        placement.grant(0, 0, at_s)
    assert (placement.records[0].waiting, placement.records[0].blocks) == (3, 18)
    placement.hear(0, 2.0, [RankSample(1, 0, 6, 5.5)])
    record = placement.records[0]
    seen = (record.running, record.waiting, record.blocks, record.kv_tokens)
    assert seen == (1, 2, 6 + 2 * 6, 5.5 + 2 * 5)
