"""What `sbs-gym timing` prints of steps and validations, and the figure it draws."""

import json

import pytest

from sbs_gym.commands.timing import run
from sbs_gym.errors import ConfigError
from sbs_gym.timing.measurements import COLUMNS


def test_steps_are_a_table_of_requests_and_context(capsys):
    run(["steps", "timing=linear", "cluster.mtp_tokens=1", "cluster.tokens_per_step=1"])
    out = capsys.readouterr().out
    assert "steps of 32 ranks, tokens per request: 1, linear" in out
    # 16 requests of 4096 tokens: 22 + 16 * 0.12 + 65,536 * 27e-6 = 25.7 ms.
    row = next(line.split() for line in out.splitlines() if line.startswith("16 "))
    assert row[2] == "25.7"
    assert row[4] == "-"  # a million tokens do not fit


def test_a_validation_draws_the_same_figure_twice(capsys, tmp_path):
    for name in ("one.png", "two.png"):
        run(["validate", f"figure={tmp_path / name}"])
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert f"written to {tmp_path / 'two.png'}" in capsys.readouterr().out


def test_the_rest_names_every_row_without_a_prediction(capsys):
    run(["validate", "rows=rest"])
    out = capsys.readouterr().out
    assert "tokens accepted of multi-token prediction are not published" in out
    assert "eplb_balance_ratio_min: SGLang + Ant Group (H20)" in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_both_phases_of_ones_own_file_are_answered(capsys, tmp_path):
    cells = {"source": "mine", "gpu": "H800", "context_len": "4096", "unit": "ms"}
    cells |= {"ep": "32", "status": "measured", "metric": "iteration_time"}
    rows = (
        {"phase": "prefill", "tokens_per_rank": "2048", "value": "300"},
        {"phase": "decode", "tokens_per_rank": "64", "value": "50"},
        {"phase": "decode", "tokens_per_rank": "64", "value": "50", "metric": "mood"},
    )
    lines = [",".join((cells | row).get(name, "") for name in COLUMNS) for row in rows]
    file = tmp_path / "own.csv"
    file.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n", encoding="utf-8")
    run(["validate", f"path={file}", f"output={tmp_path / 'points.json'}"])
    assert "mine" in capsys.readouterr().out
    told = json.loads((tmp_path / "points.json").read_text(encoding="utf-8"))
    assert [p["predicted"] is not None for p in told["points"]] == [True, True, False]
    assert told["points"][2]["reason_if_not_predicted"] == "metric 'mood' is not understood"
    assert set(told["summary"]) == {"prefill", "decode"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["validate", "rows=none"], "rows='none'"),
        (["validate", "figure=/"], "directory"),
        (["stepss"], "steps"),
        (["steps", "timing=table", "timing.path=example_passes.csv"], "timing.steps_path"),
    ],
)
def test_a_word_that_cannot_be_is_refused(words, said):
    with pytest.raises(ConfigError, match=said):
        run(words)
