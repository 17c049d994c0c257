"""Runs are played once per configuration, inputs and version, and read afterwards."""

from __future__ import annotations

import dataclasses
import json

import pytest

from agents import kept_runs
from agents.kept_runs import summaries
from sbs_gym.schema import load_config
from sbs_gym.simulate import measured_run

WORDS = ["cluster.num_decode=0", "timing=linear", "num_requests=500", "load=0.5"]


@pytest.fixture
def played(tmp_path, monkeypatch):
    """Return the runs that were played, which are kept below an empty directory."""
    monkeypatch.setenv("SBS_GYM_CACHE_DIR", str(tmp_path / "cache"))
    found = []

    def playing(run):
        found.append(run)
        return measured_run(run)

    monkeypatch.setattr(kept_runs, "measured_run", playing)
    return found


def runs_of(*words):
    config = load_config([*WORDS, *words])
    return [dataclasses.replace(config, seed=seed) for seed in (1, 2)]


def told(runs):
    """Return summaries as text, for NaN equals nothing."""
    return [json.dumps(one, sort_keys=True) for one in summaries(runs)]


def test_what_was_played_is_read_as_it_was(played):
    first, again = told(runs_of()), told(runs_of())
    assert len(played) == 2
    assert first == again
    assert first == [json.dumps(measured_run(one).summary, sort_keys=True) for one in runs_of()]


def test_other_runs_are_played(played):
    one = told(runs_of())
    others = [told(runs_of(word)) for word in ("scheduler=sbs_budget", "load=0.6")]
    assert not set(one) & {text for other in others for text in other}
    assert told(runs_of()[:1]) == one[:1]
    assert len(played) == 6


def test_another_content_of_a_trace_is_played(played, tmp_path):
    trace = tmp_path / "trace.csv"
    rows = ["arrival_s,input_tokens,output_tokens", *(f"{k * 0.1:.1f},500,1" for k in range(600))]
    trace.write_text("\n".join(rows))
    words = ("workload=trace", f"workload.path={trace}", "load=null")
    before = told(runs_of(*words))
    trace.write_text("\n".join(rows).replace(",500,", ",900,"))
    assert not set(told(runs_of(*words))) & set(before)
    assert len(played) == 4


def test_where_nothing_can_be_kept_all_is_played(played, tmp_path):
    (tmp_path / "cache").write_text("a file, no directory")
    assert told(runs_of()) == told(runs_of())
    assert len(played) == 4
