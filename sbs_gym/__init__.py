"""sbs_gym: when to release LLM requests and where to put them, in P/D-separated DP+EP serving.

import sbs_gym
result = sbs_gym.simulate(sbs_gym.load_config(["scheduler=sbs", "load=0.7"]))
result.summary["ttft_mean_s"]
"""

# Imported here and not on first use: a submodule that is loaded later would take the place of the
# function of the same name.
from sbs_gym.compare import Comparison, compare
from sbs_gym.envs.registration import register
from sbs_gym.schedulers.cluster_view import ClusterView
from sbs_gym.schedulers.custom import Scheduler, Window
from sbs_gym.schedulers.registry import register_scheduler
from sbs_gym.schedulers.views import RequestView
from sbs_gym.schema import load_config
from sbs_gym.simulate import Result, simulate

register()

__version__ = "0.1.0"

__all__ = [
    "ClusterView",
    "Comparison",
    "RequestView",
    "Result",
    "Scheduler",
    "Window",
    "__version__",
    "compare",
    "load_config",
    "register_scheduler",
    "simulate",
]
