"""What a kernel group is: a formula, the rows it is fitted to, and those kept out with a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sbs_gym.timing.kernel_rows import Parameters
from sbs_gym.timing.measurements import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelGroup:
    """One kernel formula and its rows.

    Attributes:
        name: Group in reports; parameters are called `<name>_<parameter>` elsewhere.
        phase: `prefill` or `decode`.
        metrics: Metrics of kernels.csv that belong here.
        about: What the rows measure, in a few words.
        start: Parameter names and start values, near the result; empty for a check, which
            predicts rows that no group is fitted to.
        predict: Seconds of a row; reads parameters of this and earlier groups by full name.
        keep: None, or the reason to keep a row out; rows of other groups' metrics never get here.
        split: What is left out together when errors are estimated: an EP size or a shape.
    """

    name: str
    about: str
    phase: str
    metrics: tuple[str, ...]
    start: Mapping[str, float]
    predict: Callable[[Parameters, Measurement], float]
    keep: Callable[[Measurement], str | None]
    split: Callable[[Measurement], str]


def group(
    phase: str,
    name: str,
    about: str,
    metrics: tuple[str, ...],
    start: Mapping[str, float],
    predict: Callable[[Parameters, Measurement], float],
    keep: Callable[[Measurement], str | None],
    split: Callable[[Measurement], str],
) -> KernelGroup:
    """Return a kernel group; the order of a table of groups reads like its columns."""
    return KernelGroup(
        name=name,
        about=about,
        phase=phase,
        metrics=metrics,
        start=start,
        predict=predict,
        keep=keep,
        split=split,
    )


def keep_all(row: Measurement) -> str | None:
    """Return no reason: every row is kept."""
    return None


def by_shape(row: Measurement) -> str:
    """Return the shape of a row's matrix product."""
    return f"K={row.note.get('K')};N={row.note.get('N')}"


def by_ep(row: Measurement) -> str:
    """Return the EP size of a row."""
    return f"EP{row.ep}"


def by_tokens(row: Measurement) -> str:
    """Return the tokens per rank of a row."""
    return f"{row.tokens_per_rank} tokens"


def by_batch(row: Measurement) -> str:
    """Return the requests per rank of a row."""
    return f"batch {row.batch_per_rank}"


def by_context(row: Measurement) -> str:
    """Return the context of a row."""
    return f"context {row.context_len}"


def by_metric(row: Measurement) -> str:
    """Return the metric of a row."""
    return row.metric
