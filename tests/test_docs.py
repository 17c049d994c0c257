"""The pages that are written by scripts are what the scripts write."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sbs_gym.cli import COMMANDS
from sbs_gym.commands import compare, drain
from sbs_gym.envs.documentation import HEADINGS
from sbs_gym.envs.registration import IDS
from sbs_gym.schema import load_config
from sbs_gym.sim.agent_state import TERMS

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/paper.md", "docs/results.md", "docs/clusters.md", "docs/timing.md")
OWN = {"compare": compare.OWN, "drain": drain.OWN, "simulate": ()}


def script(name):
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_table_names_a_command_that_exists_and_is_filled(page):
    blocks = script("fill_readme").blocks(text_of(page))
    assert blocks
    for block in blocks:
        program, command, *words = shlex.split(block.command)
        assert (program, command in COMMANDS) == ("sbs-gym", True)
        assert block.body.startswith("```text\n$ sbs-gym"), block.command
        if command in OWN:
            load_config([w for w in words if w.partition("=")[0] not in OWN[command]])


def test_every_page_of_the_reference_is_up_to_date():
    for name, text in script("write_reference").pages().items():
        assert text_of(f"docs/{name}") == text, f"docs/{name} is stale: run make docs"


def examples():
    """(what it needs, code) of every example that test_repository.py does not run."""
    block = r"<!-- run(?: with (\w+))? -->\n```python\n(.*?)```"
    found = re.findall(block, text_of("docs/environments.md"), flags=re.DOTALL)
    return found + [e for e in re.findall(block, text_of("README.md"), flags=re.DOTALL) if e[0]]


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(n, marks=pytest.mark.slow if needed else ())
        for n, (needed, _) in enumerate(examples())
    ],
)
def test_an_example_of_the_pages_runs(number, tmp_path):
    needed, code = examples()[number]
    if needed:
        pytest.importorskip(needed)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("id", IDS)
def test_the_docstring_of_an_environment_has_every_heading_and_number(id):
    import gymnasium as gym

    environment = gym.envs.registration.load_env_creator(gym.spec(id).entry_point)
    text = environment.__doc__
    assert re.findall("^## (.+)$", text, flags=re.MULTILINE) == list(HEADINGS)
    for name in TERMS:
        assert f"| `{name}` " in text
    env = gym.make(id).unwrapped
    assert text == env.__doc__
    assert f"`{env.action_space}`" in text
    (count,) = env.observation_space.shape
    assert f"`Box({count},)`" in text
    rows = re.findall(r"^\| (\d+)[^|]*\| `\w+` ", text, flags=re.MULTILINE)
    assert int(rows[0]) == 0
    assert int(rows[-1]) < count
    for key in env.reset(seed=0)[1]:
        assert f"| `{key}` " in text


def test_a_block_with_traces_stays_where_they_are_not(monkeypatch, capsys):
    monkeypatch.delenv("TRACES", raising=False)
    text = "<!-- table: sbs-gym traces describe $TRACES/a.csv -->\nold\n<!-- end -->\n"
    assert script("fill_readme").filled(text) == text
    assert "TRACES is not set" in capsys.readouterr().err


def test_a_block_with_traces_shows_the_variable_and_not_the_folder(monkeypatch, tmp_path):
    rows = "".join(f"2023-11-16 18:15:{second:02d}.0000000,100,5\n" for second in range(50))
    (tmp_path / "a.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    monkeypatch.setenv("TRACES", f"{tmp_path}/")
    text = "<!-- table: sbs-gym traces describe $TRACES/a.csv -->\n<!-- end -->\n"
    found = script("fill_readme").filled(text)
    assert '$ sbs-gym traces describe "$TRACES/a.csv"' in found
    assert "rows kept" in found
    assert str(tmp_path) not in found


def test_a_block_that_is_not_closed_is_refused():
    with pytest.raises(ValueError, match="no `<!-- end -->`"):
        script("fill_readme").blocks("<!-- table: sbs-gym list -->\n")


@pytest.mark.slow
def test_the_tables_of_the_readme_are_what_their_commands_print():
    assert script("fill_readme").filled(text_of("README.md")) == text_of("README.md")


def test_the_numbers_of_the_goals_stand_in_the_cards():
    told = text_of("docs/agents.md").partition("| goal | found | verdict |")[2]
    rows = [row for row in told.partition("\n\n")[0].splitlines() if "](" in row]
    assert len(rows) > 5
    for row in rows:
        _, _, found, _, _ = row.split("|")
        card = re.search(r"\]\(\.\./(\S+\.md)\)", found)
        assert card, row
        numbers = re.findall(r"(?<![\d.,])\d\.\d{3}", found)
        assert numbers, row
        assert all(number in text_of(card[1]) for number in numbers), row
