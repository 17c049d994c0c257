"""The repository keeps its own promises: presets, layout, README, texts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import sbs_gym
from sbs_gym.capacity import timing_for
from sbs_gym.config.groups import conf_directory, group_names, read_group
from sbs_gym.config.lengths import length_from_mapping
from sbs_gym.schema import GROUPS, load_config

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
LENGTHS = ("input_lengths", "output_lengths")
PRESETS = [(group, name) for group in (*GROUPS, *LENGTHS) for name in group_names(group)]
TOP_LEVEL = {
    ".ci",
    ".gitignore",
    ".pre-commit-config.yaml",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "NOTICE",
    "README.md",
    "agents",
    "conf",
    "constraints.txt",
    "docs",
    "notebooks",
    "pyproject.toml",
    "sbs_gym",
    "tests",
}
TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".cff", ".csv", ".json", ""}
# Written in two parts, so that this file does not hold them.
FORBIDDEN = (
    "/" + "work/",
    "/tmp/" + "venv",
    "files.python" + "hosted",
    "pypi" + ".org",
    "/" + "root/",
)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("group, name", PRESETS)
def test_every_preset_composes_and_says_where_it_comes_from(group, name):
    values = read_group(group, name)
    for key in ("about", "source"):
        assert str(values.get(key) or "").strip(), f"conf/{group}/{name}.yaml has no {key}"
    if group in LENGTHS:
        side = group.partition("_")[0]
        assert length_from_mapping(group, f"workload.{side}_tokens", name) is not None
        return
    words = [f"{group}={name}"]
    if (group, name) == ("workload", "trace"):
        words.append("workload.path=trace.jsonl")
    if (group, name) == ("timing", "table"):
        words.append("timing.path=example_passes.csv")
    config = load_config(words)
    if group == "timing":
        assert timing_for(config.cluster, config.timing) is not None
    elif values.get("name"):
        assert getattr(config, group).name == name


def test_every_configuration_file_belongs_to_a_group():
    folders = {path.parent.name for path in conf_directory().rglob("*.yaml")} - {"conf"}
    assert {*GROUPS, *LENGTHS} <= folders
    for path in conf_directory().rglob("*"):
        assert path.is_dir() or path.suffix in (".yaml", ".csv"), path


def test_the_root_holds_nothing_unexpected():
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= TOP_LEVEL


def test_no_file_names_a_machine_or_a_package_index():
    for path in tracked():
        if path.suffix in TEXT:
            text = path.read_text(encoding="utf-8", errors="ignore")
            for word in FORBIDDEN:
                assert word not in text, f"{path.relative_to(ROOT)} mentions {word}"


def test_changelog_and_citation_name_the_version():
    assert f"## {sbs_gym.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == sbs_gym.__version__


def test_changelog_has_its_four_parts():
    text = (ROOT / "CHANGELOG.md").read_text()
    parts = re.findall(r"^### (.+)$", text, flags=re.MULTILINE)
    assert parts[:4] == ["Breaking", "Changed results", "Added", "Fixed"]


def test_constraints_pin_exactly_and_leave_out_the_project():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", pin) for pin in pins)
    names = [pin.partition("==")[0] for pin in pins]
    assert len(set(names)) == len(names)
    assert "sbs-gym" not in names
    for name in ("numpy", "numba", "torch", "stable-baselines3", "sb3-contrib", "wandb"):
        assert name in names


def test_every_make_target_is_explained():
    text = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE)
    assert targets is not None
    for target in targets[1].split():
        assert re.search(rf"^{target}:.*## \S", text, flags=re.MULTILINE), target


def marked_python() -> list[str]:
    return re.findall(r"<!-- run -->\n```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_the_python_of_the_readme_runs(tmp_path):
    blocks = marked_python()
    assert blocks
    for block in blocks:
        command = [sys.executable, "-c", block]
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert found.returncode == 0, found.stderr
        assert found.stdout.strip()
