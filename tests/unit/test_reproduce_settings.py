"""Settings of a study are those of the command line, and presets hold nothing that cannot run."""

from __future__ import annotations

import shlex

import pytest

from sbs_gym.commands import compare
from sbs_gym.commands.words import load_fractions, scheduler_names, split_words
from sbs_gym.config.groups import group_names
from sbs_gym.errors import ConfigError
from sbs_gym.reproduce.preset import GROUP, read_preset
from sbs_gym.reproduce.registry import STUDIES
from sbs_gym.reproduce.settings import as_words, run_config
from sbs_gym.schema import load_config

WORDS = {
    "workload": "sbs_long",
    "timing": "linear",
    "timing.fixed_s": 0.08,
    "cluster.num_prefill": 2,
    "arrivals": "gamma_renewal",
    "arrivals.cv": 3.0,
    "slo.ttft_s": 1.5,
    "load": 0.8,
    "num_requests": 100,
    "seed": 7,
}


@pytest.mark.parametrize(
    "scheduler", ["sbs", "sbs:multiplier=0.5:order=arrival", "learned:window_budget_ppo"]
)
@pytest.mark.parametrize("words", [{}, WORDS, {"workload.spearman": 0.2}])
def test_words_mean_what_they_mean_on_the_command_line(words, scheduler):
    words = words | ({"cluster.num_decode": 0} if scheduler.startswith("learned") else {})
    typed = [f"{key}={value}" for key, value in words.items()]
    assert run_config(words, scheduler) == load_config([*typed, f"scheduler={scheduler}"])


@pytest.mark.parametrize(
    "words, message",
    [
        ({"load_": 0.5}, "Did you mean 'load'"),
        ({"clster.num_prefill": 2}, "Did you mean 'cluster'"),
        ({"cluster.num_prefil": 2}, "Did you mean 'num_prefill'"),
        ({"slo.ttft": 2}, "Did you mean 'ttft_s'"),
        ({"workload": "sbs_lnog"}, "Did you mean 'sbs_long'"),
        ({"load": -1.0}, "out of range"),
    ],
)
def test_mistakes_name_what_is_known(words, message):
    with pytest.raises(ConfigError, match=message):
        run_config(words, "sbs")


def test_words_are_typed_with_quotes_where_a_shell_needs_them():
    words = {"loads": [0.5, 0.7], "workload": "sbs_short", "load": None}
    assert as_words(words) == "'loads=[0.5,0.7]' workload=sbs_short load=null"


@pytest.mark.parametrize("name", group_names(GROUP))
def test_every_study_of_a_preset_can_be_run(name):
    preset = read_preset(name)
    studies = preset.studies()
    assert set(studies) == set(STUDIES)
    panels = [p for study in studies.values() for p in getattr(study, "panels", ())]
    assert len(panels) > 20
    for panel in panels:
        assert panel.configs()
    assert sum(study.num_runs for study in studies.values()) > 500


@pytest.mark.parametrize("name", group_names(GROUP))
def test_the_commands_that_a_report_names_are_understood(name):
    panels = [p for s in read_preset(name).studies().values() for p in getattr(s, "panels", ())]
    for panel in panels[:: max(1, len(panels) // 12)]:
        program, command, *words = shlex.split(panel.command())
        assert (program, command) in (("sbs-gym", "compare"), ("sbs-gym", "simulate"))
        own, rest = split_words(words, compare.OWN)
        if command == "compare":
            names = scheduler_names(own["schedulers"])
            assert names == list(panel.schedulers)
            assert load_fractions(own["loads"]) == list(panel.loads) if panel.loads else True
            rest.append(f"scheduler={names[-1]}")
        assert load_config(rest) == panel.configs()[panel.schedulers[-1]]


def test_a_preset_of_ones_own_is_read_from_its_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("studies: {suite_map: {workloads: [], arrivals: {}}}\n")
    assert read_preset(str(path)).name == "mine"
    with pytest.raises(ConfigError, match="at least one of workloads"):
        read_preset(str(path)).studies()
    path.write_text("studies: {ttft_qps: {panels: {}}}\n")
    with pytest.raises(ConfigError, match="panels is empty"):
        read_preset(str(path)).studies()
    for text, message in (
        ("studies: {sweet_map: {}}", "Did you mean 'suite_map'"),
        ("study: {}", "Did you mean 'studies'"),
        ("{}", "studies is empty"),
        ("[", "not valid YAML"),
        ("3", "expected a mapping"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_preset(str(path))
    with pytest.raises(ConfigError, match="no such file"):
        read_preset(str(tmp_path / "other.yaml"))
    with pytest.raises(ConfigError, match="Known: full, quick"):
        read_preset("slow")
