"""Runs that are drawn one by one: passes and waits over time, and KV over ranks and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sbs_gym import artifacts
from sbs_gym.config.groups import section_from_mapping
from sbs_gym.config.run import RunConfig
from sbs_gym.errors import ConfigError
from sbs_gym.report.kv_map import kv_map_figure
from sbs_gym.report.style import milliseconds, percent
from sbs_gym.report.timeline import middle_stretch, timeline_figure
from sbs_gym.reproduce.bench import Bench
from sbs_gym.reproduce.settings import Words, as_words, run_config
from sbs_gym.reproduce.study import Chapter, Picture, Saved
from sbs_gym.reproduce.text import words
from sbs_gym.result import Result, code_digest
from sbs_gym.simulate import measured_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Runs of several schedulers with the same requests and luck, drawn together.

    Attributes:
        words: Their setting, load and seed included.
        schedulers: Who is drawn.
        stretch_s: Seconds that are drawn, from the middle of the run.
    """

    words: Words
    schedulers: Sequence[str]
    stretch_s: float = 3.5

    def configs(self) -> dict[str, RunConfig]:
        """Return the run of every scheduler."""
        return {name: run_config(self.words, name) for name in self.schedulers}

    def commands(self) -> list[str]:
        """Return the commands that repeat the runs."""
        return [
            f"sbs-gym simulate {as_words({'scheduler': name, **self.words})}"
            for name in self.schedulers
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """One run each, ranks recorded.

    Attributes:
        timeline: Dispatch at once beside staggering.
        kv_map: Placement rules beside each other; null draws none.
    """

    timeline: Scene
    kv_map: Scene | None = None

    @property
    def scenes(self) -> dict[str, Scene]:
        """The scenes by name."""
        found = {"timeline": self.timeline}
        return found if self.kv_map is None else {**found, "kv_map": self.kv_map}

    @property
    def num_runs(self) -> int:
        """Runs of all scenes."""
        return sum(len(scene.schedulers) for scene in self.scenes.values())

    def run(self, bench: Bench) -> Mapping[str, pd.DataFrame]:
        """Save the runs, and return where they are."""
        rows: list[tuple[str, str, str]] = []
        with bench.counted("one run each", self.num_runs) as progress:
            for name, scene in self.scenes.items():
                for place, (scheduler, config) in enumerate(scene.configs().items()):
                    folder = f"{name}_{place}"
                    progress(len(rows), self.num_runs)
                    _save(config, bench.directory / folder)
                    rows.append((name, scheduler, folder))
            progress(len(rows), self.num_runs)
        return {"scenes": pd.DataFrame(rows, columns=["scene", "scheduler", "folder"])}

    def tell(self, saved: Saved) -> Chapter:
        """Return the chapter."""
        rows = saved.tables["scenes"]
        runs = {
            name: {
                str(row["scheduler"]): Result.load(saved.directory / str(row["folder"]))
                for _, row in rows[rows["scene"] == name].iterrows()
            }
            for name in self.scenes
        }
        pictures = [self._timeline(runs["timeline"])]
        if self.kv_map is not None:
            pictures.append(self._kv_map(runs["kv_map"], self.kv_map))
        return Chapter(
            name="pictures",
            title="Why staggering works: a few seconds of it",
            paragraphs=_paragraphs(runs["timeline"]),
            pictures=pictures,
            commands=[command for scene in self.scenes.values() for command in scene.commands()],
        )

    def _timeline(self, runs: Mapping[str, Result]) -> Picture:
        start_s, end_s = middle_stretch(runs, self.timeline.stretch_s)
        return Picture(
            name="timeline",
            figure=timeline_figure(runs, start_s=start_s, end_s=end_s),
            alt=f"Passes of every prefill instance over {end_s - start_s:.1f} seconds under "
            f"{words(runs)}: work and bubbles of the ranks, arrivals at the instances, and how "
            "many requests wait in the buffer and in the engines.",
            caption="Above, requests reach their engine as they arrive and wait there for the pass "
            "to end. Below, they wait in the buffer and go out in batches, one engine after "
            "another, as each comes free; look at where passes begin, and at the two waits.",
        )

    def _kv_map(self, runs: Mapping[str, Result], scene: Scene) -> Picture:
        short = {name.rpartition("placement=")[2] or name: one for name, one in runs.items()}
        start_s, end_s = middle_stretch(runs, scene.stretch_s)
        return Picture(
            name="kv_map",
            figure=kv_map_figure(short, start_s=start_s, end_s=end_s),
            alt=f"KV on every decode rank over {end_s - start_s:.0f} seconds under "
            f"{words(short)}, as heat maps on one scale.",
            caption="One line is one rank. Every step waits for the fullest of them; an even map "
            "is a fast instance. This is one run; the chapter on balance has means over seeds.",
        )


def pictures_of(section: Mapping[str, Any]) -> Pictures:
    """Return the study that a section of a preset describes."""
    scenes = {name: section_from_mapping(Scene, name, one) for name, one in section.items()}
    return section_from_mapping(Pictures, "pictures", scenes)


def _save(config: RunConfig, directory: Path) -> None:
    """Run and save unless the same run of the same code is there."""
    if not _is_there(config, directory):
        measured_run(config, record_ranks=True).save(directory)


def _is_there(config: RunConfig, directory: Path) -> bool:
    try:
        found = Result.load(directory)
    except ConfigError:
        return False
    inputs = artifacts.input_digests(config.workload, config.timing)
    same = found.config.to_mapping() == config.to_mapping()
    known = found.provenance["inputs"].items() >= inputs.items()
    return same and known and found.provenance["code_digest"] == code_digest()


def _paragraphs(runs: Mapping[str, Result]) -> list[str]:
    parts = []
    for name, one in runs.items():
        summary = one.summary
        parts.append(
            f"{name}: mean TTFT {milliseconds(_number(summary['ttft_mean_s']))} ms, of which "
            f"{milliseconds(_number(summary['buffer_wait_mean_s']))} in the buffer, "
            f"{milliseconds(_number(summary['engine_wait_mean_s']))} in the engine's queue and "
            f"{milliseconds(_number(summary['prefill_mean_s']))} in passes; "
            f"{percent(_number(summary['prefill_bubble_frac']))} % of rank time in passes is "
            "bubble."
        )
    return [
        "The same requests, the same luck of the engines, two rules. A request that reaches a busy "
        "engine waits for the whole pass to end, and nobody can move it any more.",
        *parts,
        "Bubbles are ranks that wait at the barrier for the fullest one; passes have them under "
        "either rule. What staggering shortens is the queue in the engines, and the passes, which "
        "are not filled with whatever happened to arrive.",
    ]


def _number(value: object) -> float:
    return float(np.nan if value is None else value)  # type: ignore[arg-type]
