"""Passes, bubbles and waits of several schedulers above each other, on one axis of time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sbs_gym.errors import ConfigError
from sbs_gym.report import style
from sbs_gym.report.rank_work import busy_frac, chunks_of
from sbs_gym.result import Result
from sbs_gym.types import FloatArray

STRETCH_S = 3.5
_PASS_HEIGHT, _ROW_INCHES, _WAIT_INCHES = 0.66, 0.5, 0.75
_WAITS = (("in the buffer", style.LOOK_OF_BUFFER), ("in engines", style.LOOK_OF_QUEUE))


def timeline_figure(results: Mapping[str, Result], *, start_s: float, end_s: float) -> Figure:
    """Return a Gantt chart of prefill passes, one panel per scheduler, and who waits below it.

    A row is an instance. A pass is drawn with its ranks, the one with most work at the bottom: dark
    is work, hatched is the bubble at the barrier; between passes the row is idle. Ticks above a
    row are prompts that reach the instance; those in passes do not wait.

    Args:
        results: Name to run; the ranks of its passes must be recorded.
        start_s: First instant shown, seconds.
        end_s: Last one.

    Raises:
        ConfigError: If the stretch is empty, no pass of a run lies in it, or ranks were not
            recorded.
    """
    if not end_s > start_s:
        raise ConfigError(f"end_s={end_s!r} is not allowed; expected more than start_s={start_s!r}")
    passes = {name: _passes_in(name, one, start_s, end_s) for name, one in results.items()}
    rows = [one.config.cluster.num_prefill for one in results.values()]
    heights = [h for n in rows for h in (_ROW_INCHES * n, _WAIT_INCHES)]
    with rc_context({**style.RC, "axes.grid": False}):
        figure = Figure(figsize=(10.5, 1.5 + sum(heights) + 0.55 * len(rows)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        for place, (name, result) in enumerate(results.items()):
            _draw_passes(axes[2 * place], result, passes[name], start_s, end_s)
            axes[2 * place].set_title(_headline(name, result, start_s, end_s), loc="left")
            _draw_waits(axes[2 * place + 1], result, start_s, end_s)
        most = max(axes[2 * place + 1].get_ylim()[1] for place in range(len(rows)))
        for place in range(len(rows)):
            axes[2 * place + 1].set_ylim(0, most)
        axes[-1].set_xlim(start_s, end_s)
        axes[-1].set_xlabel("time (s)")
        dp = max(one.config.cluster.prefill_dp for one in results.values())
        figure.legend(handles=_legend(dp), loc="outside lower center", ncols=3)
        return figure


def middle_stretch(
    results: Mapping[str, Result], length_s: float = STRETCH_S
) -> tuple[float, float]:
    """Return start and end of a stretch in the middle of all runs' arrivals, seconds.

    Raises:
        ConfigError: If the arrivals do not last as long.
    """
    first_s = max(float(one.requests["arrived_at_s"].min()) for one in results.values())
    last_s = min(float(one.requests["arrived_at_s"].max()) for one in results.values())
    if not last_s - first_s > length_s:
        raise ConfigError(
            f"length_s={length_s!r} is not allowed; expected less than {last_s - first_s:.3f} s, "
            "the time that all runs have arrivals in"
        )
    start_s = round((first_s + last_s - length_s) / 2, 1)
    return start_s, start_s + length_s


def waiting_at(since_s: FloatArray, until_s: FloatArray, at_s: FloatArray) -> FloatArray:
    """Return how many waits [since, until) hold each instant; an end that is NaN never comes."""
    begun = np.sort(since_s[~np.isnan(since_s)])
    over = np.sort(until_s[~np.isnan(until_s)])
    counts = np.searchsorted(begun, at_s, "right") - np.searchsorted(over, at_s, "right")
    return counts.astype(np.float64)


def _passes_in(name: str, result: Result, start_s: float, end_s: float) -> pd.DataFrame:
    """Return the passes with tokens that overlap the stretch."""
    rows = result.passes.reset_index(drop=True)
    found = rows[(rows["ended_at_s"] > start_s) & (rows["started_at_s"] < end_s)]
    found = found[found["tokens"] > 0]
    if not len(found):
        raise ConfigError(
            f"start_s={start_s!r}, end_s={end_s!r}: {name} has no pass there; its passes lie in "
            f"[{rows['started_at_s'].min():.3f}, {rows['ended_at_s'].max():.3f}] s"
        )
    return found


def _draw_passes(
    axes: Axes, result: Result, passes: pd.DataFrame, start_s: float, end_s: float
) -> None:
    busy = np.sort(busy_frac(result, chunks_of(result))[passes.index], axis=1)[:, ::-1]
    began_s, ended_s = (passes[n].to_numpy(float) for n in ("started_at_s", "ended_at_s"))
    num = result.config.cluster.num_prefill
    bottoms = _bottoms(passes["instance"], num)
    for row in range(num):
        axes.axhspan(row - _PASS_HEIGHT / 2, row + _PASS_HEIGHT / 2, color=style.IDLE, lw=0)
    whole = np.tile([1.0, 1.0], (len(passes), 1))
    for shares, look in ((whole, style.LOOK_OF_BUBBLE), (busy, style.LOOK_OF_WORK)):
        shapes = [_outline(*one) for one in zip(began_s, ended_s, bottoms, shares, strict=True)]
        axes.add_collection(PolyCollection(shapes, **look))
    # Neighbouring passes touch: a white line says where one ends.
    axes.vlines(ended_s, bottoms, bottoms + _PASS_HEIGHT, color="white", lw=1.2)
    requests = result.requests
    came = requests[requests["delivered_at_s"].between(start_s, end_s)]
    tops = _bottoms(came["instance"], num) + _PASS_HEIGHT
    axes.vlines(came["delivered_at_s"], tops + 0.02, tops + 0.2, color="black", lw=0.6)
    axes.set_yticks(range(num), [f"prefill {num - 1 - row}" for row in range(num)])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.45, num - 0.4)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", bottom=False)


def _bottoms(instances: pd.Series, num: int) -> FloatArray:
    """Return the lower edge of each instance's row; instance 0 is the highest."""
    return num - 1 - instances.to_numpy(float) - _PASS_HEIGHT / 2


