"""A user's own passes: what is read, what is refused, and what is fitted."""

import numpy as np
import pandas as pd
import pytest

from sbs_gym.config.timing import TableTiming
from sbs_gym.errors import TraceError
from sbs_gym.timing.model import build_timing
from sbs_gym.timing.passes import read_passes
from sbs_gym.timing.table import fit_table

HEADER = "start_s,duration_s,tokens,context\n"


def write(tmp_path, text):
    file = tmp_path / "passes.csv"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_lists_columns_and_parquet_read_alike(tmp_path):
    spaced = write(tmp_path, HEADER + "0,0.5,1 2,0 7\n1,0.25,3 0,8 0\n")
    first = read_passes(spaced)
    frame = pd.DataFrame(
        {
            "start_s": [0.0, 1.0],
            "duration_s": [0.5, 0.25],
            "tokens": [[1, 2], [3, 0]],
            "context": [[0, 7], [8, 0]],
        }
    )
    frame.to_parquet(tmp_path / "passes.parquet")
    split = tmp_path / "split.csv"
    split.write_text(
        "start_s,duration_s,tokens_0,tokens_1,context_0,context_1\n0,0.5,1,2,0,7\n1,0.25,3,0,8,0\n"
    )
    as_json = tmp_path / "json.csv"
    as_json.write_text(HEADER + '0,0.5,"[1, 2]","[0, 7]"\n1,0.25,"[3, 0]","[8, 0]"\n')
    for path in (tmp_path / "passes.parquet", split, as_json):
        other = read_passes(path)
        assert other.tokens.tolist() == first.tokens.tolist() == [[1, 2], [3, 0]]
        assert other.context.tolist() == first.context.tolist() == [[0, 7], [8, 0]]
        assert other.duration_s.tolist() == [0.5, 0.25]
    assert first.pairs().tolist() == [[1, 2 * 16], [3 * 19, 0]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("start_s,tokens\n0,1\n", ["duration_s", "missing"]),
        ("start_s,duration_s\n0,1\n", ["tokens", "missing"]),
        (HEADER, ["no passes"]),
        (HEADER + "0,0.5,1 2,0 0\n1,0,1 2,0 0\n", ["line 3", "duration_s", "above 0"]),
        (HEADER + "0,0.5,1 2,0 0\n1,fast,1 2,0 0\n", ["line 3", "duration_s", "fast"]),
        (HEADER + "0,0.5,1 two,0 0\n", ["line 2", "tokens", "two"]),
        (HEADER + "0,0.5,1 2,0 -1\n", ["line 2", "context", "-1"]),
        (HEADER + "0,0.5,,0 0\n", ["line 2", "tokens"]),
        (HEADER + "0,0.5,1 2,0 0\n1,0.5,1 2 3,0 0 0\n", ["line 3", "tokens", "3 ranks"]),
        (HEADER + "0,0.5,1 2,0\n", ["context", "as many ranks"]),
        (HEADER + "0,0.5,0 0,0 0\n", ["line 2", "without tokens"]),
        ("start_s,duration_s,tokens_0,tokens_2\n0,1,1,1\n", ["tokens_1"]),
        ("start_s,duration_s,tokens\n1,2,3,4,5\n1\n2,3,4,5,6,7\n", ["cannot be read"]),
    ],
)
def test_a_bad_file_is_refused_by_line_and_field(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        read_passes(path)
    for word in [path, *words]:
        assert word in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(TraceError, match=r"nowhere\.csv: no such file"):
        build_timing(TableTiming(path="nowhere.csv"), dp=2, ep=2, chunk_tokens=8)


def test_a_single_pass_is_too_little(tmp_path):
    path = write(tmp_path, HEADER + "0,0.5,1 2,0 0\n")
    with pytest.raises(TraceError, match="at least 2"):
        build_timing(TableTiming(path=path), dp=2, ep=2, chunk_tokens=8)


def exact_passes(tmp_path, with_context):
    rng = np.random.default_rng(3)
    lines = [HEADER if with_context else "start_s,duration_s,tokens\n"]
    for i in range(80):
        tokens = rng.integers(1, 3000, 4)
        context = rng.integers(0, 20000, 4) * with_context
        pairs = tokens * (2 * context + tokens) * with_context
        duration = 0.05 + 1e-4 * tokens.max() + 5e-5 * tokens.mean() + 8e-9 * pairs.max() / 2
        columns = [f"{i},{float(duration)!r},{' '.join(map(str, tokens))}"]
        columns += [" ".join(map(str, context))] * with_context
        lines.append(",".join(columns) + "\n")
    return write(tmp_path, "".join(lines))


def test_a_law_inside_the_model_is_found_and_carries_over_to_other_ranks(tmp_path):
    path = exact_passes(tmp_path, with_context=True)
    fit = fit_table(read_passes(path), 4)
    assert np.abs(fit.residuals).max() < 1e-6
    assert np.abs(fit.left_out).max() < 1e-3
    assert fit.pair_s == pytest.approx(8e-9, rel=1e-3)
    assert "80 passes" in fit.summary()
    model = build_timing(TableTiming(path=path), dp=2, ep=2, chunk_tokens=4000)
    tokens, context = np.array([1000, 500]), np.array([10000, 0])
    expected = 0.05 + 0.1 + 5e-5 * 750 + 8e-9 * 1000 * (20000 + 1000) / 2
    assert model.prefill_pass_s(tokens, context) == pytest.approx(expected, rel=1e-3)


def test_without_a_context_column_context_costs_nothing(tmp_path):
    path = exact_passes(tmp_path, with_context=False)
    model = build_timing(TableTiming(path=path), dp=4, ep=4, chunk_tokens=4000)
    assert model.coefficients[0].pair_cost_s == 0.0
    tokens = np.full(4, 700)
    assert model.prefill_pass_s(tokens, tokens * 50) == model.prefill_pass_s(tokens, tokens * 0)
