"""Requests: synthetic workloads, arrival processes and traces, all as one `RequestTable`."""

from sbs_gym.workload.arrivals import mean_over_peak
from sbs_gym.workload.generate import backlog, generate, with_arrivals
from sbs_gym.workload.lengths import draw_tokens, mean_tokens
from sbs_gym.workload.trace.describe import describe
from sbs_gym.workload.trace.load import load_trace
from sbs_gym.workload.trace.report import TraceReport
from sbs_gym.workload.trace.scale import native_rate_per_s, scale_trace
from sbs_gym.workload.trace.select import take_rows

__all__ = [
    "TraceReport",
    "backlog",
    "describe",
    "draw_tokens",
    "generate",
    "load_trace",
    "mean_over_peak",
    "mean_tokens",
    "native_rate_per_s",
    "scale_trace",
    "take_rows",
    "with_arrivals",
]
