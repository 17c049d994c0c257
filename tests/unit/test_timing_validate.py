"""Published figures against a model: every row answered, units converted, bad files named."""

import json
from pathlib import Path

import pytest
import yaml

from sbs_gym.config.timing import LinearTiming, timing_from_mapping
from sbs_gym.errors import TraceError
from sbs_gym.timing.measurements import COLUMNS, PUBLISHED, read_measurements
from sbs_gym.timing.model import build_timing
from sbs_gym.timing.validate import validate

CONF = Path(__file__).parents[2] / "conf" / "timing"
ROOFLINE = timing_from_mapping(yaml.safe_load((CONF / "roofline.yaml").read_text("utf-8")))
KEYS = {
    "source",
    "gpu",
    "scored",
    "measured_s",
    "predicted_s",
    "phase",
    "metric",
    "label",
    "url",
    "unit",
    "measured",
    "predicted",
    "relative_error",
    "fitted",
    "reason_if_not_predicted",
}


@pytest.fixture(scope="module")
def published():
    return validate(ROOFLINE)


def one(tmp_path, timing=ROOFLINE, **cells):
    """Return the only point of a file with one row."""
    base = {
        "source": "mine",
        "gpu": "H800",
        "phase": "prefill",
        "ep": "16",
        "tokens_per_rank": "2048",
        "context_len": "2048",
        "metric": "iteration_time",
        "value": "300",
        "unit": "ms",
        "status": "measured",
        "note": "skew=1",
    } | cells
    file = tmp_path / "own.csv"
    row = ",".join(base.get(name, "") for name in COLUMNS)
    file.write_text(",".join(COLUMNS) + "\n" + row + "\n", encoding="utf-8")
    return validate(timing, file).points[0]


def test_every_published_row_has_a_prediction_or_a_reason(published):
    assert len(published.points) == len(read_measurements(PUBLISHED))
    for point in json.loads(published.to_json())["points"]:
        assert set(point) == KEYS
        assert (point["predicted"] is None) == bool(point["reason_if_not_predicted"])
        assert (point["predicted"] is None) == (point["relative_error"] is None)


def test_fitted_figures_are_kept_apart_and_within_five_percent(published):
    fitted = [point for point in published.points if point.fitted]
    assert len(fitted) == 5  # three runs; two of them also as a rate
    assert all(abs(point.relative_error) < 0.05 for point in fitted)
    text = published.summary()
    scored = text.index("not fitted, scored (15 rows)")
    assert text.index("fitted to these: no evidence (5 rows)") < scored
    assert "gain by overlap, EP32" in text[scored:]
    assert max(len(line) for line in text.splitlines()) <= 80


def test_the_summary_is_the_mean_and_the_worst_of_the_scored_rows(published):
    summary = json.loads(published.to_json())["summary"]
    for phase, score in summary.items():
        errors = [abs(p.relative_error) for p in published.points if p.scored and p.phase == phase]
        assert len(errors) == score["num_points"]
        assert score["mean_error"] == pytest.approx(sum(errors) / len(errors))
        assert abs(score["worst_error"]) == max(errors)
        assert score["mean_error"] < 0.08
        assert max(errors) < 0.15
    assert set(summary) == {"prefill", "decode"}


def test_a_run_counts_once_and_other_gpus_never(published):
    scored = [point for point in published.points if point.scored]
    sglang = [p for p in scored if p.source.startswith("SGLang") and p.label.endswith("EP72, 256")]
    assert [p.metric for p in sglang] == ["throughput_per_node", "itl"]  # not the step time too
    h200 = next(p for p in published.points if p.gpu == "H200" and p.metric == "tpot")
    assert h200.predicted is not None
    assert not h200.scored
    assert not any(p.fitted for p in scored)


def test_a_profile_without_stated_acceptance_has_no_rate(published):
    reasons = {p.reason_if_not_predicted for p in published.points if p.phase == "decode"}
    assert "tokens accepted of multi-token prediction are not published" in reasons


def test_a_model_is_judged_like_its_configuration(published):
    model = build_timing(ROOFLINE, dp=16, ep=16, chunk_tokens=1024)
    assert validate(model) == published


def test_nothing_is_fitted_in_a_linear_model_and_overlap_is_not_its_subject():
    report = validate(LinearTiming())
    assert not any(point.fitted for point in report.points)
    reasons = {point.reason_if_not_predicted for point in report.points}
    assert "timing.kind=linear does not model two-batch overlap or layers" in reasons


def test_units_convert_by_the_unit_column(tmp_path):
    values = (("0.3", "s"), ("300", "ms"), ("300000", "us"))
    points = [one(tmp_path, value=value, unit=unit) for value, unit in values]
    for point in points:
        assert point.measured == pytest.approx(0.3)
        assert point.relative_error == pytest.approx(points[0].relative_error)
        assert not point.fitted


def test_a_rate_is_tokens_over_the_time_of_the_same_pass(tmp_path):
    time = one(tmp_path)
    rate = one(tmp_path, metric="throughput_per_node", value="50000", unit="tok/s")
    assert rate.predicted == pytest.approx(8 * 2048 / time.predicted)


def step_row(tmp_path, **cells):
    """Return the only point of a file with one decode step: 64 requests of 4096 tokens."""
    base = {"phase": "decode", "ep": "32", "tokens_per_rank": "64", "context_len": "4096"}
    return one(tmp_path, **(base | {"value": "50"} | cells))


