"""How full and how busy the engines were, from the records of their passes and steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Records = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Window:
    """The span that rates are taken over; an instant t is inside if start < t <= end.

    The start is an arrival, and no work of that request can end at that very instant.
    """

    start_at_s: float
    end_at_s: float

    @property
    def length_s(self) -> float:
        """Return end - start, seconds."""
        return self.end_at_s - self.start_at_s

    def holds(self, instants_at_s: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which instants are inside; NaN never is."""
        inside = (instants_at_s > self.start_at_s) & (instants_at_s <= self.end_at_s)
        return np.asarray(inside, dtype=np.bool_)

    def per_second(self, amount: float) -> float:
        """Return amount / length; NaN for an empty window."""
        return amount / self.length_s if self.length_s > 0 else float("nan")


def chunk_utilisation_frac(passes: Records, *, dp: int, chunk_tokens: int) -> float:
    """Return sum of tokens / sum of dp * chunk over the passes; NaN without passes."""
    if not len(passes):
        return float("nan")
    return float(passes["tokens"].sum() / (len(passes) * dp * chunk_tokens))


def bubble_frac(passes: Records, *, dp: int) -> float:
    """Return the share of rank time spent at the barrier inside passes or steps; NaN without work.

    A pass or step counts 1 - cost_sum / (dp * cost_max), weighted by its duration. Empty passes of
    free-running engines have no slowest rank: they are idle time, not bubble.
    """
    worked = passes[passes["cost_max_s"] > 0]
    if not len(worked):
        return float("nan")
    duration = worked["ended_at_s"] - worked["started_at_s"]
    share = 1.0 - worked["cost_sum_s"] / (dp * worked["cost_max_s"])
    return float((duration * share).sum() / duration.sum())


def idle_frac(passes: Records, window: Window, *, num_instances: int) -> float:
    """Return the share of rank time in the window outside passes with tokens.

    Args:
        passes: All passes of the run.
        window: The measured window.
        num_instances: Prefill instances.
    """
    return span_idle_frac(passes[passes["tokens"] > 0], window, num_instances=num_instances)


def span_idle_frac(spans: Records, window: Window, *, num_instances: int) -> float:
    """Return the share of instance time in the window outside the spans of work.

    All ranks of an instance start and end together, so it is the share of rank time too.

    Args:
        spans: Passes or steps of the whole run, with `started_at_s` and `ended_at_s`: those
            across a border of the window count in part.
        window: The measured window.
        num_instances: Instances that the spans belong to.
    """
    if not window.length_s > 0:
        return float("nan")
    start = np.maximum(spans["started_at_s"], window.start_at_s)
    end = np.minimum(spans["ended_at_s"], window.end_at_s)
    busy_s = float(np.maximum(0.0, end - start).sum())
    # Rounding of the sum may leave a busy engine a hair above the window.
    return max(0.0, 1.0 - busy_s / (num_instances * window.length_s))
