"""Rules and agents over a grid of workloads, loads and arrivals, as ratios to one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sbs_gym.config.learned import PREFIX
from sbs_gym.errors import ConfigError
from sbs_gym.report.curves_plot import learning_curves_figure, shipped_curves
from sbs_gym.report.ratio_map import ratio_map_figure
from sbs_gym.report.style import ABSENT, number
from sbs_gym.reproduce.claims import Measured
from sbs_gym.reproduce.panels import Panel, PanelStudy
from sbs_gym.reproduce.ratios import by_load, named, ratio_over_loads
from sbs_gym.reproduce.sheets import overloaded_places
from sbs_gym.reproduce.study import Chapter, Picture, Saved, Sheet
from sbs_gym.reproduce.text import lowered, words


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteMap(PanelStudy):
    """A panel for every workload and arrival process.

    Attributes:
        panels: Workload by workload, arrivals inside.
        subject: The scheduler divided by.
    """

    subject: str = "sbs"

    def tell(self, saved: Saved) -> Chapter:
        """Return the chapter."""
        runs = saved.tables["runs"]
        frame = _frame(self.panels, runs, self.subject)
        return Chapter(
            name="suite_map",
            title="Rules and agents over workloads, loads and arrivals",
            paragraphs=self._paragraphs(runs),
            pictures=[self._map(frame), *_learning()],
            sheets=[_sheet(frame, self.subject)],
            commands=[panel.command() for panel in self.panels],
            left_out=overloaded_places(self.panels, runs),
        )

    def _map(self, frame: pd.DataFrame) -> Picture:
        others = frame[frame["scheduler"] != self.subject]
        cells = ["workload", "load", "arrivals"]
        names = list(dict.fromkeys(others["scheduler"]))
        table = others.pivot(index=cells, columns="scheduler", values="ratio")[names]
        order = pd.MultiIndex.from_frame(others[cells].drop_duplicates())
        return Picture(
            name="suite_map",
            figure=ratio_map_figure(table.reindex(order), baseline=self.subject),
            alt=f"Mean TTFT over that of {self.subject} as a map: workloads, loads and arrivals "
            f"down, {words(names)} across.",
            caption=f"Blue is faster than {self.subject}, orange slower; an empty cell has no "
            "steady mean. Look for columns that are blue, or white, from top to bottom.",
        )

    def _paragraphs(self, runs: pd.DataFrame) -> list[str]:
        lines = [
            f"Every number is mean TTFT over that of {self.subject} on the same requests and luck; "
            "below 1 is faster. Prefill alone, linear timing, where the shipped agents were "
            "trained; loads of changing rates are of their peak."
        ]
        whole = runs.assign(load=runs["panel"] + " " + runs["load"].astype(str))
        for name in dict.fromkeys(runs["scheduler"]):
            if name == self.subject:
                continue
            one = ratio_over_cells(whole, str(name), self.subject)
            kind = "agent" if str(name).startswith(PREFIX) else "rule"
            lines.append(
                f"The {kind} {name} {lowered(one, 'TTFT')} against {self.subject}, as a geometric "
                "mean over the cells."
            )
        return lines


def _learning() -> list[Picture]:
    """Return the learning curves of the agents that the package carries, if any came along."""
    curves = {name: table for name, table in shipped_curves().items() if len(table)}
    if not curves:
        return []
    return [
        Picture(
            name="learning_curves",
            figure=learning_curves_figure(curves),
            alt=f"Validation ratio of TTFT to sbs against decisions of training for {words(curves)}"
            ", one thin line per training and their median strong.",
            caption="Below the line at 1 an agent is faster than sbs on the cells that it is "
            "validated with. Thin lines close together mean that the result is no luck of a seed.",
        )
    ]


def ratio_over_cells(runs: pd.DataFrame, scheduler: str, base: str) -> Measured:
    """Return the reduction of TTFT over all panels and loads in which both are steady."""
    cells = {cell: place for place, cell in enumerate(dict.fromkeys(runs["load"]))}
    numbered = runs.assign(load=runs["load"].map(cells).astype(float))
    return ratio_over_loads(numbered, scheduler, named(base)).reduction()


def suite_map_of(section: Mapping[str, Any]) -> SuiteMap:
    """Return the study of a section: its `workloads` times its `arrivals`."""
    given = dict(section)
    workloads, arrivals = given.pop("workloads"), given.pop("arrivals")
    subject, words = given.pop("subject", "sbs"), given.pop("words", {})
    panels = tuple(
        Panel(
            name=f"{workload}_{name}",
            title=f"{workload} {name}",
            words={**words, "workload": workload, **more},
            **given,
        )
        for workload in workloads
        for name, more in arrivals.items()
    )
    if not panels:
        raise ConfigError("suite_map: expected at least one of workloads and one of arrivals")
    return SuiteMap(panels=panels, subject=subject)


def _frame(panels: Sequence[Panel], runs: pd.DataFrame, subject: str) -> pd.DataFrame:
    rows = []
    for panel in panels:
        of = runs[runs["panel"] == panel.name]
        workload = str(panel.words["workload"])
        arrivals = panel.title.removeprefix(workload).strip()
        for load, at in by_load(of):
            for name in dict.fromkeys(at["scheduler"]):
                one = ratio_over_loads(at, str(name), named(subject))
                found = dataclasses.astuple(one)[:3]
                rows.append((workload, load, arrivals, str(name), *found))
    columns = ["workload", "load", "arrivals", "scheduler", "ratio", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _sheet(frame: pd.DataFrame, subject: str) -> Sheet:
    names = [name for name in dict.fromkeys(frame["scheduler"]) if name != subject]
    rows = []
    for (workload, load, arrivals), of in frame.groupby(
        ["workload", "load", "arrivals"], sort=False
    ):
        by_name = of.set_index("scheduler")["ratio"]
        cells = [number(float(by_name[name]), 3) if name in by_name else ABSENT for name in names]
        rows.append((f"{workload} {load:g} {arrivals}", *cells))
    return Sheet(
        name="suite_map",
        title=f"mean TTFT / {subject}; - where one of them is overloaded",
        columns=("workload, load, arrivals", *names),
        rows=rows,
        frame=frame,
    )
