"""State of a learner in a run: its questions and answers, what it is paid, what it has seen.

One record of each per world, as in state.py. A plain run has no agent and no tally; its rounds
keep the release that they make in AGENT too.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np

from sbs_gym.sim.state import dtype_of


class Reask(IntEnum):
    """When a window that stands may be revised."""

    RELEASE = 0  # not at all
    SIGNAL = 1
    ARRIVAL = 2


class Question(IntFlag):
    """What an agent can be asked; a set of them says what it answers instead of the rules."""

    RELEASE = 1  # the window until the next release, and with it budget and order
    PREFILL = 2  # the rank of a request in a release, or to leave it in the buffer
    DECODE = 4  # the decode rank of a prompt


class Pause(IntEnum):
    """Where a round stands while the agent chooses."""

    NOWHERE = 0
    RELEASE = 1
    ALLOCATION = 2
    PLACEMENT = 3
    OUTSIDE = 4  # between instants: the warm-up is over, and requests wait


class Stage(IntEnum):
    """Where an environment stands between two calls of the batch."""

    ASKED = 0
    STARTING = 1  # on the way to the first question
    RUNNING = 2  # on the way to the next one
    SHADOWING = 3  # the shadow run is on its way there
    OVER = 4


# The agent's question, its answer, and where the round was left.
AGENT = dtype_of(
    ("kinds", np.int64),  # set of Question; empty during the warm-up
    ("answers", np.int64),  # what it is after the warm-up
    ("beta", np.float64),  # discount rate, 1/s
    ("reask", np.int64),  # a Reask
    ("asked", np.int64),  # the Question that waits for an answer; 0 for none
    ("answer", np.int64),  # rank; dp: leave it; -1: none yet
    ("paused", np.int64),
    ("stopped", np.int64),  # 1: the agent has left what could go, the round is over
    ("answered", np.int64),  # 1: the window need not be asked for
    ("stands", np.int64),  # 1: no release has been made since it was answered
    ("multiplier", np.float64),  # the window's
    ("alpha", np.float64),  # budget per backlog; 0: the full chunk; -1: as the rules say
    ("reserved", np.int64),  # instances kept free of long prompts
    ("interval_s", np.float64),  # before the answer that is given outside a round
    ("round_interval_s", np.float64),  # in the round that runs
    ("least_interval_s", np.float64),  # to which the rules clip it
    ("most_interval_s", np.float64),
    # A release or placement round that was left.
    ("instance", np.int64),
    ("first", np.int64),
    ("budget", np.int64),
    ("most", np.int64),
    ("placed", np.int64),
    ("request", np.int64),  # that the question is about
    ("left", np.int64),  # chain by `next` of those left in the buffer; -1 for none
    ("kept_front", np.int64),  # of the buffer when the first was left
    ("kept_oldest", np.int64),
    ("position", np.int64),  # in the placement round
    ("kept", np.int64),
    ("has_ranks", np.int64),
    # The observation and action spaces.
    ("sees", np.int64),  # set of features.Group
    ("takes_box", np.int64),  # 1: the action is a real number in [-1, 1]
    ("num_budgets", np.int64),
    ("budget_of_chunk", np.int64),  # 1: budgets are shares of the chunk, not of the backlog
    ("num_orders", np.int64),
    ("num_reserved", np.int64),
    ("prefill_offset", np.int64),  # first action of the segment
    ("decode_offset", np.int64),
    ("num_actions", np.int64),
    # The episode.
    ("stage", np.int64),
    ("starts", np.int64),  # 1: what is counted belongs to the step that follows the first question
    ("keeps_records", np.int64),  # 0: passes and finished steps are forgotten
    ("asked_at_s", np.float64),  # instant of the last question
    ("until_s", np.float64),  # the horizon
    ("goes_on", np.int64),  # 1: time goes on to the horizon when all requests are done
)

# Reward terms of the current step, undiscounted, in the order of `TERMS`, and what they hang on.
TERMS = (
    "ttft",
    "tpot",
    "slo_miss",
    "rejection",
    "prefill_bubble",
    "decode_bubble",
    "input_tokens",
    "output_tokens",
)
TALLY = dtype_of(
    ("on", np.int64),
    ("beta", np.float64),  # discount rate, 1/s; 0 before the first question
    ("discount", np.float64),  # exp(-beta * time since the decision)
    ("since_s", np.float64),  # everything up to here is counted
    ("reward", np.float64),  # weighted and discounted
    *[(name, np.float64) for name in TERMS],
    *[(f"weight_{name}", np.float64) for name in TERMS],
    ("num_waiting", np.int64),  # arrived, without first token, not rejected
    ("num_decoding", np.int64),  # between first and last token
    ("until_s", np.float64),  # the horizon
    ("slo_ttft_s", np.float64),
    ("slo_ttft_per_token_s", np.float64),
    ("slo_ttft_free_tokens", np.int64),
    ("slo_tpot_s", np.float64),
    ("tpot_target_s", np.float64),
)

NUM_LENGTHS = 64  # prompts, the oldest, whose quantiles are observed
NUM_BINS = 60  # whole seconds of which arrivals are kept
SHORT_BINS = 10  # of them, for a shorter window

# What arrived in one second.
SECOND = dtype_of(("count", np.int64), ("tokens", np.int64))

# What the observer of arrivals remembers.
SIGHT = dtype_of(
    ("counted", np.int64),  # requests below this id are in the sums
    ("first", np.int64),  # request that arrived in the last second
    ("tokens", np.int64),  # of all since
    ("bin", np.int64),  # the second that is being counted
    ("bin_count", np.int64),
    ("bin_tokens", np.int64),
    ("bins_sum", np.int64),  # over the last NUM_BINS whole seconds
    ("bins_square_sum", np.int64),
    ("bins_tokens", np.int64),
    ("short_tokens", np.int64),  # over the last SHORT_BINS whole seconds
    ("report_sample_at_s", np.float64),  # of the youngest decode report; -inf: none
    ("pass_256_s", np.float64),  # predicted pass of 256 tokens on every rank
    ("pass_1024_s", np.float64),
    ("pass_chunk_s", np.float64),
)
