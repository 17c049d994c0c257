"""Waits against queueing theory: why staggered gates help at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sbs_gym.errors import require_choice
from sbs_gym.report.effects_plot import Effect, effects_figure
from sbs_gym.report.style import milliseconds
from sbs_gym.reproduce.claims import Claim, Measured, Range
from sbs_gym.reproduce.panels import Panel, PanelStudy
from sbs_gym.reproduce.ratios import named, ratio_over_loads
from sbs_gym.reproduce.settings import run_config
from sbs_gym.reproduce.study import Chapter, Picture, Saved, Sheet
from sbs_gym.reproduce.text import with_interval

_ERRORS = 4.0  # standard errors on either side, as the theory tests of this project take
_BUSY_SHARE = 1 / 3  # 1 - 1 / 1.5: the most that staggering without a chunk limit can save


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """What theory says of a panel.

    Attributes:
        formula: As one writes it.
        value_s: Seconds, from the pass time T and the number of instances N.
        what: `wait`, from arrival to the first pass, or `ttft`.
    """

    formula: str
    value_s: Callable[[float, int], float]
    what: str = "wait"


LAWS = {
    "one_gate": Law(formula="T/2", value_s=lambda t, n: t / 2),
    "staggered": Law(formula="T/(2N)", value_s=lambda t, n: t / (2 * n)),
    "independent": Law(formula="T/(N+1)", value_s=lambda t, n: t / (n + 1)),
    "busy_immediate": Law(formula="3T/2", value_s=lambda t, n: 1.5 * t, what="ttft"),
    "busy_staggered": Law(
        formula="T(1 + 1/(2N))", value_s=lambda t, n: t * (1 + 1 / (2 * n)), what="ttft"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Queueing(PanelStudy):
    """Runs that meet the assumptions of a law, beside the law.

    Attributes:
        panels: Settings with constant passes and no limit on the chunk, one scheduler each.
        laws: Panel to its law, a name of LAWS.
        busy: Panels of the same setting, immediate and staggered: what staggering alone saves.
    """

    laws: Mapping[str, str]
    busy: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        for panel in self.panels:
            require_choice(f"{panel.name}: law", self.laws.get(panel.name, ""), LAWS)

    def tell(self, saved: Saved) -> Chapter:
        """Return the chapter."""
        runs = saved.tables["runs"]
        claims = [self._claim(panel, runs) for panel in self.panels]
        laws = list(zip(self.panels, claims, strict=True))
        if self.busy is not None:
            claims.append(self._alone(*self.busy, runs))
        return Chapter(
            name="queueing",
            title="Why staggering works: the queueing argument",
            paragraphs=_paragraphs(claims),
            claims=claims,
            pictures=[_picture(laws)],
            sheets=[_sheet(laws, self)],
            commands=[panel.command() for panel in self.panels],
        )

    def law(self, panel: Panel) -> tuple[Law, float]:
        """Return the law of a panel and its value in seconds."""
        law = LAWS[self.laws[panel.name]]
        config = run_config(panel.words, panel.schedulers[0])
        pass_s = float(config.timing.pass_s)  # type: ignore[attr-defined]
        return law, law.value_s(pass_s, config.cluster.num_prefill)

    def _claim(self, panel: Panel, runs: pd.DataFrame) -> Claim:
        law, value_s = self.law(panel)
        waits = _seconds(runs[runs["panel"] == panel.name], law.what)
        measured = _interval(waits)
        return Claim(
            id=f"queueing_{panel.name}",
            claim="Waits follow queueing theory: T/2 bound to a gate, T/(2N) for N staggered ones",
            setting=f"{panel.title}, {'wait' if law.what == 'wait' else 'TTFT'} {law.formula}",
            against="",
            source="reviewed (waits of T/2 and T/(2N) at light load) and derived",
            allowed=Range(low=value_s, high=value_s, exact=True),
            measured=measured,
            unit="s",
            where="",
            how_measured=f"mean over {len(waits)} seeds, ± {_ERRORS:g} standard errors",
        )

    def _alone(self, immediate: str, staggered: str, runs: pd.DataFrame) -> Claim:
        of = runs[runs["panel"].isin((immediate, staggered))].assign(load=1.0)
        base = str(of.loc[of["panel"] == immediate, "scheduler"].iloc[0])
        subject = str(of.loc[of["panel"] == staggered, "scheduler"].iloc[0])
        found = ratio_over_loads(of, subject, named(base), steady=False)
        return Claim(
            id="queueing_stagger_alone",
            claim="Staggering alone saves at most a third of TTFT",
            setting="always busy, chunks without a limit",
            against=base,
            source="derived (engines that are always busy: from 3T/2 to no less than T)",
            allowed=Range(high=_BUSY_SHARE),
            measured=found.reduction(),
            unit="fraction",
            where="",
            how_measured=f"1 - mean TTFT of {subject} / that of {base}, paired by seed, Student's "
            "95 % interval; the rest of any larger gain comes from balance and full chunks",
        )


def _seconds(rows: pd.DataFrame, what: str) -> list[float]:
    if what == "ttft":
        return [float(value) for value in rows["ttft_mean_s"]]
    return [float(value) for value in rows["buffer_wait_mean_s"] + rows["engine_wait_mean_s"]]


def _interval(values: Sequence[float]) -> Measured:
    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Measured(value=mean, low=mean - _ERRORS * error, high=mean + _ERRORS * error)


def _paragraphs(claims: Sequence[Claim]) -> list[str]:
    laws = [claim for claim in claims if claim.allowed.exact]
    held = sum(claim.verdict == "holds" for claim in laws)
    lines = [
        "A pass cannot be joined once it has begun. Whoever is bound to one engine on arrival "
        "waits on average half a pass, T/2. Whoever may take the next of N engines whose passes "
        "begin one after another waits T/(2N). If the engines begin at random it is T/(N+1): the "
        "stagger itself is worth the difference.",
        f"The simulator agrees with theory in {held} of {len(laws)} of these settings; constant "
        "passes, chunks without a limit, no link delays.",
    ]
    alone = [claim for claim in claims if claim.id == "queueing_stagger_alone"]
    for claim in alone:
        lines.append(
            f"With engines that are always busy, staggering alone lowers TTFT by "
            f"{with_interval(claim.measured, 'fraction')}. No stagger can save more than a third; "
            "what goes beyond comes from balance over ranks and from full chunks."
        )
    return lines


def _picture(laws: Sequence[tuple[Panel, Claim]]) -> Picture:
    effects = [
        Effect(
            group="TTFT" if "TTFT" in claim.setting else "wait",
            name=panel.title,
            values={"simulation": (claim.measured.value, claim.measured.low, claim.measured.high)},
            theory=claim.allowed.low,
        )
        for panel, claim in laws
    ]
    return Picture(
        name="queueing",
        figure=effects_figure(effects, "mean over requests", unit="s"),
        alt="Simulated mean waits as dots, with four standard errors, and theory as bars.",
        caption="Every dot should cover its bar: then the simulator obeys the formulas from which "
        "the method is derived.",
    )


def _sheet(laws: Sequence[tuple[Panel, Claim]], study: Queueing) -> Sheet:
    rows, numbers = [], []
    for panel, claim in laws:
        law, value_s = study.law(panel)
        found = claim.measured
        rows.append(
            (
                panel.title,
                law.formula,
                milliseconds(value_s),
                milliseconds(found.value),
                milliseconds((found.high - found.low) / 2),
                claim.verdict,
            )
        )
        numbers.append((panel.name, law.formula, value_s, found.value, found.low, found.high))
    return Sheet(
        name="queueing",
        title="theory beside simulation, ms, ± four standard errors",
        columns=("setting", "law", "theory", "simulated", "±", "verdict"),
        rows=rows,
        frame=pd.DataFrame(
            numbers, columns=["panel", "law", "theory_s", "simulated_s", "low_s", "high_s"]
        ),
    )
