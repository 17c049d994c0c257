"""Three hundred requests on the default cluster from arrival to last token, kept to the digit."""

import json
from pathlib import Path

import numpy as np
import pytest

from sbs_gym.schema import load_config
from sbs_gym.simulate import simulate

HERE = Path(__file__).parent
WORDS = ["load=0.8", "num_requests=300", "seed=1"]
COLUMNS = (
    "arrived_at_s",
    "first_token_at_s",
    "bound_at_s",
    "transferred_at_s",
    "admitted_at_s",
    "second_token_at_s",
    "finished_at_s",
    "output_tokens",
    "decode_rank",
)
KEYS = (
    "ttft_mean_s",
    "ttft_client_mean_s",
    "ttft_client_p99_s",
    "handoff_wait_mean_s",
    "transfer_mean_s",
    "decode_wait_mean_s",
    "tpot_mean_s",
    "tpot_p99_s",
    "e2e_mean_s",
    "output_tokens_per_s",
    "goodput_per_s",
    "slo_attainment_frac",
    "decode_bubble_frac",
    "decode_idle_frac",
    "kv_load_std_tokens",
    "kv_use_frac",
    "batch_mean",
    "num_steps",
    "cost_per_million_output_tokens",
    "capacity_prefill_requests_per_s",
    "capacity_decode_requests_per_s",
)


@pytest.fixture(scope="module", params=["sbs", "round_robin"])
def result(request):
    return simulate(load_config([*WORDS, f"scheduler={request.param}"]))


def test_run_is_as_it_was(result, update_golden):
    path = HERE / f"decode_{result.config.scheduler.name}.json"
    rows = result.requests[list(COLUMNS)].astype(object)
    found = {
        "summary": {key: result.summary[key] for key in KEYS},
        "columns": list(COLUMNS),
        "requests": rows.where(rows.notna(), None).to_numpy().tolist(),
    }
    if update_golden:
        path.write_text(_readable(found))
    kept = json.loads(path.read_text())
    assert found["summary"] == pytest.approx(kept["summary"], rel=1e-9)
    assert found["columns"] == kept["columns"]
    arrays = (np.array(rows["requests"], dtype=float) for rows in (found, kept))
    np.testing.assert_allclose(*arrays, rtol=1e-9)


def test_every_answer_is_whole_and_in_order(result):
    answers = result.requests[result.requests["output_tokens"] > 1]
    assert len(answers) > 290
    instants = answers[list(COLUMNS[:7])].to_numpy()
    assert not np.isnan(instants).any()
    assert (np.diff(instants, axis=1) >= 0).all()
    assert (answers["num_preempted"] == 0).all()


def test_batches_add_up_to_the_steps_of_all_answers(result):
    rate = result.config.cluster.tokens_per_step
    later = result.requests["output_tokens"].to_numpy() - 1
    needed = np.ceil(np.round(later / rate, 9)).astype(int)
    assert result.steps["batch_sum"].sum() == needed.sum()


def _readable(found):
    rows = ",\n".join("    " + json.dumps(row) for row in found["requests"])
    summary = json.dumps(found["summary"], indent=4).replace("\n}", "\n  }")
    columns = json.dumps(found["columns"])
    return (
        f'{{\n  "summary": {summary},\n  "columns": {columns},\n  "requests": [\n{rows}\n  ]\n}}\n'
    )
