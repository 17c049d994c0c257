"""What an agent sees: the numbers of an observation, in the order in which encoder.py writes them.

Every number is clipped to its bounds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntFlag

from sbs_gym.config.cluster import ClusterConfig


class Group(IntFlag):
    """Parts of an observation; a set of them is what a task sees."""

    GLOBAL = 1
    INSTANCES = 2
    RANKS = 4
    DECODE_RANKS = 8
    REQUEST = 16


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of an observation: its name, unit, bounds and meaning."""

    name: str
    unit: str
    low: float
    high: float
    meaning: str


def _share(name: str, meaning: str) -> Feature:
    return Feature(name, "0 or 1", 0.0, 1.0, meaning)


# The unit "passes" is a full chunk on every rank of one instance; "chunks" one full chunk.
GLOBAL = (
    _share("asks_release", "the question is the window"),
    _share("asks_prefill", "the question is a prefill rank"),
    _share("asks_decode", "the question is a decode rank"),
    Feature("elapsed_s", "s", 0.0, 10.0, "since the last question"),
    Feature(
        "buffer_requests",
        "per prefill rank",
        0.0,
        50.0,
        "in the buffer, not yet left in this release",
    ),
    Feature("buffer_tokens", "passes of all instances", 0.0, 50.0, "tokens in the buffer"),
    Feature("buffer_longest", "chunks", 0.0, 50.0, "longest prompt in the buffer"),
    Feature("buffer_age_max_s", "s", 0.0, 60.0, "age of the oldest prompt in the buffer"),
    Feature("buffer_age_median_s", "s", 0.0, 60.0, "age of the middle one, of two the older"),
    Feature("buffer_length_q25", "chunks", 0.0, 50.0, "quartile of the 64 oldest lengths"),
    Feature("buffer_length_q50", "chunks", 0.0, 50.0, "their median"),
    Feature("buffer_length_q75", "chunks", 0.0, 50.0, "their upper quartile"),
    Feature("pass_mean_s", "s", 0.0, 10.0, "moving average of the passes that were signalled"),
    Feature("interval_s", "s", 0.0, 10.0, "the interval at multiplier 1, not clipped"),
    Feature("since_release_s", "s", 0.0, 60.0, "since the last release, of any instance"),
    Feature(
        "window_left_s",
        "s",
        0.0,
        10.0,
        "what is left of a window that stands",
    ),
    Feature("load_1s", "passes of all", 0.0, 10.0, "tokens arriving per pass_chunk_s, last 1 s"),
    Feature("load_10s", "passes of all", 0.0, 10.0, "last 10 whole seconds and this one"),
    Feature("load_60s", "passes of all", 0.0, 10.0, "last 60 whole seconds and this one"),
    Feature(
        "dispersion", "", 0.0, 50.0, "variance / mean of arrivals per second, last 60 whole seconds"
    ),
    Feature("pass_256_s", "s", 0.0, 10.0, "predicted pass of 256 tokens on every rank"),
    Feature("pass_1024_s", "s", 0.0, 10.0, "of 1024 tokens"),
    Feature("pass_chunk_s", "s", 0.0, 10.0, "of a full chunk"),
    Feature("dispatch_delay_s", "s", 0.0, 1.0, "scheduler to engine"),
    Feature("signal_delay_s", "s", 0.0, 1.0, "engine to scheduler"),
    Feature("report_age_s", "s", 0.0, 10.0, "age of the youngest decode report; 10: none yet"),
    Feature("waiting_for_decode", "per decode rank", 0.0, 50.0, "prompts without a decode rank"),
    Feature("decode_requests", "of the batch limit", 0.0, 2.0, "requests on decode ranks"),
    Feature("decode_blocks", "of the room", 0.0, 2.0, "KV blocks held on decode ranks"),
)
INSTANCE = (
    _share("running", "believed to run a pass"),
    _share("pending", "a release for its next pass is under way"),
    Feature("end_in_s", "s", -10.0, 10.0, "until the predicted end; 0 if not running"),
    Feature("idle_s", "s", 0.0, 10.0, "since the last pass ended; 0 if running"),
    Feature("error_s", "s", 0.0, 1.0, "moving average of |end - predicted end|"),
    Feature("outstanding_tokens", "passes", 0.0, 50.0, "sent and not known to be done"),
    Feature("leftover_tokens", "passes", 0.0, 50.0, "of it, behind the believed pass"),
    Feature("leftover_cost_s", "s", 0.0, 10.0, "compute time of that, mean over ranks"),
    Feature("leftover_fullest", "chunks", 0.0, 50.0, "of the rank with most of it"),
    Feature("last_budget", "chunks", 0.0, 1.0, "tokens per rank that the last release allowed"),
    _share("takes_release", "the release in question goes there"),
)
RANK = (
    Feature("room", "of the budget", -50.0, 1.0, "budget less load, before this request"),
    Feature("load", "of the budget", 0.0, 50.0, "leftover and placed in this release"),
    Feature("leftover_tokens", "chunks", 0.0, 50.0, "behind the believed pass"),
    Feature("requests", "", 0.0, 50.0, "sent and not known to be done"),
)
DECODE_RANK = (
    Feature("requests", "of the batch limit", 0.0, 2.0, "run or wait there, by the records"),
    Feature("waiting", "of the batch limit", 0.0, 2.0, "of them, waiting"),
    Feature("kv_tokens", "of the room", 0.0, 2.0, "context held, by the records"),
    Feature("blocks", "of the room", 0.0, 2.0, "KV blocks held, by the records"),
    _share("refused", "has refused a request since the last report"),
)
REQUEST = (
    Feature("tokens", "chunks", 0.0, 50.0, "prompt length"),
    Feature("age_s", "s", 0.0, 60.0, "since it arrived"),
    Feature("waited_releases", "of n_limit", 0.0, 2.0, "releases since it arrived; 0 for decode"),
    Feature(
        "placed", "per rank", 0.0, 50.0, "placed before in this release, or tried in this round"
    ),
    Feature("to_place", "per rank", 0.0, 50.0, "requests left to place, this one included"),
    Feature("budget", "chunks", 0.0, 1.0, "tokens per rank of this release; 0 for decode"),
)


COLUMNS = {
    Group.GLOBAL: GLOBAL,
    Group.INSTANCES: INSTANCE,
    Group.RANKS: RANK,
    Group.DECODE_RANKS: DECODE_RANK,
    Group.REQUEST: REQUEST,
}


def feature_digest(sees: Group) -> str:
    """Return the sha256 of the names of all features of the groups `sees`, one per line.

    What was trained on other features cannot be told from what was not by sizes alone.
    """
    names = [one.name for group, columns in COLUMNS.items() if group & sees for one in columns]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def sizes(cluster: ClusterConfig) -> dict[Group, tuple[int, tuple[Feature, ...]]]:
    """Return rows and features of every group, in the order of an observation."""
    rows = {
        Group.GLOBAL: 1,
        Group.INSTANCES: cluster.num_prefill,
        Group.RANKS: cluster.prefill_dp,
        Group.DECODE_RANKS: cluster.num_decode_ranks,
        Group.REQUEST: 1,
    }
    return {group: (rows[group], columns) for group, columns in COLUMNS.items()}


def num_features(sees: Group, cluster: ClusterConfig) -> int:
    """Return the numbers of an observation that shows the groups `sees`."""
    return sum(
        rows * len(columns) for group, (rows, columns) in sizes(cluster).items() if group & sees
    )
