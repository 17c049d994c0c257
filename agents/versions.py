"""What a result was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sbs_gym.result import code_digest, versions_of

_PACKAGES = ("numpy", "numba", "gymnasium", "torch", "stable-baselines3", "sb3-contrib")


def versions() -> dict[str, str]:
    """Return versions of Python and of the libraries that matter, git revision, code digest."""
    import sbs_gym

    found = versions_of(_PACKAGES)
    return {
        "python": found.pop("python"),
        "sbs_gym": sbs_gym.__version__,
        "code": code_digest(),
        "revision": _revision(),
        **found,
    }


def _revision() -> str:
    """Return the git revision of this checkout; "unknown" outside of one."""
    words = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        here = Path(__file__).resolve().parent
        found = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return "unknown"
    return found.stdout.strip() or "unknown"
