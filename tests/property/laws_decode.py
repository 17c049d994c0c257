"""Laws of what follows the first token; preempted requests leave no trace of when they were out."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.sim.records import RunRecords

Rows = NDArray[Any]


@dataclass(frozen=True)
class Life:
    """One column per stage of every request; `needed` counts the steps of its answer."""

    columns: dict[str, Rows]
    needed: Rows

    def __getitem__(self, name: str) -> Rows:
        return self.columns[name]

    def of(self, chosen: Rows) -> Life:
        return Life({n: c[chosen] for n, c in self.columns.items()}, self.needed[chosen])


def check_decode_laws(records: RunRecords, cluster: ClusterConfig) -> None:
    """Raise AssertionError if what follows prefill broke a law."""
    assert (records.decode is not None) == (cluster.num_decode > 0)
    if records.decode is None:
        assert len(records.steps) == 0
        return
    life = _life(records, cluster)
    _check_whereabouts(records, life)
    _check_order_of_instants(life, cluster)
    _check_prefill_room(life, cluster)
    _check_links(life, cluster)
    _check_columns_of_steps(records)
    for j in range(cluster.num_decode):
        _check_instance(records, life, cluster, j)


def _life(records: RunRecords, cluster: ClusterConfig) -> Life:
    tables = (records.requests, records.decode)
    columns = {name: table[name] for table in tables for name in table.dtype.names}
    steps = np.arange(int(columns["output_tokens"].max()) + 1)
    tokens = 1 + np.floor(steps * cluster.tokens_per_step)
    return Life(columns, np.searchsorted(tokens, columns["output_tokens"]))


def _known(instants: Rows) -> Rows:
    return ~np.isnan(instants)


def _check_whereabouts(records: RunRecords, life: Life) -> None:
    """Every arrived request is in exactly one stage."""
    arrived = life["arrived_at_s"] <= records.ended_at_s
    dispatched, first = _known(life["dispatched_at_s"]), _known(life["first_token_at_s"])
    transferred, admitted = _known(life["transferred_at_s"]), _known(life["admitted_at_s"])
    finished, rejected = _known(life["finished_at_s"]), _known(life["rejected_at_s"])
    stages = [
        rejected,
        arrived & ~dispatched & ~rejected,
        dispatched & ~first,
        first & ~transferred & ~finished,
        transferred & ~admitted,
        admitted & ~finished,
        finished,
    ]
    assert (np.sum(stages, axis=0) == arrived).all()
    bound = _known(life["bound_at_s"])
    assert (bound == (life["decode_instance"] >= 0)).all()
    assert (bound == (life["decode_rank"] >= 0)).all()


def _check_order_of_instants(life: Life, cluster: ClusterConfig) -> None:
    single = life["output_tokens"] <= 1
    ended = life.of(single)
    np.testing.assert_array_equal(ended["finished_at_s"], ended["first_token_at_s"])
    assert not _known(ended["transferred_at_s"]).any()
    stages = ["arrived", "dispatched", "prefill_started", "first_token"]
    stages += ["transferred", "admitted", "second_token", "finished"]
    at_dispatch = cluster.decode_binding == "at_dispatch"
    stages.insert(2 if at_dispatch else 4, "bound")
    if not at_dispatch:
        assert not _known(ended["bound_at_s"]).any()
    several = life.of(~single)
    for earlier, later in itertools.pairwise(stages):
        known = _known(several[f"{later}_at_s"])
        before, after = several[f"{earlier}_at_s"][known], several[f"{later}_at_s"][known]
        is_step = (earlier, later) == ("admitted", "second_token")
        in_order = before < after if is_step else before <= after  # NaN fails here too
        assert in_order.all(), (earlier, later)


def _check_prefill_room(life: Life, cluster: ClusterConfig) -> None:
    """Prompts begun and not yet gone fit their prefill rank; to be looked at when one begins."""
    assert cluster.prefill_kv_tokens is not None
    gone = np.where(life["output_tokens"] <= 1, life["first_token_at_s"], life["transferred_at_s"])
    for place in _places(life["instance"], life["rank"]):
        begun, left = life["prefill_started_at_s"][place], gone[place]
        begun_first = begun[_known(begun)]
        here = (begun <= begun_first[:, None]) & ~(left <= begun_first[:, None])
        reserved = here @ life["input_tokens"][place].astype(np.int64)
        assert (reserved <= cluster.prefill_kv_tokens).all()


def _places(instances: Rows, ranks: Rows) -> list[Rows]:
    """Return the requests of every place, as masks."""
    known = sorted({(i, d) for i, d in zip(instances, ranks, strict=True) if i >= 0})
    return [(instances == i) & (ranks == d) for i, d in known]


def _check_links(life: Life, cluster: ClusterConfig) -> None:
    """Transfers of one network card follow one another, and none begins before it is booked."""
    sent = life.of(_known(life["transferred_at_s"]))
    end = sent["transferred_at_s"] - cluster.transfer_latency_s
    tokens = sent["input_tokens"].astype(np.int64)
    if cluster.transfer_overlap == "chunked":
        tokens = np.minimum(tokens, 1)  # the records do not say how many its last pass had
    seconds = tokens * cluster.kv_bytes_per_token / cluster.nic_bytes_per_s
    at_dispatch = cluster.decode_binding == "at_dispatch"
    booked = sent["first_token_at_s" if at_dispatch else "bound_at_s"]
    rounding = 1e-12 * (1.0 + end)
    assert (end >= booked + seconds - rounding).all()
    sources = _places(sent["instance"], sent["rank"])
    for card in (*sources, *_places(sent["decode_instance"], sent["decode_rank"])):
        order = np.argsort(end[card], kind="stable")
        ends, needed = end[card][order], (seconds - rounding)[card][order]
        assert (np.diff(ends) >= needed[1:]).all()


def _check_columns_of_steps(records: RunRecords) -> None:
    steps, batch, kv = records.steps, records.step_batch, records.step_kv_tokens
    assert batch is not None
    assert kv is not None
    assert records.step_blocks is not None
    assert (steps["batch_sum"] == batch.sum(axis=1)).all()
    assert (steps["batch_max"] == batch.max(axis=1, initial=0)).all()
    assert (steps["blocks"] == records.step_blocks.sum(axis=1)).all()
    assert (steps["kv_max_tokens"] == kv.max(axis=1, initial=0.0)).all()
    np.testing.assert_allclose(steps["kv_sum_tokens"], kv.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(steps["kv_square_sum"], (kv * kv).sum(axis=1), rtol=1e-12)
    assert (np.diff(steps["ended_at_s"]) >= 0).all()
    assert (steps["batch_sum"] > 0).all()


def _check_instance(records: RunRecords, life: Life, cluster: ClusterConfig, j: int) -> None:
    of_instance = records.steps["instance"] == j
    steps = records.steps[of_instance]
    here = life.of(life["decode_instance"] == j)
    _check_one_step_at_a_time(steps)
    _check_counts(steps, here)
    _check_steps_of_requests(steps, here)
    _check_never_idle_with_arrived(steps, here)
    _check_littles_law(steps, here)
    for d in range(cluster.decode_dp):
        assert records.step_batch is not None
        assert records.step_kv_tokens is not None
        assert records.step_blocks is not None
        of_rank = here.of(here["decode_rank"] == d)
        tables = (records.step_batch, records.step_kv_tokens, records.step_blocks)
        _check_rank(steps, of_rank, cluster, *(table[of_instance, d] for table in tables))


def _check_one_step_at_a_time(steps: Rows) -> None:
    assert (steps["step_index"] == np.arange(len(steps))).all()
    assert (steps["started_at_s"] < steps["ended_at_s"]).all()
    assert (steps["started_at_s"][1:] >= steps["ended_at_s"][:-1]).all()


def _check_counts(steps: Rows, here: Life) -> None:
    answered = _known(here["finished_at_s"]) & _known(here["admitted_at_s"])
    assert steps["num_finished"].sum() == answered.sum()
    assert steps["num_preempted"].sum() == here["num_preempted"].sum()
    begun = _known(here["second_token_at_s"]).sum()
    most = begun + steps["num_preempted"].sum()
    assert begun <= steps["num_admitted"].sum() <= most


def _first_and_last(steps: Rows, here: Life) -> tuple[Rows, Rows]:
    """Return the first step of admitted requests and the one after their last, so far."""
    first = np.searchsorted(steps["started_at_s"], here["admitted_at_s"])
    after = np.full(len(first), len(steps))
    ended = _known(here["finished_at_s"])
    after[ended] = np.searchsorted(steps["ended_at_s"], here["finished_at_s"][ended]) + 1
    return first, after


def _check_steps_of_requests(steps: Rows, here: Life) -> None:
    admitted = here.of(_known(here["admitted_at_s"]))
    first, after = _first_and_last(steps, admitted)
    stepped = _known(admitted["second_token_at_s"])
    starts, ends = steps["started_at_s"], steps["ended_at_s"]
    assert (starts[first[stepped]] == admitted["admitted_at_s"][stepped]).all()
    assert (ends[first[stepped]] == admitted["second_token_at_s"][stepped]).all()
    assert (first[~stepped] == len(steps)).all()  # the step that was running at the end of the run
    ended = _known(admitted["finished_at_s"])
    assert (ends[after[ended] - 1] == admitted["finished_at_s"][ended]).all()
    kept = admitted["num_preempted"] == 0
    taken = after - first
    assert (taken[kept & ended] == admitted.needed[kept & ended]).all()
    assert (taken[~kept & ended] >= admitted.needed[~kept & ended]).all()
    assert (taken[kept & ~ended] < admitted.needed[kept & ~ended]).all()


def _check_never_idle_with_arrived(steps: Rows, here: Life) -> None:
    """In no gap before a step does a request wait on the instance that was never swapped out."""
    kept = here.of(here["num_preempted"] == 0)
    begins = np.concatenate([[-np.inf], steps["ended_at_s"]])
    for begin, end in zip(begins, steps["started_at_s"], strict=False):
        if begin < end:
            waits = (kept["transferred_at_s"] < end) & ~(kept["finished_at_s"] <= begin)
            assert not waits.any(), f"idle from {begin} to {end}"


def _check_littles_law(steps: Rows, here: Life) -> None:
    """Requests in a step, over time, add up to the time that requests spend in steps."""
    if len(steps) == 0:
        return
    end = steps["ended_at_s"][-1]
    admitted = here.of(_known(here["admitted_at_s"]))
    finished = admitted["finished_at_s"]
    leaves = np.where(_known(finished), finished, end)
    spent_s = leaves - np.minimum(admitted["admitted_at_s"], end)
    held_s = (steps["batch_sum"] * (steps["ended_at_s"] - steps["started_at_s"])).sum()
    kept = admitted["num_preempted"] == 0
    rounding = 1e-9 * (end + spent_s.sum())
    assert spent_s[kept].sum() - rounding <= held_s <= spent_s.sum() + rounding


def _check_rank(
    steps: Rows, here: Life, cluster: ClusterConfig, batch: Rows, kv: Rows, blocks: Rows
) -> None:
    """Recompute batch, KV and blocks at every start of a step; preempted requests blur them."""
    assert cluster.decode_kv_tokens is not None
    assert (batch <= cluster.max_running).all()
    assert (blocks <= cluster.decode_kv_tokens // cluster.kv_block_tokens).all()
    kept = here.of(here["num_preempted"] == 0)
    has_others = len(kept.needed) < len(here.needed)
    first, after = _first_and_last(steps, kept)
    first[~_known(kept["admitted_at_s"])] = len(steps)
    at = np.arange(len(steps))[:, None]
    runs, k = (first <= at) & (at < after), np.maximum(at - first, 0)
    prompts = kept["input_tokens"].astype(np.int64)
    own_kv = runs @ (prompts + 1) + cluster.tokens_per_step * (runs * k).sum(axis=1)
    bound = kept["bound_at_s"] <= steps["started_at_s"][:, None]
    bound &= ~(kept["finished_at_s"] <= steps["started_at_s"][:, None])
    own_blocks = (bound * _blocks_held(kept, k, cluster)).sum(axis=1)
    if not has_others:
        assert (batch == runs.sum(axis=1)).all()
        assert (kv == own_kv).all()
        assert (blocks == own_blocks).all()
    else:
        assert (batch >= runs.sum(axis=1)).all()
        assert (kv >= own_kv * (1.0 - 1e-12)).all()
        assert (blocks >= own_blocks).all()


def _blocks_held(here: Life, k: Rows, cluster: ClusterConfig) -> Rows:
    """Return what every request holds after k steps, shape of k."""
    prompts = here["input_tokens"].astype(np.int64)
    tokens = 1 + np.floor(k * cluster.tokens_per_step).astype(np.int64)
    kept = np.where(k > 0, np.minimum(tokens, here["output_tokens"]), 0)
    most = prompts + np.maximum(kept, cluster.decode_reserve_tokens)
    return np.ceil(most / cluster.kv_block_tokens).astype(np.int64)


def check_all_answered(records: RunRecords) -> None:
    """Raise AssertionError if a run without a horizon left an answer unfinished."""
    if records.decode is None:
        return
    ended = _known(records.decode["finished_at_s"]) | _known(records.requests["rejected_at_s"])
    assert ended.all(), f"left behind: {np.flatnonzero(~ended)}"
    assert math.isfinite(records.prefill_kv_blocked_s)
