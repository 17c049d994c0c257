"""Toys about decode steps: tokens, blocks, and who leaves a full rank."""

from __future__ import annotations

from sbs_gym.config.timing import ConstantTiming, LinearTiming
from tests.reference.toy import Toy, decode_scenario, toy

_TWO_THAT_GROW = [(0.0, 4, 5), (0.0, 4, 5)]
_GROWING = [
    (0, 0, 2.0, 3.0, [1], [5.0], [12]),
    (0, 1, 3.0, 4.0, [2], [11.0], [12]),
    (0, 2, 4.0, 5.0, [2], [13.0], [13]),
]

STEP_TOYS: list[Toy] = [
    # After 1, 2, 3 steps: 1 + 1, 1 + 3, 1 + 4 tokens: three steps for 5. KV 5 + 1.5*k. Blocks of
    # two tokens, nothing reserved but the prompt: 4 tokens, then 4 + 2 and 4 + 4.
    toy(
        "one_and_a_half_tokens_a_step",
        decode_scenario(
            [(0.0, 4, 5)],
            mtp_tokens=2,
            tokens_per_step=1.5,
            kv_block_tokens=2,
            decode_reserve_tokens=0,
            decode_timing=ConstantTiming(step_s=0.5),
        ),
        transferred_at_s=[2.0],
        admitted_at_s=[2.0],
        second_token_at_s=[2.5],
        finished_at_s=[3.5],
        steps=[
            (0, 0, 2.0, 2.5, [1], [5.0], [2]),
            (0, 1, 2.5, 3.0, [1], [6.5], [3]),
            (0, 2, 3.0, 3.5, [1], [8.0], [4]),
        ],
    ),
    # One token a step: four steps for 5 tokens. 4 + 2 tokens are reserved: three blocks; after
    # the second step there are 4 + 3.
    toy(
        "one_token_a_step",
        decode_scenario([(0.0, 4, 5)], kv_block_tokens=2),
        second_token_at_s=[3.0],
        finished_at_s=[6.0],
        steps=[
            (0, 0, 2.0, 3.0, [1], [5.0], [3]),
            (0, 1, 3.0, 4.0, [1], [6.0], [3]),
            (0, 2, 4.0, 5.0, [1], [7.0], [4]),
            (0, 3, 5.0, 6.0, [1], [8.0], [4]),
        ],
    ),
    # Two tokens of each request in a step of at most 3: one runs. Request 1 has come at 3.0.
    toy(
        "tokens_of_a_step_limit_the_batch",
        decode_scenario([(0.0, 4, 3), (0.0, 4, 2)], mtp_tokens=2, max_step_tokens=3),
        transferred_at_s=[2.0, 3.0],
        admitted_at_s=[2.0, 4.0],
        finished_at_s=[4.0, 5.0],
        steps=[
            (0, 0, 2.0, 3.0, [1], [5.0], [12]),
            (0, 1, 3.0, 4.0, [1], [6.0], [12]),
            (0, 2, 4.0, 5.0, [1], [5.0], [6]),
        ],
    ),
    toy(
        "requests_of_a_rank_are_limited",
        decode_scenario([(0.0, 4, 3), (0.0, 4, 2)], max_requests_per_rank=1),
        admitted_at_s=[2.0, 4.0],
        finished_at_s=[4.0, 5.0],
    ),
    # All ranks step together: rank 1 joins at the end of a step of 1 s, and a step lasts as long
    # as its heaviest rank asks: .5 + 1/16 per KV token. Transfers of 8 and 4 tokens to two ranks
    # from two ranks: at 3 and 2. Step 0 (request 1, 5 tokens): .8125. Then 6: .875, to 3.6875. Then
    # both, 9 and 7: 1.0625 to 4.75; request 1 ends. 10: 1.125 to 5.875.
    toy(
        "step_lasts_as_long_as_its_heaviest_rank",
        decode_scenario(
            [(0.0, 8, 3), (0.0, 4, 4)],
            dp=2,
            decode_dp=2,
            decode_timing=LinearTiming(
                decode_fixed_s=0.5, decode_per_request_s=0.0, decode_per_kv_token_s=0.0625
            ),
        ),
        admitted_at_s=[3.6875, 2.0],
        finished_at_s=[5.875, 4.75],
        steps=[
            (0, 0, 2.0, 2.8125, [0, 1], [0.0, 5.0], [10, 6]),
            (0, 1, 2.8125, 3.6875, [0, 1], [0.0, 6.0], [10, 6]),
            (0, 2, 3.6875, 4.75, [1, 1], [9.0, 7.0], [10, 7]),
            (0, 3, 4.75, 5.875, [1, 0], [10.0, 0.0], [10, 0]),
        ],
    ),
    # 4 + 2 blocks each of 14. After steps to 3.0, 4.0, 5.0 request 0 holds 6, 7, 8 and request 1
    # (one step less) 6, 6, 7: 15 are too many at 5.0, and request 1, with fewer steps, leaves. It
    # takes 7/8 s out and back. Request 0 ends at 6.0; request 1 returns with its two steps, its
    # 4 + 3 tokens, and ends two steps later.
    toy(
        "full_rank_swaps_out_who_has_done_least",
        decode_scenario(_TWO_THAT_GROW, decode_kv_blocks=14),
        transferred_at_s=[2.0, 3.0],
        admitted_at_s=[2.0, 3.0],
        second_token_at_s=[3.0, 4.0],
        finished_at_s=[6.0, 8.0],
        num_preempted=[0, 1],
        steps=[
            *_GROWING,
            (0, 3, 5.0, 6.0, [1], [8.0], [8]),
            (0, 4, 6.0, 7.0, [1], [7.0], [7]),
            (0, 5, 7.0, 8.0, [1], [8.0], [8]),
        ],
    ),
    # Computed anew: 7/4 s, to 6.75. The instance rests from 6.0 and is woken by the return.
    toy(
        "full_rank_recomputes_who_has_done_least",
        decode_scenario(_TWO_THAT_GROW, decode_kv_blocks=14, preempt="recompute"),
        admitted_at_s=[2.0, 3.0],
        finished_at_s=[6.0, 8.75],
        num_preempted=[0, 1],
        steps=[
            *_GROWING,
            (0, 3, 5.0, 6.0, [1], [8.0], [8]),
            (0, 4, 6.75, 7.75, [1], [7.0], [7]),
            (0, 5, 7.75, 8.75, [1], [8.0], [8]),
        ],
    ),
    # One token more for request 0: it ends at 7.0. At 6.0 it holds 9 of 14, so request 1, back
    # since 5.875, does not fit with 7 and waits.
    toy(
        "returned_request_waits_for_room",
        decode_scenario([(0.0, 4, 6), (0.0, 4, 5)], decode_kv_blocks=14),
        finished_at_s=[7.0, 9.0],
        num_preempted=[0, 1],
    ),
    # Request 2 (2 + 2 blocks) asks at 5.5: 6 blocks are free, but request 1 is swapped out. The
    # sample of 4.0 has freed nothing; that of 8.0 comes after the last step of request 1.
    toy(
        "rank_with_a_swapped_out_request_refuses",
        decode_scenario([*_TWO_THAT_GROW, (4.5, 2, 2)], decode_kv_blocks=14, report_period_s=4.0),
        first_token_at_s=[1.0, 1.0, 5.5],
        bound_at_s=[1.0, 1.0, 8.0],
        finished_at_s=[6.0, 8.0, 9.5],
        num_refusals=1,
    ),
    # Steps of 2 s. Request 0 steps from 2.5 to 4.5; the others, come at 3.5 and 4.0, start together
    # at 4.5. At 10.5, after three steps, they would hold 4 + 4 and 2 + 4 of 12 blocks: the longer
    # leaves, is back at 11.5 and fits again when request 2 has ended.
    toy(
        "among_equals_the_longest_prompt_leaves",
        decode_scenario(
            [(0.0, 6, 2), (0.0, 4, 6), (0.0, 2, 6)],
            dp=3,
            decode_kv_blocks=12,
            decode_reserve_tokens=0,
            decode_timing=ConstantTiming(step_s=2.0),
        ),
        transferred_at_s=[2.5, 3.5, 4.0],
        admitted_at_s=[2.5, 4.5, 4.5],
        finished_at_s=[4.5, 18.5, 14.5],
        num_preempted=[0, 1, 0],
    ),
    # As above with 4 + 4 tokens each of 14 blocks: the lower number leaves. Request 2 comes at the
    # very end of step 0 and is in time.
    toy(
        "among_equal_prompts_the_first_leaves",
        decode_scenario(
            [(0.0, 6, 2), (0.0, 4, 6), (0.0, 4, 6)],
            dp=3,
            decode_kv_blocks=14,
            decode_reserve_tokens=0,
            decode_timing=ConstantTiming(step_s=2.0),
        ),
        transferred_at_s=[2.5, 3.5, 4.5],
        admitted_at_s=[2.5, 4.5, 4.5],
        finished_at_s=[4.5, 18.5, 14.5],
        num_preempted=[0, 1, 0],
    ),
    # Only request 0 is measured: the run ends with its last token, at 4.0.
    toy(
        "run_ends_with_the_last_token_of_the_last_measured_request",
        decode_scenario([(0.0, 4, 3), (3.5, 4, 3)], measured=(0, 1)),
        finished_at_s=[4.0, float("nan")],
        ended_at_s=4.0,
    ),
]
