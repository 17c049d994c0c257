"""TTFT against the rate: does staggering lower it by what the paper says, and where?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sbs_gym.config.learned import PREFIX, read_weights_file
from sbs_gym.report.decode_comparison import PARTS
from sbs_gym.report.parts_plot import parts_figure
from sbs_gym.report.sweep_plot import sweeps_figure
from sbs_gym.reproduce.claims import Claim, Range, verdict
from sbs_gym.reproduce.panels import Panel, PanelStudy
from sbs_gym.reproduce.ratios import (
    BLIND,
    TTFT,
    Base,
    Ratio,
    best_immediate,
    by_load,
    named,
    ratio_over_loads,
)
from sbs_gym.reproduce.sheets import (
    changes_frame,
    changes_sheet,
    level_sheet,
    overloaded_places,
    sweep_panels,
    write_ms,
)
from sbs_gym.reproduce.study import Chapter, Picture, Saved, Sheet
from sbs_gym.reproduce.text import by_verdict, lowered, numbers, told, told_verdict, words

PUBLISHED = Range(low=0.30, high=0.40)
SOURCE = "published (arXiv 2512.16134, abstract)"


@dataclass(frozen=True, slots=True, kw_only=True)
class TtftQps(PanelStudy):
    """Schedulers on the whole path against the rate, short and long prompts, two chunks.

    Attributes:
        panels: Settings.
        subject: The scheduler that the claim is about.
    """

    subject: str = "sbs"

    def tell(self, saved: Saved) -> Chapter:
        """Return the chapter."""
        runs = saved.tables["runs"]
        claims = [c for panel in self.panels for c in ttft_claims(panel, runs, self.subject)]
        immediate = set(runs.loc[runs["immediate"], "scheduler"])
        changes = changes_frame(runs, best_immediate)
        return Chapter(
            name="ttft_qps",
            title="TTFT against the rate",
            paragraphs=[*self._paragraphs(runs, claims), *self._of_agents(runs)],
            claims=claims,
            pictures=[self._lines(runs), *self._parts(runs)],
            sheets=[
                changes_sheet(
                    self.panels,
                    changes,
                    "ttft_changes",
                    "mean TTFT against the best immediate scheduler of each load (%, paired by "
                    "seed, ± half 95 % interval; negative is faster)",
                    leave_out=lambda name: name in immediate,
                ),
                *(self._levels(panel, runs) for panel in self.panels),
            ],
            commands=[panel.command() for panel in self.panels],
            left_out=overloaded_places(self.panels, runs),
        )

    def _levels(self, panel: Panel, runs: pd.DataFrame) -> Sheet:
        title = f"mean TTFT in ms, {panel.title}, mean over {panel.seeds} seeds"
        return level_sheet(panel, runs, TTFT, f"ttft_{panel.name}", title, write_ms)

    def _lines(self, runs: pd.DataFrame) -> Picture:
        return Picture(
            name="ttft_qps",
            figure=sweeps_figure(sweep_panels(self.panels, runs, TTFT), "mean TTFT", "s"),
            alt="Mean TTFT against arrivals per second, a line for every scheduler, for "
            f"{words(panel.title for panel in self.panels)}.",
            caption="Lower is better. The gap between the lines of rules that dispatch at once and "
            "those that wait is what staggering wins; bands are 95 % intervals over seeds, rings "
            "are loads at which TTFT still grew in some seed. Dashed lines with hollow marks are "
            "rules that dispatch at once. A line that is far above all "
            "others leaves the picture.",
        )

    def _parts(self, runs: pd.DataFrame) -> list[Picture]:
        """Return where the time goes, on the first panel at its middle load."""
        panel = self.panels[0]
        of = runs[runs["panel"] == panel.name]
        loads = list(dict.fromkeys(of["load"]))
        load = loads[len(loads) // 2]
        means = of[of["load"] == load].groupby("scheduler", sort=False)[list(PARTS.values())].mean()
        if means["decode_mean_s"].isna().all():
            return []
        parts = {
            str(name): {part: float(row[key]) for part, key in PARTS.items()}
            for name, row in means.iterrows()
        }
        figure = parts_figure(parts, f"{panel.title}, load {load:.2g}")
        return [
            Picture(
                name="where_time_goes",
                figure=figure,
                alt="Stacked bars: mean time of a request in buffer, engine queue, prefill, "
                "hand-off, transfer and decode, a bar for every scheduler.",
                caption="Dispatch at once puts the wait into the engine's queue, where nobody can "
                "reorder it; rules that wait hold it in the buffer. Compare the time in "
                "passes too.",
            )
        ]

    def _paragraphs(self, runs: pd.DataFrame, claims: Sequence[Claim]) -> list[str]:
        main = claims[0]
        first = self.panels[0]
        of = runs[runs["panel"] == first.name]
        found = ratio_over_loads(of, self.subject, best_immediate)
        return [
            f"The paper reports 30 to 40 % less TTFT than immediate dispatch. Here, with "
            f"{first.title}, {self.subject} {lowered(main.measured, 'it')} against the best "
            f"immediate scheduler of each load, as a geometric mean over loads "
            f"{numbers(found.loads)}: the claim {told_verdict(main.verdict)}"
            + ("." if not main.where else f"; load by load it {main.where}."),
            told(claims),
            "The best immediate scheduler is chosen after the runs, load by load, so that the "
            "comparison flatters nobody who waits. Against round_robin alone the gain is "
            "another one, so both stand in the table.",
        ]

    def _of_agents(self, runs: pd.DataFrame) -> list[str]:
        """Return a sentence for every agent: what it does to TTFT in every panel it is in."""
        agents = [name for name in dict.fromkeys(runs["scheduler"]) if name.startswith(PREFIX)]
        return [
            f"The agent {name}{_told_of(name)}. "
            f"Against {self.subject} it {'; it '.join(self._gains(name, runs))}."
            for name in agents
        ]

    def _gains(self, agent: str, runs: pd.DataFrame) -> list[str]:
        parts = []
        for panel in self.panels:
            of = runs[runs["panel"] == panel.name]
            if agent in set(of["scheduler"]):
                gain = ratio_over_loads(of, agent, named(self.subject)).reduction()
                parts.append(f"{lowered(gain, 'TTFT')} with {panel.title}")
        return parts


def ttft_claims(panel: Panel, runs: pd.DataFrame, subject: str) -> list[Claim]:
    """Return the claim on TTFT for a panel, against the best immediate scheduler and blind one.

    Args:
        panel: A setting.
        runs: Rows of all panels.
        subject: The scheduler that the claim is about.
    """
    of = runs[runs["panel"] == panel.name]
    return [
        _claim(panel, of, subject, best_immediate, "best_immediate"),
        _claim(panel, of, subject, named(BLIND), BLIND),
    ]


def _claim(panel: Panel, runs: pd.DataFrame, subject: str, base: Base, base_name: str) -> Claim:
    found = ratio_over_loads(runs, subject, base)
    against = base_name if base_name == BLIND else "the best immediate rule of each load"
    return Claim(
        id=f"ttft_{panel.name}_{base_name}",
        claim="TTFT is 30 to 40 % lower than under immediate dispatch",
        setting=panel.title,
        against=against,
        source=SOURCE,
        allowed=PUBLISHED,
        measured=found.reduction(),
        unit="fraction",
        where=_where(runs, subject, base, found),
        how_measured=f"1 - geometric mean over loads of mean TTFT of {subject} / that of {against}"
        f" ({_bases(found) or 'none counts'}), paired by seed; "
        f"{panel.seeds} seeds, Student's 95 % interval",
    )


def _where(runs: pd.DataFrame, subject: str, base: Base, found: Ratio) -> str:
    verdicts = {}
    for load, rows in by_load(runs):
        if load in found.bases:
            one = ratio_over_loads(rows, subject, base).reduction()
            verdicts[f"{load:.2g}"] = verdict(one, PUBLISHED)
    parts = [by_verdict(verdicts, prefix="at load ")] if verdicts else []
    if found.left_out:
        parts.append(f"no steady mean at load {numbers(found.left_out)}")
    return "; ".join(parts)


def _told_of(agent: str) -> str:
    """Return what the weights file of an agent says of it, in brackets; nothing if it is silent."""
    about = str(read_weights_file(agent.removeprefix(PREFIX)).meta.get("about", ""))
    return f" ({about})" if about else ""


def _bases(found: Ratio) -> str:
    return ", ".join(f"{base} at {load:.2g}" for load, base in found.bases.items())
