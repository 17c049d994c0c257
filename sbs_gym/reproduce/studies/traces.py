"""The same question on recorded traffic, where a trace is given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sbs_gym.errors import ConfigError
from sbs_gym.reproduce.panels import Panel, PanelStudy
from sbs_gym.reproduce.ratios import TTFT, best_immediate
from sbs_gym.reproduce.sheets import (
    changes_frame,
    changes_sheet,
    level_sheet,
    overloaded_places,
    write_ms,
)
from sbs_gym.reproduce.studies.ttft_qps import ttft_claims
from sbs_gym.reproduce.study import Chapter, Saved
from sbs_gym.reproduce.text import told
from sbs_gym.workload.trace.load import load_trace

# Where a preset says nothing about traces.
_DEFAULTS: Mapping[str, Any] = {
    "schedulers": ("round_robin", "least_tokens", "sbs"),
    "seeds": 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces(PanelStudy):
    """A panel for every trace.

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
        return Chapter(
            name="traces",
            title="Real traces",
            paragraphs=[
                "Each trace is brought to the load by compressing its time. Every seed replays the "
                "same requests, so intervals hold the luck of the engines alone and say "
                "nothing about other hours of the same service. The load is the mean of the whole "
                "trace; its busiest minutes carry more.",
                "A trace ends, so ratios of means exist even where TTFT grew all along; they stand "
                "in the table, and only what is steady makes a verdict.",
                told(claims),
            ],
            claims=claims,
            sheets=[
                changes_sheet(
                    self.panels,
                    changes_frame(runs, best_immediate, steady=False),
                    "traces_changes",
                    "mean TTFT against the best immediate scheduler (%, paired by seed, ± half "
                    "95 % interval; negative is faster)",
                    leave_out=lambda name: name in immediate,
                ),
                *(
                    level_sheet(
                        panel,
                        runs,
                        TTFT,
                        f"ttft_{panel.name}",
                        f"mean TTFT in ms, {panel.title}",
                        write_ms,
                    )
                    for panel in self.panels
                ),
            ],
            commands=[panel.command() for panel in self.panels],
            left_out=overloaded_places(self.panels, runs),
        )


def traces_of(section: Mapping[str, Any], paths: Sequence[str], load: float | None) -> Traces:
    """Return the study of some trace files at a load, or at their own rate without one."""
    given = {**_DEFAULTS, **section}
    subject, words = given.pop("subject", "sbs"), given.pop("words", {})
    panels = tuple(
        Panel(
            name=_folder(path),
            title=Path(path).name,
            words={**words, "workload": "trace", "workload.path": path},
            loads=() if load is None else [load],
            **given,
        )
        for path in dict.fromkeys(paths)
    )
    for panel in panels:
        _require_times(panel)
    return Traces(panels=panels, subject=subject)


def _require_times(panel: Panel) -> None:
    """Raise ConfigError, before anything is run, unless the trace says when requests arrived."""
    workload = next(iter(panel.configs().values())).workload
    _, report = load_trace(workload)
    if not report.has_arrivals:
        notes = "".join(f"; {note}" for note in report.notes)
        raise ConfigError(
            f"trace={workload.path!r}: no arrival times were read{notes}; expected a column such "
            "as arrived_at, with input_tokens and output_tokens"
        )


def _folder(path: str) -> str:
    """Return the name of a trace's folder: another file of the same name has another one."""
    return f"{Path(path).stem}_{hashlib.sha256(path.encode()).hexdigest()[:8]}"
