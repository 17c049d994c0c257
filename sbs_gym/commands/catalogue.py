"""`sbs-gym list`: every preset with one line about it, and what the schedulers are made of."""

from __future__ import annotations

from collections.abc import Sequence

from sbs_gym.commands.words import refuse_other
from sbs_gym.config.groups import group_names, read_group
from sbs_gym.config.scheduler import scheduler_from_mapping
from sbs_gym.config.workload import TRACE_FORMATS
from sbs_gym.report.tables import show, text_table

HELP = """
sbs-gym list [what]

Show the presets that words such as scheduler=sbs take, one line each. `what` is one of schedulers,
workloads, arrivals, clusters, timings, formats; without it, all of them. The schedulers come with
a table of their parts: any part can be replaced, as in scheduler=sbs scheduler.order=shortest.

  sbs-gym list
  sbs-gym list schedulers
"""
_GROUPS = {
    "schedulers": "scheduler",
    "workloads": "workload",
    "arrivals": "arrivals",
    "clusters": "cluster",
    "timings": "timing",
}
_PARTS = ("release", "routing", "order", "allocation", "budget")


def run(words: Sequence[str]) -> None:
    """Print the presets of one kind, or of all."""
    known = (*_GROUPS, "formats")
    refuse_other([f"{word}=" for word in words], known, "sbs-gym list")
    for what in words or known:
        if what == "formats":
            _show_formats()
            continue
        _show_group(what)
        if what == "schedulers":
            _show_parts()


def _show_group(what: str) -> None:
    group = _GROUPS[what]
    rows = [(name, str(read_group(group, name).get("about", ""))) for name in group_names(group)]
    show(text_table(f"{what} ({group}=…)", ("name", "about"), rows))


def _show_parts() -> None:
    rows = []
    for name in group_names("scheduler"):
        parts = scheduler_from_mapping(read_group("scheduler", name))
        rows.append((name, " / ".join(str(getattr(parts, part)) for part in _PARTS)))
    title = "what each scheduler is made of (scheduler.release=… scheduler.routing=… …)"
    show(text_table(title, ("name", " / ".join(_PARTS)), rows))


def _show_formats() -> None:
    rows = [(name, _FORMATS[name]) for name in TRACE_FORMATS]
    show(text_table("trace formats (workload=trace workload.format=…)", ("name", "about"), rows))


_FORMATS = {
    "auto": "recognised by content",
    "mooncake": "JSONL with timestamp (ms), input_length, hash_ids",
    "bailian": "JSONL with chat_id, timestamp (s), input_length",
    "rtp_llm": "JSONL with ts (ms), il, ol, bh",
    "azure": "CSV TIMESTAMP,ContextTokens,GeneratedTokens",
    "burstgpt": "CSV Timestamp (s), Request tokens, Response tokens",
    "vidur": "CSV num_prefill_tokens, num_decode_tokens, arrived_at (s)",
    "splitwise": "CSV arrival_timestamp (s), prompt_size, token_size",
    "llmservingsim": "JSONL with arrival_time_ns, input_toks, output_toks",
    "dynamo": "request traces dynamo.request.trace.v1",
    "agentic": "sessions with requests[].t, in, out",
    "generic": "CSV or Parquet; workload.columns={arrived_at: …, input_tokens: …}",
}
