"""Latencies by prompt length."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from sbs_gym.config.run import SloConfig
from sbs_gym.metrics import latency
from sbs_gym.metrics.columns import LENGTH_COLUMNS
from sbs_gym.metrics.latency import Records, mean_or_nan, percentile_or_nan
from sbs_gym.metrics.slo import meets_slo

# Powers of two, so that every bucket but the first holds prompts within a factor of two.
LENGTH_EDGES = (0, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def length_bucket_names() -> list[str]:
    """Return the names of the prompt-length buckets, shortest first: 0-512 … 32K+."""
    names = [_in_thousands(edge) for edge in LENGTH_EDGES]
    pairs = itertools.pairwise(names)
    return [f"{low}-{high}" for low, high in pairs] + [f"{names[-1]}+"]


def by_length(requests: Records, decode: Records | None, slo: SloConfig) -> pd.DataFrame:
    """Return one row per prompt-length bucket that holds requests; columns as LENGTH_COLUMNS.

    Args:
        requests: Records of the measured requests that arrived.
        decode: Of the same requests; None where no decode is modelled.
        slo: For the share that met it.
    """
    bucket = np.searchsorted(LENGTH_EDGES, requests["input_tokens"], side="right") - 1
    names = length_bucket_names()
    rows = []
    for place in np.unique(bucket):
        inside = bucket == place
        part = None if decode is None else decode[inside]
        rows.append(_length_row(names[place], requests[inside], part, slo))
    return pd.DataFrame(rows, columns=list(LENGTH_COLUMNS))


def _length_row(
    name: str, requests: Records, decode: Records | None, slo: SloConfig
) -> dict[str, Any]:
    ttft = latency.ttft_s(requests)
    return {
        "input_tokens": name,
        "num_requests": len(requests),
        "num_finished": int((~np.isnan(latency.finished_at_s(requests, decode))).sum()),
        "ttft_mean_s": mean_or_nan(ttft),
        "ttft_p50_s": percentile_or_nan(ttft, 50),
        "ttft_p99_s": percentile_or_nan(ttft, 99),
        "buffer_wait_mean_s": mean_or_nan(latency.buffer_wait_s(requests)),
        "engine_wait_mean_s": mean_or_nan(latency.engine_wait_s(requests)),
        "prefill_mean_s": mean_or_nan(latency.prefill_s(requests)),
        "ttft_client_mean_s": mean_or_nan(latency.ttft_client_s(requests, decode)),
        "tpot_mean_s": mean_or_nan(latency.tpot_s(requests, decode)),
        "slo_attainment_frac": float(meets_slo(requests, decode, slo).mean()),
    }


def _in_thousands(tokens: int) -> str:
    return f"{tokens // 1024}K" if tokens >= 1024 else str(tokens)
