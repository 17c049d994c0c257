"""Laws that every run keeps, whatever its scheduler; to be checked after every random run."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.sim.records import RunRecords
from tests.property.laws_decode import check_all_answered, check_decode_laws

Rows = NDArray[Any]


def check_laws(records: RunRecords, cluster: ClusterConfig) -> None:
    """Raise AssertionError if a run broke a law."""
    _check_whereabouts(records)
    _check_order_of_instants(records.requests, cluster)
    _check_columns_of_passes(records)
    for i in range(cluster.num_prefill):
        passes = records.passes[records.passes["instance"] == i]
        requests = records.requests[records.requests["instance"] == i]
        _check_one_pass_at_a_time(passes)
        _check_queue(passes, requests)
        _check_requests_per_pass(passes, requests)
        if cluster.start_rule == "eager" and cluster.num_decode == 0:
            _check_never_idle_with_work(passes, requests)
        if cluster.start_rule == "eager" and cluster.num_decode > 0:
            _check_never_idle_with_begun(passes, requests)
        if cluster.start_rule == "free_running":
            assert (passes["started_at_s"][1:] == passes["ended_at_s"][:-1]).all()
        if cluster.start_rule != "on_release":
            _check_littles_law(passes, requests)
        for d in range(cluster.prefill_dp):
            _check_tokens_of_rank(records, i, d)
    check_decode_laws(records, cluster)


def check_everything_ended(records: RunRecords) -> None:
    """Raise AssertionError if a run without a horizon left a request behind."""
    requests = records.requests
    ended = ~np.isnan(requests["first_token_at_s"]) | ~np.isnan(requests["rejected_at_s"])
    assert ended.all(), f"left behind: {np.flatnonzero(~ended)}"
    check_all_answered(records)


def _is_known(instants: Rows) -> Rows:
    return ~np.isnan(instants)


def _check_whereabouts(records: RunRecords) -> None:
    """Arrived = finished + rejected + buffered + in flight, and nobody acts before arriving."""
    requests = records.requests
    arrived = requests["arrived_at_s"] <= records.ended_at_s
    dispatched = _is_known(requests["dispatched_at_s"])
    finished = _is_known(requests["first_token_at_s"])
    rejected = _is_known(requests["rejected_at_s"])
    buffered = arrived & ~dispatched & ~rejected
    in_flight = dispatched & ~finished
    states = [finished, rejected, buffered, in_flight]
    assert (np.sum(states, axis=0) == arrived).all()
    assert (dispatched == (requests["instance"] >= 0)).all()
    assert (dispatched == (requests["rank"] >= 0)).all()
    assert (dispatched == (requests["waited_releases"] >= 0)).all()


def _check_order_of_instants(requests: Rows, cluster: ClusterConfig) -> None:
    names = ("arrived", "dispatched", "delivered", "prefill_started", "first_token")
    columns = [requests[f"{name}_at_s"] for name in names]
    for i, (earlier, later) in enumerate(itertools.pairwise(columns)):
        known = _is_known(later)
        assert (earlier[known] <= later[known]).all(), names[i : i + 2]  # NaN fails here too
    delivered = requests[_is_known(requests["delivered_at_s"])]
    expected = delivered["dispatched_at_s"] + cluster.dispatch_delay_s
    assert (delivered["delivered_at_s"] == expected).all()
    rejected = requests[_is_known(requests["rejected_at_s"])]
    assert (rejected["arrived_at_s"] <= rejected["rejected_at_s"]).all()


def _check_columns_of_passes(records: RunRecords) -> None:
    passes, tokens, pairs = records.passes, records.rank_tokens, records.rank_pairs
    assert tokens is not None
    assert pairs is not None
    assert (passes["tokens"] == tokens.sum(axis=1)).all()
    assert (passes["pairs"] == pairs.sum(axis=1)).all()
    assert (passes["max_rank_tokens"] == tokens.max(axis=1, initial=0)).all()
    assert (passes["max_rank_tokens"] <= passes["budget_tokens"]).all()
    assert (np.diff(passes["ended_at_s"]) >= 0).all()
    assert passes["num_finished"].sum() == _is_known(records.requests["first_token_at_s"]).sum()


def _check_one_pass_at_a_time(passes: Rows) -> None:
    assert (passes["pass_index"] == np.arange(len(passes))).all()
    assert (passes["started_at_s"] < passes["ended_at_s"]).all()
    assert (passes["started_at_s"][1:] >= passes["ended_at_s"][:-1]).all()


def _check_queue(passes: Rows, requests: Rows) -> None:
    """What is left behind at the start of a pass = delivered until then - taken until then."""
    requests = requests[_is_known(requests["delivered_at_s"])]
    by_delivery = requests[np.argsort(requests["delivered_at_s"], kind="stable")]
    delivered = np.concatenate([[0], np.cumsum(by_delivery["input_tokens"], dtype=np.int64)])
    until = np.searchsorted(by_delivery["delivered_at_s"], passes["started_at_s"], side="right")
    assert (passes["leftover_tokens"] == delivered[until] - np.cumsum(passes["tokens"])).all()


def _check_requests_per_pass(passes: Rows, requests: Rows) -> None:
    """A request is in every pass from its first to its last, and ends when that one ends."""
    started = requests[_is_known(requests["prefill_started_at_s"])]
    first = np.searchsorted(passes["started_at_s"], started["prefill_started_at_s"])
    known = first < len(passes)  # else the pass that was running at the end of the run
    at_start = passes["started_at_s"][first[known]]
    assert (at_start == started["prefill_started_at_s"][known]).all()
    after = np.full(len(started), len(passes))
    ended = _is_known(started["first_token_at_s"])
    last = np.searchsorted(passes["ended_at_s"], started["first_token_at_s"][ended])
    assert (passes["ended_at_s"][last] == started["first_token_at_s"][ended]).all()
    after[ended] = last + 1
    assert (passes["num_finished"] == np.bincount(last, minlength=len(passes))).all()
    changes = np.bincount(first, minlength=len(passes) + 1)
    changes = changes - np.bincount(after, minlength=len(passes) + 1)
    assert (passes["num_requests"] == np.cumsum(changes)[: len(passes)]).all()


def _check_never_idle_with_work(passes: Rows, requests: Rows) -> None:
    """In no gap before a pass does a request wait on the instance."""
    begins = np.concatenate([[-np.inf], passes["ended_at_s"]])
    for begin, end in zip(begins, passes["started_at_s"], strict=False):
        if begin == end:
            continue
        here = requests["delivered_at_s"] < end
        over = requests["first_token_at_s"] <= begin
        assert not (here & ~over).any(), f"idle from {begin} to {end}"


def _check_never_idle_with_begun(passes: Rows, requests: Rows) -> None:
    """KV room may keep a prompt from its first chunk, never from the next."""
    begins = np.concatenate([[-np.inf], passes["ended_at_s"]])
    for begin, end in zip(begins, passes["started_at_s"], strict=False):
        begun = requests["prefill_started_at_s"] < end
        over = requests["first_token_at_s"] <= begin
        assert begin == end or not (begun & ~over).any(), f"idle from {begin} to {end}"


def _check_littles_law(passes: Rows, requests: Rows) -> None:
    """Requests in a pass, over time, add up to the time requests spend in passes."""
    if len(passes) == 0:
        return
    started = requests[_is_known(requests["prefill_started_at_s"])]
    end = passes["ended_at_s"][-1]
    leaves = np.where(_is_known(started["first_token_at_s"]), started["first_token_at_s"], end)
    spent_s = leaves - np.minimum(started["prefill_started_at_s"], end)
    held_s = passes["num_requests"] * (passes["ended_at_s"] - passes["started_at_s"])
    assert np.isclose(held_s.sum(), spent_s.sum(), rtol=1e-9, atol=1e-9 * end)


def _check_tokens_of_rank(records: RunRecords, i: int, d: int) -> None:
    """Tokens done lie between those of the ended prompts and of the started ones; so for pairs."""
    assert records.rank_tokens is not None
    assert records.rank_pairs is not None
    of_instance = records.passes["instance"] == i
    tokens = records.rank_tokens[of_instance, d].sum()
    pairs = records.rank_pairs[of_instance, d].sum()
    requests = records.requests
    here = (requests["instance"] == i) & (requests["rank"] == d)
    lengths = requests["input_tokens"].astype(np.int64)
    ended = lengths[here & _is_known(requests["first_token_at_s"])]
    begun = lengths[here & _is_known(requests["prefill_started_at_s"])]
    assert ended.sum() <= tokens <= begun.sum()
    assert (ended * ended).sum() <= pairs <= (begun * begun).sum()
    assert len(ended) < len(begun) or tokens == ended.sum()
