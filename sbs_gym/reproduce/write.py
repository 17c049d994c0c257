"""The files of a reproduction: verdicts, tables, figures, versions, and the page made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sbs_gym import artifacts
from sbs_gym.report.plots import save_figure
from sbs_gym.reproduce.page import report_page
from sbs_gym.reproduce.preset import Preset
from sbs_gym.reproduce.study import Chapter
from sbs_gym.result import code_digest, versions_of

REPORT = "report.html"
VERDICTS_FILE = "verdicts.json"
_PACKAGES = ("sbs-gym", "numpy", "numba", "pandas", "scipy", "matplotlib")


def write_report(
    place: Path,
    preset: Preset,
    chapters: Sequence[Chapter],
    traces: Sequence[str],
    trace_load: float | None,
) -> Path:
    """Write everything that chapters tell and return the page's path.

    Args:
        place: The folder.
        preset: What was run.
        chapters: What was found, in order.
        traces: Files that were replayed.
        trace_load: At which load; None: their own.
    """
    figures = place / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    images = {
        picture.name: save_figure(picture.figure, figures, picture.name)[0].read_bytes()
        for chapter in chapters
        for picture in chapter.pictures
    }
    provenance = _provenance(preset, chapters, traces, trace_load)
    _write_tables(place, chapters)
    claims = [claim.to_mapping() for chapter in chapters for claim in chapter.claims]
    text = report_page(preset, chapters, images, provenance)
    artifacts.write_all(
        place,
        {
            "provenance.json": artifacts.json_writer(provenance),
            VERDICTS_FILE: artifacts.json_writer(claims),
            REPORT: artifacts.text_writer(text),
        },
    )
    return place / REPORT


def _write_tables(place: Path, chapters: Sequence[Chapter]) -> None:
    sheets = [sheet for chapter in chapters for sheet in chapter.sheets]
    by_chapter = {
        chapter.name: {sheet.name: _records(sheet.frame) for sheet in chapter.sheets}
        for chapter in chapters
    }
    artifacts.write_all(
        place / "tables",
        {
            **{f"{sheet.name}.csv": artifacts.csv_writer(sheet.frame) for sheet in sheets},
            "tables.json": artifacts.json_writer(by_chapter),
        },
    )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]


def _provenance(
    preset: Preset, chapters: Sequence[Chapter], traces: Sequence[str], trace_load: float | None
) -> dict[str, Any]:
    files = dict.fromkeys(traces)
    return {
        "preset": preset.name,
        "studies": [chapter.name for chapter in chapters],
        **{name.replace("-", "_"): version for name, version in versions_of(_PACKAGES).items()},
        "code_digest": code_digest(),
        "trace_load": trace_load if traces else None,
        "inputs": {path: artifacts.file_digest(Path(path).expanduser()) for path in files},
    }
