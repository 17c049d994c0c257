"""Decode against what can be worked out by hand: step times, batches and rates of ranks alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.timing import ConstantTiming, LinearTiming, TimingConfig
from sbs_gym.decode_capacity import decode_capacity, decode_demand
from sbs_gym.schedulers.driver import run
from sbs_gym.sim.records import RunRecords
from sbs_gym.timing.decode import build_decode_timing
from sbs_gym.timing.model import build_timing
from sbs_gym.types import RequestTable

from .runs import preset

PROMPT = 100
LINEAR = LinearTiming(
    fixed_s=1e-4, per_token_s=1e-7, decode_fixed_s=0.02, decode_per_request_s=0.0005,
    decode_per_kv_token_s=1e-6,
)  # fmt: skip


@dataclass(frozen=True)
class Deployment:
    """Prefill and link that take next to no time, and decode ranks with room for all."""

    timing: TimingConfig
    ranks: int = 1
    tokens_per_step: float = 1.7
    max_requests: int = 256

    @property
    def cluster(self) -> ClusterConfig:
        """What the requests run on."""
        return ClusterConfig(
            num_prefill=1,
            prefill_dp=self.ranks,
            chunk_tokens=100_000,
            dispatch_delay_s=0.0,
            signal_delay_s=0.0,
            num_decode=1,
            decode_dp=self.ranks,
            nic_bytes_per_s=1e14,
            transfer_latency_s=0.0,
            report_period_s=0.01,
            prefill_kv_tokens=10_000_000,
            decode_kv_tokens=10_000_000,
            max_requests_per_rank=self.max_requests,
            max_step_tokens=2 * self.max_requests,
            tokens_per_step=self.tokens_per_step,
        )

    @property
    def decode_timing(self):
        """Seconds of a step of all ranks."""
        c = self.cluster
        return build_decode_timing(
            self.timing, dp=c.decode_dp, ep=c.decode_dp, q_tokens=2, max_requests=c.max_running
        )

    def run(self, requests: RequestTable, placement: str = "round_robin") -> RunRecords:
        """Run with immediate releases."""
        c = self.cluster
        timing = build_timing(
            self.timing, dp=c.prefill_dp, ep=c.prefill_dp, chunk_tokens=c.chunk_tokens
        )
        scheduler = preset("round_robin", placement=placement)
        return run(requests, c, scheduler, timing, seed=0, decode_timing=self.decode_timing)

    def fluid(self, requests: RequestTable, tpot_slo_s: float = 10.0):
        """Return the decode capacity for such requests."""
        demand = decode_demand(requests, self.cluster)
        return decode_capacity(demand, self.cluster, self.decode_timing, tpot_slo_s)


def evenly(rate_per_s: float, count: int, answer: int) -> RequestTable:
    """Equal requests at equal distances."""
    return RequestTable(
        arrived_at_s=(1.0 + np.arange(count)) / rate_per_s,
        input_tokens=np.full(count, PROMPT, dtype=np.int32),
        output_tokens=np.full(count, answer, dtype=np.int32),
        name="theory",
    )


def steady(records: RunRecords) -> np.ndarray:
    """Steps of the middle of the arrivals, when decode is full and arrivals go on."""
    arrived = records.requests["arrived_at_s"]
    begin, end = np.quantile(arrived, [0.5, 0.9])
    steps = records.steps
    return steps[(steps["started_at_s"] >= begin) & (steps["ended_at_s"] <= end)]


def mean_batch(steps: np.ndarray, ranks: int) -> float:
    """Running requests of a rank, over time."""
    seconds = steps["ended_at_s"] - steps["started_at_s"]
    return float((steps["batch_sum"] * seconds).sum() / seconds.sum() / ranks)


def finished_per_s(records: RunRecords) -> float:
    """Answers that ended per second in the same part."""
    begin, end = np.quantile(records.requests["arrived_at_s"], [0.5, 0.9])
    at = records.decode["finished_at_s"]
    return float(((at >= begin) & (at < end)).sum() / (end - begin))


@pytest.mark.parametrize("rate, answer, steps", [(1.0, 2001, 2000), (1.5, 3001, 2000)])
def test_a_constant_step_takes_each_answer_its_steps_and_tpot_is_one_over_the_rate(
    rate, answer, steps
):
    # A step of 1/64 s adds up without rounding. One rank, 40 requests side by side.
    step_s = 1.0 / 64.0
    small = Deployment(ConstantTiming(pass_s=step_s / 16, step_s=step_s), tokens_per_step=rate)
    records = small.run(evenly(2.0, 40, answer))
    decode, first = records.decode, records.requests["first_token_at_s"]
    assert (decode["finished_at_s"] - decode["admitted_at_s"] == steps * step_s).all()
    # Before the first step a request waits for at most the step that runs.
    waited = decode["admitted_at_s"] - first
    assert (waited >= 0.0).all()
    assert (waited <= step_s + 1e-6).all()
    tpot_s = (decode["finished_at_s"] - first) / (answer - 1)
    assert (tpot_s >= step_s / rate).all()
    assert (tpot_s <= step_s / rate * (1.0 + 1.001 / steps)).all()


def test_a_step_takes_as_long_for_one_request_as_for_many_if_it_is_constant():
    step_s = 1.0 / 64.0
    timing = ConstantTiming(pass_s=step_s / 16, step_s=step_s)
    for count in (1, 30):
        records = Deployment(timing).run(evenly(1000.0, count, 100))
        taken = records.steps["ended_at_s"] - records.steps["started_at_s"]
        assert taken == pytest.approx(np.full(len(taken), step_s), rel=1e-9)


@pytest.mark.parametrize("rate, answer", [(1.0, 200), (1.7, 400)])
def test_ranks_alike_hold_the_batch_and_rate_of_the_fluid(rate, answer):
    # At the rate where TPOT of the fluid is what 40 requests per rank take.
    four = Deployment(LINEAR, ranks=4, tokens_per_step=rate)
    one = evenly(1.0, 1, answer)
    demand = decode_demand(one, four.cluster)
    step_s = 0.02 + 40 * (0.0005 + 1e-6 * demand.context_tokens)
    found = four.fluid(one, (step_s + 1e-9) * demand.steps_per_token)
    assert (found.batch, found.limited_by) == (40, "slo")
    assert found.requests_per_s == pytest.approx(4 * 40 / (demand.steps * step_s))
    requests = evenly(found.requests_per_s, 2500, answer)
    records = four.run(requests)
    steps = steady(records)
    assert mean_batch(steps, 4) == pytest.approx(found.batch, rel=0.02)
    assert finished_per_s(records) == pytest.approx(found.requests_per_s, rel=0.02)
    seconds = steps["ended_at_s"] - steps["started_at_s"]
    assert seconds.mean() == pytest.approx(found.step_s, rel=0.02)
    decode = records.decode
    tpot_s = (decode["finished_at_s"] - decode["admitted_at_s"]) / (answer - 1)
    assert tpot_s[1250:2250].mean() == pytest.approx(found.tpot_s, rel=0.02)


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_below_capacity_the_batch_is_where_rate_and_step_agree(load):
    # b = rate K s(b) / ranks with s(b) = f + b g: b = x f / (1 - x g), x = rate K / ranks.
    four = Deployment(LINEAR, ranks=4, tokens_per_step=1.0)
    answer = 200
    demand = decode_demand(evenly(1.0, 1, answer), four.cluster)
    grows_s = 0.0005 + 1e-6 * demand.context_tokens
    rate = load * 4 / (demand.steps * grows_s)  # of what no batch is enough for
    per_rank = rate * demand.steps / 4
    batch = per_rank * 0.02 / (1.0 - per_rank * grows_s)
    records = four.run(evenly(rate, 4000, answer))
    assert mean_batch(steady(records), 4) == pytest.approx(batch, rel=0.02)
    assert finished_per_s(records) == pytest.approx(rate, rel=0.02)


def test_overload_gives_the_rate_of_the_fluid_at_the_most_running_requests():
    four = Deployment(LINEAR, ranks=4, max_requests=16)
    found = four.fluid(evenly(1.0, 1, 300))
    assert (found.batch, found.limited_by) == (16, "batch")
    records = four.run(evenly(2.0 * found.requests_per_s, 3000, 300))
    assert mean_batch(steady(records), 4) == pytest.approx(16.0)
    assert finished_per_s(records) == pytest.approx(found.requests_per_s, rel=0.02)


def test_equal_answers_stay_even_by_number_and_gather_in_cohorts_by_tokens():
    # A rank of old requests holds many tokens: all new ones go to another, grow old together and
    # leave together, and then it is the one that gets all. By number ranks differ by one request.
    four = Deployment(LINEAR, ranks=4)
    requests = evenly(13.0, 2500, 400)
    largest = {}
    for placement in ("jsq", "iqr_lex", "total_tokens"):
        steps = steady(four.run(requests, placement))
        largest[placement] = float((4 * steps["batch_max"] / steps["batch_sum"]).mean())
    assert largest["jsq"] < 1.03
    assert largest["iqr_lex"] < 1.03
    assert largest["total_tokens"] > 1.15


def test_the_bubble_of_one_busy_rank_of_four_is_three_quarters():
    four = Deployment(LINEAR, ranks=4)
    steps = four.run(evenly(1.0, 1, 100)).steps
    bubble = 1.0 - steps["cost_sum_s"] / (4 * steps["cost_max_s"])
    assert bubble == pytest.approx(np.full(len(steps), 0.75))