def test_figures_of_a_step_are_its_time_in_other_words(tmp_path):
    many = {"tokens_per_rank": "128"}  # enough for two-batch overlap
    time = step_row(tmp_path, **many)
    cells = many | {"metric": "throughput_per_node", "value": "9000", "unit": "tok/s"}
    assert step_row(tmp_path, **cells).predicted == pytest.approx(8 * 128 / time.predicted)
    assert step_row(tmp_path, **many, metric="tpot").predicted == time.predicted
    layers = step_row(tmp_path, **many, metric="time_61_layers")
    assert time.predicted - layers.predicted == pytest.approx(ROOFLINE.decode_overhead_s)
    alone = step_row(tmp_path, **many, metric="iteration_time_no_overlap")
    assert alone.predicted > time.predicted
    gain = many | {"metric": "tbo_speedup", "value": "1.1", "unit": "ratio"}
    assert step_row(tmp_path, **gain).predicted == pytest.approx(alone.predicted / time.predicted)


def test_with_proposed_tokens_a_rate_needs_the_accepted_ones(tmp_path):
    cells = {"tokens_per_rank": "128", "batch_per_rank": "64", "unit": "tok/s"}
    cells |= {"metric": "throughput_per_gpu", "value": "1800"}
    assert "not published" in step_row(tmp_path, **cells).reason_if_not_predicted
    counted = step_row(tmp_path, **cells, note="skew=1; accept_tokens=1.5")
    time = step_row(tmp_path, **(cells | {"metric": "iteration_time", "unit": "ms"}))
    assert counted.predicted == pytest.approx(64 * 1.5 / time.predicted)
    too_many = step_row(tmp_path, **cells, note="accept_tokens=2.5")
    assert "out of range" in too_many.reason_if_not_predicted


def test_a_linear_step_is_compared_too(tmp_path):
    point = step_row(tmp_path, timing=LinearTiming())
    assert point.predicted == pytest.approx(0.022 + 64 * 0.00012 + 64 * 4096 * 2.7e-8)


def test_a_file_of_kernels_is_answered_row_by_row():
    report = validate(ROOFLINE, PUBLISHED)
    assert all(p.predicted or p.reason_if_not_predicted for p in report.points)


def test_the_skew_of_a_row_is_read_from_its_note_or_metric(tmp_path):
    noted, balanced, default = (
        one(tmp_path, note="skew=1"),
        one(tmp_path, note="balanced routing"),
        one(tmp_path, note=""),
    )
    assert noted.predicted == balanced.predicted < default.predicted
    assert "skew='much'" in one(tmp_path, note="skew=much").reason_if_not_predicted


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"metric": "happiness"}, "metric 'happiness' is not understood"),
        ({"gpu": "H20"}, "GPU 'H20' is not modelled"),
        ({"gpu": "H100"}, "GPU 'H100' is not modelled"),
        ({"phase": "decode", "gpu": "H100", "ep": "8"}, "below EP16: another NVLink"),
        ({"phase": "decode", "batch_per_rank": "3"}, "no multiple of batch_per_rank"),
        ({"phase": "decode", "metric": "iteration_time_balanced", "ep": ""}, "not stated"),
        ({"metric": "mla_decode_core_time"}, "a single kernel"),
        ({"metric": "itl"}, "'itl' is no prefill figure"),
        ({"phase": "both"}, "prefill and decode together"),
        ({"ep": ""}, "not stated"),
        ({"dp": "8"}, "attention over several GPUs"),
        ({"unit": "tok/s"}, "unit 'tok/s' does not fit"),
        ({"status": "quoted"}, "not a measurement"),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(tmp_path, cells, reason):
    point = one(tmp_path, **cells)
    assert point.predicted is None
    assert reason in point.reason_if_not_predicted


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"unit": "furlong"}, ["line 2", "unit", "furlong", "ms"]),
        ({"value": "fast"}, ["line 2", "value", "fast"]),
        ({"value": "-3"}, ["line 2", "value"]),
        ({"ep": "many"}, ["line 2", "ep", "many"]),
    ],
)
def test_a_bad_cell_is_refused_by_line_and_field(tmp_path, cells, words):
    with pytest.raises(TraceError) as caught:
        one(tmp_path, **cells)
    for word in words:
        assert word in str(caught.value)


def test_a_bad_file_is_refused(tmp_path):
    short = tmp_path / "short.csv"
    short.write_text("source,metric\na,b\n", encoding="utf-8")
    with pytest.raises(TraceError, match="'url': column is missing"):
        validate(ROOFLINE, short)
    with pytest.raises(TraceError, match="no such file"):
        validate(ROOFLINE, tmp_path / "none.csv")


def test_a_range_is_read_as_its_middle():
    rows = {row.metric: row for row in read_measurements(PUBLISHED)}
    assert rows["tbo_speedup_range_same_tokens"].value == pytest.approx(1.31)


def test_the_page_states_the_scores_that_the_command_prints(published):
    page = (CONF.parents[1] / "docs" / "timing.md").read_text(encoding="utf-8")
    for score in published.scores().values():
        worst = f"{100 * score.worst_error:+.1f}".replace("-", "−")
        runs = f"{score.num_points} runs, worst {worst} %"
        assert runs in " ".join(page.split())
        assert f"{100 * score.mean_error:.1f} %" in page
