"""Throughput: the largest rate that keeps the promised latency, found by bisection."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from sbs_gym.report.effects_plot import Effect, effects_figure
from sbs_gym.reproduce.bench import Bench
from sbs_gym.reproduce.claims import Claim, Range
from sbs_gym.reproduce.panels import Panel
from sbs_gym.reproduce.ratios import BLIND, best_immediate, named, ratio_over_loads
from sbs_gym.reproduce.settings import as_words
from sbs_gym.reproduce.studies.capacity_table import (
    RATE,
    UTILISATION,
    capacity_rows,
    capacity_sheet,
    complete_rows,
    without_rate,
)
from sbs_gym.reproduce.study import Chapter, Picture, Saved
from sbs_gym.reproduce.text import change, higher, told_verdict
from sbs_gym.slo_capacity import find_capacity

PUBLISHED = Range(low=0.15, high=0.20)
SOURCE = "published (arXiv 2512.16134, abstract); up to 22 % in public reviews"


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """The largest rate that keeps the SLO: schedulers by TTFT, placements by TPOT.

    Attributes:
        panels: Settings in which `subject` is compared with immediate dispatch.
        placements: Settings in which `placement` is compared with every other scheduler there.
        subject, placement: Schedulers that the claims are about.
        tolerance_frac: A rate this fraction above a result missed the SLO.
    """

    panels: Sequence[Panel]
    placements: Sequence[Panel]
    subject: str = "sbs"
    placement: str = "sbs:placement=iqr_lex"
    tolerance_frac: float = 0.01

    @property
    def num_runs(self) -> int:
        """About how many runs the searches take."""
        per_search = 4 + math.ceil(math.log2(0.25 / self.tolerance_frac))
        panels = (*self.panels, *self.placements)
        return sum(per_search * panel.num_runs for panel in panels)

    def run(self, bench: Bench) -> Mapping[str, pd.DataFrame]:
        """Return the rates found."""
        panels = (*self.panels, *self.placements)
        share = self.num_runs // max(1, sum(panel.num_runs for panel in panels))
        found = []
        for panel in panels:
            with bench.counted(panel.title, share * panel.num_runs) as progress:
                capacity = find_capacity(
                    panel.configs(),
                    panel.seeds,
                    tolerance_frac=self.tolerance_frac,
                    output_dir=bench.directory / panel.name,
                    jobs=bench.jobs,
                    progress=progress,
                    pool=bench.pool,
                )
            found.append(capacity_rows(panel, capacity))
        return {"capacity": pd.concat(found, ignore_index=True)}

    def tell(self, saved: Saved) -> Chapter:
        """Return the chapter."""
        rows = saved.tables["capacity"]
        claims = [claim for panel in self.panels for claim in self._claims(panel, rows)]
        claims += [claim for panel in self.placements for claim in self._of_placement(panel, rows)]
        panels = (*self.panels, *self.placements)
        return Chapter(
            name="throughput",
            title="Throughput at a promised latency",
            paragraphs=self._paragraphs(claims),
            claims=claims,
            pictures=[self._picture(rows)],
            sheets=[capacity_sheet(panel, rows) for panel in panels],
            commands=[_command(panel, self.tolerance_frac) for panel in panels],
            left_out=without_rate(panels, rows),
        )

    def _paragraphs(self, claims: Sequence[Claim]) -> list[str]:
        main = claims[0]
        return [
            "Throughput means: the largest rate of arrivals at which the share of requests that "
            "the SLO asks for still meets TTFT and TPOT. It is searched for every scheduler and "
            "seed apart, with the same prompts and luck.",
            f"With {self.panels[0].title}, the rate of {self.subject} is {higher(main.measured)} "
            f"than that of {main.against}: the claim of 15 to 20 % "
            f"{told_verdict(main.verdict)}. Rule by rule: {main.where}. How much it is depends on "
            "the SLO, which the paper does not state, and on whom one compares with: where "
            "attainment stays near the target over a wide range of loads, a little decides much.",
        ]

    def _claims(self, panel: Panel, rows: pd.DataFrame) -> list[Claim]:
        """Return the claims of a panel: against the best immediate scheduler and the blind one."""
        of = complete_rows(panel, rows)
        best, blind = _best(of), named(BLIND)(of)
        claims = [self._gain(panel, of, best, "best")]
        if blind is not None and blind != best:
            claims.append(self._gain(panel, of, blind, BLIND))
        return [*claims, self._use(panel, of, best)]

    def _gain(self, panel: Panel, rows: pd.DataFrame, base: str | None, name: str) -> Claim:
        found = ratio_over_loads(rows, self.subject, lambda _: base, RATE)
        against = f"{base}, the best immediate rule here" if name == "best" else str(base)
        return Claim(
            id=f"throughput_{panel.name}_{name}",
            claim="Throughput at the SLO is 15 to 20 % higher than under immediate dispatch",
            setting=panel.title,
            against=against if base is not None else "immediate rules, of which none has a rate",
            source=SOURCE,
            allowed=PUBLISHED,
            measured=found.rise(),
            unit="fraction",
            where=self._against_all(rows),
            how_measured=self._how("largest rate that keeps the SLO", base, panel.seeds),
        )

    def _use(self, panel: Panel, rows: pd.DataFrame, base: str | None) -> Claim:
        return Claim(
            id=f"utilisation_{panel.name}_at_slo",
            claim="Prefill chunk utilisation rises, each rule at its largest rate in the SLO",
            setting=panel.title,
            against=str(base),
            source="reviewed (public summaries of arXiv 2512.16134: a large rise, no number)",
            allowed=Range(low=0.0),
            measured=ratio_over_loads(rows, self.subject, lambda _: base, UTILISATION).rise(),
            unit="fraction",
            where="",
            how_measured=self._how("chunk utilisation at that rate", base, panel.seeds),
        )

    def _how(self, what: str, base: str | None, seeds: int) -> str:
        return (
            f"{what} of {self.subject} / that of {base}, minus 1, paired by seed; {seeds} seeds, "
            f"Student's 95 % interval; a rate {100 * self.tolerance_frac:g} % higher missed the SLO"
        )

    def _against_all(self, rows: pd.DataFrame) -> str:
        parts = []
        for name in rows.loc[rows["immediate"], "scheduler"].unique():
            one = ratio_over_loads(rows, self.subject, named(str(name)), RATE)
            parts.append(f"{change(one.value, one.low, one.high)} % against {name}")
        return ", ".join(parts)

    def _of_placement(self, panel: Panel, rows: pd.DataFrame) -> list[Claim]:
        of = complete_rows(panel, rows)
        others = [str(name) for name in of["scheduler"].unique() if name != self.placement]
        return [self._placed(panel, of, other) for other in others]

    def _placed(self, panel: Panel, rows: pd.DataFrame, other: str) -> Claim:
        found = ratio_over_loads(rows, self.placement, named(other), RATE)
        return Claim(
            id=f"throughput_{panel.name}_{_rule(other)}",
            claim=f"Placement {_rule(self.placement)} serves more requests at a TPOT SLO",
            setting=panel.title,
            against=_rule(other),
            source="reviewed (a part of the method in public summaries; no number of its own)",
            allowed=Range(low=0.0),
            measured=found.rise(),
            unit="fraction",
            where="",
            how_measured=f"largest rate that keeps the SLO under {self.placement} / {other}, "
            f"paired by seed; {panel.seeds} seeds, Student's 95 % interval",
        )

    def _picture(self, rows: pd.DataFrame) -> Picture:
        effects = []
        for panel in self.panels:
            of = complete_rows(panel, rows)
            for name in of.loc[of["immediate"], "scheduler"].unique():
                one = ratio_over_loads(of, self.subject, named(str(name)), RATE).rise()
                values = {self.subject: (one.value, one.low, one.high)}
                effects.append(Effect(group=panel.title, name=f"against {name}", values=values))
        return Picture(
            name="throughput",
            figure=effects_figure(
                effects,
                "more requests/s within the SLO",
                band=(PUBLISHED.low, PUBLISHED.high),  # type: ignore[arg-type]
            ),
            alt=f"Gain in throughput of {self.subject} over every immediate scheduler, with "
            "intervals, a line for every SLO and workload; the published range is shaded.",
            caption="A dot inside the shaded range is what the paper reports; dots move with the "
            "SLO and with whom one compares.",
        )


def _best(rows: pd.DataFrame) -> str | None:
    return best_immediate(rows, RATE, highest=True)


def _rule(scheduler: str) -> str:
    return scheduler.rpartition("placement=")[2]


def _command(panel: Panel, tolerance_frac: float) -> str:
    own = {"schedulers": list(panel.schedulers), "seeds": panel.seeds, "tolerance": tolerance_frac}
    return f"sbs-gym capacity {as_words({**own, **panel.words})}"
