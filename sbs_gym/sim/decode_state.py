"""State of hand-off and decode: one structured dtype per entity, as in state.py.

Rank d of decode instance j stands at row `j * decode_dp + d`. `decode_views` is what the scheduler
knows; everything else is truth.
"""

from __future__ import annotations

import numpy as np

from sbs_gym.sim.records import DECODE_RECORD
from sbs_gym.sim.state import dtype_of

# A request behind its first token: what DECODE_RECORD documents, and its working values.
DECODE = dtype_of(
    *[(name, DECODE_RECORD[name]) for name in DECODE_RECORD.names or ()],
    ("start_step", np.int32),  # steps of the instance before its first; while evicted: steps done
    ("finish_step", np.int32),  # steps of the instance when it has its last token
    ("blocks", np.int32),  # held or reserved
    ("pass_tokens", np.int32),  # of its last pass
    ("next", np.int32),  # in its queue, or among those in their first step; -1 at the end
)

# A decode instance.
ENGINE = dtype_of(
    ("skew_x", np.float64),  # AR(1) value at grid step skew_k
    ("skew_k", np.int64),  # -1 before the first step
    ("steps_done", np.int64),
    ("row", np.int64),  # of the running step's record
    ("num_bound", np.int64),  # bound and not finished
    ("num_samples", np.int64),
    ("newcomers", np.int32),  # first request in its first step; -1 for none
    ("busy", np.int8),
    ("start_scheduled", np.int8),
    ("sample_scheduled", np.int8),
)

# A decode rank.
DECODE_RANK = dtype_of(
    ("free_blocks", np.int64),
    ("base_tokens", np.int64),  # running requests: sum of input + 1
    ("start_sum", np.int64),  # running requests: sum of start_step
    ("coming_tokens", np.int64),  # bound and never admitted: sum of input + 1
    ("num_running", np.int64),
    ("num_bound", np.int64),  # bound and not finished
    ("num_evicted", np.int64),  # evicted and not admitted again
    ("nic_free_at_s", np.float64),
    ("arrived", np.int32),  # queue of those that wait for admission; -1 for none
    ("arrived_tail", np.int32),
    ("returned", np.int32),  # queue of evicted ones that may come back
    ("returned_tail", np.int32),
)

# What the scheduler knows of a decode rank: the last report, and what was granted altogether.
DECODE_VIEW = dtype_of(
    ("running", np.int64),  # of the last report, as the next three
    ("waiting", np.int64),
    ("blocks", np.int64),
    ("kv_tokens", np.float64),
    ("granted_before", np.int64),  # requests granted before that report's sample
    ("granted_blocks_before", np.int64),
    ("granted_tokens_before", np.int64),
    ("granted", np.int64),  # requests granted so far
    ("granted_blocks", np.int64),
    ("granted_tokens", np.int64),  # input + 1 each
    ("refused", np.int8),  # since the last report
)

# One rank's part of a report under way.
REPORT = dtype_of(
    ("running", np.int64),
    ("waiting", np.int64),
    ("blocks", np.int64),
    ("kv_tokens", np.float64),
    ("granted", np.int64),  # the view's counters when the sample was taken
    ("granted_blocks", np.int64),
    ("granted_tokens", np.int64),
)
