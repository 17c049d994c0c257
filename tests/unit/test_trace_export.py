"""Traces keep the rules of their format and tell what the run recorded."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
from collections import Counter

import pytest
from test_simulate import TOY, config
from trace_rules import problems

from sbs_gym.cli import main
from sbs_gym.errors import ConfigError
from sbs_gym.report import perfetto
from sbs_gym.report.perfetto import trace_of
from sbs_gym.simulate import measured_run, simulate

LENGTHS = {
    **TOY["workload"],
    "input_tokens": {"family": "uniform", "low_tokens": 1, "high_tokens": 35},
    "output_tokens": {"family": "uniform", "low_tokens": 1, "high_tokens": 20},
}
RUNS = {
    "sbs": config(workload=LENGTHS, load=0.8),
    "round_robin": config(workload=LENGTHS, load=0.8, scheduler="round_robin"),
    "rejecting": config(
        workload=LENGTHS,
        load=3.0,
        scheduler={"release": "sbs", "name": "sbs", "n_limit": 1, "n_limit_action": "reject"},
    ),
    "stopped": config(workload=LENGTHS, load=0.9, seed=4),
}


@pytest.fixture(scope="module", params=RUNS)
def result(request):
    run = measured_run if request.param == "stopped" else simulate
    return run(RUNS[request.param], record_ranks=True)


@pytest.fixture(scope="module")
def sbs():
    return simulate(RUNS["sbs"])


def of(trace, phase, category=None):
    found = (event for event in trace["traceEvents"] if event["ph"] == phase)
    return [event for event in found if category in (None, event.get("cat"))]


@pytest.mark.parametrize("ends", [{}, {"start_s": 2.0, "end_s": 4.0}])
def test_a_trace_keeps_the_rules_of_its_format(result, ends):
    trace = trace_of(result, **ends)
    assert problems(json.loads(json.dumps(trace, allow_nan=False))) == []
    assert {event["ph"] for event in trace["traceEvents"]} == set("MXCbestf")


def test_tokens_of_the_slices_are_those_of_the_passes(result):
    whole, passes = trace_of(result), result.passes
    for category in ("passes", "work"):
        tokens = [event["args"]["tokens"] for event in of(whole, "X", category)]
        assert sum(tokens) == passes["tokens"].sum()
    cut = trace_of(result, start_s=2.0, end_s=4.0)
    here = passes[(passes["ended_at_s"] > 2.0) & (passes["started_at_s"] < 4.0)]
    assert sum(e["args"]["tokens"] for e in of(cut, "X", "work")) == here["tokens"].sum()
    assert len(of(cut, "X", "passes")) == len(here)


def test_work_and_bubble_fill_a_pass_on_every_rank(result):
    dp = result.config.cluster.prefill_dp
    trace = trace_of(result)
    by_process = Counter()
    for event in (*of(trace, "X", "work"), *of(trace, "X", "bubbles")):
        by_process[event["pid"]] += event["dur"]
    for event in of(trace, "X", "passes"):
        by_process[event["pid"]] -= dp * event["dur"]
    assert all(abs(left) < 1.0 for left in by_process.values())  # microseconds, all passes together


def test_every_request_is_a_span_whose_parts_add_up_to_its_time(result):
    trace, requests = trace_of(result), result.requests
    begins = {event["id"]: event["ts"] for event in of(trace, "b") if event["name"] == "request"}
    ends = {event["id"]: event["ts"] for event in of(trace, "e") if event["name"] == "request"}
    assert sorted(begins) == sorted(ends) == requests["request_id"].tolist()
    done = requests[requests["finished_at_s"].notna()].set_index("request_id")
    for key, took_s in done["e2e_s"].items():
        assert ends[key] - begins[key] == pytest.approx(1e6 * took_s, abs=0.002)
    parts = Counter()
    for event in (*of(trace, "b"), *of(trace, "e")):
        if event["name"] != "request":
            parts[event["id"]] += event["ts"] * (1 if event["ph"] == "e" else -1)
    for key in done.index:
        assert parts[key] == pytest.approx(ends[key] - begins[key], abs=0.02)


def test_an_arrow_leads_from_release_to_pass_to_decode_step(sbs):
    trace, requests = trace_of(sbs), sbs.requests.set_index("request_id")
    arrows = {event["id"]: event for event in of(trace, "f")}
    for key, row in requests.iterrows():
        last = row["admitted_at_s"] if row["output_tokens"] > 1 else None
        if last is not None:
            assert arrows[key]["ts"] == pytest.approx(1e6 * last, abs=0.001)
    starts = {event["id"]: event["ts"] for event in of(trace, "s")}
    sent = requests["dispatched_at_s"].to_dict()
    assert starts == pytest.approx({key: 1e6 * at_s for key, at_s in sent.items()}, abs=0.001)


def test_the_buffer_counter_starts_where_the_stretch_does_and_ends_empty(sbs):
    requests = sbs.requests
    cut = trace_of(sbs, start_s=3.0)
    counts = [e for e in of(cut, "C") if e["name"] == "buffer (requests)"]
    arrived = (requests["arrived_at_s"] <= 3.0).sum()
    assert counts[0]["ts"] == 3e6
    assert counts[0]["args"]["requests"] == arrived - (requests["dispatched_at_s"] <= 3.0).sum()
    assert counts[-1]["args"]["requests"] == 0


def test_very_many_steps_are_counters_only(sbs, monkeypatch):
    monkeypatch.setattr(perfetto, "_MOST_STEPS", len(sbs.steps) // 3)
    trace = trace_of(sbs)
    assert problems(trace) == []
    assert of(trace, "X", "steps") == []
    counts = [e for e in of(trace, "C") if e["name"] == "KV (tokens)"]
    assert 0 < len(counts) <= len(sbs.steps) // 3 + 1


def first(events, phase):
    return next(event for event in events if event["ph"] == phase and event.get("dur") != 0)


def cross(events):
    """Put a slice beside the first one that begins in its middle and outlasts it."""
    one = first(events, "X")
    late = {**one, "ts": one["ts"] + one["dur"] / 2}
    place = next(i for i, e in enumerate(events) if e.get("ts", 0) >= late["ts"])
    events.insert(place, late)


BREAKS = {
    "keys": lambda events: first(events, "X").pop("dur"),
    "negative": lambda events: first(events, "X").update(dur=-1.0),
    "cross": cross,
    "has no name": lambda events: first(events, "X").update(tid=77),
    "never end": lambda events: events.remove(first(events, "e")),
    "ends what did not begin": lambda events: events.remove(first(events, "b")),
    "goes": lambda events: events.remove(first(events, "s")),
    "no slice here": lambda events: first(events, "t").update(tid=1, pid=1),
    "metadata": lambda events: events.append(first(events, "M")),
    "not in order": lambda events: events.append(first(events, "C")),
    "no number": lambda events: first(events, "C").update(args={"requests": "many"}),
}


@pytest.mark.parametrize("told", BREAKS)
def test_a_trace_that_breaks_a_rule_is_found_out(sbs, told):
    trace = copy.deepcopy(trace_of(sbs, end_s=2.0))
    assert problems(trace) == []
    BREAKS[told](trace["traceEvents"])
    assert any(told in found for found in problems(trace))


def test_what_cannot_be_shown_is_refused(sbs):
    with pytest.raises(ConfigError, match="nothing happened there; the run goes from"):
        trace_of(sbs, start_s=1e6)
    with pytest.raises(ConfigError, match="expected more than start_s"):
        trace_of(sbs, start_s=2.0, end_s=1.0)
    with pytest.raises(ConfigError, match=r"expected at most 100: cut a stretch out with start_s"):
        trace_of(sbs, most_events=100)
    bare = dataclasses.replace(sbs, passes=sbs.passes.drop(columns="tokens_per_rank"))
    with pytest.raises(ConfigError, match="hold no tokens_per_rank"):
        trace_of(bare)


def test_the_limit_counts_at_least_the_events_that_there_are(result):
    count = len(of(trace := trace_of(result), "M"))
    events = len(trace["traceEvents"]) - count
    with pytest.raises(ConfigError, match="expected at most"):
        trace_of(result, most_events=events - 1)


WORDS = ("cluster=toy", "timing=linear", "scheduler=sbs", "num_requests=40")


def test_the_command_writes_a_run_that_it_makes_or_reads(tmp_path, capsys):
    made = tmp_path / "made.trace.json.gz"
    assert main(["trace-export", *WORDS, f"output={made}"]) == 0
    assert "events written to" in capsys.readouterr().out
    assert main(["simulate", *WORDS, f"output_dir={tmp_path / 'run'}"]) == 0
    read = tmp_path / "read.trace.json"
    assert main(["trace-export", f"run={tmp_path / 'run'}", f"output={read}"]) == 0
    trace = json.loads(read.read_text())
    assert problems(trace) == []
    assert json.loads(gzip.decompress(made.read_bytes())) == trace
    assert trace["otherData"]["scheduler"] == "sbs"


def test_the_same_run_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        main(["trace-export", *WORDS, f"output={tmp_path / name}.json.gz"])
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


@pytest.mark.parametrize(
    "words, told",
    (
        ([], "output is missing"),
        (["output=run.txt"], "expected *.json or *.json.gz"),
        (["output=a.json", "output_dir=b"], "trace-export takes output=FILE.json"),
        (["output=a.json", "run=nowhere"], "holds no finished result"),
        (["output=a.json", "run=nowhere", "load=0.5"], "load"),
        (["output=a.json", "start_s=-1"], "start_s"),
        (["output=a.json", "start_s=3", "end_s=2", *WORDS], "expected more than start_s"),
    ),
)
def test_mistakes_are_one_line_and_leave_no_file(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["trace-export", *words]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("*.json*"))
