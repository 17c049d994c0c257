"""Capacity of decode as a fluid, by hand; both sides together; what a load then means."""

import dataclasses
import math

import numpy as np
import pytest

from sbs_gym.capacity import (
    capacities,
    capacity_requests_per_s,
    decode_fill_frac,
    decode_timing_for,
    decode_warm_up_s,
)
from sbs_gym.config.run import run_from_mapping
from sbs_gym.decode_capacity import decode_capacity, decode_demand, fill_frac, steps_needed
from sbs_gym.errors import ConfigError
from sbs_gym.simulate import measured_run
from sbs_gym.timing.memory import kv_room
from sbs_gym.types import RequestTable


def config(*, prompt=10, answer=18, timing="constant", cluster=None, **changes):
    # Two prefill instances and one decode instance of two ranks with 250 blocks of 4 tokens each.
    toy = {"name": "toy", "num_prefill": 2, "prefill_dp": 2, "chunk_tokens": 10, "num_decode": 1}
    toy |= {"decode_dp": 2, "prefill_kv_tokens": 1000, "decode_kv_tokens": 1000}
    toy |= {"kv_block_tokens": 4, "decode_reserve_tokens": 8}
    timings = {
        "constant": {"kind": "constant", "pass_s": 0.1, "step_s": 0.02},
        "linear": {
            "kind": "linear", "fixed_s": 0.1, "per_token_s": 0.01, "max_weight": 1.0,
            "decode_fixed_s": 0.02, "decode_per_request_s": 0.001, "decode_per_kv_token_s": 0.0001,
        },
    }  # fmt: skip
    workload = {
        "name": "fixed",
        "input_tokens": {"family": "constant", "value_tokens": prompt},
        "output_tokens": {"family": "constant", "value_tokens": answer},
    }
    parts = {"workload": workload, "arrivals": "poisson", "scheduler": "sbs"}
    return run_from_mapping(
        {"cluster": toy | (cluster or {}), "timing": timings[timing], **parts, **changes}
    )


def requests(prompts, answers):
    return RequestTable(
        arrived_at_s=np.zeros(len(prompts)),
        input_tokens=np.array(prompts, dtype=np.int32),
        output_tokens=np.array(answers, dtype=np.int32),
        name="by hand",
    )


@pytest.mark.parametrize("rate", [1.0, 1.7, 1.85, 2.0])
def test_steps_are_the_fewest_that_give_the_answer(rate):
    tokens = np.arange(1, 3000)
    steps = steps_needed(tokens, rate)
    assert (np.floor(steps * rate) >= tokens).all()
    assert ((np.floor((steps - 1) * rate) < tokens) | (steps == 1)).all()


def test_demand_of_one_request_is_counted_step_by_step():
    # Answer of 18 at 1.7 tokens a step: 10 steps, before which 1, 2, 4, 6, 7, 9, 11, 12, 14, 16
    # tokens are there. With the prompt of 10 and at least 18 in all: 5, 5, 5, 5, 5, 5, 6, 6, 6, 7
    # blocks of 4. Context: 11 + 1.7 k, k from 0 to 9.
    demand = decode_demand(requests([10], [18]), config().cluster)
    assert demand.steps == 10
    assert demand.steps_per_token == pytest.approx(10 / 17)
    assert demand.kv_blocks == pytest.approx(5.5)
    assert demand.context_tokens == pytest.approx(11 + 1.7 * 4.5)


def test_requests_weigh_in_a_batch_by_their_steps():
    without = {"mtp_tokens": 1, "tokens_per_step": 1.0}
    demand = decode_demand(requests([10, 100], [4, 2]), config(cluster=without).cluster)
    assert demand.steps == 2  # 3 and 1
    assert demand.context_tokens == pytest.approx((11 + 12 + 13 + 101) / 4)
    assert demand.kv_blocks == pytest.approx((3 * 5 + 27) / 4)


def test_requests_without_decode_leave_room_for_others():
    cluster = config().cluster
    half = decode_demand(requests([10, 10], [18, 1]), cluster)
    assert half.decode_frac == 0.5
    timing = decode_timing_for(cluster, config().timing)
    whole = decode_demand(requests([10], [18]), cluster)
    rates = [decode_capacity(one, cluster, timing, 0.05).requests_per_s for one in (half, whole)]
    assert rates[0] == pytest.approx(2 * rates[1])


def test_requests_that_are_rejected_at_arrival_do_not_decode():
    # 1,001 tokens fit no prefill rank; 900 + 101 no decode rank.
    demand = decode_demand(requests([10, 1001, 900], [18, 18, 101]), config().cluster)
    assert demand.decode_frac == pytest.approx(1 / 3)
    assert decode_demand(requests([10, 1001], [1, 18]), config().cluster) is None


