"""Compare a timing with published figures of whole deployments, fitted and unfitted kept apart."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sbs_gym.config.timing import RooflineTiming, TimingConfig
from sbs_gym.errors import ConfigError
from sbs_gym.timing.measurements import PUBLISHED, Measurement, read_measurements
from sbs_gym.timing.model import TimingModel
from sbs_gym.timing.systems import PREDICTED_METRICS, SystemPoint, predict, understand


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationPoint:
    """One row of a validation.

    Attributes:
        source, phase, metric: As in the file.
        measured: Seconds, tokens per second or a plain number; the middle of a range.
        predicted: The same by the model; None where it cannot say.
        relative_error: predicted / measured - 1; None likewise.
        fitted: Whether the model's parameters were fitted to this figure.
        reason_if_not_predicted: Why there is no prediction; None where there is one.
    """

    source: str
    phase: str
    metric: str
    measured: float
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
        for fitted, title in ((True, "fitted: no evidence"), (False, "not fitted")):
            rows = [p for p in self.points if p.predicted is not None and p.fitted == fitted]
            lines.append(f"{title} ({len(rows)} rows)")
            for p in rows:
                error = f"{p.relative_error:+.1%}"
                lines.append(
                    f"  {p.source}: {p.metric}: "
                    f"measured {p.measured:.5g}, predicted {p.predicted:.5g}, {error}"
                )
        reasons = [p.reason_if_not_predicted for p in self.points if p.reason_if_not_predicted]
        lines.append(f"not predicted ({len(reasons)} rows)")
        lines += [f"  {reasons.count(reason)} x {reason}" for reason in dict.fromkeys(reasons)]
        lines.append("Rows of one source share cluster and code; a rate and its time are one run.")
        return "\n".join(lines)


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
        phase=row.phase,
        metric=row.metric,
        measured=row.value,
        predicted=predicted,
        relative_error=None if predicted is None else predicted / row.value - 1.0,
        fitted=isinstance(point, SystemPoint) and point.experiment in fitted,
        reason_if_not_predicted=reason,
    )
