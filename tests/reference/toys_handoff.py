"""Toys about what lies between the passes and the steps: KV room, binding, transfer, reports."""

from __future__ import annotations

import math

from tests.reference.toy import Toy, decode_scenario, toy

HANDOFF_TOYS: list[Toy] = [
    # Pass 0: 8 on rank 0; 4, 2 and 1 on rank 1. At 1.0 they join in that order and are bound to
    # ranks 0, 1, 0, 1. Transfers: 0 from 1 to 3; 1 from 1 to 2; 2 waits for its source until 2 and
    # for its destination until 3: 3 to 3.5; 3 waits for its source: 3.5 to 3.75. Latency .25.
    # Step 0 has request 1 alone. At 3.25 it ends and request 0 has come: step 1. The others come
    # during it. Blocks: prompts 8 + 2, 4 + 2, 2 + 2, 1 + 2.
    toy(
        "transfers_wait_for_both_ends",
        decode_scenario(
            [(0.0, 8, 2), (0.0, 4, 2), (0.0, 2, 2), (0.0, 1, 2)],
            dp=2,
            decode_dp=2,
            transfer_latency_s=0.25,
        ),
        first_token_at_s=[1.0, 1.0, 1.0, 1.0],
        bound_at_s=[1.0, 1.0, 1.0, 1.0],
        decode_instance=[0, 0, 0, 0],
        decode_rank=[0, 1, 0, 1],
        transferred_at_s=[3.25, 2.25, 3.75, 4.0],
        admitted_at_s=[3.25, 2.25, 4.25, 4.25],
        second_token_at_s=[4.25, 3.25, 5.25, 5.25],
        finished_at_s=[4.25, 3.25, 5.25, 5.25],
        steps=[
            (0, 0, 2.25, 3.25, [0, 1], [0.0, 5.0], [14, 9]),
            (0, 1, 3.25, 4.25, [1, 0], [9.0, 0.0], [14, 3]),
            (0, 2, 4.25, 5.25, [1, 1], [3.0, 2.0], [4, 3]),
        ],
        ended_at_s=5.25,
    ),
    # Passes of 10 and 4 tokens; the 10 went out during the second pass: 4 tokens, 1 s.
    toy(
        "chunked_transfer_sends_the_last_pass",
        decode_scenario([(0.0, 14, 2)]),
        first_token_at_s=[2.0],
        transferred_at_s=[3.0],
        finished_at_s=[4.0],
    ),
    # All 14 tokens, 3.5 s.
    toy(
        "unchunked_transfer_sends_the_prompt",
        decode_scenario([(0.0, 14, 2)], transfer_overlap="none"),
        first_token_at_s=[2.0],
        transferred_at_s=[5.5],
        finished_at_s=[6.5],
    ),
    # Two instances, so ranks 0 and 1 are instances 0 and 1: nothing is in lockstep. Transfers leave
    # one prefill rank: 1 to 2.5 and 2.5 to 3.5.
    toy(
        "decode_instances_step_by_themselves",
        decode_scenario([(0.0, 6, 3), (0.0, 4, 2)], num_decode=2),
        decode_instance=[0, 1],
        decode_rank=[0, 0],
        transferred_at_s=[2.5, 3.5],
        finished_at_s=[4.5, 4.5],
        steps=[
            (0, 0, 2.5, 3.5, [1], [7.0], [8]),
            (0, 1, 3.5, 4.5, [1], [8.0], [8]),
            (1, 0, 3.5, 4.5, [1], [5.0], [6]),
        ],
    ),
    # Both are on the rank at 0, but 4 tokens do not fit beside 8 in a room of 10: pass 0 takes 8 of
    # its 10 tokens. The rank is blocked until 8/4 s after the first token, when the KV is gone.
    toy(
        "room_blocks_a_rank_until_the_kv_has_left",
        decode_scenario([(0.0, 8, 2), (0.0, 4, 2)], prefill_kv_tokens=10),
        dispatched_at_s=[0.0, 0.0],
        prefill_started_at_s=[0.0, 3.0],
        first_token_at_s=[1.0, 4.0],
        transferred_at_s=[3.0, 5.0],
        finished_at_s=[4.0, 6.0],
        passes=[(0, 0, 0.0, 1.0, 10, [8]), (0, 1, 3.0, 4.0, 10, [4])],
        prefill_kv_blocked_s=3.0,
    ),
    toy(
        "blocked_time_counts_up_to_the_horizon",
        decode_scenario([(0.0, 8, 2), (0.0, 4, 2)], prefill_kv_tokens=10, stop_at_s=2.5),
        prefill_started_at_s=[0.0, math.nan],
        prefill_kv_blocked_s=2.5,
        ended_at_s=2.5,
    ),
    # The first request ends with its first token, and with that its room is free.
    toy(
        "room_is_free_at_once_behind_a_single_token",
        decode_scenario([(0.0, 8, 1), (0.0, 4, 2)], prefill_kv_tokens=10),
        first_token_at_s=[1.0, 2.0],
        bound_at_s=[math.nan, 2.0],
        decode_rank=[-1, 0],
        transferred_at_s=[math.nan, 3.0],
        second_token_at_s=[math.nan, 4.0],
        finished_at_s=[1.0, 4.0],
        prefill_kv_blocked_s=1.0,
    ),
    # A begun prompt goes on although the room of 14 is full. Request 1 joins it at 1.0, and blocks
    # its rank from then on: pass 1 has 4 tokens. They leave from 2 to 3.
    toy(
        "begun_prompt_has_its_room",
        decode_scenario([(0.0, 14, 2), (0.5, 3, 2)], prefill_kv_tokens=14),
        dispatched_at_s=[0.0, 1.0],
        first_token_at_s=[2.0, 4.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.0, 2.0, 10, [4]),
            (0, 2, 3.0, 4.0, 10, [3]),
        ],
        prefill_kv_blocked_s=2.0,
    ),
    # Pass 0 spends the first release on request 0 alone. At 1.0 the leftovers go alone, and that
    # release stays unspent until request 1 fits, at 3.0.
    toy(
        "release_stays_unspent_while_a_rank_is_blocked",
        decode_scenario([(0.0, 8, 2), (0.0, 4, 2)], prefill_kv_tokens=10, start_rule="on_release"),
        dispatched_at_s=[0.0, 0.0],
        first_token_at_s=[1.0, 4.0],
        passes=[(0, 0, 0.0, 1.0, 10, [8]), (0, 1, 3.0, 4.0, 10, [4])],
        num_releases=2,
        num_watchdogs=0,
    ),
    # A rank of 10 blocks holds request 0 (6 + 2); request 1 (4 + 2) is refused at 0 and held: it
    # has room on its prefill rank, so that is not blocked. The report at 2.0 lets it ask again, in
    # vain. Request 0 ends at 1 + 6/4 + 1 = 3.5; the next sample, at 4.0, says so. Request 1 is
    # granted at 4.0, its pass starts at once.
    toy(
        "held_until_a_decode_rank_grants",
        decode_scenario(
            [(0.0, 6, 2), (0.0, 4, 2)],
            decode_binding="at_dispatch",
            decode_kv_blocks=10,
            report_period_s=2.0,
        ),
        dispatched_at_s=[0.0, 0.0],
        bound_at_s=[0.0, 4.0],
        prefill_started_at_s=[0.0, 4.0],
        first_token_at_s=[1.0, 5.0],
        transferred_at_s=[2.5, 6.0],
        finished_at_s=[3.5, 7.0],
        passes=[(0, 0, 0.0, 1.0, 10, [6]), (0, 1, 4.0, 5.0, 10, [4])],
        num_refusals=2,
        prefill_kv_blocked_s=0.0,
    ),
    # The same bound behind prefill: request 1 has its first token at 1.0 and asks at 1.0 and 2.0.
    # The transfer of request 0 took until 2.5, its step until 3.5; sample at 4.0.
    toy(
        "refused_until_a_report_says_otherwise",
        decode_scenario([(0.0, 6, 2), (0.0, 4, 2)], decode_kv_blocks=10, report_period_s=2.0),
        first_token_at_s=[1.0, 1.0],
        bound_at_s=[1.0, 4.0],
        transferred_at_s=[2.5, 5.0],
        finished_at_s=[3.5, 6.0],
        num_refusals=2,
    ),
    # Bound at dispatch whatever the answer: request 0 takes the 6 blocks at 0. With its only token,
    # at 1.0, it gives them back before the sample of that instant; request 1 is bound then.
    toy(
        "single_token_bound_at_dispatch",
        decode_scenario(
            [(0.0, 4, 1), (0.0, 4, 2)],
            decode_binding="at_dispatch",
            decode_kv_blocks=6,
            report_period_s=1.0,
        ),
        bound_at_s=[0.0, 1.0],
        decode_rank=[0, 0],
        first_token_at_s=[1.0, 2.0],
        transferred_at_s=[math.nan, 3.0],
        finished_at_s=[1.0, 4.0],
        num_refusals=1,
    ),
    # Request 0 is longer than the room of a prefill rank; request 1, 4 + 8 tokens, is longer than
    # that of a decode rank, though 4 + 2 would be granted; 4 + 7 just fit, with one token less.
    toy(
        "what_never_fits_is_rejected_at_arrival",
        decode_scenario(
            [(0.0, 9, 1), (0.5, 4, 8), (0.5, 4, 7)], prefill_kv_tokens=8, decode_kv_blocks=11
        ),
        rejected_at_s=[0.0, 0.5, math.nan],
        dispatched_at_s=[math.nan, math.nan, 0.5],
        finished_at_s=[math.nan, math.nan, 8.5],
    ),
    # At 2.0 the sample is taken, then request 1 is bound, to the rank with fewer requests. The
    # report of that sample arrives at 3.0 and knows nothing of it, but the record keeps the grant:
    # at 4.0 there is one request on each rank, and request 2 goes to the first.
    toy(
        "grant_after_the_sample_is_kept",
        decode_scenario(
            [(0.0, 4, 9), (1.0, 4, 9), (3.0, 4, 9)],
            release="immediate",
            routing="round_robin",
            decode_dp=2,
            placement="jsq",
            signal_delay_s=1.0,
            report_period_s=2.0,
        ),
        bound_at_s=[1.0, 2.0, 4.0],
        decode_rank=[0, 1, 0],
    ),
    # Request 0 ends at 3.0, which no report has said at 3.5 (the sample of 2.0 saw it): rank 1.
    # The sample of 4.0 has: at 5.0 ranks 0 and 1 have 0 and 1. Steps of request 1 start at 4.5, 5.5
    # and 6.5, where request 2, come at 6.0, joins.
    toy(
        "records_are_as_old_as_the_report",
        decode_scenario(
            [(0.0, 4, 2), (2.5, 4, 9), (4.0, 4, 9)],
            release="immediate",
            routing="round_robin",
            decode_dp=2,
            placement="jsq",
            report_period_s=2.0,
        ),
        bound_at_s=[1.0, 3.5, 5.0],
        finished_at_s=[3.0, 12.5, 14.5],
        decode_rank=[0, 1, 0],
    ),
    # Shortest first on the prefill ranks, so request 0 is first in the waiting list.
    toy(
        "placement_takes_the_list_in_order",
        decode_scenario(
            [(0.0, 2, 2), (0.0, 8, 2)], dp=2, decode_dp=2, placement="jsq", order="shortest"
        ),
        bound_at_s=[1.0, 1.0],
        decode_rank=[0, 1],
    ),
    # The longest first; with it on record, rank 0 has a request more than rank 1.
    toy(
        "iqr_lex_takes_the_longest_first",
        decode_scenario(
            [(0.0, 2, 2), (0.0, 8, 2)], dp=2, decode_dp=2, placement="iqr_lex", order="shortest"
        ),
        bound_at_s=[1.0, 1.0],
        decode_rank=[1, 0],
    ),
]