def test_constant_steps_are_filled_until_the_room_is():
    # 250 blocks hold 45.4 requests of 5.5 blocks; 0.9 of that are 40 whole ones on each of 2 ranks.
    found = capacities(config()).decode
    assert found.batch == 40
    assert found.limited_by == "kv"
    assert found.kv_held_frac == pytest.approx(40 * 5.5 / 250)
    assert found.tpot_s == pytest.approx(0.02 * 10 / 17)
    assert found.requests_per_s == pytest.approx(2 * 40 / (10 * 0.02))


def test_the_most_running_requests_of_a_rank_are_a_bound_too():
    found = capacities(config(cluster={"max_requests_per_rank": 8})).decode
    assert (found.batch, found.limited_by) == (8, "batch")


def test_linear_steps_are_filled_until_the_slo():
    # One token a step, answers of 5: 4 steps, mean context 12.5, so that a step of b requests takes
    # 20 + b (1 + 1.25) ms and TPOT is one step: 13 requests in 50 ms.
    without = {"mtp_tokens": 1, "tokens_per_step": 1.0}
    found = capacities(config(answer=5, timing="linear", cluster=without)).decode
    assert (found.batch, found.limited_by, found.meets_slo) == (13, "slo", True)
    assert found.step_s == found.tpot_s == pytest.approx(0.04925)
    assert found.requests_per_s == pytest.approx(2 * 13 / (4 * 0.04925))
    assert found.infeasible(0.05) is None


def test_an_slo_that_no_rate_meets_is_said_so_and_leaves_a_load_defined():
    without = {"mtp_tokens": 1, "tokens_per_step": 1.0}
    one = config(answer=5, timing="linear", cluster=without, slo={"tpot_s": 0.021})
    found = capacities(one).decode
    assert not found.meets_slo
    assert found.least_tpot_s == pytest.approx(0.02225)
    assert found.limited_by == "kv"
    assert found.requests_per_s > 0
    assert "one request per rank already takes 0.02225 s" in found.infeasible(0.021)


def test_a_rank_too_small_for_one_request_in_nine_tenths_is_used_in_part():
    found = capacities(config(prompt=950)).decode
    held = np.ceil((950 + np.maximum(8, 1 + np.floor(1.7 * np.arange(10)))) / 4).mean()
    assert found.batch == pytest.approx(0.9 * 250 / held)
    assert found.requests_per_s == pytest.approx(2 * found.batch / (10 * 0.02))


def test_prefill_capacity_is_the_same_with_decode():
    with_decode, without = config(), config(cluster={"num_decode": 0})
    rates = [
        capacity_requests_per_s(c.cluster, c.workload, c.timing) for c in (with_decode, without)
    ]
    assert rates[0] == rates[1]
    assert math.isnan(capacities(without).decode_requests_per_s)
    assert capacities(without).requests_per_s == rates[0]
    assert capacities(without).bottleneck == "prefill"


def test_load_is_of_the_side_that_is_asked_for():
    both = capacities(config(load_side="bottleneck"))  # prefill 40 requests/s, decode 400
    assert both.bottleneck == "prefill"
    assert both.requests_per_s == both.prefill_requests_per_s
    assert capacities(config(load_side="decode")).requests_per_s == pytest.approx(400)
    slow = capacities(config(answer=900))
    assert slow.bottleneck == "decode"
    assert slow.requests_per_s == slow.decode_requests_per_s < slow.prefill_requests_per_s
    named = capacities(config(answer=900, load_side="prefill"))
    assert named.requests_per_s == named.prefill_requests_per_s


def test_a_side_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"load_side='decode'.*cluster\.num_decode=0"):
        config(cluster={"num_decode": 0}, load_side="decode")
    with pytest.raises(ConfigError, match="load_side='both'"):
        config(load_side="both")
    with pytest.raises(ConfigError, match="no request of 'fixed' decodes"):
        capacities(config(answer=1, load_side="decode"))
    assert capacities(config(answer=1)).decode is None


def test_a_simulated_load_of_decode_fills_that_share_of_the_batch():
    # Little's law at constant steps: requests that run = rate * steps * seconds of a step.
    one = config(
        answer=900, cluster={"decode_kv_tokens": 10_000}, load=0.7, load_side="decode",
        num_requests=1000, scheduler="round_robin",
    )  # fmt: skip
    found = capacities(one).decode
    summary = measured_run(one).summary
    assert summary["load_decode_frac"] == pytest.approx(0.7)
    assert summary["bottleneck"] == "decode"
    assert summary["batch_mean"] == pytest.approx(0.7 * found.batch, rel=0.1)
    assert summary["tpot_mean_s"] == pytest.approx(found.tpot_s, rel=0.02)


