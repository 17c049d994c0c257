"""Forty requests on the toy cluster, kept to the digit; the laws beside them hold for any."""

import json
from pathlib import Path

import numpy as np
import pytest

from sbs_gym.config.run import run_from_mapping
from sbs_gym.simulate import simulate

HERE = Path(__file__).parent
SCHEDULERS = ("round_robin", "sbs", "sbs_budget")
COLUMNS = (
    "arrived_at_s",
    "dispatched_at_s",
    "prefill_started_at_s",
    "first_token_at_s",
    "input_tokens",
    "instance",
    "rank",
)
KEYS = (
    "ttft_mean_s",
    "ttft_p99_s",
    "buffer_wait_mean_s",
    "engine_wait_mean_s",
    "prefill_mean_s",
    "requests_per_s",
    "slo_attainment_frac",
    "chunk_utilisation_frac",
    "prefill_bubble_frac",
    "prefill_idle_frac",
    "capacity_requests_per_s",
    "num_passes",
    "num_releases",
)


@pytest.fixture(scope="module", params=SCHEDULERS)
def result(request):
    lengths = {"family": "uniform", "low_tokens": 1, "high_tokens": 25}
    answers = {"family": "constant", "value_tokens": 1}
    return simulate(
        run_from_mapping(
            {
                "cluster": "toy",
                "workload": {"name": "toy", "input_tokens": lengths, "output_tokens": answers},
                "arrivals": "poisson",
                "timing": {"kind": "linear", "fixed_s": 0.1, "per_token_s": 0.02,
                           "max_weight": 0.7, "jitter_cv": 0.02},
                "scheduler": request.param,
                "slo": {"ttft_s": 1.0},
                "load": 0.8,
                "num_requests": 40,
                "seed": 1,
            }
        )
    )  # fmt: skip


def test_run_is_as_it_was(result, update_golden):
    path = HERE / f"run_{result.config.scheduler.name}.json"
    found = {
        "summary": {key: result.summary[key] for key in KEYS},
        "columns": list(COLUMNS),
        "requests": result.requests[list(COLUMNS)].astype(object).to_numpy().tolist(),
    }
    if update_golden:
        path.write_text(_readable(found))
    kept = json.loads(path.read_text())
    assert found["summary"] == pytest.approx(kept["summary"], rel=1e-9)
    assert found["columns"] == kept["columns"]
    np.testing.assert_allclose(found["requests"], kept["requests"], rtol=1e-9)


def test_instants_never_fall_and_all_is_done(result):
    instants = result.requests[list(COLUMNS[:4])].to_numpy()
    assert not np.isnan(instants).any()
    assert (np.diff(instants, axis=1) >= 0).all()


def test_tokens_are_conserved_and_no_rank_exceeds_its_chunk(result):
    assert result.passes["tokens"].sum() == result.requests["input_tokens"].sum()
    assert result.passes["max_rank_tokens"].max() <= 10
    assert result.passes["num_finished"].sum() == 40


def test_passes_of_an_instance_do_not_overlap(result):
    for _, passes in result.passes.groupby("instance"):
        ordered = passes.sort_values("pass_index")
        assert (
            ordered["started_at_s"].to_numpy()[1:] >= ordered["ended_at_s"].to_numpy()[:-1]
        ).all()


def _readable(found):
    rows = ",\n".join("    " + json.dumps(row) for row in found["requests"])
    summary = json.dumps(found["summary"], indent=4).replace("\n}", "\n  }")
    columns = json.dumps(found["columns"])
    return (
        f'{{\n  "summary": {summary},\n  "columns": {columns},\n  "requests": [\n{rows}\n  ]\n}}\n'
    )
