"""Latencies of hand-made requests."""

import numpy as np
import pytest

from sbs_gym.config.run import SloConfig
from sbs_gym.metrics import latency
from sbs_gym.metrics.columns import LENGTH_COLUMNS
from sbs_gym.sim.records import REQUEST_RECORD

NAN = float("nan")
SLO = SloConfig(ttft_s=1.0, ttft_per_token_s=0.001, ttft_free_tokens=1000)


def request(arrived, dispatched, started, first, tokens):
    row = np.zeros(1, dtype=REQUEST_RECORD)
    row["arrived_at_s"], row["dispatched_at_s"], row["delivered_at_s"] = arrived, dispatched, NAN
    row["prefill_started_at_s"], row["first_token_at_s"] = started, first
    row["rejected_at_s"], row["input_tokens"] = NAN, tokens
    return row


def rows(*each):
    return np.concatenate([request(*values) for values in each])


def test_parts_of_a_ttft_add_up_to_it():
    requests = rows((10.0, 10.5, 11.5, 14.0, 100))
    assert latency.buffer_wait_s(requests)[0] == 0.5
    assert latency.engine_wait_s(requests)[0] == 1.0
    assert latency.prefill_s(requests)[0] == 2.5
    assert latency.ttft_s(requests)[0] == 4.0


def test_slo_grows_with_the_tokens_beyond_the_free_ones():
    allowed = latency.slo_ttft_s(np.array([10, 1000, 3000], dtype=np.int32), SLO)
    assert allowed == pytest.approx([1.0, 1.0, 3.0])


def test_unfinished_request_has_not_met_its_slo():
    requests = rows((0.0, 0.0, 0.0, 1.0, 10), (0.0, 0.0, 0.0, 1.5, 10), (0.0, NAN, NAN, NAN, 10))
    assert latency.meets_slo(requests, SLO).tolist() == [True, False, False]


def test_mean_and_percentiles_leave_out_what_is_not_there():
    found = latency.spread("ttft", np.array([1.0, 2.0, 3.0, NAN]))
    assert found["ttft_mean_s"] == 2.0
    assert found["ttft_p50_s"] == 2.0
    assert found["ttft_p90_s"] == pytest.approx(2.8)
    assert list(found) == ["ttft_mean_s", "ttft_p50_s", "ttft_p90_s", "ttft_p99_s"]


def test_nothing_finished_gives_nan_and_no_warning():
    assert all(np.isnan(v) for v in latency.spread("ttft", np.array([NAN, NAN])).values())
    assert np.isnan(latency.mean_or_nan(np.array([])))


def test_bucket_names_are_powers_of_two():
    assert latency.length_bucket_names() == [
        "0-512", "512-1K", "1K-2K", "2K-4K", "4K-8K", "8K-16K", "16K-32K", "32K+",
    ]  # fmt: skip


def test_lengths_fall_into_half_open_buckets_and_empty_ones_are_left_out():
    requests = rows(
        (0.0, 0.0, 0.0, 1.0, 511),
        (0.0, 0.0, 0.0, 2.0, 512),
        (0.0, 0.5, 1.0, 4.0, 1023),
        (0.0, NAN, NAN, NAN, 32768),
    )
    table = latency.by_length(requests, SLO)
    assert list(table.columns) == list(LENGTH_COLUMNS)
    assert table["input_tokens"].tolist() == ["0-512", "512-1K", "32K+"]
    assert table["num_requests"].tolist() == [1, 2, 1]
    assert table["num_finished"].tolist() == [1, 2, 0]
    assert table["ttft_mean_s"].tolist()[:2] == [1.0, 3.0]
    assert np.isnan(table["ttft_mean_s"].iloc[2])
    assert table["slo_attainment_frac"].tolist() == [1.0, 0.0, 0.0]
