"""Latencies of requests from their records; NaN where an instant was never reached.

Where no decode is modelled, `decode` is None and a request is finished by its first token.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.types import FloatArray

Records = NDArray[Any]

_PERCENTILES = (50, 90, 99)


def ttft_s(requests: Records) -> FloatArray:
    """Return first token - arrival per request, seconds."""
    return requests["first_token_at_s"] - requests["arrived_at_s"]  # type: ignore[no-any-return]


def buffer_wait_s(requests: Records) -> FloatArray:
    """Return dispatch - arrival per request, seconds."""
    return requests["dispatched_at_s"] - requests["arrived_at_s"]  # type: ignore[no-any-return]


def engine_wait_s(requests: Records) -> FloatArray:
    """Return first pass - dispatch per request, seconds; the link is part of it."""
    return requests["prefill_started_at_s"] - requests["dispatched_at_s"]  # type: ignore[no-any-return]


def prefill_s(requests: Records) -> FloatArray:
    """Return first token - first pass per request, seconds."""
    return requests["first_token_at_s"] - requests["prefill_started_at_s"]  # type: ignore[no-any-return]


def finished_at_s(requests: Records, decode: Records | None) -> FloatArray:
    """Return the instant of the last token, seconds."""
    return requests["first_token_at_s"] if decode is None else decode["finished_at_s"]


def e2e_s(requests: Records, decode: Records | None) -> FloatArray:
    """Return last token - arrival per request, seconds."""
    return finished_at_s(requests, decode) - requests["arrived_at_s"]  # type: ignore[no-any-return]


def ttft_client_s(requests: Records, decode: Records | None) -> FloatArray:
    """Return second token - arrival per request, seconds: hand-off and first step included.

    A client of a P/D-separated server hears nothing before decode has begun. An answer of one
    token, and any answer where no decode is modelled, gives its TTFT.
    """
    first = ttft_s(requests)
    if decode is None:
        return first
    second = decode["second_token_at_s"] - requests["arrived_at_s"]
    return np.where(is_decoded(requests), second, first)


def tpot_s(requests: Records, decode: Records | None) -> FloatArray:
    """Return the mean gap between the tokens of each answer, seconds; NaN for one token."""
    decoding = _after_first_token(requests, finished_at_s(requests, decode), decode)
    return decoding / np.maximum(1, requests["output_tokens"].astype(np.int64) - 1)


def handoff_wait_s(requests: Records, decode: Records | None) -> FloatArray:
    """Return binding - first token per request, seconds; 0 if it was bound before.

    NaN for an answer of one token, which is not handed over; so are the three parts below.
    """
    return _after_first_token(requests, _handed_over_at_s(requests, decode), decode)


def transfer_s(requests: Records, decode: Records | None) -> FloatArray:
    """Return KV there - binding or first token, the later one, per request, seconds."""
    return _between("transferred_at_s", _handed_over_at_s(requests, decode), requests, decode)


def decode_wait_s(requests: Records, decode: Records | None) -> FloatArray:
    """Return first step - KV there per request, seconds."""
    return _between("admitted_at_s", _instant("transferred_at_s", decode), requests, decode)


def decode_s(requests: Records, decode: Records | None) -> FloatArray:
    """Return last token - first step per request, seconds; time swapped out included."""
    return _between("finished_at_s", _instant("admitted_at_s", decode), requests, decode)


def is_decoded(requests: Records) -> NDArray[np.bool_]:
    """Return which answers have more than one token, so that decode has work with them."""
    return np.asarray(requests["output_tokens"] > 1)


def mean_or_nan(values: FloatArray) -> float:
    """Return the mean of the numbers that are there; NaN if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def percentile_or_nan(values: FloatArray, percent: float) -> float:
    """Return a percentile (linear between ranks) of the numbers that are there; NaN if none is."""
    known = values[~np.isnan(values)]
    return float(np.percentile(known, percent)) if len(known) else float("nan")


def spread(name: str, values: FloatArray) -> dict[str, float]:
    """Return `<name>_mean_s` and `<name>_p50_s`, `_p90_s`, `_p99_s`."""
    found = {f"{name}_mean_s": mean_or_nan(values)}
    return found | {f"{name}_p{p}_s": percentile_or_nan(values, p) for p in _PERCENTILES}


def _instant(name: str, decode: Records | None) -> Any:
    return np.nan if decode is None else decode[name]


def _handed_over_at_s(requests: Records, decode: Records | None) -> Any:
    """The later one of binding and first token: under `at_dispatch` the binding comes first."""
    return np.maximum(_instant("bound_at_s", decode), requests["first_token_at_s"])


def _after_first_token(requests: Records, until_s: Any, decode: Records | None) -> FloatArray:
    gap = until_s - requests["first_token_at_s"]
    return np.where(is_decoded(requests) & (decode is not None), gap, np.nan)


def _between(name: str, since_s: Any, requests: Records, decode: Records | None) -> FloatArray:
    return np.where(is_decoded(requests), _instant(name, decode) - since_s, np.nan)
