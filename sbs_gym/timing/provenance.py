"""Write a fitted roofline as the text of a configuration file that names its data."""

from __future__ import annotations

import dataclasses
import textwrap

import yaml

from sbs_gym.timing.fit import FitReport


def fit_to_yaml(report: FitReport) -> str:
    """Return the text of `conf/timing/<name>.yaml`: provenance first, then every number."""
    values = {
        field.name: _plain(getattr(report.config, field.name))
        for field in dataclasses.fields(report.config)
    }
    head = {
        "kind": report.config.kind,
        "about": "DeepSeek-V3/R1 prefill with DP attention and EP on H800: kernels added up.",
    }
    numbers = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)
    text = yaml.safe_dump(head, sort_keys=False, width=100)
    return f"{text}source: >-\n{_source(report)}\n{numbers}"


def _source(report: FitReport) -> str:
    rows = sum(group.num_rows for group in report.groups if group.parameters)
    systems = ", ".join(f"{fit.error:+.1%} ({fit.left_out_error:+.1%})" for fit in report.systems)
    lines = (
        f"Fitted on {report.fitted_on} by sbs_gym.timing.fit.fit_timing to {rows} of "
        f"{report.kernels_rows} kernel rows (SHA-256 {report.kernels_sha256}) and "
        f"{len(report.systems)} of {report.systems_rows} system rows "
        f"(SHA-256 {report.systems_sha256}).",
        f"Error on the system points, in brackets without the point: {systems}.",
        "Assumed, not fitted: jitter, skew_mean, skew_rho, skew_sigma, dense_launch_s, "
        "link_launch_s, link_slowdown, overlap_min_tokens, compute_sms, overhead_s.",
        "Nothing was measured below 1K tokens per rank.",
    )
    wrapped = (textwrap.fill(line, 98, break_on_hyphens=False) for line in lines)
    return textwrap.indent("\n".join(wrapped), "  ")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
