"""sbs_gym: when to release LLM requests and where to put them, in P/D-separated DP+EP serving.

    import sbs_gym
    result = sbs_gym.simulate(sbs_gym.load_config(["scheduler=sbs", "load=0.7"]))
    result.summary["ttft_mean_s"]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sbs_gym.compare import Comparison, compare
    from sbs_gym.schema import load_config
    from sbs_gym.simulate import Result, simulate

# Loaded on first use, so that `import sbs_gym` stays quick and the core never imports Hydra.
_PLACES = {
    "Comparison": "sbs_gym.compare",
    "Result": "sbs_gym.simulate",
    "compare": "sbs_gym.compare",
    "load_config": "sbs_gym.schema",
    "simulate": "sbs_gym.simulate",
}
__all__ = ["Comparison", "Result", "__version__", "compare", "load_config", "simulate"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'sbs_gym' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
