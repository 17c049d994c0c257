"""Chunk utilisation: are passes fuller when requests wait for them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sbs_gym.report.sweep_plot import sweeps_figure
from sbs_gym.reproduce.claims import Claim, Range
from sbs_gym.reproduce.panels import Panel, PanelStudy
from sbs_gym.reproduce.ratios import best_immediate, ratio_over_loads
from sbs_gym.reproduce.sheets import level_sheet, sweep_panels, write_ms, write_percent
from sbs_gym.reproduce.study import Chapter, Picture, Saved
from sbs_gym.reproduce.text import higher, numbers, told_verdict

_USE = "chunk_utilisation_frac"


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilisation(PanelStudy):
    """Chunk utilisation at equal rates.

    Attributes:
        panels: Settings.
        subject: The scheduler that the claim is about.
    """

    subject: str = "sbs"

    def tell(self, saved: Saved) -> Chapter:
        """Return the chapter."""
        runs = saved.tables["runs"]
        claims = [self._claim(panel, runs) for panel in self.panels]
        sheets = []
        for panel in self.panels:
            sheets += [
                level_sheet(panel, runs, key, f"{name}_{panel.name}", f"{what}, {panel.title}", as_)
                for name, key, what, as_ in (
                    ("utilisation", _USE, "chunk utilisation in %", write_percent),
                    ("pass", "pass_mean_s", "mean pass in ms", write_ms),
                )
            ]
        return Chapter(
            name="utilisation",
            title="Chunk utilisation",
            paragraphs=_paragraphs(self.subject, claims),
            claims=claims,
            pictures=[self._picture(runs)],
            sheets=sheets,
            commands=[panel.command() for panel in self.panels],
        )

    def _claim(self, panel: Panel, runs: pd.DataFrame) -> Claim:
        of = runs[runs["panel"] == panel.name]
        found = ratio_over_loads(of, self.subject, best_immediate, _USE)
        return Claim(
            id=f"utilisation_{panel.name}",
            claim="Prefill chunk utilisation rises at the same rate of arrivals",
            setting=panel.title,
            against="the best immediate rule of each load",
            source="reviewed (public summaries of arXiv 2512.16134: a large rise, no number; here "
            "any rise counts)",
            allowed=Range(low=0.0),
            measured=found.rise(),
            unit="fraction",
            where="",
            how_measured=f"geometric mean over loads {numbers(found.loads)} of chunk utilisation "
            f"of {self.subject} / that of the immediate scheduler with the lowest TTFT, minus 1, "
            f"paired by seed; {panel.seeds} seeds, Student's 95 % interval",
        )

    def _picture(self, runs: pd.DataFrame) -> Picture:
        return Picture(
            name="utilisation",
            figure=sweeps_figure(
                sweep_panels(self.panels, runs, _USE), "chunk utilisation", "fraction"
            ),
            alt="Chunk utilisation against arrivals per second, a line for every scheduler.",
            caption="At one rate every scheduler processes the same tokens, so a lower line means "
            "more and shorter passes, not fewer tokens.",
        )


def _paragraphs(subject: str, claims: Sequence[Claim]) -> list[str]:
    main = claims[0]
    return [
        "Chunk utilisation is the share of the tokens that passes could have taken: scheduled "
        "tokens over ranks times chunk, summed over passes.",
        f"At equal rates it is {higher(main.measured)} under {subject} than under the best "
        f"immediate scheduler ({main.setting}): the claim "
        f"{told_verdict(main.verdict)}. "
        "Equal rates are equal work: whoever finishes it in shorter passes uses less of each. "
        "What a promised latency allows is another question: see the claims on utilisation at the "
        "SLO in the chapter on throughput.",
    ]
