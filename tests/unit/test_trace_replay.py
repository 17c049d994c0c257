"""Real traces, replayed end to end: everything drains, the laws hold, nothing is dropped unsaid."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sbs_gym.capacity import decode_timing_for, timing_for
from sbs_gym.schedulers import driver
from sbs_gym.schema import load_config
from sbs_gym.simulate import simulate
from sbs_gym.timing.memory import kv_room
from sbs_gym.workload.trace.load import load_trace
from sbs_gym.workload.trace.select import take_rows
from tests.property.laws import check_everything_ended, check_laws

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
NUM_REQUESTS = 3000
HOW = ("raw", "spread")
MOONCAKE = "mooncake/conversation_trace.jsonl.gz"
# Name, file, more words, and the rows that shared/traces/README.md counts in the file.
REPLAYS = {
    "mooncake_raw": (MOONCAKE, [], 12_031),
    "mooncake_spread": (MOONCAKE, ["workload.spread_ticks_s=3"], 12_031),
    "azure": ("azure_llm_2023/AzureLLMInferenceTrace_conv.csv.gz", [], 19_366),
    "rtp_llm": ("rtp_llm_pd/trace_30min.jsonl.gz", [], 8_332),
}
pytestmark = pytest.mark.slow


def replay(name, scheduler="sbs"):
    """The configuration of a replay and the rows of its file."""
    file, words, rows = REPLAYS[name]
    path = TRACES / file
    if not path.is_file():
        pytest.skip(f"the trace {file} is not in {TRACES.parent.name}/{TRACES.name}")
    where = ["workload=trace", f"workload.path={path}", f"num_requests={NUM_REQUESTS}"]
    return load_config([*where, *words, f"scheduler={scheduler}"]), rows


@pytest.mark.parametrize("scheduler", ["sbs", "round_robin"])
@pytest.mark.parametrize("name", REPLAYS)
def test_a_real_trace_drains_at_its_own_rate(name, scheduler):
    config, _ = replay(name, scheduler)
    result = simulate(config)
    requests = result.requests
    assert len(requests) == NUM_REQUESTS
    assert requests["first_token_at_s"].notna().all()
    assert result.summary["num_finished"] == NUM_REQUESTS
    assert result.summary["num_rejected"] == 0
    assert (requests["ttft_s"] > 0).all()
    assert result.passes["tokens"].sum() == requests["input_tokens"].sum()


@pytest.mark.parametrize("scheduler", ["sbs", "round_robin"])
@pytest.mark.parametrize("name", REPLAYS)
def test_a_replayed_trace_keeps_the_laws(name, scheduler):
    config, _ = replay(name, scheduler)
    table = take_rows(load_trace(config.workload, seed=0)[0], np.arange(NUM_REQUESTS))
    timing = timing_for(config.cluster, config.timing)
    decode = decode_timing_for(config.cluster, config.timing)
    records = driver.run(
        table, config.cluster, config.scheduler, timing, seed=0, decode_timing=decode
    )
    check_laws(records, with_rooms(config.cluster))
    check_everything_ended(records)


def with_rooms(cluster):
    """The cluster with its KV rooms stated, as the laws want them."""
    rooms = {
        f"{pool}_kv_tokens": kv_room(cluster, pool).kv_tokens for pool in ("prefill", "decode")
    }
    return dataclasses.replace(cluster, **rooms)


@pytest.mark.parametrize("name", REPLAYS)
def test_every_row_of_a_trace_is_kept_or_counted(name):
    config, rows = replay(name)
    table, report = load_trace(config.workload, seed=0)
    assert report.rows_read == rows
    assert report.rows_kept == len(table)
    assert report.rows_read == report.rows_kept + sum(report.dropped.values())
    assert report.rows_kept == rows  # the presets drop nothing
    assert (np.diff(table.arrived_at_s) >= 0).all()
    assert (table.input_tokens > 0).all()


def test_spreading_moves_arrivals_inside_their_tick_and_nothing_else():
    raw, spread = (load_trace(replay(f"mooncake_{how}")[0].workload, seed=0)[0] for how in HOW)
    assert np.sort(raw.input_tokens).tolist() == np.sort(spread.input_tokens).tolist()
    shift_s = spread.arrived_at_s - raw.arrived_at_s
    assert shift_s.min() > -3.0
    assert shift_s.max() < 3.0
    assert len(np.unique(spread.arrived_at_s)) > 5 * len(np.unique(raw.arrived_at_s))
