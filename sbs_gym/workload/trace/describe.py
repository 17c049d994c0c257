"""Statistics of a request table, under the names of the trace collection's `trace_stats.csv`.

Conventions: the mean rate is (requests - 1) / span; gap CVs and standard deviations divide by n;
dispersion is variance / mean of counts in full windows, dividing by n - 1, NaN below ten windows;
an arrival on the last edge included (as numpy.histogram does); peaks and troughs are full windows
over their mean; quantiles interpolate linearly; the Pearson correlation is of logarithms where both
lengths are positive.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import rankdata

from sbs_gym.types import FloatArray, IntArray, RequestTable
from sbs_gym.workload.trace.prefix_cache import hit_ratio, most_shared, number_blocks
from sbs_gym.workload.trace.report import TraceReport

_FEWEST_WINDOWS = 10
_FEWEST_PEAK_WINDOWS = 2
_CACHES = {"1M": 1e6, "3M": 3e6, "10M": 1e7, "30M": 3e7}
Statistics = dict[str, Any]


def describe(table: RequestTable, report: TraceReport | None = None) -> Statistics:
    """Return counts, moments, quantiles, burstiness, correlations and prefix-cache hits.

    What a source does not record is NaN; keys of prefix blocks are NaN without blocks.

    Args:
        table: The requests.
        report: From `load_trace`; without it all columns count as measured.
    """
    has_arrivals = report is None or report.has_arrivals
    has_outputs = report is None or report.has_outputs
    return {
        "trace": table.name,
        "file": None if report is None else report.path,
        "requests": len(table),
        **_arrivals(table.arrived_at_s if has_arrivals else np.empty(0)),
        "timestamps_sorted": True if report is None else report.was_sorted,
        **_lengths("input", table.input_tokens),
        **_lengths("output", table.output_tokens if has_outputs else None),
        **_both(table, has_arrivals, has_outputs),
        **_blocks(table),
    }


def _arrivals(times_s: FloatArray) -> Statistics:
    span_s = float(times_s[-1] - times_s[0]) if len(times_s) > 1 else 0.0
    gaps_s = np.diff(times_s)
    known = span_s > 0
    cv = float(gaps_s.std() / gaps_s.mean()) if known else math.nan
    stats: Statistics = {
        "duration_s": span_s if known else math.nan,
        "mean_rate_rps": (len(times_s) - 1) / span_s if known else math.nan,
        "iat_cv": cv,
        "iat_cv_squared": cv * cv,
        "iat_zero_share": float((gaps_s == 0).mean()) if known else math.nan,
        "distinct_timestamps": len(np.unique(times_s)) if known else math.nan,
    }
    for window_s in (1, 10, 60):
        stats[f"iod_{window_s}s"] = _dispersion(*_counts(times_s, window_s, closed=True))
    busy, full = _counts(times_s, 60)
    many = full >= _FEWEST_PEAK_WINDOWS and len(busy) > 0
    mean = busy.sum() / full if many else math.nan
    stats["peak_to_mean_60s"] = float(busy.max() / mean) if many else math.nan
    fewest = busy.min() if many and len(busy) == full else 0
    stats["min_to_mean_60s"] = float(fewest / mean)
    seconds, _ = _counts(times_s, 1)
    stats["peak_1s_rps"] = float(seconds.max()) if len(seconds) else math.nan
    return stats


def _counts(times_s: FloatArray, window_s: int, *, closed: bool = False) -> tuple[IntArray, int]:
    """Return arrivals per full window that has any, and the number of full windows.

    Windows start at the first arrival; `closed` adds the last edge. Empty ones are not listed,
    because one stray stamp can make billions of them.
    """
    if len(times_s) < 2:
        return np.empty(0, dtype=np.int64), 0
    windows = (times_s - times_s[0]) / window_s
    full = int(windows[-1])
    inside = windows[windows <= full] if closed else windows[windows < full]
    numbers = np.minimum(np.floor(inside), full - 1) if full else np.empty(0)
    return np.unique(numbers, return_counts=True)[1].astype(np.int64), full


def _dispersion(busy: IntArray, full: int) -> float:
    if full < _FEWEST_WINDOWS or not len(busy):
        return math.nan
    mean = float(busy.sum()) / full
    squares = float(((busy - mean) ** 2).sum()) + (full - len(busy)) * mean * mean
    return squares / (full - 1) / mean


def _lengths(side: str, tokens: Any) -> Statistics:
    names = ("mean", "std", "p50", "p90", "p95", "p99", "min", "max", "zero")
    if tokens is None or not len(tokens):
        stats = {f"{side}_{name}": math.nan for name in names}
        return {**stats, f"total_{side}_tokens": math.nan}
    quantiles = np.quantile(tokens, (0.5, 0.9, 0.95, 0.99))
    values = (float(np.mean(tokens)), float(np.std(tokens)), *(float(q) for q in quantiles))
    edges = (int(tokens.min()), int(tokens.max()), int((tokens == 0).sum()))
    stats = {f"{side}_{name}": value for name, value in zip(names, (*values, *edges), strict=True)}
    return {**stats, f"total_{side}_tokens": int(tokens.sum(dtype=np.int64))}


def _both(table: RequestTable, has_arrivals: bool, has_outputs: bool) -> Statistics:
    inputs, outputs = table.input_tokens, table.output_tokens
    span_s = float(table.arrived_at_s[-1] - table.arrived_at_s[0]) if len(table) else 0.0
    timed = has_arrivals and span_s > 0
    done = outputs > 0
    pearson = spearman = math.nan
    if has_outputs and len(table) > 1:
        pearson = _correlation(np.log(inputs[done]), np.log(outputs[done]))
        spearman = _correlation(rankdata(inputs), rankdata(outputs))
    return {
        "pearson_log_in_out": pearson,
        "spearman_in_out": spearman,
        "input_tok_per_s": float(inputs.sum() / span_s) if timed else math.nan,
        "output_tok_per_s": float(outputs.sum() / span_s) if timed and has_outputs else math.nan,
    }


def _correlation(a: FloatArray, b: FloatArray) -> float:
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _blocks(table: RequestTable) -> Statistics:
    blocks = table.blocks
    if blocks is None or not len(blocks.hashes):
        return dict.fromkeys(_BLOCK_KEYS, math.nan)
    numbers, num_blocks = number_blocks(blocks)
    uses = np.bincount(numbers, minlength=num_blocks)
    lengths = np.diff(blocks.offsets)
    firsts = numbers[blocks.offsets[:-1][lengths > 0]]
    values = {
        "block_tokens": blocks.block_tokens,
        "unique_blocks": num_blocks,
        "block_refs": len(numbers),
        "mean_blocks_per_req": float(lengths.mean()),
        "hit_ratio_inf": hit_ratio(table, numbers, num_blocks, None),
        "blocks_seen_once_share": float((uses == 1).mean()),
        "hottest_block_req_share": most_shared(numbers, blocks.offsets, num_blocks) / len(table),
        "distinct_first_blocks": len(np.unique(firsts)),
    }
    for label, tokens in _CACHES.items():
        values[f"hit_ratio_lru_{label}_tok"] = hit_ratio(table, numbers, num_blocks, tokens)
    return values


_BLOCK_KEYS = (
    "block_tokens",
    "unique_blocks",
    "block_refs",
    "mean_blocks_per_req",
    "hit_ratio_inf",
    "blocks_seen_once_share",
    "hottest_block_req_share",
    "distinct_first_blocks",
    *(f"hit_ratio_lru_{label}_tok" for label in _CACHES),
)
