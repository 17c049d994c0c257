"""Requests too long for the KV room are rejected, and every command says so."""

from __future__ import annotations

import pytest
from test_cli import told

from sbs_gym.rate_search import RateSearch
from sbs_gym.slo_capacity import why_not

# Toy ranks hold 1,000 tokens, and more than half of the prompts of sbs_short with their answers do
# not fit.
TOY = ["cluster=toy", "timing=linear", "cluster.chunk_tokens=3000", "num_requests=60"]
BOTH = ["compare", "schedulers=[sbs,lpt]", "seeds=2", *TOY]


@pytest.mark.parametrize("words", [[], ["loads=[0.5,0.7]"]])
def test_compare_names_the_largest_share(capsys, words):
    out = " ".join(told(capsys, *BOTH, *words)[1].split())
    share = float(out.split("rejected: up to ")[1].split(" %")[0])
    assert 40.0 < share < 70.0
    assert "latencies are those of the others" in out


def test_compare_is_silent_where_nothing_is_rejected(capsys):
    rooms = ["cluster.prefill_kv_tokens=20000", "cluster.decode_kv_tokens=20000"]
    assert "rejected" not in told(capsys, *BOTH, *rooms)[1]


def test_an_slo_that_rejections_make_infeasible_names_them():
    search = RateSearch(guess_per_s=1.0, target_frac=0.9, tolerance_frac=0.01)
    while search.next_per_s is not None:
        search = search.told(search.next_per_s, 0.5)
    shares = dict.fromkeys(("slo", "ttft", "tpot"), 0.5)
    summary = {f"{key}_attainment_frac": value for key, value in shares.items()}
    counts = {"num_rejected": 90, "num_arrived": 180}
    assert why_not(search, summary | counts).endswith("; 90 of 180 requests are rejected")
    assert "rejected" not in why_not(search, summary | {"num_rejected": 0})
