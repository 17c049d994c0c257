"""Write docs/columns.md and docs/catalogue.md: `python docs/write_reference.py`.

Both say what the package itself says of its columns and presets. `--check` writes nothing and fails
if a page is not up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from sbs_gym.commands.catalogue import KINDS, listings
from sbs_gym.result import column_docs

DOCS = Path(__file__).resolve().parent
_WRITTEN = "<!-- Written by docs/write_reference.py (make docs); edit the source instead. -->"
_ABOUT_TABLES = {
    "requests": "`requests.parquet`: one row per request of the workload table.",
    "passes": "`passes.parquet`: one row per finished pass.",
    "steps": "`steps.parquet`: one row per finished decode step; empty without decode.",
    "by_length": "`by_length.parquet`: one row per bucket of prompt lengths.",
    "summary": "`summary.json`, and one row per run in `runs.parquet` of a comparison.",
}


def pages() -> dict[str, str]:
    """Return the name and text of every page."""
    return {"columns.md": columns_page(), "catalogue.md": catalogue_page()}


def columns_page() -> str:
    """Return every column and summary key with its unit and meaning."""
    docs = column_docs()
    parts = ["# Columns and keys of the results", _WRITTEN, "Absent numbers are NaN, null in JSON."]
    for table, rows in docs.groupby("table", sort=False):
        cells = [
            (f"`{row['column']}`", row["unit"], row["description"])
            for row in rows.to_dict("records")
        ]
        header = ("column", "unit", "meaning")
        parts += [f"## {table}", _ABOUT_TABLES[str(table)], _table(header, cells)]
    return "\n\n".join(parts) + "\n"


def catalogue_page() -> str:
    """Return every preset, as `sbs-gym list` prints them."""
    parts = ["# Catalogue", _WRITTEN, "What `sbs-gym list` prints; the files are in `conf/`."]
    for kind in KINDS:
        for listing in listings(kind):
            cells = [(f"`{row[0]}`", *row[1:]) for row in listing.rows]
            parts += [f"## {_heading(listing.title)}", _table(listing.columns, cells)]
    return "\n\n".join(parts) + "\n"


def _heading(title: str) -> str:
    """Return the title with what stands in its brackets as code."""
    name, _, words = title.partition(" (")
    return f"{name[0].upper()}{name[1:]}: `{words.removesuffix(')')}`"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [_row(columns), _row(["---"] * len(columns)), *(_row(row) for row in rows)]
    return "\n".join(lines)


def _row(cells: Sequence[object]) -> str:
    return (
        "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"
    )


def main(arguments: Sequence[str]) -> int:
    """Write or check the pages."""
    check = "--check" in arguments
    stale = 0
    for name, text in pages().items():
        path = DOCS / name
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        stale += not same
        if not check:
            path.write_text(text, encoding="utf-8")
        print(f"docs/{name}: {'up to date' if same else 'stale' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
