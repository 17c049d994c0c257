"""Toys about rules: budget, routing, allocation, order, limits."""

from __future__ import annotations

import math

from sbs_gym.config.timing import ConstantTiming
from tests.reference.toy import Toy, scenario, toy

_overtaken = [(0.0, 10), (0.5, 2), (0.5, 10), (1.5, 10)]

RULE_TOYS: list[Toy] = [
    # Budgets: ceil(24/2) = 12; ceil(4/2) = 2 raised to 10; ceil(250/2) = 125 cut to 100.
    # First release: rooms (12, 12), then (4, 12), (4, 4), (-4, 4).
    toy(
        "backlog_budget_is_clipped",
        scenario(
            [(0.0, 8), (0.0, 8), (0.0, 8), (5.0, 4), (10.0, 250)],
            dp=2,
            chunk_tokens=100,
            budget="backlog",
            floor_tokens=10,
        ),
        rank=[0, 1, 0, 0, 0],
        first_token_at_s=[1.0, 1.0, 2.0, 6.0, 13.0],
        passes=[
            (0, 0, 0.0, 1.0, 12, [12, 8]),
            (0, 1, 1.0, 2.0, 12, [4, 0]),
            (0, 2, 5.0, 6.0, 10, [4, 0]),
            (0, 3, 10.0, 11.0, 100, [100, 0]),
            (0, 4, 11.0, 12.0, 100, [100, 0]),
            (0, 5, 12.0, 13.0, 100, [50, 0]),
        ],
    ),
    # Release k goes to instance k mod 2; each instance counts its ranks by itself. Request 4 is
    # delivered during pass 0 of instance 0 and joins its pass 1.
    toy(
        "round_robin_over_instances_and_ranks",
        scenario(
            [(0.0, 5), (0.0, 5), (0.0, 5), (0.0, 5), (0.5, 5)],
            num_prefill=2,
            dp=2,
            release="immediate",
            routing="round_robin",
            allocation="round_robin",
        ),
        instance=[0, 1, 0, 1, 0],
        rank=[0, 0, 1, 1, 0],
        dispatched_at_s=[0.0, 0.0, 0.0, 0.0, 0.5],
        first_token_at_s=[1.0, 1.0, 1.0, 1.0, 2.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [5, 5]),
            (1, 0, 0.0, 1.0, 10, [5, 5]),
            (0, 1, 1.0, 2.0, 10, [5, 0]),
        ],
    ),
    # Instance 0 runs at 0, 1, 2, ..., instance 1 at .5, 1.5, ... Request 0 is sent to instance 0
    # at once (no signal yet: believed idle) and starts at 1. Request 1 waits from 2.75 for the next
    # pass start, instance 0 at 3.0: 0.25 s.
    toy(
        "free_running_waits_for_the_next_start",
        scenario([(0.25, 5), (2.75, 5)], num_prefill=2, start_rule="free_running", multiplier=0.0),
        dispatched_at_s=[0.25, 3.0],
        prefill_started_at_s=[1.0, 3.0],
        first_token_at_s=[2.0, 4.0],
        instance=[0, 0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [0]),
            (1, 0, 0.5, 1.5, 10, [0]),
            (0, 1, 1.0, 2.0, 10, [5]),
            (1, 1, 1.5, 2.5, 10, [0]),
            (0, 2, 2.0, 3.0, 10, [0]),
            (1, 2, 2.5, 3.5, 10, [0]),
            (0, 3, 3.0, 4.0, 10, [5]),
        ],
    ),
    # Two in the buffer at .25: sent, longest first, to ranks 0 and 1 of instance 0. The third is
    # alone until .75 + .5 = 1.25, when instance 0 still has 8 tokens: instance 1.
    toy(
        "size_or_timeout",
        scenario(
            [(0.0, 3), (0.25, 5), (0.75, 4)],
            num_prefill=2,
            dp=2,
            timing=ConstantTiming(pass_s=2.0),
            release="size_or_timeout",
            size=2,
            timeout_s=0.5,
            routing="least_tokens",
            order="longest",
            allocation="least_tokens",
        ),
        instance=[0, 0, 1],
        rank=[1, 0, 0],
        dispatched_at_s=[0.25, 0.25, 1.25],
        first_token_at_s=[2.25, 2.25, 3.25],
        passes=[(0, 0, 0.25, 2.25, 10, [5, 3]), (1, 0, 1.25, 3.25, 10, [4, 0])],
    ),
    # At 1.0 requests 1 and 2 have waited 0 releases: the longest, 2, fills the rank. At 2.0 request
    # 1 has waited 1 > 0 and goes before the longer 3, which gets 8 tokens and 2 more at 3.0.
    toy(
        "past_the_limit_comes_first",
        scenario(_overtaken, order="longest", n_limit=0),
        dispatched_at_s=[0.0, 2.0, 1.0, 2.0],
        first_token_at_s=[1.0, 3.0, 2.0, 4.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.0, 2.0, 10, [10]),
            (0, 2, 2.0, 3.0, 10, [10]),
            (0, 3, 3.0, 4.0, 10, [2]),
        ],
    ),
    # The same, but the release at 1.0 leaves request 1 past the limit: rejected there and then.
    toy(
        "past_the_limit_is_rejected",
        scenario(_overtaken, order="longest", n_limit=0, n_limit_action="reject"),
        dispatched_at_s=[0.0, math.nan, 1.0, 2.0],
        rejected_at_s=[math.nan, 1.0, math.nan, math.nan],
        first_token_at_s=[1.0, math.nan, 2.0, 3.0],
        instance=[0, -1, 0, 0],
        rank=[0, -1, 0, 0],
    ),
    # At 2.0 requests 2 and 3 have waited 1 > 0: 2 takes the room, 3 is forced on top and runs at 3.
    toy(
        "past_the_limit_is_forced",
        scenario(
            [(0.0, 10), (0.5, 10), (0.5, 10), (0.5, 10)],
            order="arrival",
            n_limit=0,
            n_limit_action="force",
        ),
        dispatched_at_s=[0.0, 1.0, 2.0, 2.0],
        first_token_at_s=[1.0, 2.0, 3.0, 4.0],
    ),
    # Instance 0 holds a long prompt from 0 to 3, so that request 1, as long, is not for instance 1,
    # which is ready at .25 and takes request 2 at .5. At 1.0 the leftover of 5 leaves room for
    # it beside request 0; 7 of its tokens are left at 2.0. At 3.25 nobody holds a long one.
    toy(
        "reserved_instance_stays_free_of_long_prompts",
        scenario(
            [(0.0, 15), (0.25, 12), (0.5, 5), (3.25, 15)],
            num_prefill=2,
            multiplier=0.0,
            reserved=1,
        ),
        instance=[0, 0, 1, 1],
        dispatched_at_s=[0.0, 1.0, 0.5, 3.25],
        first_token_at_s=[2.0, 3.0, 1.5, 5.25],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (1, 0, 0.5, 1.5, 10, [5]),
            (0, 1, 1.0, 2.0, 10, [10]),
            (0, 2, 2.0, 3.0, 10, [7]),
            (1, 1, 3.25, 4.25, 10, [10]),
            (1, 2, 4.25, 5.25, 10, [5]),
        ],
    ),
    # Request 1 is kept out at .25. The release at .5 leaves it past the limit: at 1.0 instance 0
    # has no room (leftover 15), at 1.5 it goes to instance 1 although that holds nothing long.
    toy(
        "past_the_limit_goes_to_the_reserved_instance",
        scenario(
            [(0.0, 25), (0.25, 12), (0.5, 5)],
            num_prefill=2,
            multiplier=0.0,
            reserved=1,
            n_limit=0,
        ),
        instance=[0, 1, 1],
        dispatched_at_s=[0.0, 1.5, 0.5],
        first_token_at_s=[3.0, 3.5, 1.5],
    ),
    # Of two instances one takes long prompts however many are reserved. Above 4 tokens is long:
    # request 1 waits for instance 0, request 2 does not.
    toy(
        "one_instance_always_takes_long_prompts",
        scenario(
            [(0.0, 5), (0.25, 5), (0.25, 4)],
            num_prefill=2,
            multiplier=0.0,
            reserved=9,
            long_tokens=4,
        ),
        instance=[0, 0, 1],
        dispatched_at_s=[0.0, 1.0, 0.25],
        first_token_at_s=[1.0, 2.0, 1.25],
    ),
    # a = c = 1: the limit is 10 + 100/2 = 60. Fresh, 10 tokens cost 60. Behind 10 tokens, 4 cost
    # 4 + 4*(10 + 2) = 52 and 5 cost 5 + 5*(10 + 2.5) = 67.5. The last token is a pass of its own.
    toy(
        "cost_budget_shrinks_the_share",
        scenario([(0.0, 15)], budget_unit="cost", pair_cost_s=1.0),
        first_token_at_s=[3.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.0, 2.0, 10, [4]),
            (0, 2, 2.0, 3.0, 10, [1]),
        ],
    ),
    # Budget 6 tokens or 6 + 36/2 = 24. Behind 6, 2 tokens cost 2 + 2*7 = 16 and 3 cost 25.5. Behind
    # 8 and 10, 2 cost 20 and 24; behind 12, 13, 14, 1 costs 13.5, 14.5, 15.5 and 2 cost over 24.
    # At 3.0 the leftover of 5 leaves room for request 1. It starts beside the last token, in the
    # 5 tokens and 24 - 15.5 = 8.5 left: 3 cost 7.5, 4 cost 12.
    toy(
        "cost_budget_leaves_part_of_the_share_to_the_next",
        scenario(
            [(0.0, 15), (0.0, 4)],
            budget="fixed",
            budget_tokens=6,
            budget_unit="cost",
            pair_cost_s=1.0,
        ),
        dispatched_at_s=[0.0, 3.0],
        prefill_started_at_s=[0.0, 6.0],
        first_token_at_s=[7.0, 8.0],
        passes=[
            (0, index, float(index), index + 1.0, 6, [tokens])
            for index, tokens in enumerate([6, 2, 2, 2, 1, 1, 4, 1])
        ],
    ),
    # Limit 60. At 1.0 the leftover of 4 tokens behind 10 costs 4 + 4*12 = 52: the room of 8 takes
    # request 1, which costs 4 + 8. By tokens there would be 2 left for request 2.
    toy(
        "leftover_is_charged_with_its_context",
        scenario([(0.0, 14), (0.5, 4), (0.5, 3)], charge="cost", order="longest", pair_cost_s=1.0),
        dispatched_at_s=[0.0, 1.0, 2.0],
        first_token_at_s=[2.0, 2.0, 3.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.0, 2.0, 10, [8]),
            (0, 2, 2.0, 3.0, 10, [3]),
        ],
    ),
    # Charges: 8 costs 8 + 32 = 40, 5 costs 5 + 12.5 = 17.5. Rooms (60, 60), (20, 60), (20, 42.5),
    # (20, 25), (20, 7.5): all three fives to rank 1 (by tokens the last would go to rank 0).
    toy(
        "pbaa_charged_by_cost",
        scenario([(0.0, 8), (0.0, 5), (0.0, 5), (0.0, 5)], dp=2, charge="cost", pair_cost_s=1.0),
        rank=[0, 1, 1, 1],
        first_token_at_s=[1.0, 1.0, 1.0, 2.0],
        passes=[(0, 0, 0.0, 1.0, 10, [8, 10]), (0, 1, 1.0, 2.0, 10, [0, 5])],
    ),
]
