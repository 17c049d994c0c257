"""Ablations that the paper does not give: one thing changed at a time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sbs_gym.config.groups import section_from_mapping
from sbs_gym.errors import require_choice
from sbs_gym.report.effects_plot import Effect, effects_figure
from sbs_gym.report.style import ABSENT, milliseconds
from sbs_gym.reproduce.bench import Bench
from sbs_gym.reproduce.panels import Panel, run_panels
from sbs_gym.reproduce.ratios import TTFT, best_of, by_load, named, ratio_over_loads
from sbs_gym.reproduce.sheets import GREW
from sbs_gym.reproduce.studies.changes import Change, changed_panel
from sbs_gym.reproduce.study import Chapter, Picture, Saved, Sheet
from sbs_gym.reproduce.text import change, numbers

_Interval = tuple[float, float, float]
_CHANGED, _UNCHANGED = "changed", "unchanged"
_NONE: _Interval = (math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablations:
    """Changes of the subject and of its surroundings.

    Attributes:
        bases: Unchanged settings; their schedulers are the immediate ones and the subject.
        changes: What is changed.
        subject: The scheduler that is changed.
        immediate: The schedulers that dispatch at once.
    """

    bases: Sequence[Panel]
    changes: Sequence[Change]
    subject: str
    immediate: Sequence[str]

    def __post_init__(self) -> None:
        for one in self.changes:
            names = [panel.name for panel in self.bases]
            require_choice(f"ablations: {one.ablation} {one.name}: base", one.base, names)

    @property
    def panels(self) -> list[Panel]:
        """Every setting that is run: the bases with all changed schedulers, and changed ones."""
        return [self._base(panel) for panel in self.bases] + [
            self._changed(place, one) for place, one in enumerate(self.changes) if one.words
        ]

    @property
    def num_runs(self) -> int:
        """Runs of all settings."""
        return sum(panel.num_runs for panel in self.panels)

    def run(self, bench: Bench) -> Mapping[str, pd.DataFrame]:
        """Return the runs."""
        return {"runs": run_panels(self.panels, bench)}

    def tell(self, saved: Saved) -> Chapter:
        """Return the chapter."""
        frame = self._frame(saved.tables["runs"])
        return Chapter(
            name="ablations",
            title="What each part is worth",
            paragraphs=self._paragraphs(frame),
            pictures=[self._picture(frame)],
            sheets=[self._sheet(frame)],
            commands=[panel.command() for panel in self.panels],
            left_out=[
                f"{row['ablation']}, {row['change']}: load {row['loads_left_out']}, where "
                f"{row['scheduler']} or every immediate scheduler is overloaded"
                for _, row in frame[frame["loads_left_out"] != ""].iterrows()
            ],
        )

    def _base(self, panel: Panel) -> Panel:
        changed = [c.scheduler for c in self.changes if c.base == panel.name and not c.words]
        names = dict.fromkeys([*self.immediate, self.subject, *(c for c in changed if c)])
        return dataclasses.replace(panel, schedulers=list(names))

    def _changed(self, place: int, one: Change) -> Panel:
        base = next(panel for panel in self.bases if panel.name == one.base)
        names = dict.fromkeys([*self.immediate, one.scheduler or self.subject])
        return changed_panel(base, _folder(place), one, list(names))

    def _frame(self, runs: pd.DataFrame) -> pd.DataFrame:
        rows = []
        for panel in self.bases:
            of = runs[runs["panel"] == panel.name]
            rows.append(self._row("unchanged", panel.title, self.subject, of, _NONE))
        for place, one in enumerate(self.changes):
            unchanged = runs[runs["panel"] == one.base]
            of = runs[runs["panel"] == _folder(place)] if one.words else unchanged
            scheduler = one.scheduler or self.subject
            ratio = _across(of, scheduler, unchanged, one.of or self.subject)
            rows.append(self._row(one.ablation, one.name, scheduler, of, ratio))
        return pd.DataFrame(rows)

    def _row(
        self, ablation: str, name: str, scheduler: str, rows: pd.DataFrame, to_unchanged: _Interval
    ) -> dict[str, Any]:
        found = ratio_over_loads(rows, scheduler, best_of(self.immediate))
        counted = [at for load, at in by_load(rows) if load not in found.left_out]
        of = pd.concat(counted) if counted else rows.iloc[:0]
        bases = ", ".join(dict.fromkeys(found.bases.values()))
        return {
            "ablation": ablation,
            "change": name,
            "scheduler": scheduler,
            "ttft_mean_s": float(of.loc[of["scheduler"] == scheduler, TTFT].mean()),
            "loads_left_out": numbers(found.left_out),
            "immediate": bases,
            "ratio_to_immediate": found.value,
            "to_immediate_low": found.low,
            "to_immediate_high": found.high,
            **dict(zip(_TO_UNCHANGED, to_unchanged, strict=True)),
        }

    def _paragraphs(self, frame: pd.DataFrame) -> list[str]:
        lines = [
            "One thing is changed at a time; everything else stays. Each line is compared with the "
            "best of the schedulers that dispatch at once under the same change, and with "
            "the unchanged scheduler. Loads are fractions of the capacity of the changed cluster, "
            "so a slower engine is not simply an overloaded one."
        ]
        known = frame[(frame["ablation"] != "unchanged") & frame["ratio_to_immediate"].notna()]
        if len(known):
            ordered = known.sort_values("ratio_to_immediate", kind="stable")
            best, worst = ordered.iloc[0], ordered.iloc[-1]
            lines.append(
                f"Against immediate dispatch the most is won with {_told(best)}, and the least "
                f"with {_told(worst)}."
            )
        return lines

    def _picture(self, frame: pd.DataFrame) -> Picture:
        effects = [
            Effect(
                group=str(row["ablation"]),
                name=str(row["change"]),
                values={
                    "against immediate dispatch": _values(row, _TO_IMMEDIATE),
                    "against the unchanged scheduler": _values(row, _TO_UNCHANGED),
                },
            )
            for _, row in frame.iterrows()
        ]
        return Picture(
            name="ablations",
            figure=effects_figure(effects, "change of mean TTFT, negative is faster"),
            alt="Change of mean TTFT for every ablation, against immediate dispatch and against "
            "the unchanged scheduler, with 95 % intervals.",
            caption="Blue: what is left of the gain over immediate dispatch. Orange: what the "
            "change does to the scheduler itself; right of zero it is slower than unchanged.",
        )

    def _sheet(self, frame: pd.DataFrame) -> Sheet:
        rows = [
            (
                f"{row['ablation']}: {row['change']}{GREW * bool(row['loads_left_out'])}",
                milliseconds(float(row["ttft_mean_s"])),
                change(*(float(row[key]) for key in _TO_IMMEDIATE)),
                str(row["immediate"]) or ABSENT,
                change(*(float(row[key]) for key in _TO_UNCHANGED)),
            )
            for _, row in frame.iterrows()
        ]
        return Sheet(
            name="ablations",
            title="mean TTFT in ms; changes in %, paired by seed, ± half 95 % interval; negative "
            "is faster; * without the loads at which a side is overloaded",
            columns=(
                "ablation",
                "TTFT",
                "against immediate",
                "which",
                "against unchanged",
            ),
            rows=rows,
            frame=frame,
        )


_TO_IMMEDIATE = ("ratio_to_immediate", "to_immediate_low", "to_immediate_high")
_TO_UNCHANGED = ("ratio_to_unchanged", "to_unchanged_low", "to_unchanged_high")


def ablations_of(section: Mapping[str, Any]) -> Ablations:
    """Return the study that a section of a preset describes."""
    given = dict(section)
    bases, changes = given.pop("bases"), given.pop("changes")
    subject, immediate = given.pop("subject", "sbs"), tuple(given.pop("immediate"))
    shared_words = given.pop("words", {})
    panels = tuple(
        section_from_mapping(
            Panel,
            name,
            {
                **given,
                **one,
                "name": name,
                "words": {**shared_words, **one.get("words", {})},
                "schedulers": [*immediate, subject],
            },
        )
        for name, one in bases.items()
    )
    first = panels[0].name
    return Ablations(
        bases=panels,
        changes=tuple(
            section_from_mapping(Change, "ablations.changes", {"base": first, **one})
            for one in changes
        ),
        subject=subject,
        immediate=immediate,
    )


def _folder(place: int) -> str:
    return f"change_{place:02d}"


def _across(rows: pd.DataFrame, scheduler: str, unchanged: pd.DataFrame, of: str) -> _Interval:
    """Return TTFT of a scheduler over that of another one in another setting, paired by seed.

    The two are put side by side load by load; NaN where the settings share no steady load.
    """
    mine = rows[rows["scheduler"] == scheduler].assign(scheduler=_CHANGED)
    theirs = unchanged[unchanged["scheduler"] == of].assign(scheduler=_UNCHANGED)
    shared = set(mine["load"]) & set(theirs["load"])
    both = pd.concat([mine, theirs])
    found = ratio_over_loads(both[both["load"].isin(shared)], _CHANGED, named(_UNCHANGED))
    return found.value, found.low, found.high


def _values(row: pd.Series, keys: Sequence[str]) -> _Interval:
    value, low, high = (float(row[key]) - 1 for key in keys)
    return value, low, high


def _told(row: pd.Series) -> str:
    ratio = change(*(float(row[key]) for key in _TO_IMMEDIATE))
    return f"{row['ablation']}: {row['change']} ({ratio} % against {row['immediate']})"