def _outline(began_s: float, ended_s: float, bottom: float, shares: FloatArray) -> FloatArray:
    """Return the outline of bars from `began_s`, one per rank above another, shape (points, 2)."""
    edges = bottom + np.repeat(np.linspace(0, _PASS_HEIGHT, len(shares) + 1), 2)[1:-1]
    ends = began_s + (ended_s - began_s) * np.repeat(shares, 2)
    right = np.column_stack([ends, edges])
    return np.vstack([[began_s, edges[0]], right, [began_s, edges[-1]]])


def _draw_waits(axes: Axes, result: Result, start_s: float, end_s: float) -> None:
    at_s = np.linspace(start_s, end_s, 700)
    columns = ("arrived_at_s", "dispatched_at_s", "prefill_started_at_s")
    arrived_s, sent_s, begun_s = (result.requests[c].to_numpy(float) for c in columns)
    waits = waiting_at(sent_s, begun_s, at_s), waiting_at(arrived_s, sent_s, at_s)
    floor = np.zeros_like(at_s)
    for count, (_, look) in zip(waits, reversed(_WAITS), strict=True):
        axes.fill_between(at_s, floor, floor + count, step="mid", **look)
        floor = floor + count
    axes.set_ylabel("requests\nwaiting", rotation=0, ha="right", va="center")
    axes.set_ylim(0, max(1.0, 1.05 * float(floor.max())))
    axes.grid(True, axis="y")


def _headline(name: str, result: Result, start_s: float, end_s: float) -> str:
    requests = result.requests
    here = requests[requests["arrived_at_s"].between(start_s, end_s)]
    ttft = style.milliseconds(float(here["ttft_s"].mean()))
    scheduler = result.config.scheduler
    how = "sent in batches"
    if scheduler.release == "immediate":
        how = "every prompt is sent at once"
    elif scheduler.gated:
        how = "prompts are held until an engine is about to be free"
    return f"{name}: {how}. Mean TTFT of these {len(here):,} arrivals: {ttft} ms"


def _legend(dp: int) -> list[Artist]:
    looks = {
        f"work of {dp} ranks, fullest at the bottom": style.LOOK_OF_WORK,
        "bubble: waits for the slowest": style.LOOK_OF_BUBBLE,
        "idle": {"facecolor": style.IDLE},
    }
    waits = {f"waits {where}": look for where, look in _WAITS}
    tick = Line2D([], [], color="black", marker="|", lw=0, label="prompts arrive at the instance")
    return [tick, *(Patch(label=label, **look) for label, look in (looks | waits).items())]
