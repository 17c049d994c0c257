"""The report as a page: verdicts first, then the story, then how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from sbs_gym.report import html
from sbs_gym.report.html import escape
from sbs_gym.reproduce.claims import (
    DIFFERS,
    EXCEEDS,
    HOLDS,
    SHORT,
    UNDECIDED,
    VERDICTS,
    Claim,
)
from sbs_gym.reproduce.preset import OWN_RATE, Preset
from sbs_gym.reproduce.registry import TRACES
from sbs_gym.reproduce.settings import as_words
from sbs_gym.reproduce.study import Chapter
from sbs_gym.reproduce.text import (
    by_claim,
    common_range,
    counts,
    from_to,
    range_text,
    with_interval,
    words,
)

_NO_CLAIM = "These studies measure no claim of the paper."
_TITLE = "Does Staggered Batch Scheduling hold in this simulator?"
_TONES = {HOLDS: "good", EXCEEDS: "good", SHORT: "bad", DIFFERS: "bad", UNDECIDED: "open"}


def report_page(
    preset: Preset,
    chapters: Sequence[Chapter],
    images: Mapping[str, bytes],
    provenance: Mapping[str, Any],
) -> str:
    """Return the report.

    Args:
        preset: What was run.
        chapters: What was found.
        images: Name of a picture to its PNG.
        provenance: Versions and checksums.
    """
    claims = [claim for chapter in chapters for claim in chapter.claims]
    sections = [
        ("verdicts", "The verdicts", _verdicts(claims)),
        *((one.name, one.title, _chapter(one, images)) for one in chapters),
        ("fails", "What does not hold, and what does not count", _fails(claims, chapters)),
        ("repeat", "How to repeat it", _repeat(preset, chapters, provenance)),
    ]
    return html.page(_TITLE, [html.paragraph(text) for text in _lead(preset, claims)], sections)


def _lead(preset: Preset, claims: Sequence[Claim]) -> list[str]:
    return [
        "Staggered Batch Scheduling (SBS, arXiv 2512.16134) holds requests back for a moment and "
        "gives them out in batches, one engine after another, instead of dispatching each at once. "
        "This page says which of its claims this simulator confirms, by how much, and where not.",
        f"{_overall(claims)} {preset.about}",
    ]


def _overall(claims: Sequence[Claim]) -> str:
    """Return how many verdicts there are of each kind, as a sentence."""
    if not claims:
        return _NO_CLAIM
    parts = [f"{verdict} {count}" for verdict, count in counts(claims).items()]
    return f"{len(by_claim(claims))} claims in {len(claims)} comparisons: {', '.join(parts)}."


def _verdicts(claims: Sequence[Claim]) -> str:
    if not claims:
        return html.paragraph(_NO_CLAIM)
    groups = by_claim(claims)
    rows = [
        [
            escape(text),
            " ".join(html.badge(f"{v}: {n}", _TONES[v]) for v, n in counts(group).items()),
            escape(from_to(group)),
            escape(common_range(group)),
            escape(group[0].source),
        ]
        for text, group in groups.items()
    ]
    columns = (
        "what is claimed",
        "verdicts, and in how many settings",
        "measured",
        "the claim's range",
        "source",
    )
    single = "".join(_group(text, group) for text, group in groups.items())
    return (
        html.text_table("", columns, rows)
        + html.folded("What the verdicts mean", html.definitions(VERDICTS))
        + html.folded("Every single verdict", single)
    )


def _group(text: str, claims: Sequence[Claim]) -> str:
    rows = [
        [
            escape(claim.setting),
            escape(claim.against),
            html.badge(claim.verdict, _TONES[claim.verdict]),
            escape(with_interval(claim.measured, claim.unit)),
            escape(range_text(claim.allowed, claim.unit)),
        ]
        for claim in claims
    ]
    columns = ("setting", "against", "verdict", "measured [interval]", "claimed")
    return html.heading(text) + html.text_table("", columns, rows)


def _chapter(chapter: Chapter, images: Mapping[str, bytes]) -> str:
    parts = [html.paragraph(text) for text in chapter.paragraphs]
    parts += [html.image(images[one.name], one.alt, one.caption) for one in chapter.pictures]
    for place, sheet in enumerate(chapter.sheets):
        table = html.number_table(sheet.title, sheet.columns, sheet.rows)
        parts.append(
            table if place == 0 else html.folded(f"Table: {sheet.title.partition(';')[0]}", table)
        )
    parts += [_of_claims(chapter.claims)] if chapter.claims else []
    if chapter.commands:
        parts.append(html.folded("Commands that repeat these runs", html.code(chapter.commands)))
    return "".join(parts)


def _of_claims(claims: Sequence[Claim]) -> str:
    rows = [
        [
            escape(claim.sentence),
            html.badge(claim.verdict, _TONES[claim.verdict]),
            escape(with_interval(claim.measured, claim.unit)),
            escape(claim.where),
            escape(claim.how_measured),
        ]
        for claim in claims
    ]
    columns = ("claim", "verdict", "measured", "where", "how it was measured")
    return html.folded(
        "How each claim was measured, and where it holds", html.text_table("", columns, rows)
    )


def _fails(claims: Sequence[Claim], chapters: Sequence[Chapter]) -> str:
    parts = []
    for verdict, said in (
        (SHORT, "These claims fall short of their range:"),
        (DIFFERS, "Here simulation and theory differ:"),
        (EXCEEDS, "These exceed it:"),
        (UNDECIDED, "These are undecided; more seeds or longer runs would tell:"),
    ):
        lines = [_line(claim) for claim in claims if claim.verdict == verdict]
        parts.append(html.paragraph(said) + html.bullets(lines) if lines else "")
    left_out = [f"{chapter.title}: {line}" for chapter in chapters for line in chapter.left_out]
    if left_out:
        said = f"{len(left_out)} places that were run and are left out of ratios, and why"
        parts.append(html.folded(said, html.bullets(left_out)))
    return "".join(parts) or html.paragraph(
        "Nothing: every claim that was measured holds, and everything that was run counts."
    )


def _line(claim: Claim) -> str:
    measured = with_interval(claim.measured, claim.unit)
    where = f"; {claim.where}" if claim.where else ""
    return f"{claim.sentence}: {measured}, claimed {range_text(claim.allowed, claim.unit)}{where}"


def _settings(preset: Preset) -> str:
    return yaml.safe_dump(
        preset.to_mapping(), sort_keys=False, allow_unicode=True, width=96
    ).strip()


def _repeat(preset: Preset, chapters: Sequence[Chapter], provenance: Mapping[str, Any]) -> str:
    inputs = {str(key): str(value) for key, value in provenance["inputs"].items()}
    listed = {**provenance, "studies": words(provenance["studies"])}
    versions = {key: str(listed[key]) for key in listed if key not in ("inputs", "trace_load")}
    parts = [
        html.paragraph("This report, and one study of it:"),
        html.code(_commands(preset, [chapter.name for chapter in chapters], provenance)),
        html.paragraph(
            "Every chapter lists the commands of its own runs. Beside this page lie verdicts.json, "
            "tables/ (CSV and JSON, seconds and fractions), figures/ (PNG and SVG), config.yaml "
            "with every setting, provenance.json, and studies/ with every finished run. Seeds "
            "count from 0; seeds=… in a command says how many."
        ),
        html.folded("Every setting", html.code([_settings(preset)])),
        html.definitions({**versions, **inputs}),
    ]
    return "".join(parts)


def _commands(preset: Preset, chapters: Sequence[str], provenance: Mapping[str, Any]) -> list[str]:
    """Return the command of the whole report, traces included, and that of its first study."""
    names = [name for name in chapters if name != TRACES]
    whole: dict[str, Any] = {"preset": preset.given or preset.name}
    first = {**whole, "studies": names[:1]}
    if names != list(preset.studies()):
        whole["studies"] = names
    replayed = [as_words({"trace": path}) for path in provenance["inputs"]]
    if replayed:
        load = provenance["trace_load"]
        replayed.append(as_words({"trace_load": OWN_RATE if load is None else load}))
    return [
        " ".join(["sbs-gym reproduce", as_words(whole), *replayed]),
        f"sbs-gym reproduce {as_words(first)}",
    ]
