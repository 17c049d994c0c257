"""Chapters from runs that a reader can check by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from sbs_gym.reproduce.panels import RUN_COLUMNS, Panel
from sbs_gym.reproduce.ratios import best_immediate, named, ratio_over_loads
from sbs_gym.reproduce.sheets import changes_frame
from sbs_gym.reproduce.studies.ablations import ablations_of
from sbs_gym.reproduce.studies.capacity_table import RATE
from sbs_gym.reproduce.studies.queueing import Queueing
from sbs_gym.reproduce.studies.throughput import Throughput
from sbs_gym.reproduce.studies.ttft_qps import TtftQps
from sbs_gym.reproduce.study import Saved

IMMEDIATE = ("round_robin", "least_tokens")
LOADS = (0.5, 0.9)


def runs(ttft_s, panel="short", loads=LOADS, grew=(), **metrics):
    """Rows of runs: scheduler to TTFT, a number or one per load; three seeds 1 % apart."""
    rows = []
    for name, values in ttft_s.items():
        per_load = values if isinstance(values, tuple) else (values,) * len(loads)
        for load, value in zip(loads, per_load, strict=True):
            for seed in range(3):
                row = dict.fromkeys(RUN_COLUMNS, math.nan)
                row |= {"panel": panel, "load": load, "scheduler": name, "seed": seed}
                row |= {"family": "immediate" if name in IMMEDIATE else "gated"}
                row |= {"immediate": name in IMMEDIATE, "rate_per_s": 100 * load}
                row |= {"overloaded": (name, load) in grew}
                row["ttft_mean_s"] = value * (1 + 0.01 * seed)
                rows.append(row | metrics)
    return pd.DataFrame(rows)


def saved(tmp_path, **tables):
    return Saved(directory=tmp_path, tables=tables)


def panel(**changes):
    given = {"name": "short", "title": "short prompts", "schedulers": ("round_robin", "sbs")}
    return Panel(**{**given, "seeds": 3, "loads": LOADS, **changes})


def verdicts(chapter):
    return {claim.id: claim.verdict for claim in chapter.claims}


# Ratios


def test_the_ratio_over_loads_is_the_geometric_mean_of_paired_ratios():
    found = ratio_over_loads(runs({"round_robin": (1.0, 2.0), "sbs": (0.5, 0.25)}), "sbs", _rr)
    assert found.value == pytest.approx(math.sqrt(0.5 * 0.125))
    assert (found.low, found.high) == pytest.approx((found.value, found.value))  # no spread
    assert found.loads == [0.5, 0.9]


def test_the_best_immediate_scheduler_is_chosen_load_by_load():
    rows = runs({"round_robin": (1.0, 4.0), "least_tokens": (2.0, 2.0), "sbs": (0.5, 1.0)})
    found = ratio_over_loads(rows, "sbs", best_immediate)
    assert found.bases == {0.5: "round_robin", 0.9: "least_tokens"}
    assert found.value == pytest.approx(0.5)
    assert best_immediate(rows[rows["scheduler"] == "sbs"]) is None


def test_a_load_without_a_steady_mean_is_left_out():
    ttft_s = {"round_robin": (1.0, 50.0), "sbs": (0.5, 0.5)}
    found = ratio_over_loads(runs(ttft_s, grew={("round_robin", 0.9)}), "sbs", _rr)
    assert (found.value, found.loads, found.left_out) == (pytest.approx(0.5), [0.5], (0.9,))
    nothing = ratio_over_loads(
        runs(ttft_s, grew={("sbs", 0.5), ("round_robin", 0.9)}), "sbs", best_immediate
    )
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.reduction().low)


def test_changes_hold_every_load_and_the_mean_over_them():
    frame = changes_frame(runs({"round_robin": (1.0, 2.0), "sbs": (0.5, 0.5)}), best_immediate)
    of = frame[frame["scheduler"] == "sbs"]
    assert of["ratio"].tolist() == pytest.approx([0.5, 0.25, math.sqrt(0.125)])
    assert of["load"].tolist()[:2] == [0.5, 0.9]
    assert np.isnan(of["load"].tolist()[2])


# Verdicts of chapters


@pytest.mark.parametrize(
    "sbs_s, expected",
    [(0.65, "holds"), (0.8, "falls short"), (0.5, "exceeds"), (1.2, "falls short")],
)
def test_a_changed_ttft_changes_the_verdict(tmp_path, sbs_s, expected):
    rows = runs({"round_robin": 1.0, "sbs": sbs_s})
    chapter = TtftQps(panels=[panel()]).tell(saved(tmp_path, runs=rows))
    assert set(verdicts(chapter).values()) == {expected}
    assert f"the claim {expected}" in chapter.paragraphs[0]


def test_where_a_claim_holds_is_told_load_by_load(tmp_path):
    rows = runs({"round_robin": 1.0, "sbs": (0.65, 0.9)})
    claim = TtftQps(panels=[panel()]).tell(saved(tmp_path, runs=rows)).claims[0]
    assert claim.where == "holds at load 0.5; falls short at load 0.9"
    assert claim.measured.value == pytest.approx(1 - math.sqrt(0.65 * 0.9))


def test_an_overloaded_place_is_named_and_does_not_count(tmp_path):
    rows = runs({"round_robin": (1.0, 90.0), "sbs": 0.65}, grew={("round_robin", 0.9)})
    chapter = TtftQps(panels=[panel()]).tell(saved(tmp_path, runs=rows))
    assert chapter.claims[0].measured.value == pytest.approx(0.35)
    assert "no steady mean at load 0.9" in chapter.claims[0].where
    assert len(chapter.left_out) == 1
    assert "load 0.9: round_robin" in chapter.left_out[0]
    level = next(sheet for sheet in chapter.sheets if sheet.name == "ttft_short")
    assert level.rows[0][2].endswith("*")


@pytest.mark.parametrize("sbs, expected", [(117, "holds"), (130, "exceeds"), (101, "falls short")])
def test_throughput_compares_with_the_best_immediate_scheduler(tmp_path, sbs, expected):
    rates = {"round_robin": 90, "least_tokens": 100, "sbs": sbs}
    rows = runs(dict.fromkeys(rates, 1.0), loads=(math.nan,), chunk_utilisation_frac=0.5)
    rows = rows.assign(outcome="found", fluid_per_s=200.0)
    rows[RATE] = rows["scheduler"].map(rates) * (1 + 0.01 * rows["seed"])
    for name in ("ttft_attainment_frac", "tpot_attainment_frac"):
        rows[name] = 0.9
    study = Throughput(panels=[panel(loads=())], placements=[])
    chapter = study.tell(saved(tmp_path, capacity=rows))
    assert verdicts(chapter)["throughput_short_best"] == expected
    assert verdicts(chapter)["throughput_short_round_robin"] == "exceeds" or sbs == 101
    assert verdicts(chapter)["utilisation_short_at_slo"] == "falls short"  # the same utilisation
    assert "against least_tokens" in chapter.claims[0].sentence


def test_a_scheduler_without_a_rate_in_a_seed_counts_for_nothing(tmp_path):
    rows = runs({"round_robin": 1.0, "least_tokens": 1.0, "sbs": 1.0}, loads=(math.nan,))
    rows = rows.assign(outcome="found", fluid_per_s=200.0)
    rows[RATE] = rows["scheduler"].map({"round_robin": 90, "least_tokens": 100, "sbs": 110.0})
    rows.loc[(rows["scheduler"] == "least_tokens") & (rows["seed"] == 1), RATE] = math.nan
    for name in ("ttft_attainment_frac", "tpot_attainment_frac"):
        rows[name] = 0.9
    chapter = Throughput(panels=[panel(loads=())], placements=[]).tell(
        saved(tmp_path, capacity=rows)
    )
    assert chapter.claims[0].against.startswith("round_robin")
    assert chapter.claims[0].measured.value == pytest.approx(110 / 90 - 1)
    assert chapter.left_out == ["short prompts: least_tokens, 1 seeds without a rate (found)"]
    assert chapter.sheets[0].rows[1][1] == "-"


@pytest.mark.parametrize("wait_s, expected", [(0.2, "holds"), (0.21, "differs")])
def test_a_wait_beside_theory_is_judged_by_four_standard_errors(tmp_path, wait_s, expected):
    words = {"timing": "constant", "timing.pass_s": 0.4, "cluster.num_decode": 0}
    gate = panel(name="gate", schedulers=("round_robin",), loads=(), words=words)
    rows = runs({"round_robin": 0.6}, panel="gate", loads=(1.0,), engine_wait_mean_s=0.0)
    rows["buffer_wait_mean_s"] = wait_s + 0.001 * (rows["seed"] - 1)
    study = Queueing(panels=[gate], laws={"gate": "one_gate"})
    chapter = study.tell(saved(tmp_path, runs=rows))
    assert verdicts(chapter) == {"queueing_gate": expected}
    assert chapter.sheets[0].frame["theory_s"].tolist() == [0.2]


def test_an_ablation_is_compared_with_immediate_dispatch_and_with_the_unchanged(tmp_path):
    study = ablations_of(
        {
            "immediate": list(IMMEDIATE),
            "loads": list(LOADS),
            "seeds": 3,
            "bases": {"base": {"title": "as it is"}},
            "changes": [
                {"ablation": "window", "name": "none", "scheduler": "work_conserving"},
                {"ablation": "instances", "name": "1", "words": {"cluster.num_prefill": 1}},
            ],
        }
    )
    assert [one.name for one in study.panels] == ["base", "change_01"]
    base = {"round_robin": 1.0, "least_tokens": 2.0, "sbs": 0.5, "work_conserving": 0.6}
    rows = pd.concat(
        [
            runs(base, panel="base"),
            runs({"round_robin": 4.0, "least_tokens": 2.0, "sbs": 1.0}, panel="change_01"),
        ]
    )
    frame = study.tell(saved(tmp_path, runs=rows)).sheets[0].frame.set_index("ablation")
    assert frame["ratio_to_immediate"].tolist() == pytest.approx([0.5, 0.6, 0.5])
    assert frame["ratio_to_unchanged"].tolist()[1:] == pytest.approx([1.2, 2.0])
    assert frame["immediate"].tolist() == ["round_robin", "round_robin", "least_tokens"]
    grown = (rows["panel"] == "change_01") & (rows["load"] == 0.9) & (rows["scheduler"] == "sbs")
    rows.loc[grown, ["overloaded", "ttft_mean_s"]] = (True, 99.0)
    chapter = study.tell(saved(tmp_path, runs=rows))
    assert len(chapter.left_out) == 1
    assert chapter.left_out[0].startswith("instances, 1: load 0.9, where sbs")
    changed = chapter.sheets[0].frame.iloc[2]
    assert changed["ttft_mean_s"] == pytest.approx(1.01)  # of the steady load alone
    assert changed["ratio_to_immediate"] == pytest.approx(0.5)


_rr = named("round_robin")
