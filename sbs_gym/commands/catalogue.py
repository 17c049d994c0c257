"""`sbs-gym list`: every preset with one line about it, and what the schedulers are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sbs_gym.commands.words import refuse_other
from sbs_gym.config.groups import group_names, read_group
from sbs_gym.config.learned import PREFIX, learned_names, read_weights_file
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
KINDS = (*_GROUPS, "formats")
_PARTS = ("release", "routing", "order", "allocation", "budget", "reserved")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One table of presets.

    Attributes:
        title: What is listed, and the word that takes it.
        columns: Headings.
        rows: One row per preset.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def run(words: Sequence[str]) -> None:
    """Print the presets of one kind, or of all."""
    refuse_other([f"{word}=" for word in words], KINDS, "sbs-gym list")
    for what in words or KINDS:
        for listing in listings(what):
            columns, rows = _in_two_columns(listing)
            show(text_table(listing.title, columns, rows))


def listings(what: str) -> list[Listing]:
    """Return the tables of one kind of presets; `docs/catalogue.md` shows them too."""
    if what == "formats":
        rows = [(name, _FORMATS[name]) for name in TRACE_FORMATS]
        title = "trace formats (workload=trace workload.format=…)"
        return [Listing(title=title, columns=("name", "about"), rows=[*rows])]
    group = _GROUPS[what]
    about = [(name, str(read_group(group, name).get("about", ""))) for name in group_names(group)]
    presets = Listing(title=f"{what} ({group}=…)", columns=("name", "about"), rows=[*about])
    return [presets, *_learned(), _parts()] if what == "schedulers" else [presets]


def _learned() -> list[Listing]:
    """Return the table of the networks that are shipped, if there are any."""
    rows = [
        (f"{PREFIX}{name}", str(read_weights_file(name).meta.get("about", "")))
        for name in learned_names()
    ]
    title = f"learned schedulers (scheduler={PREFIX}…)"
    return [Listing(title=title, columns=("name", "about"), rows=[*rows])] if rows else []


def _parts() -> Listing:
    rows = []
    for name in group_names("scheduler"):
        parts = scheduler_from_mapping(read_group("scheduler", name))
        rows.append((name, *(str(getattr(parts, part)) for part in _PARTS)))
    title = "what each scheduler is made of (scheduler.release=… scheduler.routing=… …)"
    return Listing(title=title, columns=("name", *_PARTS), rows=rows)


def _in_two_columns(listing: Listing) -> tuple[tuple[str, str], list[tuple[str, str]]]:
    """Return the table with all columns but the first in one, which a terminal can wrap."""
    rows = [(row[0], " / ".join(row[1:])) for row in listing.rows]
    return (listing.columns[0], " / ".join(listing.columns[1:])), rows


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
