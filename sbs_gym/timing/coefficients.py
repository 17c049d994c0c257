"""The one record that carries a timing model into compiled code."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Kind(IntEnum):
    """Which formula a record belongs to."""

    CONSTANT = 0
    LINEAR = 1
    TABLE = 2
    ROOFLINE = 3


# Documented once, here: (name, type), then unit and meaning.
COEFFICIENTS = np.dtype(
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
            # What one rank's share of a pass costs, all kinds: budgets and bubbles only.
            ("token_cost_s", np.float64),  # seconds per token (1.0 for constant)
            ("pair_cost_s", np.float64),  # seconds per query-key pair over all layers
            # constant, linear, table.
            ("pass_s", np.float64),  # constant: seconds of every pass
            ("fixed_s", np.float64),  # linear: seconds of a pass apart from its tokens
            ("per_token_s", np.float64),  # linear: seconds per token of the weighted load
            ("max_weight", np.float64),  # linear: weight of the fullest rank, in [0, 1]
            ("mean_token_s", np.float64),  # table: seconds per mean token over ranks
            # roofline: the terms of the experts and of communication; the terms of a rank's own
            # tokens are rows of the table, see roofline.py.
            ("overlap_min_tokens", np.int64),  # two-batch overlap from here on every busy rank
            ("expert_by_max", np.int64),  # 1: expert and link time by the fullest rank
            ("experts_per_gpu", np.float64),  # routed experts on one GPU
            ("grouped_launch_s", np.float64),  # fixed seconds of a grouped GEMM
            ("grouped_flop_per_s", np.float64),  # reached rate on all SMs
            ("grouped_flop_shared_per_s", np.float64),  # the same beside communication kernels
            ("grouped_bytes_per_s", np.float64),  # reached memory rate
            ("grouped_softness", np.float64),  # exponent p between compute and memory
            ("expert_token_s", np.float64),  # element-wise seconds per token and GPU
            ("link_launch_s", np.float64),  # fixed seconds of one dispatch or combine
            ("dispatch_token_s", np.float64),  # seconds per token and GPU of a dispatch
            ("combine_token_s", np.float64),  # seconds per token and GPU of a combine
            ("link_slowdown", np.float64),  # factor on links beside compute
            ("core_pair_s", np.float64),  # attention core: seconds per pair and layer, all SMs
            ("core_pair_shared_s", np.float64),  # the same beside communication kernels
            ("overlap_softness", np.float64),  # exponent p of compute over communication
            ("overhead_s", np.float64),  # seconds per pass outside the layers
        ],
    ),
    align=True,
)
