"""Compare a timing with published figures of whole deployments, fitted and unfitted kept apart."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from sbs_gym.config.timing import RooflineTiming, TimingConfig
from sbs_gym.errors import ConfigError
from sbs_gym.timing.measurements import PUBLISHED, Measurement, base_unit, read_measurements
from sbs_gym.timing.model import TimingModel
from sbs_gym.timing.systems import PREDICTED_METRICS, SystemPoint, predict, understand


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationPoint:
    """One row of a validation.

    Attributes:
        source, url, phase, metric: As in the file.
        label: The figure in words; the metric where there is no prediction.
        measured: Seconds, tokens per second or a plain number; the middle of a range.
        unit: `s`, `tok/s`, another base unit, or nothing for a ratio.
        predicted: The same by the model; None where it cannot say.
        relative_error: predicted / measured - 1; None likewise.
        fitted: Whether the model's parameters were fitted to this figure.
        reason_if_not_predicted: Why there is no prediction; None where there is one.
    """

    source: str
    url: str
    phase: str
    metric: str
    label: str
    measured: float
    unit: str
    predicted: float | None
    relative_error: float | None
    fitted: bool
    reason_if_not_predicted: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """All rows of a file, compared with a model.

    Attributes:
        points: One per row of the file, in its order.
    """

    points: tuple[ValidationPoint, ...]

    def to_dict(self) -> dict[str, object]:
        """Return `{"points": [...]}` with plain values."""
        return {"points": [asdict(point) for point in self.points]}

    def to_json(self) -> str:
        """Return the same as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def summary(self) -> str:
        """Return a table of the predicted rows, fitted before unfitted, and a count of the rest."""
        lines = []
        for fitted, title in ((True, "fitted to these: no evidence"), (False, "not fitted")):
            rows = [p for p in self.points if p.predicted is not None and p.fitted == fitted]
            title = f"{title} ({len(rows)} rows)"
            lines.append(f"{title:<43}{'measured':>10}{'predicted':>11}{'unit':>7}{'error':>9}")
            for source in dict.fromkeys(p.source for p in rows):
                lines.append(f"  {source}")
                lines += [_line(p) for p in rows if p.source == source]
        reasons = Counter(p.reason_if_not_predicted for p in self.points if p.predicted is None)
        lines.append(f"not predicted ({reasons.total()} rows)")
        lines += [f"  {count:>3} {reason}" for reason, count in reasons.most_common()]
        lines.append(
            "Rows of one source share cluster and code; a rate and its pass time are one run."
        )
        return "\n".join(lines)


def _line(p: ValidationPoint) -> str:
    values = f"{p.measured:>10.5g}{p.predicted:>11.5g}{p.unit:>7}{p.relative_error:>+9.1%}"
    return f"    {p.label:<39}{values}"


def validate(
    timing: TimingConfig | TimingModel, path: str | Path | None = None
) -> ValidationReport:
    """Return `timing` compared with every row of `path`, by default the published figures.

    Raises:
        TraceError: If the file cannot be used; names line and field.
    """
    config = timing.config if isinstance(timing, TimingModel) else timing
    known = {row.metric for row in read_measurements(PUBLISHED)} | PREDICTED_METRICS
    fitted = _fitted_experiments() if isinstance(config, RooflineTiming) else frozenset()
    rows = read_measurements(PUBLISHED if path is None else path)
    points = zip(rows, understand(rows), strict=True)
    return ValidationReport(
        points=tuple(_compare(config, row, point, known, fitted) for row, point in points)
    )


def fit_points(rows: list[Measurement]) -> list[SystemPoint]:
    """Return the points a fit uses: prefill pass times, one per run."""
    return [p for p in understand(rows) if isinstance(p, SystemPoint) and p.figure == "time"]


def _fitted_experiments() -> frozenset[tuple[object, ...]]:
    return frozenset(point.experiment for point in fit_points(read_measurements(PUBLISHED)))


def _compare(
    config: TimingConfig,
    row: Measurement,
    point: SystemPoint | str,
    known: set[str],
    fitted: frozenset[tuple[object, ...]],
) -> ValidationPoint:
    if row.metric not in known:
        point = f"metric {row.metric!r} is not understood"
    predicted, reason = None, point if isinstance(point, str) else None
    if isinstance(point, SystemPoint):
        try:
            predicted = predict(config, point)
        except ConfigError as problem:
            reason = str(problem)
    return ValidationPoint(
        source=row.source,
        url=row.url,
        phase=row.phase,
        metric=row.metric,
        label=point.label if isinstance(point, SystemPoint) else row.metric,
        measured=row.value,
        unit=base_unit(row.unit),
        predicted=predicted,
        relative_error=None if predicted is None else predicted / row.value - 1.0,
        fitted=isinstance(point, SystemPoint) and point.experiment in fitted,
        reason_if_not_predicted=reason,
    )
