"""Write a fitted roofline as the text of a configuration file that names its data."""

from __future__ import annotations

import dataclasses
import textwrap

import yaml

from sbs_gym.timing.fit_report import FitReport, SystemFit

_ABOUT = (
    "Passes and decode steps of DeepSeek-V3/R1 on H800 GPUs with data-parallel attention and "
    "expert parallelism, as the sum of their kernels over 61 layers."
)
_ASSUMED = (
    "jitter",
    "skew_mean",
    "skew_rho",
    "skew_sigma",
    "dense_launch_s",
    "link_launch_s",
    "link_slowdown",
    "overlap_min_tokens",
    "compute_sms",
    "overhead_s",
    "decode_link_slowdown",
    "decode_overlap_min_tokens",
    "decode_default_skew",
    "expert_load",
)


def fit_to_yaml(report: FitReport) -> str:
    """Return the text of `conf/timing/<name>.yaml`: provenance first, then every number."""
    values = {
        field.name: _plain(getattr(report.config, field.name))
        for field in dataclasses.fields(report.config)
    }
    numbers = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)
    about = textwrap.indent(textwrap.fill(_ABOUT, 98), "  ")
    head = f"kind: {report.config.kind}\nabout: >-\n{about}\nsource: >-\n{_source(report)}\n"
    return head + numbers


def _source(report: FitReport) -> str:
    fitted = [s for s in report.systems if s.number]
    lines = (
        f"Fitted on {report.fitted_on} by `sbs-gym timing fit` to {report.num_fitted_rows} of "
        f"{report.kernels_rows} kernel rows (not in this repository; SHA-256 "
        f"{report.kernels_sha256}) and {len(fitted)} of {report.systems_rows} rows of "
        f"whole deployments (sbs_gym/timing/published.csv; SHA-256 {report.systems_sha256}).",
        "docs/timing.md names their sources, the formulas, and the errors kernel by kernel.",
        "Numbers that meet one whole pass or step each, in brackets the error there if they are "
        "fitted to all others instead:",
        *(f"  {_number(s)}" for s in fitted),
        f"Assumed, not fitted: {', '.join(_ASSUMED)}.",
        "`sbs-gym timing validate` compares with everything else that was published.",
    )
    wrapped = (
        textwrap.fill(line, 98, break_on_hyphens=False, subsequent_indent=line[: _indent(line)])
        for line in lines
    )
    return textwrap.indent("\n".join(wrapped), "  ")


def _number(fit: SystemFit) -> str:
    return f"{fit.number}: {fit.point.source}, {fit.point.label} ({fit.left_out_error:+.1%})"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
