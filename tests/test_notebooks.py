"""The notebooks run from top to bottom and are stored without what a run leaves in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
BOOKS = sorted(FOLDER.glob("*.ipynb"))
LEARNERS = ("03_train_and_compare_an_agent",)  # the others run where torch is not installed
METADATA = {"kernelspec", "language_info"}
# A home, a temporary folder, a drive: what only one machine has.
MACHINE_PATH = re.compile(r"/(?:home|Users|root|tmp|mnt|work|opt|var)/|\b[A-Z]:\\")
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


def cells_of(book):
    return json.loads(book.read_text(encoding="utf-8"))["cells"]


def source_of(cells):
    return "\n".join("".join(cell["source"]) for cell in cells)


def left_by_a_run(content):
    """What nbstripout would take out of a notebook."""
    found = [f"metadata: {key}" for key in sorted(set(content["metadata"]) - METADATA)]
    if set(content["metadata"]["language_info"]) != {"name"}:
        found.append("metadata: language_info")
    for place, cell in enumerate(content["cells"]):
        if cell.get("outputs"):
            found.append(f"cell {place}: outputs")
        if cell.get("execution_count") is not None:
            found.append(f"cell {place}: execution_count")
        if cell["metadata"]:
            found.append(f"cell {place}: metadata")
    return found


def test_there_are_the_four_notebooks_and_the_readme_has_a_line_for_each():
    assert [book.name[:3] for book in BOOKS] == ["01_", "02_", "03_", "04_"]
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for book in BOOKS:
        assert f"]({book.name})" in readme


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)
def test_a_notebook_is_stored_without_outputs_and_names_no_machine(book):
    text = book.read_text(encoding="utf-8")
    assert left_by_a_run(json.loads(text)) == []
    assert MACHINE_PATH.search(text) is None


def test_what_a_run_leaves_in_a_notebook_is_found():
    run = {"cell_type": "code", "execution_count": 3, "outputs": ["1"], "metadata": {"t": 1}}
    content = {"cells": [run], "metadata": {"language_info": {"name": "python", "version": "3"}}}
    places = ["metadata: language_info", "cell 0: outputs", "cell 0: execution_count"]
    assert left_by_a_run(content) == [*places, "cell 0: metadata"]
    for path in ("/" + "home/me/a.csv", "/" + "tmp/a.csv", "C" + ":\\a.csv"):
        assert MACHINE_PATH.search(path)


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)
def test_every_link_of_a_notebook_leads_somewhere(book):
    links = LINK.findall(source_of(c for c in cells_of(book) if c["cell_type"] == "markdown"))
    local = [link for link in links if not link.startswith("http")]
    assert local
    assert [link for link in local if not (FOLDER / link).exists()] == []


@pytest.fixture
def short_folder():
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="nb") as name:
        yield Path(name)


def executed(book, folder):
    """Run a notebook as Jupyter would; return its code cells with their outputs."""
    changed = {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "OMP_NUM_THREADS": "1",
    }
    environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"} | changed
    output = folder / "executed.ipynb"
    command = [sys.executable, ROOT / "tests" / "execute_notebook.py", book, output, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return [cell for cell in cells_of(output) if cell["cell_type"] == "code"]


def outputs_of(cells):
    return [one for cell in cells for one in cell["outputs"]]


def printed(cells, stream):
    return "".join("".join(o["text"]) for o in outputs_of(cells) if o.get("name") == stream)


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)
def test_a_notebook_runs_and_draws_its_figures(book, short_folder):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    if book.stem in LEARNERS:
        pytest.importorskip("stable_baselines3")
    else:
        (short_folder / "torch.py").write_text("raise ImportError('there is no torch here')\n")
    files = sorted(FOLDER.rglob("*"))
    cells = executed(book, short_folder)
    figures = source_of(cells).count("plt.subplots(") + source_of(cells).count("_figure(")
    assert sum("image/png" in o.get("data", {}) for o in outputs_of(cells)) == figures > 0
    assert printed(cells, "stdout")
    assert printed(cells, "stderr") == ""
    assert sorted(FOLDER.rglob("*")) == files
