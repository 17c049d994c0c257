"""Presets that are changed in their name, `sbs:placement=jsq`, on the command line."""

from __future__ import annotations

import pytest
from test_cli import told

from sbs_gym.compare import Comparison
from sbs_gym.report.tables import number_table, show
from sbs_gym.result import Result

SMALL = [
    "timing=linear", "cluster=toy", "cluster.chunk_tokens=3000", "cluster.prefill_kv_tokens=20000",
    "cluster.decode_kv_tokens=20000", "num_requests=60", "seeds=1",
]  # fmt: skip
NAMES = ["sbs:placement=jsq", "sbs:placement=round_robin:multiplier=0.5", "sbs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("variants")


@pytest.fixture(scope="module")
def loaded(folder):
    from sbs_gym.cli import main

    words = ["compare", f"schedulers=[{','.join(NAMES)}]", *SMALL, f"output_dir={folder}"]
    assert main(words) == 0
    return Comparison.load(folder)


def test_simulate_runs_a_changed_preset_under_its_name(capsys, tmp_path):
    words = ["simulate", f"scheduler={NAMES[1]}", *SMALL[:-1], f"output_dir={tmp_path}"]
    code, out, err = told(capsys, *words)
    assert code == 0, err
    assert NAMES[1] in out
    scheduler = Result.load(tmp_path).config.scheduler
    assert (scheduler.name, scheduler.placement, scheduler.multiplier) == (
        NAMES[1], "round_robin", 0.5,
    )  # fmt: skip


def test_compare_keeps_changed_presets_apart(loaded):
    assert list(loaded.configs) == NAMES
    assert loaded.reference == "sbs"
    placements = [config.scheduler.placement for config in loaded.configs.values()]
    assert placements == ["jsq", "round_robin", "iqr_lex"]
    assert [config.scheduler.name for config in loaded.configs.values()] == NAMES
    runs = loaded.runs.set_index("scheduler")
    assert runs.loc[NAMES[0], "ttft_mean_s"] != runs.loc[NAMES[1], "ttft_mean_s"]


def test_a_change_of_all_does_not_undo_the_change_of_one(capsys, tmp_path):
    words = ["compare", "schedulers=[sbs:placement=jsq,lpt]", *SMALL, "scheduler.placement=random"]
    assert told(capsys, *words, f"output_dir={tmp_path}")[0] == 0
    configs = Comparison.load(tmp_path).configs
    assert {name: c.scheduler.placement for name, c in configs.items()} == {
        "sbs:placement=jsq": "jsq", "lpt": "random",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name, told_",
    [
        ("sbss:placement=jsq", "Did you mean 'sbs'"),
        ("sbs:plcment=jsq", "Did you mean 'placement'"),
        ("sbs:placement=jsqq", "Did you mean 'jsq'"),
        ("sbs:placement", "changes nothing in a preset"),
    ],
)
def test_a_mistake_in_a_name_is_told_by_every_command(capsys, name, told_):
    one = [[command, f"scheduler={name}"] for command in ("simulate", "capacity")]
    several = [[command, f"schedulers=[lpt,{name}]"] for command in ("compare", "drain")]
    for words in one + several:
        code, out, err = told(capsys, *words)
        assert (code, out) == (2, "")
        assert told_ in err


def test_numbers_beside_long_names_are_never_cut(capsys):
    columns = ["scheduler", *(f"wide heading {k}" for k in range(7))]
    rows = [[name, *(f"{k}00.0" for k in range(1, 8))] for name in NAMES]
    show(number_table("a table", columns, rows))
    out = capsys.readouterr().out
    assert "…" not in out
    for k in range(1, 8):
        assert out.count(f"{k}00.0") == len(NAMES)
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "  placement=jsq" in out
