"""Chunks worked out from the records of a run are those that the engine took."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_simulate import config

from sbs_gym.errors import ConfigError
from sbs_gym.report.rank_work import busy_frac, chunks_of, rank_tokens
from sbs_gym.simulate import measured_run, simulate

# Prompts of up to five chunks, beside the empty ranks of a short one.
LONG = {
    "name": "long",
    "input_tokens": {"family": "uniform", "low_tokens": 1, "high_tokens": 45},
    "output_tokens": {"family": "constant", "value_tokens": 1},
}
RUNS = {
    "sent at once": config(workload=LONG, scheduler="round_robin", load=0.9),
    "held back": config(workload=LONG, load=0.9),
    "stopped with passes under way": config(workload=LONG, load=0.9, seed=5),
}


@pytest.fixture(scope="module", params=RUNS)
def result(request):
    run = measured_run if "stopped" in request.param else simulate
    return run(RUNS[request.param], record_ranks=True)


def test_chunks_add_up_to_every_pass_its_pairs_and_its_requests(result):
    chunks, passes = chunks_of(result), result.passes
    pairs = chunks["tokens"] * (2 * chunks["context"] + chunks["tokens"])
    by_pass = chunks.assign(pairs=pairs).groupby("pass_row")
    assert by_pass["tokens"].sum().tolist() == passes["tokens"].tolist()
    assert by_pass["pairs"].sum().tolist() == passes["pairs"].tolist()
    assert by_pass.size().tolist() == passes["num_requests"].tolist()


def test_a_request_begins_and_ends_with_its_chunks(result):
    passes = result.passes[["started_at_s", "ended_at_s"]]
    found = chunks_of(result).join(passes, on="pass_row").groupby("request_id")
    requests = result.requests.set_index("request_id")
    started = found["started_at_s"].min()
    assert (started == requests.loc[started.index, "prefill_started_at_s"]).all()
    done = requests[requests["first_token_at_s"].notna()]
    assert (found["ended_at_s"].max()[done.index] == done["first_token_at_s"]).all()
    assert (found["tokens"].sum()[done.index] == done["input_tokens"]).all()


def test_busy_shares_average_to_the_recorded_bubble(result):
    shares = busy_frac(result, chunks_of(result))
    passes = result.passes
    assert shares.max(axis=1) == pytest.approx(1.0)
    recorded = passes["cost_sum_s"] / (shares.shape[1] * passes["cost_max_s"])
    assert shares.mean(axis=1) == pytest.approx(recorded.to_numpy())
    assert ((shares > 0) == (rank_tokens(result) > 0)).all()


def test_a_run_without_its_ranks_is_refused(result):
    bare = dataclasses.replace(result, passes=result.passes.drop(columns="tokens_per_rank"))
    with pytest.raises(ConfigError, match="hold no tokens_per_rank"):
        chunks_of(bare)


def test_a_run_without_passes_has_no_chunks(result):
    requests = result.requests.assign(prefill_started_at_s=np.nan)
    empty = dataclasses.replace(result, passes=result.passes[:0], requests=requests)
    assert len(chunks_of(empty)) == 0
    assert busy_frac(empty, chunks_of(empty)).shape == (0, 2)
