"""How many tokens of KV fit beside the weights of DeepSeek-V3/R1 on one GPU."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.errors import ConfigError
from sbs_gym.timing.shape import (
    ATTENTION_GEMMS,
    DENSE_GEMMS,
    EXPERT_GEMMS,
    HIDDEN,
    NUM_DENSE_LAYERS,
    NUM_EXPERTS,
    NUM_LAYERS,
    NUM_MOE_LAYERS,
)

VOCABULARY = 129_280
_FP8, _BF16 = 1, 2  # bytes of a number


@dataclass(frozen=True, slots=True, kw_only=True)
class KvRoom:
    """The memory of one GPU of a phase, in bytes, and the KV room that is left.

    Attributes:
        phase: prefill or decode.
        experts_per_gpu: Routed experts that one GPU holds in every MoE layer, copies included.
        memory_bytes, reserve_bytes: Of the cluster.
        expert_bytes: Routed experts of all MoE layers.
        shared_bytes: Shared experts.
        attention_bytes: Attention of all layers, whole on every rank.
        dense_bytes: Feed-forward networks of the dense layers.
        embedding_bytes: Embedding and output head.
        kv_bytes_per_token: KV of one token.
        kv_tokens: Room of a rank in tokens.
        given: Whether the cluster states the room itself, so that the arithmetic does not count.
    """

    phase: str
    experts_per_gpu: int
    memory_bytes: float
    reserve_bytes: float
    expert_bytes: float
    shared_bytes: float
    attention_bytes: float
    dense_bytes: float
    embedding_bytes: float
    kv_bytes_per_token: int
    kv_tokens: int
    given: bool

    @property
    def weight_bytes(self) -> float:
        """Weights of one GPU."""
        parts = (self.expert_bytes, self.shared_bytes, self.attention_bytes)
        return sum(parts) + self.dense_bytes + self.embedding_bytes


def kv_room(cluster: ClusterConfig, phase: str) -> KvRoom:
    """Return the memory arithmetic of one rank, which is one GPU.

    Weights are those of DeepSeek-V3 (arXiv 2412.19437 section 4.2 and config.json): matrices in
    FP8, embedding and head in BF16; attention and the shared expert are whole on every rank, routed
    experts are spread over the expert span. Multi-token prediction's own layer is not counted.

    Args:
        cluster: Memory, expert span, copies of experts; a stated room wins over the arithmetic.
        phase: prefill or decode.

    Raises:
        ConfigError: If the weights leave no room for a single token.
    """
    is_decode = phase == "decode"
    span = cluster.decode_expert_span if is_decode else cluster.prefill_expert_span
    copies = cluster.decode_redundant_experts if is_decode else cluster.prefill_redundant_experts
    stated = cluster.decode_kv_tokens if is_decode else cluster.prefill_kv_tokens
    experts = -(-(NUM_EXPERTS + copies) // span)
    expert_bytes = float(_FP8 * _parameters(EXPERT_GEMMS) * NUM_MOE_LAYERS)
    room = KvRoom(
        phase=phase,
        experts_per_gpu=experts,
        memory_bytes=cluster.gpu_memory_bytes,
        reserve_bytes=cluster.reserve_bytes,
        expert_bytes=experts * expert_bytes,
        shared_bytes=expert_bytes,
        attention_bytes=float(_FP8 * _parameters(ATTENTION_GEMMS) * NUM_LAYERS),
        dense_bytes=float(_FP8 * _parameters(DENSE_GEMMS) * NUM_DENSE_LAYERS),
        embedding_bytes=float(2 * _BF16 * VOCABULARY * HIDDEN),
        kv_bytes_per_token=cluster.kv_bytes_per_token,
        kv_tokens=stated or 0,
        given=stated is not None,
    )
    return room if room.given else _with_arithmetic(room, span)


def decode_kv_blocks(cluster: ClusterConfig) -> int:
    """Return the whole KV blocks of a decode rank; ConfigError as `kv_room`."""
    return kv_room(cluster, "decode").kv_tokens // cluster.kv_block_tokens


def _parameters(matrices: tuple[tuple[int, int], ...]) -> int:
    return sum(inner * outer for inner, outer in matrices)


def _with_arithmetic(room: KvRoom, span: int) -> KvRoom:
    left = room.memory_bytes - room.reserve_bytes - room.weight_bytes
    tokens = int(left // room.kv_bytes_per_token)
    if tokens < 1:
        raise ConfigError(
            f"cluster.{room.phase}_ep={span} leaves no KV room: {room.weight_bytes / 1e9:.1f} GB "
            f"of weights and {room.reserve_bytes / 1e9:.1f} GB of reserve in "
            f"{room.memory_bytes / 1e9:.1f} GB; expected a wider expert span, more "
            f"cluster.gpu_memory_bytes, or cluster.{room.phase}_kv_tokens stated"
        )
    return dataclasses.replace(room, kv_tokens=tokens)
