"""Seconds of single kernels: compiled scalar formulas that the fit and the pass share."""

from __future__ import annotations

import math

from sbs_gym.jit import compiled
from sbs_gym.timing.shape import EXPERTS_PER_TOKEN, GPUS_PER_NODE, NODES_PER_TOKEN

_TILE_ROWS = 64  # rows are computed in tiles; a started tile costs a whole one


@compiled
def soft_max(a, b, p):  # type: ignore[no-untyped-def]
    """Return (a**p + b**p)**(1/p) for a, b >= 0: between max(a, b) and a + b.

    Written so that doubling both arguments doubles the result exactly.
    """
    large, small = max(a, b), min(a, b)
    if large <= 0.0:
        return 0.0
    return large * (1.0 + (small / large) ** p) ** (1.0 / p)


@compiled
def gemm_s(groups, rows, inner, outer, launch_s, flop_per_s, bytes_per_s, softness):  # type: ignore[no-untyped-def]
    """Return the seconds of `groups` FP8 products (rows x inner) by (inner x outer), BF16 out.

    `rows` may be fractional (a mean over experts); 0 rows take no time.
    """
    if rows <= 0.0:
        return 0.0
    tiled = math.ceil(rows / _TILE_ROWS) * float(_TILE_ROWS)
    compute = groups * (2.0 * tiled * inner * outer) / flop_per_s
    memory = groups * (rows * inner + float(inner) * outer + 2.0 * rows * outer) / bytes_per_s
    return launch_s + soft_max(compute, memory, softness)


@compiled
def gemm_chain_s(shapes, groups, rows, launch_s, flop_per_s, bytes_per_s, softness):  # type: ignore[no-untyped-def]
    """Return the seconds of several products in a row; `shapes` holds their (inner, outer)."""
    total = 0.0
    for inner, outer in shapes:
        total += gemm_s(groups, rows, inner, outer, launch_s, flop_per_s, bytes_per_s, softness)
    return total


@compiled
def linear_s(count, launch_s, each_s):  # type: ignore[no-untyped-def]
    """Return launch_s + count * each_s; 0.0 for a count of zero."""
    if count <= 0.0:
        return 0.0
    return launch_s + count * each_s


def copies_per_token(ep: int) -> float:
    """Return how many copies of a token an all-to-all over `ep` GPUs sends on its slowest link.

    Eight experts drawn at random meet r * (1 - (1 - 1/r)**8) of r places: ranks inside one node,
    else nodes, at most four of them. Source of the reading: derived, docs/timing.md,
    "Dispatch and combine".
    """
    nodes = -(-ep // GPUS_PER_NODE)
    places = ep if nodes == 1 else min(nodes, NODES_PER_TOKEN)
    return float(places * (1.0 - (1.0 - 1.0 / places) ** EXPERTS_PER_TOKEN))
