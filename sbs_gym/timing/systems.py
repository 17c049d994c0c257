"""Whole-deployment figures in the terms of the pass model: which pass, and which figure of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sbs_gym.config.timing import RooflineTiming, TimingConfig
from sbs_gym.errors import ConfigError
from sbs_gym.timing.measurements import Measurement
from sbs_gym.timing.model import TimingModel, build_timing, prefill_pass_s
from sbs_gym.timing.shape import GPUS_PER_NODE

_NEVER = 1 << 30  # tokens per rank from which a pass without overlap would overlap
# Metric: (figure, unit, GPUs it speaks of, expert load, two-batch overlap).
_PREDICTED = {
    "iteration_time": ("time", "s", 1, None, None),
    "iteration_time_balanced": ("time", "s", 1, 1.0, None),
    "iteration_time_no_overlap": ("time", "s", 1, None, False),
    "throughput_per_gpu": ("rate", "tok/s", 1, None, None),
    "throughput_per_node": ("rate", "tok/s", GPUS_PER_NODE, None, None),
    "throughput_per_node_balanced": ("rate", "tok/s", GPUS_PER_NODE, 1.0, None),
    "tbo_speedup_range_same_tokens": ("speedup", "ratio", 1, None, None),
}
_UNPREDICTED = {
    "eplb_speedup": "the expert skew without rebalancing is not published",
    "throughput_per_node_incl_cache_hits": "a 24 h mean; the load of a pass is not published",
}
PREDICTED_METRICS = frozenset(_PREDICTED) | frozenset(_UNPREDICTED)
_MEASURED = ("measured", "derived")
_NOT_MEASURED = {
    "claim": "what a simulator says of its own error: not a measurement",
    "model output": "what another simulator predicts: not a measurement",
    "analytic": "arithmetic on peak rates: not a measurement",
    "quoted": "quoted from another row's source: not a measurement of its own",
}
_OTHER_PHASES = {"both": "prefill and decode together"}
_NIC_BOUND_EP = 32  # from here on H100 deployments are bound by the same NIC as H800


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPoint:
    """One published figure of prefill passes with equal load on every rank.

    Attributes:
        source, metric: Where it is from.
        measured: Seconds, tokens per second, or a ratio.
        figure: `time`, `rate` or `speedup` (of two-batch overlap at equal tokens).
        num_gpus: GPUs a rate speaks of.
        ep: GPUs, and ranks, of the deployment.
        tokens_per_rank: New tokens of one rank in a pass.
        prompt_tokens: Length of the prompts that fill them; no cached context.
        skew: Expert skew g; None is the skew of the model's default deployment.
        overlap: False switches two-batch overlap off.
    """

    source: str
    metric: str
    measured: float
    figure: str
    num_gpus: int
    ep: int
    tokens_per_rank: int
    prompt_tokens: int
    skew: float | None
    overlap: bool

    @property
    def label(self) -> str:
        """Return the figure in words; seconds of a pass, tokens/s, or a ratio."""
        whose = "GPU" if self.num_gpus == 1 else f"{self.num_gpus} GPUs"
        words = {"time": "pass", "rate": f"rate of {whose}", "speedup": "gain by overlap"}
        text = f"{words[self.figure]}, EP{self.ep}"
        if self.skew == 1.0:
            text += ", balanced experts"
        return text if self.overlap else f"{text}, no overlap"

    @property
    def experiment(self) -> tuple[object, ...]:
        """Return what two rows share if they report the same run in different units."""
        load = (self.source, self.ep, self.tokens_per_rank, self.prompt_tokens)
        return (*load, self.skew, self.overlap, self.figure == "speedup")


def understand(rows: Sequence[Measurement]) -> list[SystemPoint | str]:
    """Return per row the point it describes, or the reason why no pass can be compared with it.

    The expert skew of a row is `skew=` in its note; 1 if the metric ends in `_balanced`, or if its
    note or that of another figure of the same run speaks of balanced routing; else that of the
    model's default deployment.
    """
    balanced = {
        _run(row)
        for row in rows
        if "balanced" in row.note_text and not row.metric.endswith("_balanced")
    }
    return [_reason(row) or _point(row, _run(row) in balanced) for row in rows]


def _run(row: Measurement) -> tuple[object, ...]:
    return (row.source, row.phase, row.ep, row.tokens_per_rank, row.context_len)


def _point(row: Measurement, balanced: bool) -> SystemPoint | str:
    figure, unit, num_gpus, skew, overlap = _PREDICTED[row.metric]
    if (unit == "s" and row.unit not in ("us", "ms", "s")) or (unit != "s" and row.unit != unit):
        return f"unit {row.unit!r} does not fit this metric"
    if row.ep is None or row.tokens_per_rank is None or row.context_len is None:
        return "ep, tokens_per_rank or context_len is not stated"
    if "skew" in row.note:
        skew = row.number("skew")
        if not skew >= 1.0:
            return f"skew={row.note['skew']!r} in the note is no number of at least 1"
    elif balanced:
        skew = 1.0
    return SystemPoint(
        source=row.source,
        metric=row.metric,
        measured=row.value,
        figure=figure,
        num_gpus=num_gpus,
        ep=row.ep,
        tokens_per_rank=row.tokens_per_rank,
        prompt_tokens=row.context_len,
        skew=skew,
        overlap=overlap is None,
    )


def _reason(row: Measurement) -> str | None:
    if row.phase == "fidelity" or not row.status.startswith(_MEASURED):
        return next(
            (words for status, words in _NOT_MEASURED.items() if row.status.startswith(status)),
            f"status {row.status!r}: not a measurement",
        )
    if row.phase == "decode":
        return "decode is not modelled yet"
    if row.phase != "prefill":
        return _OTHER_PHASES.get(row.phase, f"phase {row.phase!r} is not prefill")
    nic_bound = row.gpu == "H100" and (row.ep or 0) >= _NIC_BOUND_EP
    if row.gpu != "H800" and not nic_bound:
        return f"GPU {row.gpu!r} is not modelled"
    if row.metric in _UNPREDICTED:
        return _UNPREDICTED[row.metric]
    if row.metric not in _PREDICTED:
        return f"metric {row.metric!r} is no prefill figure"
    return None if row.dp in (None, row.ep) else "attention over several GPUs is not modelled"


def build_point(config: TimingConfig, point: SystemPoint, *, overlap: bool) -> TimingModel:
    """Return the model of the point's deployment, with two-batch overlap or without."""
    if not overlap:
        if not isinstance(config, RooflineTiming):
            raise ConfigError(f"timing.kind={config.kind} does not model two-batch overlap")
        config = dataclasses.replace(config, overlap_min_tokens=_NEVER)
    return build_timing(config, dp=point.ep, ep=point.ep, chunk_tokens=point.tokens_per_rank)


def point_pass_s(model: TimingModel, point: SystemPoint, skew: float) -> float:
    """Return the seconds of the point's pass: whole prompts, equal on every rank."""
    tokens = np.full(point.ep, point.tokens_per_rank, dtype=np.int64)
    pairs = tokens * min(point.prompt_tokens, point.tokens_per_rank)
    return float(prefill_pass_s(model.coefficients[0], model.table, tokens, pairs, skew))


def predict(config: TimingConfig, point: SystemPoint) -> float:
    """Return the point's figure as the model has it, in the unit of `measured`.

    Raises:
        ConfigError: If the kind of timing does not model what the point measured.
    """
    skew = point.skew
    if skew is None:
        skew = config.default_skew if isinstance(config, RooflineTiming) else config.skew_mean
    seconds = point_pass_s(build_point(config, point, overlap=point.overlap), point, skew)
    if point.figure == "time":
        return seconds
    if point.figure == "rate":
        return point.tokens_per_rank * point.num_gpus / seconds
    return point_pass_s(build_point(config, point, overlap=False), point, skew) / seconds
