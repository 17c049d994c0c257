"""Write into a Markdown file what its commands print: `python docs/fill_readme.py README.md`.

A block is `<!-- table: COMMAND -->`, anything, `<!-- end -->`; what stands between is replaced by
COMMAND and its output. `--check` writes nothing and fails if a block is not up to date. A command
with $TRACES in it reads request traces below the folder that this environment variable names; where
it is not set, the block stays as it is.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

_TRACES = "$TRACES"
_BLOCK = re.compile(r"(<!-- table: (?P<command>.+?) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A command and the output that stands in the file."""

    command: str
    body: str


def blocks(text: str) -> list[Block]:
    """Return the blocks of a text; raise ValueError if one is not closed."""
    found = [Block(m["command"], m["body"]) for m in _BLOCK.finditer(text)]
    if len(found) != text.count("<!-- table: "):
        raise ValueError("a block `<!-- table: … -->` has no `<!-- end -->`")
    return found


def filled(text: str) -> str:
    """Return the text with every block replaced by the output of its command."""
    blocks(text)
    return _BLOCK.sub(_filled_block, text)


def _filled_block(match: re.Match[str]) -> str:
    command = match["command"]
    if _TRACES in command and not os.environ.get("TRACES"):
        print(f"left as it is, TRACES is not set: {command}", file=sys.stderr)
        return match[0]
    return f"{match[1]}```text\n{_output(command)}\n```\n{match[4]}"


def _output(command: str) -> str:
    traces = os.environ.get("TRACES", "").rstrip("/")
    words = [word.replace(_TRACES, traces) for word in shlex.split(command)]
    if words[0] != "sbs-gym":
        raise ValueError(f"{command!r}: expected a command `sbs-gym …`")
    # Wide, so that a trace's long path breaks no line; tables take no more than they need.
    columns = "120" if _TRACES in command else "80"
    environment = {**os.environ, "COLUMNS": columns, "NO_COLOR": "1", "CI": "1"}
    run = [sys.executable, "-m", "sbs_gym.cli", *words[1:]]
    print(f"running: {command}", file=sys.stderr)
    done = subprocess.run(run, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    printed = done.stdout.replace(traces, _TRACES) if _TRACES in command else done.stdout
    lines = [line.rstrip() for line in printed.strip().splitlines()]
    return "\n".join([f"$ {_in_lines(command)}", "", *lines])


def _in_lines(command: str) -> str:
    """Break a long command as a shell takes it; brackets are quoted there."""
    words = [_quoted(word) for word in shlex.split(command)]
    return " \\\n    ".join(textwrap.wrap(" ".join(words), 74, break_long_words=False))


def _quoted(word: str) -> str:
    """Quote a word as far as the shell needs it; $TRACES stays for the shell to expand."""
    return f'"{word}"' if _TRACES in word else shlex.quote(word)


def main(arguments: list[str]) -> int:
    """Fill or check the named files."""
    check = "--check" in arguments
    stale = 0
    for name in (word for word in arguments if word != "--check"):
        path = Path(name)
        text = path.read_text(encoding="utf-8")
        new = filled(text)
        stale += new != text
        if not check:
            path.write_text(new, encoding="utf-8")
        print(f"{name}: {'up to date' if new == text else 'stale' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
