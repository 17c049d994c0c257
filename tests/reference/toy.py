"""How a toy is written down.

Unless said, every pass takes 1 s, delays are 0, and there is one instance of one rank with a
chunk of 10. What is expected holds fields of ReferenceResult; its `passes` are
`(instance, index, started_at_s, ended_at_s, budget, tokens per rank)`.

With decode: one decode instance of one rank, whose steps take 1 s and give one token; a link
carries 4 tokens a second, without latency; a block holds one token and a grant reserves the prompt
and 2 tokens; swapping a request out and in takes 1/8 s per token, computing it anew 1/4 s; ranks
take turns; there is room for 1000 tokens everywhere, and no report within the run. `steps` are
`(instance, index, started_at_s, ended_at_s, batch, KV tokens, blocks)`, the last three per rank.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sbs_gym.config.timing import ConstantTiming, TimingConfig
from sbs_gym.timing.decode import build_decode_timing
from sbs_gym.timing.model import TimingModel, build_timing
from tests.reference.decode import max_running
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


def decode_scenario(
    requests: list[tuple[float, int, int]],
    *,
    decode_timing: TimingConfig | None = None,
    **changes: Any,
) -> Scenario:
    """Return a scenario of (arrived_at_s, input_tokens, output_tokens)."""
    given = scenario(
        [(at_s, tokens) for at_s, tokens, _ in requests],
        output_tokens=[tokens for _, _, tokens in requests],
        **(DECODE | changes),
    )
    return with_decode_timing(given, decode_timing or ConstantTiming(step_s=1.0))


DECODE: dict[str, Any] = {
    "num_decode": 1,
    "kv_bytes_per_token": 1 << 20,
    "nic_bytes_per_s": float(1 << 22),
    "transfer_latency_s": 0.0,
    "host_bytes_per_s": float(1 << 24),
    "recompute_tokens_per_s": 4.0,
    "decode_reserve_tokens": 2,
    "kv_block_tokens": 1,
    "prefill_kv_tokens": 1000,
    "decode_kv_blocks": 1000,
    "mtp_tokens": 1,
    "tokens_per_step": 1.0,
    "report_period_s": 1024.0,
    "placement": "round_robin",
}


def with_decode_timing(given: Scenario, config: TimingConfig) -> Scenario:
    """Return the scenario with its decode steps timed by `config`."""
    timing = build_decode_timing(
        config,
        dp=given.decode_dp,
        ep=given.decode_dp,
        q_tokens=given.mtp_tokens,
        max_requests=max_running(given),
    )
    return dataclasses.replace(given, decode_timing=timing)


def timing_model(
    config: TimingConfig, dp: int, chunk_tokens: int, pair_cost_s: float
) -> TimingModel:
    model = build_timing(config, dp=dp, ep=dp, chunk_tokens=chunk_tokens)
    coefficients = model.coefficients.copy()
    coefficients["pair_cost_s"] = pair_cost_s
    return dataclasses.replace(model, coefficients=coefficients)


def toy(name: str, given: Scenario, **expected: Any) -> Toy:
    return name, given, expected
