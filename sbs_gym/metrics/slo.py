"""Which requests got the latency that they were promised."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.run import SloConfig
from sbs_gym.metrics.latency import Records, finished_at_s, is_decoded, tpot_s, ttft_s
from sbs_gym.types import FloatArray

Flags = NDArray[np.bool_]


def slo_ttft_s(input_tokens: NDArray[Any], slo: SloConfig) -> FloatArray:
    """Return the TTFT that the SLO allows each prompt length, seconds."""
    beyond = np.maximum(0, input_tokens.astype(np.int64) - slo.ttft_free_tokens)
    return slo.ttft_s + slo.ttft_per_token_s * beyond


# In all three a comparison with NaN is False, which is what an unfinished request deserves.


def meets_ttft(requests: Records, slo: SloConfig) -> Flags:
    """Return whether each request had its first token in time."""
    return ttft_s(requests) <= slo_ttft_s(requests["input_tokens"], slo)


def meets_tpot(requests: Records, decode: Records | None, slo: SloConfig) -> Flags:
    """Return whether each request is finished and its TPOT, where it has one, was short enough.

    An answer of one token has no TPOT, nor has any where no decode is modelled: being finished is
    enough.
    """
    finished = ~np.isnan(finished_at_s(requests, decode))
    if decode is None:
        return finished
    in_time = tpot_s(requests, decode) <= slo.tpot_s
    return finished & (in_time | ~is_decoded(requests))


def meets_slo(requests: Records, decode: Records | None, slo: SloConfig) -> Flags:
    """Return whether each request has met its SLO; unfinished and rejected ones have not."""
    return meets_ttft(requests, slo) & meets_tpot(requests, decode, slo)
