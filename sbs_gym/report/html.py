"""A page of HTML in one file: no script, no network, images inside; read on screens and on paper.

Everything that is told is escaped here; a part is a string of finished HTML.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape as _escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --soft: #5c5c5c;
  --line: #d5d5d5; --fill: #f4f4f2; --link: #0059a0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e6; --paper: #17181a; --soft: #a9a9a6;
  --line: #3c3e42; --fill: #222427; --link: #7cc0ff; } }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, header, footer, nav { max-width: 62rem; margin: 0 auto; padding: 0 1.2rem; }
header { padding-top: 2.2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 0.4rem; }
h2 { font-size: 1.4rem; margin: 3rem 0 0.6rem; padding-top: 0.8rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 0.4rem; }
p { max-width: 46rem; margin: 0.6rem 0; }
a { color: var(--link); }
nav ul { padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; }
nav { font-size: 0.92rem; }
.wide { overflow-x: auto; margin: 0.9rem 0 1.4rem; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.4rem; max-width: 46rem; }
th, td { text-align: right; padding: 0.28rem 0.7rem; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { white-space: normal; border-bottom: 2px solid var(--line); font-weight: 600; }
tbody th { font-weight: 500; white-space: normal; min-width: 11rem; }
table.text { width: 100%; min-width: 44rem; }
table.text td, table.text th { text-align: left; white-space: normal; }
table.text td:first-child, table.text th:first-child { min-width: 13rem; }
td.tight, th.tight { white-space: nowrap !important; }
tbody tr:hover { background: var(--fill); }
figure { margin: 1.2rem 0 1.8rem; }
figure img { max-width: 100%; height: auto; display: block; background: #ffffff;
  border: 1px solid var(--line); border-radius: 6px; padding: 0.4rem; }
figcaption { color: var(--soft); font-size: 0.92rem; max-width: 46rem; margin-top: 0.4rem; }
.badge { display: inline-block; padding: 0.05rem 0.5rem; border-radius: 999px;
  border: 1.5px solid currentColor; font-weight: 600; white-space: nowrap; }
.badge.good { color: #00704f; } .badge.bad { color: #b34700; } .badge.open { color: #5f5f5f; }
@media (prefers-color-scheme: dark) { .badge.good { color: #4fd0a5; }
  .badge.bad { color: #ff9d5c; } .badge.open { color: #b9b9b6; } }
details { margin: 0.7rem 0; } summary { cursor: pointer; color: var(--link); }
pre { background: var(--fill); padding: 0.8rem 1rem; border-radius: 6px; overflow-x: auto;
  font-size: 0.82rem; }
footer { color: var(--soft); font-size: 0.88rem; padding-bottom: 3rem; }
@media print { :root { --ink: #000; --paper: #fff; --soft: #444; } nav { display: none; }
  body { font-size: 10.5pt; } .wide { overflow: visible; } figure, tr { break-inside: avoid; }
  th, td { white-space: normal; } h2 { break-after: avoid; } }
"""
_BREAKS_AFTER = (":", "=", "_")
_WIDTH_AT = slice(16, 20)  # bytes of a PNG that hold its width, in pixels
_SHOWN = 0.65  # of these pixels: letters of a figure are then as large as those of the page
_GOOD, _BAD, _OPEN = "good", "bad", "open"
TONES = (_GOOD, _BAD, _OPEN)


def escape(text: str) -> str:
    """Return a text for a page, a number beside its unit."""
    told = _escape(text)
    for unit in ("%", "ms"):
        told = told.replace(f" {unit}", f"\u00a0{unit}")
    return told


def page(title: str, lead: Sequence[str], sections: Sequence[tuple[str, str, str]]) -> str:
    """Return a whole page.

    Args:
        title: Heading, and name of the window.
        lead: Parts below the heading, before the first section.
        sections: Anchor, heading and finished HTML of every section, in order.
    """
    links = "".join(
        f'<li><a href="#{escape(anchor)}">{escape(heading)}</a></li>'
        for anchor, heading, _ in sections
    )
    body = "\n".join(
        f'<section id="{escape(anchor)}">\n<h2>{escape(heading)}</h2>\n{inside}\n</section>'
        for anchor, heading, inside in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n{''.join(lead)}\n</header>\n"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>\n{body}\n</main>\n'
        "</body>\n</html>\n"
    )


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>\n"


def heading(text: str) -> str:
    """Return a heading below that of a section."""
    return f"<h3>{escape(text)}</h3>\n"


def bullets(lines: Sequence[str]) -> str:
    """Return a list of plain texts; nothing for none."""
    inside = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{inside}</ul>\n" if lines else ""


def code(lines: Sequence[str]) -> str:
    """Return lines that are typed or read by programs."""
    return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>\n"


def folded(summary: str, inside: str) -> str:
    """Return a part that opens when its summary is clicked; open on no script either."""
    return f"<details><summary>{escape(summary)}</summary>\n{inside}</details>\n"


def number_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of numbers whose first column names the rows."""
    return _table("", caption, columns, [[escape(cell) for cell in row] for row in rows])


def text_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of words whose cells may be finished HTML.

    Args:
        caption: Stands above it.
        columns: Headings.
        rows: Cells, escaped or made by functions of this module.
    """
    return _table("text", caption, columns, rows)


def badge(text: str, tone: str) -> str:
    """Return a word in a frame; `good`, `bad` or `open` colours it, and the word says it all."""
    return f'<span class="badge {tone if tone in TONES else _OPEN}">{escape(text)}</span>'


def image(png: bytes, alt: str, caption: str) -> str:
    """Return a picture with what it shows in words, inside the page."""
    width = round(int.from_bytes(png[_WIDTH_AT], "big") * _SHOWN)
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img width="{width}" alt="{_escape(alt, quote=True)}" '
        f'src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def definitions(items: Mapping[str, str]) -> str:
    """Return names with what they mean."""
    rows = [[escape(name), escape(text)] for name, text in items.items()]
    return _table("text", "", ("name", "value"), rows)


def _breakable(name: str) -> str:
    told = escape(name)
    for sign in _BREAKS_AFTER:
        told = told.replace(sign, f"{sign}<wbr>")
    return told


def _table(kind: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{_breakable(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    label = f' aria-label="{_escape(caption or columns[0], quote=True)}"'
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide" role="region" tabindex="0"{label}><table class="{kind}">{told}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )
