"""KV on the decode ranks over time as heat maps, run beside run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sbs_gym.errors import ConfigError
from sbs_gym.report import style
from sbs_gym.result import Result
from sbs_gym.types import FloatArray

_COLUMNS = 400
_THOUSAND = 1e3


def kv_map_figure(results: Mapping[str, Result], *, start_s: float, end_s: float) -> Figure:
    """Return heat maps of the context tokens on every decode rank, run beside run.

    All maps have one scale of colours. An instant between two steps is white.

    Args:
        results: Name to run; the ranks of its decode steps must be recorded.
        start_s: First instant shown, seconds.
        end_s: Last one.

    Raises:
        ConfigError: If the stretch is empty, no step of a run lies in it, or ranks were not
            recorded.
    """
    maps = {name: kv_grid(name, one, start_s, end_s) for name, one in results.items()}
    scale = _common_scale(list(maps.values()))
    with rc_context({**style.RC, "axes.grid": False}):
        figure = Figure(figsize=(1.6 + 3.2 * len(maps), 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
        for one, (name, grid) in zip(axes, maps.items(), strict=True):
            extent = (start_s, end_s, len(grid) - 0.5, -0.5)
            one.imshow(
                grid / _THOUSAND,
                aspect="auto",
                interpolation="nearest",
                cmap=style.HEAT,
                norm=scale,
                extent=extent,
            )
            spread = style.number(spread_of(grid, results[name]) / _THOUSAND, 1)
            one.set_title(f"{name}\nspread over ranks {spread} thousand tokens")
            one.set_xlabel("time (s)")
            _mark_instances(one, results[name])
        several = any(one.config.cluster.num_decode > 1 for one in results.values())
        axes[0].set_ylabel("decode rank" + several * " (lines between instances)")
        bar = figure.colorbar(ScalarMappable(scale, style.HEAT), ax=list(axes), pad=0.01)
        bar.set_label("KV on the rank (thousand tokens)")
        return figure


def kv_grid(
    name: str, result: Result, start_s: float, end_s: float, columns: int = _COLUMNS
) -> FloatArray:
    """Return context tokens by rank and instant, shape (instances * decode_dp, columns).

    An instant has the tokens of the step that is under way; NaN between two steps. Source: the
    column `kv_tokens_per_rank` of the steps.

    Args:
        name: Of the run, for errors.
        result: A run.
        start_s: Where the first column begins, seconds.
        end_s: Where the last one ends.
        columns: Instants, in the middles of equal parts of the stretch.

    Raises:
        ConfigError: As `kv_map_figure`.
    """
    steps, cluster = _recorded_steps(name, result, start_s, end_s), result.config.cluster
    edges = np.linspace(start_s, end_s, columns + 1)
    at_s = (edges[:-1] + edges[1:]) / 2
    grid = np.full((cluster.num_decode, cluster.decode_dp, columns), np.nan)
    for instance, rows in steps.groupby("instance"):
        rows = rows.sort_values("step_index")
        began_s, ended_s = (rows[c].to_numpy(float) for c in ("started_at_s", "ended_at_s"))
        step = np.searchsorted(began_s, at_s, side="right") - 1
        inside = (step >= 0) & (at_s < ended_s[step])
        tokens = np.stack([np.asarray(row) for row in rows["kv_tokens_per_rank"]])
        grid[int(str(instance))][:, inside] = tokens[step[inside]].T
    return grid.reshape(-1, columns)


def spread_of(grid: FloatArray, result: Result) -> float:
    """Return the standard deviation over the ranks of an instance, mean over time, tokens.

    Instants between two steps do not count, as in the summary's `kv_load_std_tokens`.

    Args:
        grid: What `kv_grid` returns.
        result: Its run.
    """
    cluster = result.config.cluster
    by_instance = grid.reshape(cluster.num_decode, cluster.decode_dp, -1)
    return float(np.nanmean(np.std(by_instance, axis=1)))


def _recorded_steps(name: str, result: Result, start_s: float, end_s: float) -> pd.DataFrame:
    """Return the steps of a run, or raise ConfigError if none of the stretch can be shown."""
    if not end_s > start_s:
        raise ConfigError(f"end_s={end_s!r} is not allowed; expected more than start_s={start_s!r}")
    steps = result.steps
    if "kv_tokens_per_rank" not in steps or not len(steps):
        raise ConfigError(
            f"{name}: no decode step with kv_tokens_per_rank; expected decode instances and a run "
            "that records its ranks, such as `sbs-gym simulate output_dir=DIR`"
        )
    if not ((steps["ended_at_s"] > start_s) & (steps["started_at_s"] < end_s)).any():
        first_s, last_s = steps["started_at_s"].min(), steps["ended_at_s"].max()
        raise ConfigError(
            f"start_s={start_s!r}, end_s={end_s!r}: {name} has no decode step there; its steps "
            f"lie in [{first_s:.3f}, {last_s:.3f}] s"
        )
    return steps


def _common_scale(grids: Sequence[FloatArray]) -> Normalize:
    """Return the scale from the least to the most tokens of any rank, in thousands."""
    least = min(float(np.nanmin(grid)) for grid in grids)
    most = max(float(np.nanmax(grid)) for grid in grids)
    return Normalize(least / _THOUSAND, most / _THOUSAND)


def _mark_instances(axes: Axes, result: Result) -> None:
    cluster = result.config.cluster
    for instance in range(1, cluster.num_decode):
        axes.axhline(instance * cluster.decode_dp - 0.5, color="white", lw=1.5)
