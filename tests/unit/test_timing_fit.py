"""The shipped roofline is what its fit yields, and its errors are what it says."""

import hashlib
import math
from pathlib import Path

import pytest
import yaml

from sbs_gym.config.timing import timing_from_mapping
from sbs_gym.errors import ConfigError
from sbs_gym.timing.fit import fit_timing
from sbs_gym.timing.measurements import PUBLISHED, read_measurements
from sbs_gym.timing.provenance import fit_to_yaml
from sbs_gym.timing.validate import fitted_points

ROOT = Path(__file__).parents[2]
CALIBRATION = ROOT / ".." / "shared" / "calibration"
KERNELS, SYSTEMS = CALIBRATION / "kernels.csv", CALIBRATION / "systems.csv"
SHIPPED = ROOT / "conf" / "timing" / "roofline.yaml"
needs_calibration = pytest.mark.skipif(
    not KERNELS.is_file(), reason="the calibration files are not beside the checkout"
)


@pytest.fixture(scope="module")
def report():
    return fit_timing(KERNELS, PUBLISHED, fitted_on="2000-01-01")


@needs_calibration
def test_a_refit_reproduces_the_shipped_parameters_and_checksums(report):
    shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    again = yaml.safe_load(fit_to_yaml(report))
    for name, value in shipped.items():
        if name not in ("kind", "about", "source", "expert_load"):
            assert again[name] == pytest.approx(value, rel=1e-3)
    assert list(again) == list(shipped)
    for file in (KERNELS, PUBLISHED):
        assert hashlib.sha256(file.read_bytes()).hexdigest() in shipped["source"].replace(" ", "")


@needs_calibration
def test_errors_meet_their_aims_or_are_known_not_to(report):
    mean_error = {group.name: group.mean_error for group in report.groups}
    assert all(mean_error[name] < 0.05 for name in ("grouped", "core", "shared_expert", "expert"))
    assert all(mean_error[name] < 0.05 for name in ("decode_attention", "ll_dispatch", "ll_node"))
    assert all(mean_error[name] < 0.07 for name in ("masked", "decode_core"))
    assert mean_error["dense"] < 0.12
    assert all(abs(fit.error) < 0.005 for fit in report.systems if fit.number)
    assert all(abs(fit.left_out_error) < 0.17 for fit in report.systems)


@needs_calibration
def test_three_numbers_meet_one_figure_each_and_the_rest_is_predicted(report):
    fitted = [fit for fit in report.systems if fit.number]
    assert {fit.number for fit in fitted} == {
        "overlap_softness",
        "default_skew",
        "decode_overhead_s",
    }
    assert len(fitted) == 3
    for phase, points in (("prefill", 6), ("decode", 9)):
        errors = [abs(f.error) for f in report.systems if f.point.phase == phase and not f.number]
        assert len(errors) == points
        assert sum(errors) / points < 0.08
        assert max(errors) < 0.15


def test_numbers_without_their_figure_keep_where_the_search_begins(tmp_path):
    rows = [
        r for r in read_measurements(PUBLISHED) if r.phase == "prefill" and "DeepSeek" in r.source
    ]
    assert list(fitted_points(rows)) == ["overlap_softness"]
    assert fitted_points([]) == {}


@needs_calibration
def test_rows_are_kept_out_with_a_reason_and_checks_fit_nothing(report):
    dense = next(group for group in report.groups if group.name == "dense")
    assert (dense.num_rows, dense.kept_out) == (63, {"K = 65536: no DeepSeek shape": 7})
    for group in report.groups:
        assert group.name.startswith("check_") == (not group.parameters)
    assert len(report.systems) == 18
    checked = sum(group.num_rows for group in report.groups if not group.parameters)
    assert sum(report.kept_out.values()) + checked == report.kernels_rows - report.num_fitted_rows


@needs_calibration
def test_the_summary_fits_80_columns_and_names_every_group_and_source(report):
    text = report.summary()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "left out" in text
    flat = " ".join(text.split())
    for group in report.groups:
        assert all(f"{count} x {source}" in flat for source, count in group.sources.items())


@needs_calibration
def test_the_page_on_timing_shows_these_errors(report):
    assert report.summary() in (ROOT / "docs" / "timing.md").read_text(encoding="utf-8")


@needs_calibration
def test_groups_without_spare_rows_report_no_left_out_error(report):
    link = next(group for group in report.groups if group.name == "link")
    assert math.isnan(link.left_out_mean_error)
    assert len(link.errors) == len(link.parameters) == 6


@needs_calibration
def test_the_published_systems_are_the_calibration_rows_and_six_more():
    shipped = PUBLISHED.read_text(encoding="utf-8")
    assert shipped.startswith(SYSTEMS.read_text(encoding="utf-8"))
    assert len(read_measurements(PUBLISHED)) == len(read_measurements(SYSTEMS)) + 6


@needs_calibration
def test_the_written_text_is_a_timing_again(report):
    assert timing_from_mapping(yaml.safe_load(fit_to_yaml(report))) == report.config


def test_a_file_without_kernels_is_refused_by_group():
    with pytest.raises(ConfigError, match="kernel group 'dense'"):
        fit_timing(PUBLISHED, PUBLISHED)
