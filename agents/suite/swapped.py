"""A length mix that changes half way: two workloads behind each other, as a trace file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from sbs_gym import artifacts
from sbs_gym.capacity import WARM_UP_FRAC, capacity_requests_per_s
from sbs_gym.config.run import RunConfig
from sbs_gym.errors import ConfigError
from sbs_gym.schema import load_config
from sbs_gym.types import RequestTable
from sbs_gym.workload.generate import generate


def swapped_run(first: RunConfig, other: RunConfig, seed: int, path: Path) -> RunConfig:
    """Return the run of a trace whose lengths and rate change in the middle of what is measured.

    Both halves take as long and have the same load of what their own mix allows. Half as much of
    the first mix as it was asked for is measured, for the same seconds of the other; the tail
    behind goes on with the other.

    Args:
        first: Workload, load and num_requests of the first half.
        other: Workload of the second half, on the same cluster.
        seed: Of both halves.
        path: The Parquet file to write, unless it is there.
    """
    if first.load is None or first.num_requests is None:
        raise ConfigError("a swapped mix needs load and num_requests")
    rates = [
        first.load * capacity_requests_per_s(c.cluster, c.workload, c.timing)
        for c in (first, other)
    ]
    measured_s = (1.0 - WARM_UP_FRAC) * first.num_requests / rates[0]
    # The warm-up is a tenth of the horizon: `measured_run` takes it off the first half.
    horizon_s = measured_s / (1.0 - WARM_UP_FRAC)
    change_at_s = horizon_s - measured_s / 2
    if not path.is_file():
        head = _requests(first, rates[0], seed, change_at_s)
        tail = _requests(other, rates[1], seed, horizon_s + measured_s - change_at_s)
        artifacts.write_all(
            path.parent, {path.name: artifacts.parquet_writer(_table(head, tail, change_at_s))}
        )
    trace = load_config(["workload=trace", f"workload.path={path.resolve()}"]).workload
    return dataclasses.replace(
        first, workload=trace, load=None, num_requests=None, horizon_s=horizon_s, seed=seed
    )


def _requests(config: RunConfig, rate_per_s: float, seed: int, until_s: float) -> RequestTable:
    return generate(
        config.workload, config.arrivals, rate_per_s=rate_per_s, seed=seed, horizon_s=until_s
    )


def _table(head: RequestTable, tail: RequestTable, change_at_s: float) -> pd.DataFrame:
    columns = {
        "arrived_at_s": np.concatenate([head.arrived_at_s, tail.arrived_at_s + change_at_s]),
        "input_tokens": np.concatenate([head.input_tokens, tail.input_tokens]),
        "output_tokens": np.concatenate([head.output_tokens, tail.output_tokens]),
    }
    return pd.DataFrame(columns)
