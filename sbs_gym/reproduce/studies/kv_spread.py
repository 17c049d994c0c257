"""KV load over decode ranks: how even it lies under every placement rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sbs_gym.report.style import number
from sbs_gym.report.sweep_plot import sweeps_figure
from sbs_gym.reproduce.claims import Claim, Range
from sbs_gym.reproduce.panels import Panel, PanelStudy
from sbs_gym.reproduce.ratios import named, ratio_over_loads
from sbs_gym.reproduce.sheets import level_sheet, sweep_panels, write_ms
from sbs_gym.reproduce.study import Chapter, Picture, Saved, Sheet
from sbs_gym.reproduce.text import lowered, numbers, told_verdict, words

_STD, _UNEVEN, _TPOT = "kv_load_std_tokens", "kv_load_max_over_mean", "tpot_mean_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class KvSpread(PanelStudy):
    """Spread of KV over decode ranks, and TPOT, by placement.

    Attributes:
        panels: Settings; `load` is of decode.
        subject: The scheduler whose placement the claim is about.
        others: Schedulers that it is compared with.
    """

    subject: str = "sbs:placement=iqr_lex"
    others: Sequence[str] = ()

    def tell(self, saved: Saved) -> Chapter:
        """Return the chapter."""
        runs = saved.tables["runs"]
        claims = [self._claim(p, runs, name) for p in self.panels for name in self.others]
        return Chapter(
            name="kv_spread",
            title="Balance on the decode ranks",
            paragraphs=self._paragraphs(claims, runs),
            claims=claims,
            pictures=[self._picture(runs)],
            sheets=[sheet for panel in self.panels for sheet in _sheets(panel, runs)],
            commands=[panel.command() for panel in self.panels],
        )

    def _paragraphs(self, claims: Sequence[Claim], runs: pd.DataFrame) -> list[str]:
        first = self.panels[0]
        of = runs[runs["panel"] == first.name]
        lines = [
            "A decode step runs at the speed of its fullest rank, so KV that lies unevenly costs "
            "every request of the instance. Placement chooses the rank once, by reports that are "
            "a little old."
        ]
        for claim, name in zip(claims, self.others, strict=False):
            faster = ratio_over_loads(of, self.subject, named(name), _TPOT).reduction()
            lines.append(
                f"Against {name.rpartition('=')[2]}, {self.subject.rpartition('=')[2]} "
                f"{lowered(claim.measured, 'the standard deviation of KV over ranks')} (the claim "
                f"{told_verdict(claim.verdict)}) and {lowered(faster, 'mean TPOT')}."
            )
        return lines

    def _claim(self, panel: Panel, runs: pd.DataFrame, other: str) -> Claim:
        of = runs[runs["panel"] == panel.name]
        found = ratio_over_loads(of, self.subject, named(other), _STD)
        rules = [name.rpartition("=")[2] for name in (self.subject, other)]
        return Claim(
            id=f"kv_spread_{panel.name}_{rules[1]}",
            claim=f"Placement {rules[0]} spreads KV more evenly over decode ranks",
            setting=panel.title,
            against=rules[1],
            source="reviewed (its two objectives in public summaries of arXiv 2512.16134; no "
            "number)",
            allowed=Range(low=0.0),
            measured=found.reduction(),
            unit="fraction",
            where="",
            how_measured="1 - geometric mean over loads "
            f"{numbers(found.loads)} of the standard deviation of context tokens over an "
            f"instance's ranks, {rules[0]} / {rules[1]}, paired by seed; {panel.seeds} seeds, "
            "Student's 95 % interval",
        )

    def _picture(self, runs: pd.DataFrame) -> Picture:
        panels = sweep_panels(self.panels, runs, _STD, over="load")
        return Picture(
            name="kv_spread",
            figure=sweeps_figure(panels, "KV, std over ranks", "tokens"),
            alt="Standard deviation of KV over decode ranks against load, a line for every rule: "
            f"{words(name.rpartition('=')[2] for name in self.panels[0].schedulers)}.",
            caption="Lower is more even. round_robin is blind; the other rules look at load.",
        )


def _sheets(panel: Panel, runs: pd.DataFrame) -> list[Sheet]:
    return [
        level_sheet(panel, runs, key, f"{name}_{panel.name}", f"{what}, {panel.title}", write)
        for name, key, what, write in (
            ("kv_std", _STD, "standard deviation of KV over ranks in thousand tokens", _thousands),
            ("kv_uneven", _UNEVEN, "fullest rank / mean of ranks, KV", _two_digits),
            ("tpot", _TPOT, "mean TPOT in ms", write_ms),
        )
    ]


def _thousands(tokens: float) -> str:
    return number(tokens / 1e3, 2)


def _two_digits(value: float) -> str:
    return number(value, 2)
