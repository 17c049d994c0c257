"""What a timing says of a published figure."""

from __future__ import annotations

import dataclasses

import numpy as np

from sbs_gym.config.timing import RooflineTiming, TimingConfig
from sbs_gym.errors import ConfigError
from sbs_gym.timing.decode import DecodeTiming, build_decode_timing
from sbs_gym.timing.decode_roofline import decode_table, low_latency_dispatch_s
from sbs_gym.timing.model import TimingModel, build_timing, prefill_pass_s
from sbs_gym.timing.shape import NUM_MOE_LAYERS
from sbs_gym.timing.systems import SystemPoint

_NEVER = 1 << 30  # tokens per rank from which a pass or step without overlap would overlap


class Predictor:
    """Predicts points while overlap softness, skews and overheads of a timing change.

    Tables of prefill passes do not hang on those and are built once per point.
    """

    def __init__(self) -> None:
        self._models: dict[tuple[SystemPoint, bool], TimingModel] = {}

    def predict(self, config: TimingConfig, point: SystemPoint) -> float:
        """Return the point's figure as the timing has it, in the unit of `measured`.

        Raises:
            ConfigError: If the kind of timing does not model what the point measured.
        """
        if point.figure == "dispatch":
            return _dispatch_s(config, point)
        seconds = self._seconds(config, point, overlap=point.overlap)
        if point.figure == "speedup":
            return self._seconds(config, point, overlap=False) / seconds
        if point.figure == "gap":
            return seconds / point.accepted
        if point.figure == "user_rate":
            return point.accepted / seconds
        if point.figure == "rate":
            tokens = point.tokens_per_rank
            if point.phase == "decode":
                return point.requests_per_rank * point.accepted * point.num_gpus / seconds
            return tokens * point.num_gpus / seconds
        return seconds

    def _seconds(self, config: TimingConfig, point: SystemPoint, *, overlap: bool) -> float:
        if point.phase == "decode":
            return _step_s(config, point, overlap=overlap)
        model = self._models.get((point, overlap))
        if model is None:
            model = self._models[point, overlap] = _pass_model(config, point, overlap=overlap)
        if isinstance(config, RooflineTiming):
            model.coefficients["overlap_softness"] = config.overlap_softness
            model.coefficients["overhead_s"] = config.overhead_s
        return _pass_s(model, point, point_skew(config, point))


def predict(config: TimingConfig, point: SystemPoint) -> float:
    """Return the point's figure as the timing has it, in the unit of `measured`.

    Raises:
        ConfigError: If the kind of timing does not model what the point measured.
    """
    return Predictor().predict(config, point)


def point_skew(config: TimingConfig, point: SystemPoint) -> float:
    """Return the expert skew of the point, or the timing's default for its phase."""
    if point.skew is not None:
        return point.skew
    if not isinstance(config, RooflineTiming):
        return config.skew_mean
    return config.decode_default_skew if point.phase == "decode" else config.default_skew


def _pass_model(config: TimingConfig, point: SystemPoint, *, overlap: bool) -> TimingModel:
    if not overlap:
        config = dataclasses.replace(_roofline(config), overlap_min_tokens=_NEVER)
    return build_timing(config, dp=point.ep, ep=point.ep, chunk_tokens=point.tokens_per_rank)


def _pass_s(model: TimingModel, point: SystemPoint, skew: float) -> float:
    """Return the seconds of the point's pass: whole prompts, equal on every rank."""
    tokens = np.full(point.ep, point.tokens_per_rank, dtype=np.int64)
    pairs = tokens * min(point.context, point.tokens_per_rank)
    return float(prefill_pass_s(model.coefficients[0], model.table, tokens, pairs, skew))


def _step_s(config: TimingConfig, point: SystemPoint, *, overlap: bool) -> float:
    """Return the seconds of the point's step: the same requests on every rank."""
    if not overlap:
        config = dataclasses.replace(_roofline(config), decode_overlap_min_tokens=_NEVER)
    elif point.figure == "speedup":
        config = dataclasses.replace(_roofline(config), decode_overlap_min_tokens=1)
    requests = point.requests_per_rank
    q_tokens = point.tokens_per_rank // requests
    if point.figure == "layers":
        config = dataclasses.replace(_roofline(config), decode_overhead_s=0.0)
    timing = build_decode_timing(
        config, dp=point.ep, ep=point.ep, q_tokens=q_tokens, max_requests=requests
    )
    if point.figure == "layers":
        timing = _without_proposals(timing, _roofline(config))
    batch = np.full(point.ep, requests, dtype=np.int64)
    context = np.full(point.ep, float(requests * point.context), dtype=np.float64)
    return timing.step_s(batch, context, skew=point_skew(config, point))


def _without_proposals(timing: DecodeTiming, config: RooflineTiming) -> DecodeTiming:
    """Return the timing without the layers of multi-token prediction: the 61 layers alone."""
    timing.coefficients["moe_layers"] = NUM_MOE_LAYERS
    table = decode_table(config, timing.q_tokens, timing.max_requests, NUM_MOE_LAYERS)
    return dataclasses.replace(timing, table=table)


def _dispatch_s(config: TimingConfig, point: SystemPoint) -> float:
    fixed_s, token_s = low_latency_dispatch_s(_roofline(config), point.ep)
    return fixed_s + token_s * point.tokens_per_rank * point_skew(config, point)


def _roofline(config: TimingConfig) -> RooflineTiming:
    if not isinstance(config, RooflineTiming):
        raise ConfigError(f"timing.kind={config.kind} does not model two-batch overlap or layers")
    return config
