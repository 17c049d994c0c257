"""`sbs-gym memory`: what fills a GPU, and how many tokens of KV are left room for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from sbs_gym import artifacts
from sbs_gym.commands.words import items, output_file, refuse_keys, split_words, whole
from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.errors import ConfigError
from sbs_gym.report import tables
from sbs_gym.report.style import number
from sbs_gym.schema import GROUPS, load_settings
from sbs_gym.timing.memory import KvRoom, kv_room

OWN = ("ep", "output")
DEFAULT_EP = "[4,8,16,32,64,128,256]"
_NO_MATTER = (
    *(group for group in GROUPS if group != "cluster"), "slo", "load", "load_side", "rate_per_s",
    "num_requests", "horizon_s", "seed", "output_dir",
)  # fmt: skip
HELP = f"""
sbs-gym memory [ep={DEFAULT_EP}] [output=FILE] [key=value ...]

Print what fills the memory of one GPU of a cluster (reserve, weights of DeepSeek-V3/R1 part by
part) and the room that is left for KV, for prefill and decode, and for other expert spans.

  memory - reserve - weights = room; room / cluster.kv_bytes_per_token = tokens, rounded down;
  tokens / cluster.kv_block_tokens = blocks, rounded down (decode)

A room that the cluster states (cluster.prefill_kv_tokens, cluster.decode_kv_tokens) is taken as it
is, and the arithmetic beside it does not count.

  ep      expert spans of the second table, GPUs; the copies of experts are those of decode
  output  write both tables as JSON

The other words describe the cluster, as in `sbs-gym simulate`.

  sbs-gym memory
  sbs-gym memory cluster=deepseek_ep32_ep144 'ep=[32,72,144,320]'
  sbs-gym memory cluster.gpu_memory_bytes=141e9 cluster.decode_ep=16
"""
_PARTS = (
    ("memory", "memory_bytes", 1),
    ("reserve", "reserve_bytes", -1),
    ("routed experts", "expert_bytes", -1),
    ("shared experts", "shared_bytes", -1),
    ("attention", "attention_bytes", -1),
    ("dense layers", "dense_bytes", -1),
    ("embedding and head", "embedding_bytes", -1),
)


def run(words: Sequence[str]) -> None:
    """Print the memory arithmetic of a cluster."""
    own, rest = split_words(words, OWN)
    refuse_keys(rest, _NO_MATTER, "does not matter to memory")
    spans = [whole("ep", text, 1, 1024) for text in items(own.get("ep", DEFAULT_EP))]
    if not spans:
        raise ConfigError(f"ep={own['ep']!r} is not allowed; expected numbers such as [16,32]")
    path = output_file(own["output"]) if "output" in own else None
    cluster = load_settings(rest, also=OWN).run.cluster
    phases = {phase: arithmetic(cluster, phase) for phase in ("prefill", "decode")}
    by_span = {span: arithmetic(_with_span(cluster, span), "decode") for span in spans}
    tables.show(
        f"{cluster.name}: prefill EP{cluster.prefill_expert_span}, decode "
        f"EP{cluster.decode_expert_span}; {cluster.kv_bytes_per_token:,} bytes of KV per token, "
        f"blocks of {cluster.kv_block_tokens} tokens",
        *(_no_decode(cluster)),
        "",
        _phase_table(phases),
        _span_table(by_span, cluster),
    )
    if path is not None:
        found = {"phases": phases, "decode_by_expert_span": by_span}
        artifacts.write_all(path.parent, {path.name: artifacts.json_writer(found)})
        tables.show(f"written to {path}")


def arithmetic(cluster: ClusterConfig, phase: str) -> dict[str, Any]:
    """Return the parts of a GPU's memory in bytes, and the room; None where there is no room.

    Args:
        cluster: Memory, expert span, KV bytes and blocks.
        phase: prefill or decode.
    """
    room = _room_or_parts(cluster, phase)
    left = room.memory_bytes - room.reserve_bytes - room.weight_bytes
    tokens = room.kv_tokens if room.given or left >= room.kv_bytes_per_token else None
    return {
        "experts_per_gpu": room.experts_per_gpu,
        **{key: getattr(room, key) for _, key, _ in _PARTS},
        "weight_bytes": room.weight_bytes,
        "left_bytes": left,
        "stated": room.given,
        "kv_tokens": tokens,
        "kv_blocks": None if tokens is None else tokens // cluster.kv_block_tokens,
    }


def _room_or_parts(cluster: ClusterConfig, phase: str) -> KvRoom:
    """Return the room; where the weights leave none, its parts with a room that does not count."""
    try:
        return kv_room(cluster, phase)
    except ConfigError:
        # A table shows by how much it does not fit; a run refuses it.
        stated: Any = {f"{phase}_kv_tokens": cluster.kv_block_tokens}
        return dataclasses.replace(
            kv_room(dataclasses.replace(cluster, **stated), phase), kv_tokens=0, given=False
        )


def _with_span(cluster: ClusterConfig, span: int) -> ClusterConfig:
    return dataclasses.replace(cluster, decode_ep=span, decode_kv_tokens=None)


def _no_decode(cluster: ClusterConfig) -> list[str]:
    if cluster.num_decode > 0:
        return []
    return ["cluster.num_decode=0: KV room is not modelled in runs of this cluster"]


def _phase_table(phases: dict[str, dict[str, Any]]) -> Any:
    both = list(phases.values())
    rows = [
        (name if sign > 0 else f"- {name}", *(_gigabytes(one[key]) for one in both))
        for name, key, sign in _PARTS
    ]
    rows.append(("= left for KV", *(_gigabytes(one["left_bytes"]) for one in both)))
    rows.append(("routed experts per GPU and layer", *(str(p["experts_per_gpu"]) for p in both)))
    rows.append(("KV room, tokens", *(_tokens(one) for one in both)))
    rows.append(("KV room, blocks", "-", _count(phases["decode"]["kv_blocks"])))
    return tables.number_table("memory of one GPU (GB = 1e9 bytes)", ("", *phases), rows)


def _span_table(by_span: dict[int, dict[str, Any]], cluster: ClusterConfig) -> Any:
    columns = ("EP", "experts/GPU", "weights GB", "left GB", "KV tokens", "blocks")
    rows = [
        (
            str(span),
            str(one["experts_per_gpu"]),
            _gigabytes(one["weight_bytes"]),
            _gigabytes(one["left_bytes"]),
            _tokens(one),
            _count(one["kv_blocks"]),
        )
        for span, one in by_span.items()
    ]
    copies = cluster.decode_redundant_experts
    return tables.number_table(f"by expert span (256 + {copies} experts)", columns, rows)


def _gigabytes(amount: float) -> str:
    return number(amount / 1e9, 2)


def _tokens(one: dict[str, Any]) -> str:
    return _count(one["kv_tokens"]) + (" (stated)" if one["stated"] else "")


def _count(amount: int | None) -> str:
    return "no room" if amount is None else f"{amount:,}"
