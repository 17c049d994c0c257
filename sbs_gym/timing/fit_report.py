"""What a fit yields, and its errors as a text that stands for itself at 80 columns."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

from sbs_gym.config.timing import RooflineTiming
from sbs_gym.timing.kernel_fit import GroupFit
from sbs_gym.timing.systems import SystemPoint

_WIDTH = 80
_LEGEND = (
    "An error is predicted time / measured time - 1: bias is its mean, mean, median and max are of "
    "its size. Left out: mean size when each shape, EP size, context or token count in turn is "
    "predicted by a fit without it; - where too few rows remain. A group with as many numbers as "
    "rows is met exactly, which is no evidence."
)
_SYSTEM_LEGEND = (
    "Every figure of H800 and H100 that a model can be held to, one per run. Fitted: a number "
    "meets this figure exactly, which is no evidence. Left out: the error if the phase's "
    "numbers are fitted to all its other figures instead; alone is without overlap. Rows of one "
    "source share cluster and code."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFit:
    """One whole-system point after the fit.

    Attributes:
        point: What was measured.
        number: The number that is fitted to this point; None if none is.
        error: predicted / measured - 1.
        left_out_error: The same with the numbers of its phase fitted to all other points.
    """

    point: SystemPoint
    number: str | None
    error: float
    left_out_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """The fitted roofline and everything needed to judge it.

    Attributes:
        config: The fitted timing.
        groups: Kernel groups, checks last.
        kept_out: Kernel rows that no group used, counted by reason.
        systems: Whole-system points.
        fitted_on: Date, ISO format.
        kernels_rows, systems_rows: Rows of the two files.
        kernels_sha256, systems_sha256: Checksums of the two files.
    """

    config: RooflineTiming
    groups: tuple[GroupFit, ...]
    kept_out: dict[str, int]
    systems: tuple[SystemFit, ...]
    fitted_on: str
    kernels_rows: int
    systems_rows: int
    kernels_sha256: str
    systems_sha256: str

    @property
    def num_fitted_rows(self) -> int:
        """Return how many kernel rows the fitted groups rest on."""
        return sum(group.num_rows for group in self.groups if group.parameters)

    def summary(self) -> str:
        """Return tables of the kernel groups, of the rows kept out and of the system points."""
        return "\n\n".join(
            (_group_table(self), _row_table(self), _kept_out(self), _system_table(self))
        )


def _group_table(report: FitReport) -> str:
    head = f"{'kernels':<22}{'rows':>5}{'numbers':>8}{'bias':>8}{'mean':>7}{'median':>8}{'max':>7}"
    lines = [f"{head}{'left out':>10}"]
    for fitted, title in ((True, "fitted"), (False, "predicted, not fitted")):
        lines.append(title)
        lines += [_group_line(g) for g in report.groups if bool(g.parameters) == fitted]
    return "\n".join([*lines, *_wrapped(_LEGEND)])


def _group_line(g: GroupFit) -> str:
    left_out = "-" if math.isnan(g.left_out_mean_error) else f"{g.left_out_mean_error:.1%}"
    name = g.name.removeprefix("check_")
    return (
        f"  {name:<20}{g.num_rows:>5}{len(g.parameters):>8}{g.bias:>+8.1%}{g.mean_error:>7.1%}"
        f"{g.median_error:>8.1%}{g.max_error:>7.1%}{left_out:>10}"
    )


def _row_table(report: FitReport) -> str:
    lines = ["what the rows measure, and whose they are"]
    for g in report.groups:
        sources = ", ".join(f"{count} x {source}" for source, count in g.sources.items())
        lines += _wrapped(f"{g.name.removeprefix('check_')}: {g.about}; {sources}", "  ", "      ")
    return "\n".join(lines)


def _kept_out(report: FitReport) -> str:
    checked = sum(g.num_rows for g in report.groups if not g.parameters)
    lines = [
        f"kernel rows: {report.kernels_rows}, of which {report.num_fitted_rows} fitted, {checked} "
        f"predicted, {sum(report.kept_out.values())} kept out:"
    ]
    lines += [f"  {count:>3} {reason}" for reason, count in report.kept_out.items()]
    return "\n".join(lines)


def _system_table(report: FitReport) -> str:
    title = f"whole passes and steps ({len(report.systems)} runs)"
    lines = [f"{title:<48}{'error':>8}{'left out':>10}  fitted"]
    places = dict.fromkeys((s.point.phase, s.point.source) for s in report.systems)
    for phase, source in places:
        lines.append(f"{phase}: {source}")
        for s in report.systems:
            if (s.point.phase, s.point.source) == (phase, source):
                left_out = "-" if math.isnan(s.left_out_error) else f"{s.left_out_error:+.1%}"
                number = "  yes" if s.number else ""
                lines.append(f"  {s.point.label:<46}{s.error:>+8.1%}{left_out:>10}{number}")
    return "\n".join([*lines, *_wrapped(_SYSTEM_LEGEND)])


def _wrapped(text: str, first: str = "", others: str = "") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False
    )
