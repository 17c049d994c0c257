"""How a toy is written down.

Unless said, every pass takes 1 s, delays are 0, and there is one instance of one rank with a
chunk of 10. What is expected holds fields of ReferenceResult; its `passes` are
`(instance, index, started_at_s, ended_at_s, budget, tokens per rank)`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sbs_gym.config.timing import ConstantTiming, TimingConfig
from sbs_gym.timing.model import TimingModel, build_timing
from tests.reference.scenario import Scenario

Toy = tuple[str, Scenario, dict[str, Any]]


def scenario(
    requests: list[tuple[float, int]],
    *,
    timing: TimingConfig | None = None,
    pair_cost_s: float = 0.0,
    **changes: Any,
) -> Scenario:
    """Return a scenario of (arrived_at_s, input_tokens), with the defaults named above."""
    cluster = {"num_prefill": 1, "dp": 1, "chunk_tokens": 10} | changes
    return Scenario(
        arrived_at_s=[at_s for at_s, _ in requests],
        input_tokens=[tokens for _, tokens in requests],
        timing=timing_model(
            timing or ConstantTiming(pass_s=1.0),
            cluster["dp"],
            cluster["chunk_tokens"],
            pair_cost_s,
        ),
        **cluster,
    )


def timing_model(
    config: TimingConfig, dp: int, chunk_tokens: int, pair_cost_s: float
) -> TimingModel:
    model = build_timing(config, dp=dp, ep=dp, chunk_tokens=chunk_tokens)
    coefficients = model.coefficients.copy()
    coefficients["pair_cost_s"] = pair_cost_s
    return dataclasses.replace(model, coefficients=coefficients)


def toy(name: str, given: Scenario, **expected: Any) -> Toy:
    return name, given, expected
