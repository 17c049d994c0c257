"""Latencies of hand-made requests."""

import numpy as np
import pytest

from sbs_gym.metrics import latency
from sbs_gym.sim.records import DECODE_RECORD, REQUEST_RECORD

NAN = float("nan")


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


def test_mean_and_percentiles_leave_out_what_is_not_there():
    found = latency.spread("ttft", np.array([1.0, 2.0, 3.0, NAN]))
    assert found["ttft_mean_s"] == 2.0
    assert found["ttft_p50_s"] == 2.0
    assert found["ttft_p90_s"] == pytest.approx(2.8)
    assert list(found) == ["ttft_mean_s", "ttft_p50_s", "ttft_p90_s", "ttft_p99_s"]


def test_nothing_finished_gives_nan_and_no_warning():
    assert all(np.isnan(v) for v in latency.spread("ttft", np.array([NAN, NAN])).values())
    assert np.isnan(latency.mean_or_nan(np.array([])))


# With decode: a prompt at 10 s, first token at 14 s.


def decoded(bound, transferred, admitted, second, finished):
    row = np.zeros(1, dtype=DECODE_RECORD)
    row["bound_at_s"], row["transferred_at_s"], row["admitted_at_s"] = bound, transferred, admitted
    row["second_token_at_s"], row["finished_at_s"] = second, finished
    return row


def answer(output_tokens, *instants):
    requests = rows((10.0, 10.5, 11.5, 14.0, 100))
    requests["output_tokens"] = output_tokens
    return requests, decoded(*instants)


SEVERAL = answer(5, 14.5, 15.0, 15.25, 16.0, 20.0)
AFTER_FIRST = (latency.handoff_wait_s, latency.transfer_s, latency.decode_wait_s, latency.decode_s)


def test_parts_after_the_first_token_add_up_to_the_end():
    assert [of(*SEVERAL)[0] for of in AFTER_FIRST] == [0.5, 0.5, 0.25, 4.75]
    assert latency.e2e_s(*SEVERAL)[0] == 10.0
    parts = 4.0 + sum(of(*SEVERAL)[0] for of in AFTER_FIRST)
    assert parts == latency.e2e_s(*SEVERAL)[0]


def test_client_sees_the_second_token_first_and_tpot_is_a_mean_gap():
    assert latency.ttft_client_s(*SEVERAL)[0] == 6.0
    assert latency.tpot_s(*SEVERAL)[0] == (20.0 - 14.0) / 4


def test_binding_before_the_first_token_is_no_hand_off_wait_and_part_of_no_transfer():
    bound_at_dispatch = answer(5, 10.5, 15.0, 15.25, 16.0, 20.0)
    assert [of(*bound_at_dispatch)[0] for of in AFTER_FIRST] == [0.0, 1.0, 0.25, 4.75]


@pytest.mark.parametrize("bound", [10.5, NAN])
def test_one_token_is_not_handed_over_and_ends_with_its_ttft(bound):
    one = answer(1, bound, NAN, NAN, NAN, 14.0)
    assert all(np.isnan(of(*one)[0]) for of in (*AFTER_FIRST, latency.tpot_s))
    assert latency.ttft_client_s(*one)[0] == latency.e2e_s(*one)[0] == 4.0


def test_what_was_not_reached_is_nan():
    on_its_way = answer(5, 14.5, NAN, NAN, NAN, NAN)
    assert latency.handoff_wait_s(*on_its_way)[0] == 0.5
    missing = (*AFTER_FIRST[1:], latency.tpot_s, latency.e2e_s, latency.ttft_client_s)
    assert all(np.isnan(of(*on_its_way)[0]) for of in missing)


def test_without_decode_the_first_token_is_the_end():
    requests = SEVERAL[0]
    assert latency.ttft_client_s(requests, None)[0] == latency.e2e_s(requests, None)[0] == 4.0
    assert all(np.isnan(of(requests, None)[0]) for of in (*AFTER_FIRST, latency.tpot_s))
