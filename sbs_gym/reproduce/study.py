"""What a study is: runs that leave tables, and a chapter told from these tables alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd
from matplotlib.figure import Figure

from sbs_gym.reproduce.bench import Bench
from sbs_gym.reproduce.claims import Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What the runs of a study left.

    Attributes:
        directory: The study's folder.
        tables: Name to table, as read from its file.
    """

    directory: Path
    tables: Mapping[str, pd.DataFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure of a chapter.

    Attributes:
        name: Of its files.
        figure: What is drawn.
        alt: What a reader who does not see it misses, a sentence.
        caption: What to look at.
    """

    name: str
    figure: Figure
    alt: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table of a chapter, as shown and as numbers.

    Attributes:
        name: Of its files.
        title: What it holds, with units.
        columns, rows: As text; the first column is a name.
        frame: The numbers behind it, in seconds and fractions.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    frame: pd.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """What a study tells.

    Attributes:
        name: Of the study.
        title: Heading.
        paragraphs: Sentences, computed where they hold numbers.
        claims, pictures, sheets: As they are shown.
        commands: Commands that repeat its runs.
        left_out: What was run and does not count, with the reason.
    """

    name: str
    title: str
    paragraphs: Sequence[str] = ()
    claims: Sequence[Claim] = ()
    pictures: Sequence[Picture] = ()
    sheets: Sequence[Sheet] = ()
    commands: Sequence[str] = ()
    left_out: Sequence[str] = ()


class Study(Protocol):
    """One question to the simulator."""

    @property
    def num_runs(self) -> int:
        """About how many runs it takes."""
        ...

    def run(self, bench: Bench) -> Mapping[str, pd.DataFrame]:
        """Run what is not finished yet, and return the tables that are saved."""
        ...

    def tell(self, saved: Saved) -> Chapter:
        """Return the chapter, from what was saved and nothing else."""
        ...
