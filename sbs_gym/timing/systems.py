"""Whole-deployment figures in the terms of the model: which pass or step, which figure of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sbs_gym.timing.kernel_groups import GROUPS
from sbs_gym.timing.measurements import Measurement
from sbs_gym.timing.shape import GPUS_PER_NODE

_SECONDS = ("us", "ms", "s")


@dataclass(frozen=True, slots=True)
class _Figure:
    """What a metric speaks of: figure, unit, GPUs, expert load (None: default), overlap."""

    name: str
    unit: str
    num_gpus: int = 1
    skew: float | None = None
    overlap: bool = True


_RATES = {
    "throughput_per_gpu": _Figure("rate", "tok/s"),
    "throughput_per_node": _Figure("rate", "tok/s", GPUS_PER_NODE),
    "throughput_per_node_balanced": _Figure("rate", "tok/s", GPUS_PER_NODE, 1.0),
    "throughput_per_node_no_overlap": _Figure("rate", "tok/s", GPUS_PER_NODE, None, False),
}
_TIMES = {
    "iteration_time": _Figure("time", "s"),
    "iteration_time_balanced": _Figure("time", "s", 1, 1.0),
    "iteration_time_no_overlap": _Figure("time", "s", 1, None, False),
}
_PREDICTED = {
    "prefill": {
        **_RATES,
        **_TIMES,
        "tbo_speedup_range_same_tokens": _Figure("speedup", "ratio"),
        "tbo_speedup": _Figure("speedup", "ratio"),
    },
    "decode": {
        **_RATES,
        **_TIMES,
        "iteration_time_end_to_end": _Figure("time", "s"),
        "time_61_layers": _Figure("layers", "s"),
        "tbo_speedup": _Figure("speedup", "ratio"),
        # Stated alike for a balanced profile and for a deployment: predicted without skew.
        "ll_dispatch_time_per_layer": _Figure("dispatch", "s", 1, 1.0),
        "itl": _Figure("gap", "s"),
        "tpot": _Figure("gap", "s"),
        "tokens_per_s_per_user_low_load": _Figure("user_rate", "tok/s"),
    },
}
_UNPREDICTED = {
    "eplb_speedup": "the expert skew without rebalancing is not published",
    "throughput_per_node_incl_cache_hits": "a 24 h mean; the load of a pass is not published",
    "eplb_balance_ratio_min": "a balance of experts, not a time",
}
PREDICTED_METRICS = frozenset(_UNPREDICTED).union(*_PREDICTED.values())
KERNEL_METRICS = frozenset(metric for group in GROUPS for metric in group.metrics)
# Profiles captured with balanced routing: README of github.com/deepseek-ai/profile-data.
_BALANCED_SOURCES = ("DeepSeek profile", "notes on DeepSeek decode trace")
_MEASURED = ("measured", "derived")
_NOT_MEASURED = {
    "claim": "what a simulator says of its own error: not a measurement",
    "model output": "what another simulator predicts: not a measurement",
    "analytic": "arithmetic on peak rates: not a measurement",
    "quoted": "quoted from another row's source: not a measurement of its own",
}
_OTHER_PHASES = {"both": "prefill and decode together"}
# EP size from which H100 deployments are bound by the same network card as H800.
_NIC_BOUND_EP = {"prefill": 32, "decode": 16}
_SCORED = ("H800", "H100", "not stated (H800-class)")
_UNSCORED = ("H200",)  # predicted with the numbers of H800, for scale


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPoint:
    """One published figure of passes or steps with equal load on every rank.

    Attributes:
        source, phase, metric: Where it is from; `prefill` or `decode`.
        measured: Seconds, tokens per second, or a ratio.
        figure: `time` of a pass or step, `layers` (a step's without its overhead), `rate`,
            `user_rate` (of one user), `gap` between tokens, `speedup` (of two-batch overlap at
            equal tokens) or `dispatch` (of one layer).
        num_gpus: GPUs a rate speaks of.
        ep: GPUs, and ranks, of the deployment.
        tokens_per_rank: New tokens of one rank in a pass or step.
        requests_per_rank: Requests of one rank in a step; 0 for a pass.
        context: Length of the prompts that fill a pass, or tokens of context of a request.
        accepted: Tokens that a request keeps of a step, with multi-token prediction above 1.
        skew: Expert skew g; None is the default of the model for the phase.
        overlap: False switches two-batch overlap off.
        scored: Whether the GPU is one the model is judged on.
    """

    source: str
    phase: str
    metric: str
    measured: float
    figure: str
    num_gpus: int
    ep: int
    tokens_per_rank: int
    requests_per_rank: int
    context: int
    accepted: float
    skew: float | None
    overlap: bool
    scored: bool

    @property
    def label(self) -> str:
        """Return the figure in words; seconds of a pass or step, tokens/s, or a ratio.

        After the EP size stand the length of the prompts of a pass, or the requests per GPU of a
        step, times the tokens each brings; `alone` is without two-batch overlap.
        """
        words = {
            "time": "pass" if self.phase == "prefill" else "step",
            "layers": "61 layers of a step",
            "rate": "rate of a GPU" if self.num_gpus == 1 else "rate of a node",
            "user_rate": "rate of a user",
            "gap": "gap of tokens",
            "speedup": "gain by overlap",
            "dispatch": "dispatch",
        }
        text = f"{words[self.figure]}, EP{self.ep}"
        if self.phase == "decode":
            return f"{text}, {self._step}"
        if self.skew == 1.0:
            text += ", balanced"
        return f"{text}, {self.context / 1000:.0f}K" + ("" if self.overlap else ", alone")

    @property
    def _step(self) -> str:
        q = self.tokens_per_rank // max(self.requests_per_rank, 1)
        text = f"{self.requests_per_rank} x {q}" if q > 1 else f"{self.requests_per_rank}"
        return text if self.overlap else f"{text}, alone"

    def seconds(self, value: float) -> float | None:
        """Return the seconds of a pass or step that a value of the figure means; None for ratios.

        None for the dispatch of one layer too, which is no pass or step.
        """
        if self.figure in ("speedup", "dispatch"):
            return None
        if self.figure == "gap":
            return value * self.accepted
        if self.figure == "user_rate":
            return self.accepted / value
        if self.figure != "rate":
            return value
        requests = self.requests_per_rank
        tokens = requests * self.accepted if requests else float(self.tokens_per_rank)
        return tokens * self.num_gpus / value

    @property
    def experiment(self) -> tuple[object, ...]:
        """Return what two rows share if they report the same run in different units."""
        load = (self.source, self.phase, self.ep, self.tokens_per_rank, self.context)
        figure = "time" if self.figure == "rate" else self.figure
        return (*load, self.requests_per_rank, self.skew, self.overlap, figure)


def understand(rows: Sequence[Measurement]) -> list[SystemPoint | str]:
    """Return per row the point it describes, or the reason why nothing can be compared with it.

    The expert skew of a row is `skew=` in its note; 1 if the metric ends in `_balanced`, if its
    note or that of another figure of the same run speaks of balanced routing, or if its source is
    DeepSeek's profile; else the default of the model for its phase. With multi-token prediction a
    rate needs `accept_tokens=` in the note. A step without context takes the one most frequent
    among the rows of its source on as many GPUs.
    """
    balanced = {
        _run(row)
        for row in rows
        if "balanced" in row.note_text and not row.metric.endswith("_balanced")
    }
    contexts: dict[tuple[object, ...], Counter[int]] = {}
    for row in rows:
        if row.context_len is not None:
            contexts.setdefault(_deployment(row), Counter())[row.context_len] += 1
    points: list[SystemPoint | str] = []
    for row in rows:
        usual = contexts.get(_deployment(row), Counter()).most_common(1)
        context = usual[0][0] if row.context_len is None and usual else row.context_len
        is_balanced = _run(row) in balanced or row.source.startswith(_BALANCED_SOURCES)
        points.append(_reason(row) or _point(row, is_balanced, context))
    return points


def _run(row: Measurement) -> tuple[object, ...]:
    return (row.source, row.phase, row.ep, row.tokens_per_rank, row.context_len)


def _deployment(row: Measurement) -> tuple[object, ...]:
    return (row.source, row.phase, row.ep)


def _point(row: Measurement, balanced: bool, context: int | None) -> SystemPoint | str:
    figure = _PREDICTED[row.phase][row.metric]
    fits = row.unit in _SECONDS if figure.unit == "s" else row.unit == figure.unit
    if not fits:
        return f"unit {row.unit!r} does not fit this metric"
    load = _load(row, figure, context)
    if isinstance(load, str):
        return load
    tokens, requests, length, accepted = load
    skew = figure.skew
    if "skew" in row.note:
        skew = row.number("skew")
        if not skew >= 1.0:
            return f"skew={row.note['skew']!r} in the note is no number of at least 1"
    elif balanced:
        skew = 1.0
    return SystemPoint(
        source=row.source,
        phase=row.phase,
        metric=row.metric,
        measured=row.value,
        figure=figure.name,
        num_gpus=figure.num_gpus,
        ep=row.ep or 1,
        tokens_per_rank=tokens,
        requests_per_rank=requests,
        context=length,
        accepted=accepted,
        skew=skew,
        overlap=figure.overlap,
        scored=row.gpu in _SCORED,
    )


def _load(
    row: Measurement, figure: _Figure, context: int | None
) -> tuple[int, int, int, float] | str:
    """Return tokens and requests per rank, context and accepted tokens, or what is missing."""
    tokens, requests = row.tokens_per_rank, row.batch_per_rank
    if figure.name == "dispatch":
        context = context or 0
    if row.phase == "prefill":
        requests = 0
    elif figure.name == "user_rate" and requests is None:
        tokens = requests = 1  # low load: one request on every GPU
    else:
        requests = requests or tokens
        tokens = tokens or requests
    if row.ep is None or tokens is None or requests is None or context is None:
        return "ep, tokens_per_rank, batch_per_rank or context_len is not stated"
    if row.phase == "prefill":
        return tokens, 0, context, 1.0
    if requests < 1 or tokens % requests:
        return "tokens_per_rank is no multiple of batch_per_rank"
    accepted = row.number("accept_tokens") if "accept_tokens" in row.note else 1.0
    if tokens > requests and figure.name in ("rate", "user_rate", "gap"):
        if "accept_tokens" not in row.note:
            return "tokens accepted of multi-token prediction are not published"
        if not 1.0 <= accepted <= tokens / requests:
            return f"accept_tokens={row.note['accept_tokens']!r} in the note is out of range"
    return tokens, requests, context, accepted


def _reason(row: Measurement) -> str | None:
    if row.metric in KERNEL_METRICS:
        return "a single kernel: `sbs-gym timing fit` compares it"
    if row.phase == "fidelity" or not row.status.startswith(_MEASURED):
        return next(
            (words for status, words in _NOT_MEASURED.items() if row.status.startswith(status)),
            f"status {row.status!r}: not a measurement",
        )
    if row.phase not in _PREDICTED:
        return _OTHER_PHASES.get(row.phase, f"phase {row.phase!r} is neither prefill nor decode")
    if "Kimi" in row.source:
        return "another model"
    nic_bound = row.gpu == "H100" and (row.ep or 0) >= _NIC_BOUND_EP[row.phase]
    if not nic_bound and (row.gpu == "H100" or row.gpu not in (*_SCORED, *_UNSCORED)):
        return f"GPU {row.gpu!r} is not modelled" + _inside(row)
    if row.metric in _UNPREDICTED:
        return _UNPREDICTED[row.metric]
    if row.metric not in _PREDICTED[row.phase]:
        return f"metric {row.metric!r} is no {row.phase} figure"
    return None if row.dp in (None, row.ep) else "attention over several GPUs is not modelled"


def _inside(row: Measurement) -> str:
    limit = _NIC_BOUND_EP[row.phase]
    return f" below EP{limit}: another NVLink" if row.gpu == "H100" else ""
