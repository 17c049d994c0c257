"""Toys about instants: who joins which pass, and when a release goes out."""

from __future__ import annotations

import math

from sbs_gym.config.timing import LinearTiming
from tests.reference.toy import Toy, scenario, toy

_NEW_AVERAGE = 1.0 + 0.2 * (0.875 - 1.0)

PASS_TOYS: list[Toy] = [
    # Release 0 arrives at .25, pass 0 ends at 1.25 and leaves 4 tokens on rank 0. The release of
    # the rest goes out just in time, at run_end - dispatch_delay = 1.0, and joins the pass at 1.25.
    # Rooms (6, 10): 7 to rank 1 (6, 3), 5 to rank 0 (1, 3), 3 to rank 1 (1, 0), 2 to rank 0.
    # Pass 1: rank 0 takes 4 + 5 + 1, rank 1 takes 7 + 3; the last token of request 4 is pass 2.
    toy(
        "pbaa_worked_check_joined_just_in_time",
        scenario(
            [(0.0, 14), (0.5, 7), (0.5, 5), (0.5, 3), (0.5, 2)],
            dp=2,
            dispatch_delay_s=0.25,
            signal_delay_s=0.25,
        ),
        dispatched_at_s=[0.0, 1.0, 1.0, 1.0, 1.0],
        delivered_at_s=[0.25, 1.25, 1.25, 1.25, 1.25],
        prefill_started_at_s=[0.25, 1.25, 1.25, 1.25, 1.25],
        first_token_at_s=[2.25, 2.25, 2.25, 2.25, 3.25],
        instance=[0, 0, 0, 0, 0],
        rank=[0, 1, 0, 1, 0],
        passes=[
            (0, 0, 0.25, 1.25, 10, [10, 0]),
            (0, 1, 1.25, 2.25, 10, [10, 10]),
            (0, 2, 2.25, 3.25, 10, [1, 0]),
        ],
        # 10*10; 4*(2*10 + 4) + 5*5 + 1*1 and 7*7 + 3*3; 1*(2*1 + 1).
        pairs=[[100, 0], [122, 58], [3, 0]],
    ),
    # The second request arrives after run_end - lead = 1.0: it is sent at once, is delivered at
    # 1.375, and the leftover of 4 has started alone at 1.25.
    toy(
        "release_that_misses_the_pass",
        scenario([(0.0, 14), (1.125, 7)], dp=2, dispatch_delay_s=0.25, signal_delay_s=0.25),
        dispatched_at_s=[0.0, 1.125],
        delivered_at_s=[0.25, 1.375],
        first_token_at_s=[2.25, 3.25],
        rank=[0, 1],
        passes=[
            (0, 0, 0.25, 1.25, 10, [10, 0]),
            (0, 1, 1.25, 2.25, 10, [4, 0]),
            (0, 2, 2.25, 3.25, 10, [0, 7]),
        ],
    ),
    # At 1.0 in this order: pass end, signal (idle), arrival, round (interval 1 has run out),
    # delivery, pass start: no time is lost.
    toy(
        "zero_delays_arrival_at_the_end_of_a_pass",
        scenario([(0.0, 10), (1.0, 5)]),
        dispatched_at_s=[0.0, 1.0],
        delivered_at_s=[0.0, 1.0],
        prefill_started_at_s=[0.0, 1.0],
        first_token_at_s=[1.0, 2.0],
        passes=[(0, 0, 0.0, 1.0, 10, [10]), (0, 1, 1.0, 2.0, 10, [5])],
    ),
    # At 1.0 the leftover of 4 starts its pass only after the round: request 1 joins it.
    toy(
        "zero_delays_leftover_joins_a_release_of_its_instant",
        scenario([(0.0, 14), (0.5, 3)]),
        dispatched_at_s=[0.0, 1.0],
        delivered_at_s=[0.0, 1.0],
        prefill_started_at_s=[0.0, 1.0],
        first_token_at_s=[2.0, 2.0],
        passes=[(0, 0, 0.0, 1.0, 10, [10]), (0, 1, 1.0, 2.0, 10, [7])],
    ),
    # At 1.0 the leftover of 15 leaves no room, and its pass is believed to start; at 2.0 it is 5.
    toy(
        "zero_delays_leftover_without_room_starts_alone",
        scenario([(0.0, 25), (0.5, 3)]),
        dispatched_at_s=[0.0, 2.0],
        first_token_at_s=[3.0, 3.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.0, 2.0, 10, [10]),
            (0, 2, 2.0, 3.0, 10, [8]),
        ],
    ),
    # At 1.0 the buffer is empty: after the round the leftover's pass is believed to run from 1.0,
    # so request 1 waits for its end.
    toy(
        "zero_delays_leftover_that_nothing_joined",
        scenario([(0.0, 14), (1.25, 3)], multiplier=1.5),
        dispatched_at_s=[0.0, 2.0],
        first_token_at_s=[2.0, 3.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.0, 2.0, 10, [4]),
            (0, 2, 2.0, 3.0, 10, [3]),
        ],
    ),
    # Both passes end at 1.0 with a leftover of 4: the longest goes to instance 0, the other to 1.
    toy(
        "zero_delays_both_instances_are_joined",
        scenario(
            [(0.0, 14), (0.0, 14), (0.5, 8), (0.5, 6)],
            num_prefill=2,
            release="fixed_window",
            window_s=0.0,
        ),
        dispatched_at_s=[0.0, 0.0, 1.0, 1.0],
        instance=[0, 1, 0, 1],
        first_token_at_s=[2.0, 2.0, 3.0, 2.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (1, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.0, 2.0, 10, [10]),
            (1, 1, 1.0, 2.0, 10, [10]),
            (0, 2, 2.0, 3.0, 10, [2]),
        ],
    ),
    # The same, but the leftover is not joined: request 1 waits until the engine rests, at 2.0.
    toy(
        "leftover_that_must_go_alone",
        scenario([(0.0, 14), (0.5, 3)], leftovers="alone"),
        dispatched_at_s=[0.0, 2.0],
        first_token_at_s=[2.0, 3.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.0, 2.0, 10, [4]),
            (0, 2, 2.0, 3.0, 10, [3]),
        ],
    ),
    # With a signal delay the pass of the leftover has begun when its signal is heard, at 1.25; the
    # believed end, 1.0, makes the instance ready at 1.125 all the same.
    toy(
        "signal_delay_lets_the_leftover_start_alone",
        scenario([(0.0, 14), (1.125, 3)], signal_delay_s=0.25),
        dispatched_at_s=[0.0, 1.125],
        first_token_at_s=[2.0, 3.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.0, 2.0, 10, [4]),
            (0, 2, 2.0, 3.0, 10, [3]),
        ],
    ),
    toy(
        "free_running_leftover_joins_a_release_of_its_instant",
        scenario([(0.0, 14), (0.5, 3)], start_rule="free_running"),
        dispatched_at_s=[0.0, 1.0],
        first_token_at_s=[2.0, 2.0],
        passes=[(0, 0, 0.0, 1.0, 10, [10]), (0, 1, 1.0, 2.0, 10, [7])],
    ),
    # Interval 1.5: releases at 0, 1.5 and 3.0, the last two of leftovers alone.
    toy(
        "on_release_leftovers_alone",
        scenario([(0.0, 25)], start_rule="on_release", multiplier=1.5),
        first_token_at_s=[4.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.5, 2.5, 10, [10]),
            (0, 2, 3.0, 4.0, 10, [5]),
        ],
    ),
    # At 1.0 the leftover is 15, so no rank has room: the leftovers go alone. At 2.0
    # they are 5, request 1 joins them.
    toy(
        "on_release_leftovers_fill_every_rank",
        scenario([(0.0, 25), (0.5, 5)], start_rule="on_release"),
        dispatched_at_s=[0.0, 2.0],
        first_token_at_s=[3.0, 3.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.0, 2.0, 10, [10]),
            (0, 2, 2.0, 3.0, 10, [10]),
        ],
    ),
    # Rank 0 needs 1.5 instead of 1 for its share, and rank 1 waits for it. The scheduler knows no
    # slow rank: at 1.2 it believes that the pass has ended at 1.0, so request 2 goes at once.
    toy(
        "a_slow_rank_keeps_the_others_waiting",
        scenario([(0.0, 10), (0.0, 8), (1.2, 5)], dp=2, slow_rank_factor=1.5),
        dispatched_at_s=[0.0, 0.0, 1.2],
        first_token_at_s=[1.5, 1.5, 3.0],
        passes=[(0, 0, 0.0, 1.5, 10, [10, 8]), (0, 1, 1.5, 3.0, 10, [5, 0])],
    ),
    # No signal arrives. At 1.0 the believed end makes the instance ready: request 1 goes, pending.
    # Request 2 must wait for the watchdog at 0 + 3*1: 10 tokens are assumed done, the 4 of request
    # 1 are left, the room is 6. (The engine had ended request 1 at 2.0.)
    toy(
        "watchdog_frees_an_instance_whose_signals_are_lost",
        scenario([(0.0, 10), (0.5, 4), (1.5, 6)], signal_loss_frac=1.0),
        dispatched_at_s=[0.0, 1.0, 3.0],
        first_token_at_s=[1.0, 2.0, 4.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.0, 2.0, 10, [4]),
            (0, 2, 3.0, 4.0, 10, [6]),
        ],
    ),
    # No signal arrives; the engine ends 25 tokens at 3.0 by itself. At 1.0 the leftover of 15
    # leaves no room. At 3.0 the watchdog assumes 10 done: still no room, so the pass of the
    # leftovers is believed to start then (not doing so would strand request 1). At its believed
    # end, 4.0, the leftover is 25 - 10 - 10 = 5, and request 1 goes.
    toy(
        "lost_signals_do_not_strand_the_buffer",
        scenario([(0.0, 25), (0.5, 4)], signal_loss_frac=1.0),
        dispatched_at_s=[0.0, 4.0],
        first_token_at_s=[3.0, 5.0],
        passes=[
            (0, 0, 0.0, 1.0, 10, [10]),
            (0, 1, 1.0, 2.0, 10, [10]),
            (0, 2, 2.0, 3.0, 10, [5]),
            (0, 3, 4.0, 5.0, 10, [4]),
        ],
    ),
    # Interval (1 + 0)/2: the second release waits for it, to the instance idle as long, next index.
    toy(
        "interval_staggers_two_instances",
        scenario([(0.0, 10), (0.0, 10)], num_prefill=2),
        dispatched_at_s=[0.0, 0.5],
        first_token_at_s=[1.0, 1.5],
        instance=[0, 1],
    ),
    # Multiplier 0 is work conserving: both instances at once.
    toy(
        "work_conserving_sends_at_once",
        scenario([(0.0, 10), (0.0, 10)], num_prefill=2, multiplier=0.0),
        dispatched_at_s=[0.0, 0.0],
        first_token_at_s=[1.0, 1.0],
        instance=[0, 1],
    ),
    # Interval 2, so due at 2.0; but at 1.0 the instance is idle and the buffer fills 0.9 of a pass.
    toy(
        "full_batch_bypasses_the_interval",
        scenario([(0.0, 10), (0.5, 9)], multiplier=2.0, full_batch_bypass=True),
        dispatched_at_s=[0.0, 1.0],
        first_token_at_s=[1.0, 2.0],
    ),
    toy(
        "fixed_window_counts_from_the_last_release",
        scenario([(0.0, 10), (0.25, 10)], release="fixed_window", window_s=1.5),
        dispatched_at_s=[0.0, 1.5],
        first_token_at_s=[1.0, 2.5],
    ),
    # A full pass: .5 + 8/16 = 1.0. A pass of (8, 0): load .5*8 + .5*4 = 6, .5 + 6/16 = .875.
    # At .875 pass_avg moves from 1.0 towards .875, and the interval with it.
    toy(
        "interval_follows_the_pass_average",
        scenario(
            [(0.0, 8), (0.5, 8)],
            dp=2,
            chunk_tokens=8,
            timing=LinearTiming(fixed_s=0.5, per_token_s=0.0625, max_weight=0.5),
        ),
        dispatched_at_s=[0.0, _NEW_AVERAGE],
        first_token_at_s=[0.875, _NEW_AVERAGE + 0.875],
    ),
    # Everything at the horizon's instant is handled: pass 0 ends, request 1 starts its pass.
    toy(
        "horizon_comes_last_in_its_instant",
        scenario([(0.0, 10), (0.5, 10)], stop_at_s=1.0),
        dispatched_at_s=[0.0, 1.0],
        prefill_started_at_s=[0.0, 1.0],
        first_token_at_s=[1.0, math.nan],
    ),
    # Only request 0 is measured: the run ends with the instant of its first token, in which request
    # 1 still goes out and starts.
    toy(
        "run_ends_with_the_last_measured_request",
        scenario([(0.0, 10), (0.5, 10)], measured=(0, 1)),
        dispatched_at_s=[0.0, 1.0],
        prefill_started_at_s=[0.0, 1.0],
        first_token_at_s=[1.0, math.nan],
    ),
]
