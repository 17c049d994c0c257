"""Every number of a timing changed: what is changed, what counts as a swap, what is printed."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from test_simulate import config

from sbs_gym import cells
from sbs_gym.commands.timing import run
from sbs_gym.config.timing import LinearTiming
from sbs_gym.errors import ConfigError
from sbs_gym.rankings import Measured, Ranking, Sensitivity
from sbs_gym.schema import load_config
from sbs_gym.timing.changes import changes
from sbs_gym.timing_sensitivity import sensitivity

SMALL = (
    "timing=linear", "cluster=toy", "cluster.num_decode=0", "placements=[]", "num_requests=60",
    "schedulers=[round_robin,sbs]", "seeds=2",
)  # fmt: skip


def ranking(*names, **changed):
    runs = {name: config(scheduler=name, num_requests=60, **changed) for name in names}
    return Ranking(
        name="ttft", metric="ttft_mean_s", configs=runs, subject=names[-1], bases=names[:-1]
    )


def test_every_number_of_the_roofline_is_changed_or_named():
    timing = load_config([]).timing
    made, left_out = changes(timing, 0.2)
    told = {one.parameter for one in (*made, *left_out)}
    assert told == {field.name for field in dataclasses.fields(timing)}
    assert len(made) + sum(one.factor is not None for one in left_out) == 2 * len(
        {one.parameter for one in made}
    )
    for change in made:
        differing = [name for name in told if getattr(timing, name) != getattr(change.timing, name)]
        assert differing == [change.parameter]


def test_tuples_are_scaled_whole_integers_rounded_and_of_a_skew_its_excess():
    timing = load_config([]).timing
    by = {(c.parameter, c.factor): c.timing for c in changes(timing, 0.2)[0]}
    rates = by["dispatch_bytes_per_s", 1.2].dispatch_bytes_per_s
    assert rates == pytest.approx([1.2 * rate for rate in timing.dispatch_bytes_per_s])
    assert by["overlap_min_tokens", 0.8].overlap_min_tokens == 819
    assert by["compute_sms", 1.2].compute_sms == 130
    assert by["skew_mean", 1.2].skew_mean == pytest.approx(1.12)


def test_what_cannot_be_changed_says_why():
    left_out = {(o.parameter, o.factor): o.reason for o in changes(load_config([]).timing, 0.2)[1]}
    assert "luck" in left_out["jitter_grid_s", None]
    assert left_out["expert_load", None] == "'mean' is no number"
    assert left_out["grouped_launch_s", None] == "it is 0"
    assert "expected a number in [0, 0.999999]" in left_out["skew_rho", 1.2]
    linear = {o.parameter: o.reason for o in changes(LinearTiming(), 0.2)[1]}
    assert linear["skew_rho"] == "skew_mean is 1: there is no skew"
    with pytest.raises(ConfigError, match=r"frac=1\.0"):
        changes(LinearTiming(), 1.0)


def found(before, after):
    """Return a sensitivity whose only change turns the TTFT `before` into `after`."""
    return Sensitivity(
        rankings={"ttft": ranking("round_robin", "sbs")},
        frac=0.2,
        num_seeds=3,
        unchanged={"ttft": Measured(values=before)},
        changed={("fixed_s", 1.2): {"ttft": Measured(values=after)}},
        left_out=[],
        num_runs=0,
        num_reused=0,
    )


def values(round_robin, sbs):
    return {"round_robin": np.array(round_robin), "sbs": np.array(sbs)}


SLOW, FAST, EITHER = [2.0, 2.1, 2.2], [1.0, 1.1, 1.15], [1.0, 2.6, 2.0]


def test_a_swap_needs_a_difference_on_both_sides():
    (swap,) = found(values(SLOW, FAST), values(FAST, SLOW)).swaps()
    assert (swap.was_better, swap.was_worse, swap.factor) == ("sbs", "round_robin", 1.2)
    assert swap.before[2] < 1 < swap.after[1]
    tie = found(values(SLOW, FAST), values(SLOW, EITHER))
    assert (tie.swaps(), tie.ties()) == ([], {("ttft", "sbs", "round_robin"): 1})
    apart = found(values(SLOW, EITHER), values(FAST, SLOW))
    assert (apart.swaps(), apart.ties()) == ([], {})


def test_loads_are_those_of_the_changed_timing_and_runs_are_found_again(tmp_path, monkeypatch):
    one = ranking("round_robin", "sbs", timing={"kind": "constant", "pass_s": 0.4})
    rates, finish = {}, cells._run_cell

    def counted(run, custom):
        done = finish(run, custom)
        rates[run.timing.pass_s] = done["summary"]["rate_per_s"]
        return done

    monkeypatch.setattr(cells, "_run_cell", counted)
    first = sensitivity([one], 2, output_dir=tmp_path)
    assert first.parameters == ["pass_s", "step_s"]
    assert rates[0.4] / rates[0.8 * 0.4] == pytest.approx(0.8, rel=0.02)
    monkeypatch.setattr(cells, "_run_cell", None)
    again = sensitivity([one], 2, output_dir=tmp_path)
    assert again.num_reused == again.num_runs == first.num_runs
    assert again.to_mapping()["changes"][0]["factor"] == 0.8
    for key, measured in first.changed.items():
        for rule, seeds in measured["ttft"].values.items():
            np.testing.assert_array_equal(seeds, again.changed[key]["ttft"].values[rule])


def test_the_command_prints_a_row_per_parameter_and_counts(capsys, tmp_path):
    run(["sensitivity", *SMALL, f"output={tmp_path / 'found.json'}"])
    out = capsys.readouterr().out
    row = next(line.split() for line in out.splitlines() if line.startswith("per_token_s"))
    assert row[-1] in ("yes", "no:", "TTFT")
    counted = out.partition("\nwritten to")[0].splitlines()
    assert counted[-1].endswith("changes by 20 %")
    assert max(map(len, counted)) <= 80
    told = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert {change["parameter"] for change in told["changes"]} >= {"fixed_s", "max_weight"}
    assert told["rankings"]["ttft"]["ratio"]["to_the_best_of"] == ["round_robin"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seeds=1"], r"seeds=1.*\[2, 10000\]"),
        (["frac=1.5"], r"frac=1\.5.*\[0\.001, 0\.9\]"),
        (["load=much"], r"load='much'.*\[0\.001, 10\]"),
        (["schedulers=[sbs]"], "at least two"),
        (["schedulers=[]"], "expected rules to rank"),
        (["placements=[jsq]"], r"placements='\[jsq\]'.*at least two"),
        (["placements=[jsq,iqr_lex]"], r"cluster\.num_decode=0"),
        (["scheduler=sbs"], "'scheduler=sbs' is what timing sensitivity sets"),
        (["timing.fixed=1"], "Did you mean 'fixed_s'"),
    ],
)
def test_mistakes_name_field_value_and_what_is_allowed(words, said):
    with pytest.raises(ConfigError, match=said):
        run(["sensitivity", *SMALL, *words])
