"""All kernel groups; one may read the numbers of the groups before it, so their order matters."""

from __future__ import annotations

from sbs_gym.timing.decode_groups import DECODE_GROUPS
from sbs_gym.timing.kernel_group import KernelGroup
from sbs_gym.timing.prefill_groups import PREFILL_GROUPS

__all__ = ["GROUPS", "KernelGroup"]

GROUPS = (*PREFILL_GROUPS, *DECODE_GROUPS)
