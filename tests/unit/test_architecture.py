"""Rules about the code that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from sbs_gym.jit import _unseen_by_compiled_code

PACKAGE = Path(__file__).parents[2] / "sbs_gym"
# What a scheduler may not see: the engines' state, and what a request is yet to become.
TRUTH = {"instances", "ranks", "shares", "signals", "events"}
TRUTH |= {"engines", "decode_ranks", "decodes", "running", "reports"}
FUTURE = {"output_tokens", "first_token_at_s", "prefill_started_at_s", "delivered_at_s"}
FUTURE |= {"finished_at_s", "finish_step", "transferred_at_s", "kv_free_tokens", "free_blocks"}
SCHEDULER_SIDE = [*(PACKAGE / "schedulers").rglob("*.py"), PACKAGE / "sim" / "view.py"]
SCHEDULER_SIDE += [PACKAGE / "sim" / name for name in ("encoder.py", "sight.py")]  # and an agent


def attributes_of(path: Path, owner: str | None = None) -> set[str]:
    """Names read as `owner.name`, or as `anything.name`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            of = node.value.id if isinstance(node.value, ast.Name) else None
            if owner is None or of == owner:
                found.add(node.attr)
    return found


@pytest.mark.parametrize("path", SCHEDULER_SIDE, ids=lambda path: path.name)
def test_a_scheduler_reads_neither_the_truth_nor_the_future(path):
    allowed = {"signals"} if path.name == "view.py" else set()  # view.py takes signals in
    assert attributes_of(path, "w") & (TRUTH - allowed) == set()
    assert attributes_of(path) & FUTURE == set()


@pytest.mark.parametrize("name", ["prefill.py", "decode.py"])
def test_an_engine_reads_no_belief_of_the_scheduler(name):
    seen = attributes_of(PACKAGE / "sim" / name, "w")
    assert seen & {"views", "rank_views", "buffer", "keys", "decode_views"} == set()


def test_the_cache_of_compiled_code_sees_all_that_compiled_code_imports():
    unseen = {Path(name).stem for name in _unseen_by_compiled_code()}
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if re.search(r"^@(compiled|inlined)$", text, re.M):
            imported = re.findall(r"^from sbs_gym\.(\w+)", text, re.M)
            assert path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in unseen, path
            assert unseen & set(imported) == set(), path


def test_no_module_is_too_long_to_read():
    long = {
        path.relative_to(PACKAGE).as_posix(): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 350
    }
    assert long == {}


def test_every_citation_names_something_that_a_reader_can_open():
    root = PACKAGE.parent
    private = re.compile(
        r"\b(TIMING|SEMANTICS|TASKS|POLICIES|DESIGN|STYLE)(\.md|,? (section )?\d|\W+section)"
    )
    texts = [path for name in ("sbs_gym", "conf", "docs") for path in (root / name).rglob("*.*")]
    found = [
        f"{path.relative_to(root)}:{number}"
        for path in [*texts, *root.glob("*.md")]
        if path.suffix in {".py", ".yaml", ".md"}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if private.search(line)
    ]
    assert found == []
    headings = set(re.findall(r"^#+ (.+)$", (root / "docs" / "timing.md").read_text("utf-8"), re.M))
    for path in texts:
        if path.suffix in {".py", ".yaml"}:
            text = re.sub(r"[\s#]+", " ", path.read_text(encoding="utf-8"))
            for cited in re.findall(r"docs/timing\.md, \"([^\"]+)\"(?: and \"([^\"]+)\")?", text):
                assert {name for name in cited if name} <= headings, (path, cited)
