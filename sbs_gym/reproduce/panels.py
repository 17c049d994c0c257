"""A panel: one setting under several schedulers and loads, run as a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sbs_gym.compare import Comparison, compare
from sbs_gym.config.groups import section_from_mapping
from sbs_gym.config.run import RunConfig
from sbs_gym.errors import ConfigError, require_number
from sbs_gym.load_sweep import compare_loads
from sbs_gym.report.loads_plot import family_of
from sbs_gym.reproduce.bench import Bench
from sbs_gym.reproduce.settings import as_words, run_config

# What a study keeps of the summary of a run.
METRICS = (
    "rate_per_s",
    "ttft_mean_s",
    "ttft_p99_s",
    "ttft_client_mean_s",
    "tpot_mean_s",
    "e2e_mean_s",
    "goodput_per_s",
    "requests_per_s",
    "slo_attainment_frac",
    "buffer_wait_mean_s",
    "engine_wait_mean_s",
    "prefill_mean_s",
    "handoff_wait_mean_s",
    "transfer_mean_s",
    "decode_wait_mean_s",
    "decode_mean_s",
    "chunk_utilisation_frac",
    "prefill_bubble_frac",
    "prefill_idle_frac",
    "pass_mean_s",
    "tokens_per_pass_mean",
    "kv_load_std_tokens",
    "kv_load_max_over_mean",
    "batch_mean",
    "num_finished",
    "ttft_growth_s_per_s",
)
RUN_COLUMNS = (
    "panel", "load", "scheduler", "family", "seed", "immediate", "overloaded", *METRICS
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One setting under several schedulers and loads.

    Attributes:
        name: Of its folder and of its rows.
        title: What a reader calls it.
        words: The setting; what is not named is the default of the command line.
        schedulers: Who is compared.
        seeds: Runs per scheduler and load.
        loads: Fractions of capacity; empty: the rate that the words give.
        first_seed: The first of the seeds.
    """

    name: str
    title: str
    words: Mapping[str, Any] = field(default_factory=dict)
    schedulers: Sequence[str] = ()
    seeds: int = 4
    loads: Sequence[float] = ()
    first_seed: int = 0

    def __post_init__(self) -> None:
        require_number(f"{self.name}: seeds", self.seeds, 2, 10_000, integer=True)
        for load in self.loads:
            require_number(f"{self.name}: loads", load, 0, 10, low_open=True)
        if not self.schedulers:
            raise ConfigError(f"{self.name}: schedulers=[]; expected at least one")

    @property
    def num_runs(self) -> int:
        """Runs of the whole panel."""
        return max(1, len(self.loads)) * len(self.schedulers) * self.seeds

    def configs(self) -> dict[str, RunConfig]:
        """Return the run of every scheduler at the first seed, without a load if there are any."""
        words = {"seed": self.first_seed, **self.words}
        return {name: run_config(words, name) for name in self.schedulers}

    def command(self) -> str:
        """Return the command that prints this comparison; of one scheduler, its first run."""
        if len(self.schedulers) == 1:
            one = {"scheduler": self.schedulers[0], "seed": self.first_seed}
            return f"sbs-gym simulate {as_words({**one, **self.words})}"
        own: dict[str, Any] = {"loads": list(self.loads)} if self.loads else {}
        own |= {"schedulers": list(self.schedulers), "seeds": self.seeds}
        seed = {"seed": self.first_seed} if self.first_seed else {}
        return f"sbs-gym compare {as_words({**own, **seed, **self.words})}"


def panels_of(section: Mapping[str, Any]) -> tuple[Panel, ...]:
    """Return the panels of a study's section.

    Args:
        section: `panels`, a mapping of names to panels; every other key is what panels have that
            do not say otherwise. `words` of both are put together.
    """
    shared = {key: value for key, value in section.items() if key != "panels"}
    return tuple(
        section_from_mapping(
            Panel,
            name,
            {
                **shared,
                **given,
                "name": name,
                "words": {**shared.get("words", {}), **given.get("words", {})},
            },
        )
        for name, given in section["panels"].items()
    )


def run_panels(panels: Sequence[Panel], bench: Bench) -> pd.DataFrame:
    """Return one row per panel, load, scheduler and seed, columns RUN_COLUMNS."""
    return pd.concat([_run(panel, bench) for panel in panels], ignore_index=True)


def _run(panel: Panel, bench: Bench) -> pd.DataFrame:
    configs, place = panel.configs(), bench.directory / panel.name
    options: dict[str, Any] = {"output_dir": place, "jobs": bench.jobs, "pool": bench.pool}
    with bench.counted(panel.title, panel.num_runs) as progress:
        if not panel.loads:
            found = {None: compare(configs, panel.seeds, progress=progress, **options)}
            return _rows(panel, found)
        sweep = compare_loads(configs, panel.loads, panel.seeds, progress=progress, **options)
        return _rows(panel, dict(sweep.comparisons))


def _rows(panel: Panel, found: Mapping[Any, Comparison]) -> pd.DataFrame:
    parts = []
    for load, comparison in found.items():
        families = {k: family_of(one.scheduler) for k, one in comparison.configs.items()}
        family = comparison.runs["scheduler"].map(families)
        rows = comparison.runs.assign(
            panel=panel.name,
            load=_load(load, comparison.runs),
            family=family,
            immediate=family == "immediate",
            overloaded=comparison.runs["overloaded"].eq(True),
        )
        parts.append(rows[list(RUN_COLUMNS)])
    return pd.concat(parts, ignore_index=True)


def _load(load: float | None, runs: pd.DataFrame) -> float:
    if load is not None:
        return load
    first = runs.iloc[0]
    return float(first["rate_per_s"] / first["capacity_requests_per_s"])


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelStudy:
    """What studies of panels share: the runs of all of them are one table, `runs`.

    Attributes:
        panels: Settings.
    """

    panels: Sequence[Panel]

    @property
    def num_runs(self) -> int:
        """Runs of all panels."""
        return sum(panel.num_runs for panel in self.panels)

    def run(self, bench: Bench) -> Mapping[str, pd.DataFrame]:
        """Return the runs."""
        return {"runs": run_panels(self.panels, bench)}
