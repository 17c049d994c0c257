"""The one record that carries a decode timing into compiled code."""

from __future__ import annotations

import numpy as np

# Documented once, here: (name, type), then unit and meaning. The fields of luck have the names and
# meanings of COEFFICIENTS, so that luck.py takes either record.
DECODE_COEFFICIENTS = np.dtype(
    (
        np.record,
        [
            ("kind", np.int64),  # a Kind
            ("dp", np.int64),  # ranks of an instance
            # Luck, all kinds.
            ("jitter_sigma", np.float64),  # sigma of log(duration); 0 = no jitter
            ("jitter_grid_s", np.float64),  # seconds an instance keeps its jitter
            ("skew_mean", np.float64),  # mean expert skew g, >= 1
            ("skew_sigma", np.float64),  # sigma of log(g - 1); 0 = always the mean
            ("skew_rho", np.float64),  # AR(1) coefficient from grid point to grid point
            ("skew_grid_s", np.float64),  # seconds between grid points
            # What one rank's share of a step costs, all kinds: bubbles only.
            ("request_cost_s", np.float64),  # seconds per request (1.0 for constant)
            ("kv_token_cost_s", np.float64),  # seconds per token of context
            # constant, linear, table.
            ("step_s", np.float64),  # constant: seconds of every step
            ("fixed_s", np.float64),  # linear: seconds of a step apart from its ranks' load
            ("per_request_s", np.float64),  # linear: seconds per request of a rank
            ("per_kv_token_s", np.float64),  # linear, table: seconds per token of context
            # roofline; what hangs on the graph bucket alone is in the table, decode_roofline.py.
            ("max_requests", np.int64),  # most requests of one rank: the last bucket holds them
            ("q_tokens", np.int64),  # tokens that a request brings into a step
            ("overlap_min_tokens", np.int64),  # two-batch overlap from here on every busy rank
            ("moe_layers", np.float64),  # layers with experts, those of multi-token prediction too
            ("core_kv_token_s", np.float64),  # attention core: seconds per context token and layer
            ("experts_per_gpu", np.float64),  # routed experts on one GPU
            ("masked_launch_s", np.float64),  # fixed seconds of a masked grouped GEMM
            ("masked_flop_per_s", np.float64),  # reached rate
            ("masked_bytes_per_s", np.float64),  # reached memory rate
            ("masked_softness", np.float64),  # exponent p between compute and memory
            ("expert_fixed_s", np.float64),  # element-wise seconds of the routed experts
            ("dispatch_launch_s", np.float64),  # seconds on the SMs: low-latency dispatch
            ("dispatch_token_s", np.float64),  # seconds per token and GPU in flight
            ("combine_launch_s", np.float64),  # seconds on the SMs: low-latency combine
            ("combine_token_s", np.float64),  # seconds per token and GPU in flight
        ],
    ),
    align=True,
)
