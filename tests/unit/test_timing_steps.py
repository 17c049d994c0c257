"""A user's own decode steps: what is read, what is refused, and what is fitted."""

import numpy as np
import pytest

from sbs_gym.config.timing import TableTiming
from sbs_gym.errors import ConfigError, TraceError
from sbs_gym.timing.decode import build_decode_timing
from sbs_gym.timing.steps import fit_steps, read_steps

HEADER = "start_s,duration_s,batch_max,kv_tokens_max\n"


def write(tmp_path, text, name="steps.csv"):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_largest_ranks_and_all_ranks_read_alike(tmp_path):
    largest = read_steps(write(tmp_path, HEADER + "0,0.05,2,70\n1,0.06,3,80.5\n"))
    ranks = "start_s,duration_s,batch,kv_tokens\n0,0.05,1 2,70 7\n1,0.06,3 0,80 0\n"
    columns = "start_s,duration_s,batch_0,batch_1,kv_tokens_0,kv_tokens_1\n0,0.05,1,2,70,7\n"
    for text, count in ((ranks, 2), (columns, 1)):
        steps = read_steps(write(tmp_path, text))
        assert steps.batch.tolist() == largest.batch.tolist()[:count]
        assert steps.kv_tokens.tolist() == [70.0, 80.0][:count]
        assert steps.duration_s.tolist() == [0.05, 0.06][:count]
    assert largest.kv_tokens.tolist() == [70.0, 80.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("start_s,batch_max,kv_tokens_max\n0,1,1\n", ["duration_s", "missing"]),
        ("start_s,duration_s,kv_tokens_max\n0,1,1\n", ["batch_max", "missing"]),
        ("start_s,duration_s,batch_max\n0,1,1\n", ["kv_tokens_max", "missing"]),
        (HEADER, ["no steps"]),
        (HEADER + "0,0.5,1,1\n1,0,1,1\n", ["line 3", "duration_s"]),
        (HEADER + "0,0.5,1,-1\n", ["line 2", "kv_tokens_max", "negative"]),
        (HEADER + "0,0.5,many,1\n", ["line 2", "batch_max", "many"]),
        (HEADER + "0,0.5,0,1\n", ["line 2", "without requests"]),
    ],
)
def test_a_bad_file_is_refused_by_line_and_field(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        read_steps(path)
    for word in [path, *words]:
        assert word in str(caught.value)


def test_a_law_inside_the_model_is_found(tmp_path):
    rng = np.random.default_rng(5)
    lines = [HEADER]
    for i in range(80):
        batch, kv = int(rng.integers(1, 200)), float(rng.integers(0, 400_000))
        lines.append(f"{i},{0.02 + 1e-4 * batch + 3e-8 * kv!r},{batch},{kv}\n")
    path = write(tmp_path, "".join(lines))
    fit = fit_steps(read_steps(path), 4)
    assert np.abs(fit.residuals).max() < 1e-6
    assert fit.kv_token_s == pytest.approx(3e-8, rel=1e-3)
    assert "80 steps" in fit.summary()
    config = TableTiming(path="example_passes.csv", steps_path=path, steps_num_knots=4)
    model = build_decode_timing(config, dp=3, ep=3, q_tokens=1, max_requests=512)
    taken = model.step_s(np.array([50, 0, 20]), np.array([1000.0, 0.0, 90_000.0]))
    assert taken == pytest.approx(0.02 + 0.005 + 0.0027, rel=1e-3)
    assert model.coefficients[0].request_cost_s == pytest.approx(1e-4, rel=1e-2)


def test_a_single_step_is_too_little(tmp_path):
    path = write(tmp_path, HEADER + "0,0.05,2,70\n")
    with pytest.raises(TraceError, match="at least 2"):
        fit_steps(read_steps(path), 4)


@pytest.mark.parametrize("bad", ["", 3])
def test_a_steps_path_that_is_no_path_is_refused(bad):
    with pytest.raises(ConfigError, match=r"timing\.steps_path"):
        TableTiming(path="example_passes.csv", steps_path=bad)
