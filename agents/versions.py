"""What a result was made with."""

from __future__ import annotations

import platform
from importlib.metadata import version

from sbs_gym.result import code_digest

_PACKAGES = ("numpy", "numba", "gymnasium", "torch", "stable-baselines3", "sb3-contrib")


def versions() -> dict[str, str]:
    """Return the versions of Python, of the libraries that matter, and a digest of the code."""
    import sbs_gym

    found = {name: version(name) for name in _PACKAGES}
    return {
        "python": platform.python_version(),
        "sbs_gym": sbs_gym.__version__,
        "code": code_digest(),
        **found,
    }