def test_decode_fills_up_as_long_as_requests_stay():
    # Requests stay 10 s: after 5 s half of them are there, from 10 s on all.
    stay = np.full(3, 10.0)
    assert fill_frac(stay, 5.0, 5.0) == pytest.approx(0.5)
    assert fill_frac(stay, 0.0, 10.0) == pytest.approx(0.5)
    assert fill_frac(stay, 10.0, 50.0) == 1.0
    # Of 1 s and 9 s, after 3 s: (1 + 3) / (1 + 9).
    assert fill_frac(np.array([1.0, 9.0]), 3.0, 3.0) == pytest.approx(0.4)


def test_a_window_that_is_too_early_for_long_answers_is_known(tmp_path):
    # Answers of 900 tokens take 529 steps of 0.02 s, 10.58 s, and a trace begins when it begins.
    path = tmp_path / "trace.csv"
    rows = [f"{k},10,900\n" for k in range(4)]
    path.write_text("arrived_at_s,input_tokens,output_tokens\n" + "".join(rows))
    one = config(workload={"kind": "trace", "name": "trace", "path": str(path)})
    assert decode_fill_frac(one, 1.0, 106) >= 0.99
    early = decode_fill_frac(one, 1.0, 10)  # the window from 1 s to 10 s
    assert early == pytest.approx(5.5 / 10.58)
    assert math.isnan(decode_fill_frac(config(cluster={"num_decode": 0}), 1.0, 10))


def test_measuring_begins_when_constant_steps_have_filled_decode():
    # The number that decodes grows in proportion to time: 95 % of 10.58 s.
    one = config(answer=900)
    assert decode_warm_up_s(one) == pytest.approx(0.95 * 10.58, rel=0.001)
    assert decode_warm_up_s(one) >= 0.95 * 10.58
    assert decode_fill_frac(one, 1.0, 10) > 0.95
    assert decode_warm_up_s(config(answer=1)) == 0.0
    assert decode_warm_up_s(config(cluster={"num_decode": 0})) == 0.0
    # Of 1 to 100 steps, equally likely: E[min(K, t)] = t - t t / 200, 0.95 of 50 at t = 77.6.
    answers = {"family": "uniform", "low_tokens": 2, "high_tokens": 101}
    prompts = {"family": "constant", "value_tokens": 10}
    mixed = {"name": "mixed", "input_tokens": prompts, "output_tokens": answers}
    without = {"mtp_tokens": 1, "tokens_per_step": 1.0}
    even = config(workload=mixed, cluster=without)
    assert decode_warm_up_s(even) == pytest.approx(0.02 * 100 * (1 - 0.05**0.5), rel=0.02)


def test_answers_that_are_rejected_do_not_fill_decode():
    # On a rank of 1,000 tokens only answers up to 990 fit beside a prompt of 10.
    answers = {"family": "uniform", "low_tokens": 2, "high_tokens": 3000}
    prompts = {"family": "constant", "value_tokens": 10}
    mixed = {"name": "mixed", "input_tokens": prompts, "output_tokens": answers}
    without = {"mtp_tokens": 1, "tokens_per_step": 1.0}
    one = config(workload=mixed, cluster=without)
    assert decode_warm_up_s(one) == pytest.approx(0.02 * 990 * (1 - 0.05**0.5), rel=0.03)


def test_a_measured_run_is_as_long_as_without_and_begins_later():
    one = config(answer=900, rate_per_s=10.0, num_requests=50, scheduler="round_robin")
    first = math.ceil(10.0 * decode_warm_up_s(one))  # 101 instead of 5
    requests = measured_run(one).requests
    assert np.flatnonzero(requests["measured"]).tolist() == list(range(first, first + 45))
    assert len(requests) == first + 45 + 45
    long = dataclasses.replace(one, num_requests=2000)
    assert np.flatnonzero(measured_run(long).requests["measured"])[0] == 200


def test_a_measured_run_over_a_horizon_begins_later_too():
    one = config(answer=900, rate_per_s=10.0, horizon_s=20.0, scheduler="round_robin")
    warm_s = decode_warm_up_s(one)
    requests = measured_run(one).requests
    arrived = requests["arrived_at_s"]
    inside = (arrived >= warm_s) & (arrived < warm_s + 18.0)
    assert (requests["measured"] == inside).all()
    assert arrived.max() == pytest.approx(warm_s + 36.0, abs=1.0)


def test_room_beside_the_weights_of_the_default_decode_rank():
    # 80 GB less 8 GB of reserve and 39.3 GB of weights (EP32: 8 experts of 256 on each GPU), by
    # 70,272 bytes a token.
    from sbs_gym.config.cluster import ClusterConfig

    room = kv_room(ClusterConfig(), "decode")
    assert room.experts_per_gpu == 8
    assert room.kv_tokens == 465_360
    left = 80e9 - 8e9 - room.weight_bytes
    assert room.kv_tokens == int(left // 70_272)
