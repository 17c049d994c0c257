"""Write a fitted roofline as the text of a configuration file that names its data."""

from __future__ import annotations

import dataclasses
import textwrap

import yaml

from sbs_gym.timing.fit_report import FitReport, SystemFit

_ABOUT = (
    "Passes of DeepSeek-V3/R1 on H800 GPUs with data-parallel attention and expert parallelism, as "
    "the sum of their kernels over 61 layers."
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
    tokens = " and ".join(str(n) for n in sorted({s.point.tokens_per_rank for s in report.systems}))
    lines = (
        f"Fitted on {report.fitted_on} by `sbs-gym timing fit` to {report.num_fitted_rows} of "
        f"{report.kernels_rows} kernel rows (not in this repository; SHA-256 "
        f"{report.kernels_sha256}) and {len(report.systems)} of {report.systems_rows} rows of "
        f"whole deployments (sbs_gym/timing/published.csv; SHA-256 {report.systems_sha256}).",
        "docs/timing.md names their sources, the formulas, and the errors kernel by kernel.",
        "Error on the measured passes, in brackets when fitted without the pass:",
        *(f"  {_passes(s)}" for s in report.systems),
        "Assumed, not fitted: jitter, skew_mean, skew_rho, skew_sigma, dense_launch_s, "
        "link_launch_s, link_slowdown, overlap_min_tokens, compute_sms, overhead_s, expert_load.",
        f"Whole passes were measured at {tokens} tokens per rank only: for shorter ones the sum "
        "of kernels has never been compared with a measured pass.",
    )
    wrapped = (
        textwrap.fill(line, 98, break_on_hyphens=False, subsequent_indent=line[: _indent(line)])
        for line in lines
    )
    return textwrap.indent("\n".join(wrapped), "  ")


def _passes(fit: SystemFit) -> str:
    errors = f"{fit.error:+.1%} ({fit.left_out_error:+.1%})"
    return f"{fit.point.source}, {fit.point.label}: {errors}"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
