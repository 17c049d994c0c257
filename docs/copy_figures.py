"""Copy the pictures that the pages show: `python docs/copy_figures.py outputs/reproduce_full`.

The folder is one that `sbs-gym reproduce` wrote.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PAGES = (DOCS.parent / "README.md", DOCS / "paper.md")
OTHERS = ("fixed_time", "timing_validation")  # made by other commands, beside them in the pages


def shown() -> list[str]:
    """Return the names of the pictures that the pages take from a report."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    names = re.findall(r"figures/(\w+)\.png\)", "\n".join(texts))
    return [name for name in dict.fromkeys(names) if name not in OTHERS]


def main(report: Path) -> int:
    """Copy them; 1 if the report has not all of them."""
    missing = [name for name in shown() if not (report / "figures" / f"{name}.png").is_file()]
    if missing:
        print(f"{report} has no picture of: {', '.join(missing)}", file=sys.stderr)
        return 1
    for name in shown():
        shutil.copyfile(report / "figures" / f"{name}.png", DOCS / "figures" / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
