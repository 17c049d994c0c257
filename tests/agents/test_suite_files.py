"""What a suite and a list of policies may say, and what they are told if they may not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agents.suite.beside import overload_cells, shift_cells
from agents.suite.cells import suite_cells
from agents.suite.policies import read_policies
from agents.suite.reading import load_suite
from sbs_gym.errors import ConfigError


@pytest.fixture(scope="module")
def v1():
    return load_suite("v1")


def weights(path, **meta):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, meta=np.array(json.dumps({"task": "SBS/Window", "kind": "mlp", **meta})))
    return str(path)


def test_v1_has_sixty_cells_a_path_and_trains_on_none_of_what_it_keeps_for_the_test(v1):
    cells = suite_cells(v1, ["prefill"], "all")
    train = suite_cells(v1, ["prefill"], "train")
    test = suite_cells(v1, ["prefill"], "test")
    assert (len(cells), len(train), len(test)) == (60, 24, 36)
    assert len({cell.key for cell in cells}) == 60
    for cell in train:
        assert cell.workload in ("sbs_short", "sbs_long", "azure_conv_like")
        assert cell.arrivals in ("poisson", "gamma")
    first = cells[0].config
    assert first.cluster.num_decode == 0
    assert first.timing.kind == "linear"
    assert suite_cells(v1, ["full"], "train")[0].config.timing.kind == "roofline"


def test_the_load_of_the_bursty_cells_is_that_of_their_high_state(v1):
    cells = suite_cells(v1, ["prefill"], "test")
    arrivals = next(cell for cell in cells if cell.arrivals == "mmpp2_half").config.arrivals
    # rate_per_s, which load sets, is the rate of the peak: sbs_gym/config/arrivals.py.
    assert (arrivals.family, arrivals.low_frac) == ("mmpp2", 0.5)
    assert (arrivals.dwell_low_s, arrivals.dwell_high_s) == (60.0, 20.0)


def test_shifts_of_the_fixed_time_keep_the_time_of_a_full_chunk(v1):
    cells = [cell for cell, change in shift_cells(v1) if change.fixed_s is not None]
    assert sorted({cell.fixed_s for cell in cells}) == [0.02, 0.06, 0.12, 0.15]
    for cell in cells:
        timing = cell.config.timing
        full_s = timing.fixed_s + timing.per_token_s * cell.config.cluster.chunk_tokens
        assert full_s == pytest.approx(0.06 + 3072 / 6500)
        assert timing.fixed_s == cell.fixed_s


def test_overload_peaks_for_ten_seconds_of_every_minute(v1):
    peak = next(cell for cell in overload_cells(v1) if cell.arrivals == "peak_each_minute")
    arrivals = peak.config.arrivals
    assert peak.config.load == max(arrivals.profile) == 1.3
    assert arrivals.slot_s * len(arrivals.profile) == 60.0
    assert arrivals.profile.count(1.3) * arrivals.slot_s == 10.0


@pytest.mark.parametrize(
    "name, words, told",
    (
        ("v2", [], "suite='v2' is not known. Known: v1"),
        ("none.yaml", [], "is not there"),
        ("v1", ["part=tset"], "suite.part='tset' is not known. Did you mean 'test'"),
        ("v1", ["pat=full"], "suite.pat: key"),
        ("v1", ["admission.cv_below=-1"], "suite.admission.cv_below=-1 is out of range"),
        ("v1", ["path=decode"], "suite.path='decode' is not known"),
        ("v1", ["splits.test=[5]"], "expected [first, last] seed"),
        ("v1", ["part=[train"], "suite='v1'"),
    ),
)
def test_mistakes_in_a_suite_are_named_with_what_is_known(name, words, told):
    with pytest.raises(ConfigError) as problem:
        load_suite(name, words)
    assert told in str(problem.value)


def test_words_become_presets_agents_and_groups(tmp_path):
    a, b = (weights(tmp_path / f"{name}.npz") for name in "ab")
    found = read_policies(f"[sbs,sbs:multiplier=0,static_cell,{a},{{pair: [{a}, {b}]}}]")
    assert [policy.name for policy in found] == [
        "sbs",
        "sbs:multiplier=0",
        "static_cell",
        a,
        "pair",
    ]
    assert found[3].words == (f"learned:{a}",)
    assert found[4].words == (f"learned:{a}", f"learned:{b}")
    assert found[4].tasks == ("SBS/Window",)


def test_trainings_of_one_experiment_are_one_policy(tmp_path):
    for seed in (0, 1):
        weights(tmp_path / f"run{seed}" / "policy.npz")
        (tmp_path / f"run{seed}" / "config.yaml").write_text(f"name: ppo\nseed: {seed}\n")
    found = read_policies(f"[{tmp_path}/run0,sbs,{tmp_path}/run1]")
    assert [(policy.name, len(policy.words)) for policy in found] == [("ppo", 2), ("sbs", 1)]


def test_trainings_beside_the_shipped_agent_of_their_experiment_get_a_name(tmp_path):
    for seed in (0, 1):
        weights(tmp_path / f"run{seed}" / "policy.npz")
        (tmp_path / f"run{seed}" / "config.yaml").write_text(f"name: window_ppo\nseed: {seed}\n")
    found = read_policies(f"[{tmp_path}/run0,window_ppo,{tmp_path}/run1]")
    assert [policy.name for policy in found] == ["window_ppo:trained", "window_ppo"]
    assert [len(policy.words) for policy in found] == [2, 1]
    assert [one.name for one in read_policies(f"[sbs,{tmp_path}/run0]")] == ["sbs", "window_ppo"]


def test_agents_play_where_their_task_is_and_on_clusters_of_their_shape(tmp_path, v1):
    shape = {"num_prefill": 3, "prefill_dp": 16}
    mlp = read_policies(f"[{weights(tmp_path / 'm.npz', shape=shape)}]")[0]
    sets = read_policies(f"[{weights(tmp_path / 's.npz', shape=shape, kind='set')}]")[0]
    assert mlp.paths(v1, ["prefill", "full"]) == ["prefill"]
    shifted = {cell.change: cell.config.cluster for cell, _ in shift_cells(v1)}
    assert "prefill_dp=16, not 32" in mlp.cannot_play(shifted["DP32"])
    assert "num_prefill=3, not 5" in mlp.cannot_play(shifted["5 instances"])
    assert mlp.cannot_play(shifted["roofline"]) == ""
    assert sets.cannot_play(shifted["DP32"]) == ""


@pytest.mark.parametrize(
    "text, told",
    (
        ("[]", "is empty"),
        ("[sbz]", "policies='sbz' is not known. Did you mean 'sbs'"),
        ("[sbs,sbs]", "names 'sbs' twice"),
        ("[learned:none]", "policies: agent='none' is not known"),
        ("[./none.npz]", "is not there"),
        ("[./none]", "is no weights file"),
        ("[{a: sbs}]", "expected trained agents"),
        ("[{a}]", "is no group"),
        ("[sbs,[a]", "brackets do not match"),
    ),
)
def test_mistakes_in_policies_are_named(text, told):
    with pytest.raises(ConfigError) as problem:
        read_policies(text)
    assert told in str(problem.value)


def test_a_file_that_is_no_weights_file_is_refused(tmp_path):
    (tmp_path / "a.npz").write_text("no archive")
    np.savez(tmp_path / "b.npz", meta=np.array("{}"))
    for name, told in (("a", "is no weights file"), ("b", "names no task")):
        with pytest.raises(ConfigError, match=told):
            read_policies(f"[{tmp_path}/{name}.npz]")
