"""Who met the SLO, and the buckets of prompt lengths, on hand-made requests."""

import numpy as np
import pytest
from test_metrics_latency import NAN, decoded, rows

from sbs_gym.config.run import SloConfig
from sbs_gym.metrics.columns import LENGTH_COLUMNS
from sbs_gym.metrics.lengths import by_length, length_bucket_names
from sbs_gym.metrics.slo import meets_slo, meets_tpot, meets_ttft, slo_ttft_s

SLO = SloConfig(ttft_s=1.0, ttft_per_token_s=0.001, ttft_free_tokens=1000, tpot_s=0.5)


def test_slo_grows_with_the_tokens_beyond_the_free_ones():
    allowed = slo_ttft_s(np.array([10, 1000, 3000], dtype=np.int32), SLO)
    assert allowed == pytest.approx([1.0, 1.0, 3.0])


def test_unfinished_request_has_not_met_its_slo():
    requests = rows((0.0, 0.0, 0.0, 1.0, 10), (0.0, 0.0, 0.0, 1.5, 10), (0.0, NAN, NAN, NAN, 10))
    assert meets_slo(requests, None, SLO).tolist() == [True, False, False]


def answers():
    """Five answers: in time; slow tokens; late first token; one token; still decoding."""
    requests = rows(*[(0.0, 0.0, 0.0, first, 10) for first in (1.0, 1.0, 2.0, 1.0, 1.0)])
    requests["output_tokens"] = [3, 3, 3, 1, 3]
    ends = (2.0, 2.5, 2.5, 1.0, NAN)
    return requests, np.concatenate([decoded(1.0, 1.0, 1.0, 1.5, end) for end in ends])


def test_an_answer_must_be_in_time_with_its_first_token_and_with_the_gaps_between_all():
    requests, decode = answers()
    assert meets_ttft(requests, SLO).tolist() == [True, True, False, True, True]
    assert meets_tpot(requests, decode, SLO).tolist() == [True, False, True, True, False]
    assert meets_slo(requests, decode, SLO).tolist() == [True, False, False, True, False]


def test_without_decode_no_answer_has_gaps_to_be_late_with():
    requests, _ = answers()
    assert meets_slo(requests, None, SLO).tolist() == meets_ttft(requests, SLO).tolist()


def test_buckets_count_answers_that_ended_and_their_gaps():
    table = by_length(*answers(), SLO)
    row = table.iloc[0]
    assert (row["num_requests"], row["num_finished"]) == (5, 4)
    assert row["tpot_mean_s"] == pytest.approx((0.5 + 0.75 + 0.25) / 3)
    assert row["ttft_client_mean_s"] == pytest.approx((1.5 * 4 + 1.0) / 5)
    assert row["slo_attainment_frac"] == 2 / 5


def test_bucket_names_are_powers_of_two():
    assert length_bucket_names() == [
        "0-512", "512-1K", "1K-2K", "2K-4K", "4K-8K", "8K-16K", "16K-32K", "32K+",
    ]  # fmt: skip


def test_lengths_fall_into_half_open_buckets_and_empty_ones_are_left_out():
    requests = rows(
        (0.0, 0.0, 0.0, 1.0, 511),
        (0.0, 0.0, 0.0, 2.0, 512),
        (0.0, 0.5, 1.0, 4.0, 1023),
        (0.0, NAN, NAN, NAN, 32768),
    )
    table = by_length(requests, None, SLO)
    assert list(table.columns) == list(LENGTH_COLUMNS)
    assert table["input_tokens"].tolist() == ["0-512", "512-1K", "32K+"]
    assert table["num_requests"].tolist() == [1, 2, 1]
    assert table["num_finished"].tolist() == [1, 2, 0]
    assert table["ttft_mean_s"].tolist()[:2] == [1.0, 3.0]
    assert np.isnan(table["ttft_mean_s"].iloc[2])
    assert table["slo_attainment_frac"].tolist() == [1.0, 0.0, 0.0]
