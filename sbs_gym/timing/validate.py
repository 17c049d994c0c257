"""Compare a timing with published figures of whole deployments, fitted and unfitted kept apart."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sbs_gym.config.timing import RooflineTiming, TimingConfig
from sbs_gym.errors import ConfigError
from sbs_gym.timing.measurements import PUBLISHED, Measurement, base_unit, read_measurements
from sbs_gym.timing.model import TimingModel
from sbs_gym.timing.predict import predict
from sbs_gym.timing.systems import KERNEL_METRICS, PREDICTED_METRICS, SystemPoint, understand

PHASES = ("prefill", "decode")
# Numbers that are fitted to whole passes and steps, by phase; one figure each, see fitted_points.
SYSTEM_NUMBERS = {
    "prefill": ("overlap_softness", "default_skew"),
    "decode": ("decode_overhead_s",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationPoint:
    """One row of a validation.

    Attributes:
        source, url, gpu, phase, metric: As in the file.
        label: The figure in words; the metric where there is no prediction.
        measured: Seconds, tokens per second or a plain number; the middle of a range.
        unit: `s`, `tok/s`, another base unit, or nothing for a ratio.
        predicted: The same by the model; None where it cannot say.
        relative_error: predicted / measured - 1; None likewise.
        measured_s, predicted_s: The seconds of the pass or step they mean; None for a ratio.
        fitted: Whether the model's parameters were fitted to this figure.
        scored: Whether the error counts in the summary: predicted, not fitted, measured on H800 or
            H100, and the first row of its run (a rate and its pass time are one).
        reason_if_not_predicted: Why there is no prediction; None where there is one.
    """

    source: str
    url: str
    gpu: str
    phase: str
    metric: str
    label: str
    measured: float
    unit: str
    predicted: float | None
    relative_error: float | None
    measured_s: float | None
    predicted_s: float | None
    fitted: bool
    scored: bool
    reason_if_not_predicted: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Errors of one phase over scored points.

    Attributes:
        num_points: Points that count.
        mean_error: Mean size of the relative error.
        worst_error: The largest, with its sign.
        worst: The point it belongs to: source and figure.
    """

    num_points: int
    mean_error: float
    worst_error: float
    worst: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """All rows of a file, compared with a model.

    Attributes:
        points: One per row of the file, in its order.
    """

    points: tuple[ValidationPoint, ...]

    def scores(self) -> dict[str, Score]:
        """Return the errors over the scored points by phase; a phase without any is absent."""
        scores = {}
        for phase in PHASES:
            scored = [p for p in self.points if p.scored and p.phase == phase]
            if scored:
                worst = max(scored, key=_size)
                scores[phase] = Score(
                    num_points=len(scored),
                    mean_error=sum(map(_size, scored)) / len(scored),
                    worst_error=worst.relative_error or 0.0,
                    worst=f"{worst.source}, {worst.label}",
                )
        return scores

    def to_dict(self) -> dict[str, object]:
        """Return `{"points": [...], "summary": {phase: ...}}` with plain values."""
        return {
            "points": [asdict(point) for point in self.points],
            "summary": {phase: asdict(score) for phase, score in self.scores().items()},
        }

    def to_json(self) -> str:
        """Return the same as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def summary(self) -> str:
        """Return tables of the predicted rows, a count of the rest, and the scores."""
        sections = (
            ("fitted to these: no evidence", lambda p: p.fitted),
            ("not fitted, scored", lambda p: p.scored),
            ("not fitted, not scored", lambda p: not p.fitted and not p.scored),
        )
        lines = []
        for title, chosen in sections:
            rows = [p for p in self.points if p.predicted is not None and chosen(p)]
            title = f"{title} ({len(rows)} rows)"
            lines.append(f"{title:<43}{'measured':>10}{'predicted':>11}{'unit':>7}{'error':>9}")
            for phase in PHASES:
                for source in dict.fromkeys(p.source for p in rows if p.phase == phase):
                    lines.append(f"  {phase}: {source}")
                    lines += [_line(p) for p in rows if (p.phase, p.source) == (phase, source)]
        lines.append(f"not predicted ({self._reasons().total()} rows)")
        lines += [f"  {count:>3} {reason}" for reason, count in self._reasons().most_common()]
        lines.append("")
        lines += _score_lines(self.scores())
        lines.append("Rows of one source share cluster and code. Scored: not fitted, H800 or H100;")
        lines.append("a rate and its pass time are one run, of which the first row counts.")
        return "\n".join(lines)

    def rest(self) -> str:
        """Return every row without a prediction, under its reason."""
        lines = []
        for reason, count in self._reasons().most_common():
            lines.append(f"{count:>3} {reason}")
            lines += [_rest_line(p) for p in self.points if p.reason_if_not_predicted == reason]
        return "\n".join(lines)

    def _reasons(self) -> Counter[str | None]:
        return Counter(p.reason_if_not_predicted for p in self.points if p.predicted is None)


def _size(p: ValidationPoint) -> float:
    return abs(p.relative_error or 0.0)


def _line(p: ValidationPoint) -> str:
    values = f"{p.measured:>10.5g}{p.predicted:>11.5g}{p.unit:>7}{p.relative_error:>+9.1%}"
    return f"    {p.label:<39}{values}"


def _rest_line(p: ValidationPoint) -> str:
    name = f"{p.metric}: {p.source}" + (f" ({p.gpu})" if p.gpu else "")
    return f"      {name[:57]:<57}{p.measured:>10.4g} {p.unit}".rstrip()


def _score_lines(scores: dict[str, Score]) -> list[str]:
    lines = [f"{'errors of the scored rows':<27}{'points':>7}{'mean':>8}{'worst':>9}"]
    for phase, s in scores.items():
        lines.append(f"  {phase:<25}{s.num_points:>7}{s.mean_error:>8.1%}{s.worst_error:>+9.1%}")
        lines.append(f"    worst: {s.worst}")
    return lines


def validate(
    timing: TimingConfig | TimingModel, path: str | Path | None = None
) -> ValidationReport:
    """Return `timing` compared with every row of `path`, by default the published figures.

    Raises:
        TraceError: If the file cannot be used; names line and field.
    """
    config = timing.config if isinstance(timing, TimingModel) else timing
    published = read_measurements(PUBLISHED)
    known = {row.metric for row in published} | PREDICTED_METRICS | KERNEL_METRICS
    fitted: set[tuple[object, ...]] = set()
    if isinstance(config, RooflineTiming):
        fitted = {point.experiment for point in fitted_points(published).values()}
    rows = published if path is None else read_measurements(path)
    seen = set(fitted)
    points = []
    for row, point in zip(rows, understand(rows), strict=True):
        points.append(_compare(config, row, point, known, fitted, seen))
        if isinstance(point, SystemPoint):
            seen.add(point.experiment)
    return ValidationReport(points=tuple(points))


def fitted_points(rows: Sequence[Measurement]) -> dict[str, SystemPoint]:
    """Return the figure that each system number is fitted to, of those the rows have.

    The overlap softness meets the first pass with balanced experts, the default skew the first pass
    without, the overhead of a step the first step timed end to end.
    """
    points = [p for p in understand(rows) if isinstance(p, SystemPoint) and p.scored]
    passes = [p for p in points if (p.phase, p.figure, p.overlap) == ("prefill", "time", True)]
    wanted = {
        "overlap_softness": [p for p in passes if p.skew == 1.0],
        "default_skew": [p for p in passes if p.skew is None],
        "decode_overhead_s": [p for p in points if p.metric == "iteration_time_end_to_end"],
    }
    return {number: found[0] for number, found in wanted.items() if found}


def scored_points(rows: Sequence[Measurement]) -> list[SystemPoint]:
    """Return the points of scored GPUs, one per run; of a fitted run, the figure that is met."""
    chosen = {p.experiment: p for p in fitted_points(rows).values()}
    for point in understand(rows):
        if isinstance(point, SystemPoint) and point.scored:
            chosen.setdefault(point.experiment, point)
    order = {phase: i for i, phase in enumerate(PHASES)}
    return sorted(chosen.values(), key=lambda p: order[p.phase])


def _compare(
    config: TimingConfig,
    row: Measurement,
    point: SystemPoint | str,
    known: set[str],
    fitted: set[tuple[object, ...]],
    seen: set[tuple[object, ...]],
) -> ValidationPoint:
    if row.metric not in known:
        point = f"metric {row.metric!r} is not understood"
    predicted, reason = None, point if isinstance(point, str) else None
    if isinstance(point, SystemPoint):
        try:
            predicted = predict(config, point)
        except ConfigError as problem:
            reason = str(problem)
    judged = isinstance(point, SystemPoint) and point.scored and point.experiment not in seen
    return ValidationPoint(
        source=row.source,
        url=row.url,
        gpu=row.gpu,
        phase=row.phase,
        metric=row.metric,
        label=point.label if isinstance(point, SystemPoint) else row.metric,
        measured=row.value,
        unit=base_unit(row.unit),
        predicted=predicted,
        relative_error=None if predicted is None else predicted / row.value - 1.0,
        measured_s=point.seconds(row.value) if isinstance(point, SystemPoint) else None,
        predicted_s=None
        if predicted is None or not isinstance(point, SystemPoint)
        else point.seconds(predicted),
        fitted=isinstance(point, SystemPoint) and point.experiment in fitted,
        scored=judged and predicted is not None,
        reason_if_not_predicted=reason,
    )
