"""The codes in the arrays of a world: kinds of events, lives of requests, states of the loop."""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """Kinds of events in the order in which they are handled within one instant."""

    PASS_END = 0  # a rank freed now may serve what arrives now
    STEP_END = 1
    TRANSFER_END = 2  # KV has reached its decode rank, or comes back from where it was evicted to
    SAMPLE = 3  # a decode instance looks at its ranks for a report
    SIGNAL = 4
    REPORT = 5
    ARRIVAL = 6
    TIMER = 7
    WATCHDOG = 8
    ROUND = 9  # the scheduler sees all of the above
    PLACEMENT = 10  # prompts are bound to decode ranks
    DISPATCH_DELIVERED = 11  # a release without delay still makes the pass of this instant
    STEP_START = 12
    PASS_START = 13


class StartRule(IntEnum):
    """When an idle engine starts a pass."""

    EAGER = 0
    ON_RELEASE = 1
    FREE_RUNNING = 2


class Order(IntEnum):
    """Who leaves the buffer first."""

    AGE_LONGEST = 0
    LONGEST = 1
    ARRIVAL = 2
    SHORTEST = 3


class Life(IntEnum):
    """Where a request is."""

    COMING = 0
    BUFFERED = 1
    DISPATCHED = 2  # until its first token
    HANDED_OVER = 3  # has its first token, and more to come
    FINISHED = 4
    REJECTED = 5
    ASIDE = 6  # left in the buffer by an agent, until the release that it was asked for is made


class Status(IntEnum):
    """Why the compiled loop came back."""

    DONE = 0
    ROUND_DUE = 1
    EVENTS_FULL = 2
    SIGNALS_FULL = 3
    PASSES_FULL = 4
    SLICE_OVER = 5  # only to let the caller show progress
    PLACEMENT_DUE = 6
    STEPS_FULL = 7
    DECISION_DUE = 8  # an agent has to answer


class Phase(IntEnum):
    """Where in an instant the loop stands, so that it can be left and entered again."""

    NEXT_INSTANT = 0
    BEFORE_ROUND = 1
    ROUND = 2
    AFTER_ROUND = 3
    PLACEMENT = 4
    AFTER_PLACEMENT = 5
