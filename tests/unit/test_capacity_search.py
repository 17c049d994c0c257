"""Which rates a search tries, and the rate at which a scheduler keeps its SLO."""

import dataclasses
import json
import math

import pytest

from sbs_gym.config.run import run_from_mapping
from sbs_gym.errors import ConfigError
from sbs_gym.rate_search import RateSearch
from sbs_gym.simulate import measured_run
from sbs_gym.slo_capacity import find_capacity, why_not


def searched(true_per_s, guess_per_s=100.0, tolerance_frac=0.01):
    """A search whose target is met up to `true_per_s`."""
    search = RateSearch(guess_per_s=guess_per_s, target_frac=0.9, tolerance_frac=tolerance_frac)
    while (rate := search.next_per_s) is not None:
        assert search.outcome == "open"
        assert search.num_left >= 1
        search = search.told(rate, 0.95 if rate <= true_per_s else 0.5)
    assert search.num_left == 0
    return search


@pytest.mark.parametrize("true_per_s", [1.5, 20.0, 69.9, 70.0, 71.0, 99.0, 100.0, 400.0, 1500.0])
def test_a_search_ends_within_its_tolerance_below_the_truth(true_per_s):
    search = searched(true_per_s)
    assert search.outcome == "found"
    assert search.rate_per_s <= true_per_s < search.rate_per_s * 1.0101
    assert search.high_per_s <= search.rate_per_s * 1.01
    assert len(search.tried) <= 25


def test_a_search_begins_at_seven_tenths_of_the_guess_and_goes_where_it_must():
    assert [round(rate, 4) for rate, _ in searched(80.0, tolerance_frac=0.2).tried] == [
        70.0, 87.5, 78.2624
    ]  # fmt: skip
    assert [rate for rate, _ in searched(30.0, tolerance_frac=0.5).tried][:3] == [70, 35, 17.5]


def test_what_is_missed_next_to_no_load_is_infeasible_and_never_zero():
    search = searched(0.5)
    assert search.outcome == "infeasible"
    assert search.rate_per_s is None
    assert search.shown_per_s == 1.0  # a hundredth of the guess
    summary = {"slo_attainment_frac": 0.5, "ttft_attainment_frac": 1.0, "tpot_attainment_frac": 0.5}
    told = why_not(search, summary)
    assert "no rate meets the SLO" in told
    assert "50.0 % of requests meet it and 90 % are asked for" in told
    assert "TTFT is met by 100.0 %, TPOT is met by 50.0 %" in told


def test_what_is_always_met_has_no_rate_either():
    search = searched(1e9)
    assert search.outcome == "unbounded"
    assert search.rate_per_s is None
    assert "20 times capacity" in why_not(search, {})


def test_a_share_that_is_not_known_misses_the_target():
    search = RateSearch(guess_per_s=100.0, target_frac=0.9, tolerance_frac=0.01)
    assert search.told(70.0, math.nan).next_per_s == 35.0


def config(scheduler="sbs", **changes):
    # One engine of two ranks, every pass 0.1 s and whole prompts: 20 requests/s at most.
    engine = {"num_prefill": 1, "prefill_dp": 2, "chunk_tokens": 10}
    return run_from_mapping(
        {
            "cluster": engine | {"dispatch_delay_s": 0.0, "signal_delay_s": 0.0},
            "workload": {
                "name": "whole_chunks",
                "input_tokens": {"family": "constant", "value_tokens": 10},
                "output_tokens": {"family": "constant", "value_tokens": 1},
            },
            "arrivals": "poisson",
            "timing": {"kind": "constant", "pass_s": 0.1},
            "scheduler": scheduler,
            "slo": {"ttft_s": 0.5},
            "num_requests": 1000,
        }
        | changes
    )


@pytest.fixture(scope="module")
def found():
    configs = {name: config(name) for name in ("round_robin", "sbs")}
    return find_capacity(configs, 2, tolerance_frac=0.02)


def test_the_rate_found_keeps_the_slo_and_the_next_one_does_not(found):
    assert found.fluid_per_s == pytest.approx(20, rel=0.01)
    for (name, seed), search in found.searches.items():
        assert search.outcome == "found"
        for rate, keeps in ((search.rate_per_s, True), (search.high_per_s, False)):
            one = dataclasses.replace(config(name), seed=seed, rate_per_s=rate)
            attained = measured_run(one).summary["slo_attainment_frac"]
            assert (attained >= 0.9) == keeps


def test_rates_of_several_seeds_have_an_interval_and_a_ratio_paired_by_seed(found):
    rates = {name: [one.rate_per_s for one in found.of(name)] for name in found.configs}
    mean, low, high = found.interval("sbs")
    assert mean == pytest.approx(sum(rates["sbs"]) / 2)
    assert low < mean < high
    ratio, _, _ = found.ratio("sbs", "round_robin")
    by_seed = [a / b for a, b in zip(rates["sbs"], rates["round_robin"], strict=True)]
    assert ratio == pytest.approx(math.sqrt(by_seed[0] * by_seed[1]))
    assert found.ratio("sbs", "sbs")[0] == 1.0
    assert 0.5 * found.fluid_per_s < mean < 1.05 * found.fluid_per_s


def test_an_infeasible_slo_has_neither_rate_nor_ratio():
    tight = find_capacity({"sbs": config(slo={"ttft_s": 0.05})}, 1)
    (search,) = tight.of("sbs")
    assert search.outcome == "infeasible"
    assert all(math.isnan(value) for value in (*tight.interval("sbs"), *tight.ratio("sbs", "sbs")))
    assert tight.mean("sbs", "slo_attainment_frac") == 0.0


def test_finished_runs_are_taken_from_the_folder(tmp_path):
    again = [
        find_capacity({"sbs": config()}, seeds, tolerance_frac=0.1, output_dir=tmp_path)
        for seeds in (1, 1, 2)
    ]
    assert again[0].num_reused == 0
    assert again[1].num_reused == again[1].num_runs == again[0].num_runs
    assert again[2].num_reused == again[0].num_runs < again[2].num_runs
    again[2].save(tmp_path)
    saved = json.loads((tmp_path / "capacity.json").read_text())
    assert saved["schedulers"]["sbs"]["requests_per_s"] == pytest.approx(
        again[2].interval("sbs")[0]
    )
    seeds = saved["schedulers"]["sbs"]["seeds"]
    assert [one["seed"] for one in seeds] == [0, 1]
    assert len(seeds[0]["tried"]) == again[0].num_runs
    with pytest.raises(ConfigError, match="another configuration"):
        find_capacity({"sbs": config(num_requests=999)}, 1, output_dir=tmp_path)


@pytest.mark.slow
def test_processes_find_the_same():
    configs = {name: config(name) for name in ("round_robin", "sbs")}
    one, two = (find_capacity(configs, 1, tolerance_frac=0.2, jobs=jobs) for jobs in (1, 2))
    assert one.searches == two.searches


def test_runs_that_name_a_rate_or_differ_are_refused():
    with pytest.raises(ConfigError, match="the rate is what is searched"):
        find_capacity({"sbs": config(load=0.5)}, 1)
    with pytest.raises(ConfigError, match="more than the scheduler"):
        find_capacity({"a": config(), "b": config(seed=1)}, 1)


def test_progress_ends_with_all_runs_done():
    told = []
    found = find_capacity(
        {"sbs": config()}, 1, tolerance_frac=0.1, progress=lambda *done: told.append(done)
    )
    assert told[-1] == (found.num_runs, found.num_runs)
    assert all(done <= total for done, total in told)
