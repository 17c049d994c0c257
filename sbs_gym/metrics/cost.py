"""What the GPUs delivered and what that cost, as published figures count it."""

from __future__ import annotations

from sbs_gym.config.cluster import ClusterConfig

_NAN = float("nan")


def gpu_numbers(
    cluster: ClusterConfig, *, input_tokens_per_s: float, output_tokens_per_s: float
) -> dict[str, float]:
    """Return GPUs, tokens per GPU and node of the side that works on them, and cost.

    A rank is one GPU. Prompt tokens are counted per prefill GPU and generated ones per decode GPU.
    The cost is that of the whole cluster, prefill and decode: divided by the prompt tokens alone,
    and once more by the generated tokens alone; the two must not be added.

    Args:
        cluster: Ranks, GPUs of a node and price.
        input_tokens_per_s: Prompt tokens of the window per second.
        output_tokens_per_s: Generated tokens of the window per second; NaN without decode.
    """
    num_prefill, num_decode = cluster.num_prefill_ranks, cluster.num_decode_ranks
    num_gpus = num_prefill + num_decode
    price_per_s = cluster.gpu_price_per_hour / 3600 * num_gpus
    per_prefill = _ratio(input_tokens_per_s, num_prefill)
    per_decode = _ratio(output_tokens_per_s, num_decode)
    return {
        "num_gpus": num_gpus,
        "num_decode_gpus": num_decode,
        "input_tokens_per_prefill_gpu_s": per_prefill,
        "input_tokens_per_prefill_node_s": per_prefill * cluster.gpus_per_node,
        "output_tokens_per_decode_gpu_s": per_decode,
        "output_tokens_per_decode_node_s": per_decode * cluster.gpus_per_node,
        "cost_per_million_input_tokens": 1e6 * _ratio(price_per_s, input_tokens_per_s),
        "cost_per_million_output_tokens": 1e6 * _ratio(price_per_s, output_tokens_per_s),
    }


def _ratio(amount: float, count: float) -> float:
    return amount / count if count > 0 else _NAN
