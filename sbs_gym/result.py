"""The result of one run: a summary, the requests and passes behind it, and where it came from."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sbs_gym import artifacts
from sbs_gym.config.run import RunConfig, run_from_mapping
from sbs_gym.jit import source_digest
from sbs_gym.metrics.columns import (
    NULLABLE_KEYS,
    PASS_COLUMNS,
    REQUEST_COLUMNS,
    TABLES,
)
from sbs_gym.metrics.latency import by_length, slo_ttft_s, ttft_s
from sbs_gym.metrics.summary import Demand, Summary, measured_window, summarise
from sbs_gym.sim.records import RunRecords
from sbs_gym.types import RequestTable

_TABLES = ("requests", "passes", "by_length")
_PACKAGES = ("numpy", "numba", "pandas", "scipy", "pyarrow")
# The summary comes last: where it is, everything else is.
_FILES = ("config.yaml", "provenance.json", *(f"{t}.parquet" for t in _TABLES), "summary.json")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """What one run gives.

    Attributes:
        config: What was run.
        summary: Flat mapping; keys, units and meaning in `column_docs()`. NaN where a number
            does not exist.
        requests: One row per request of the workload table, columns as `column_docs()`.
        passes: One row per finished pass; `tokens_per_rank` only where ranks were recorded.
        by_length: One row per prompt-length bucket of the measured requests.
        provenance: Versions, seed and checksums of the configuration, code, workload table and
            `inputs`, the files that the configuration names.
    """

    config: RunConfig
    summary: Summary
    requests: pd.DataFrame
    passes: pd.DataFrame
    by_length: pd.DataFrame
    provenance: dict[str, Any]

    def save(self, directory: str | Path) -> Path:
        """Write the result to `directory` and return it: all files whole, or none.

        Files: config.yaml, provenance.json, requests.parquet, passes.parquet, by_length.parquet
        and summary.json (NaN is null). The same configuration overwrites itself.

        Raises:
            ConfigError: If the directory holds the results of another configuration.
        """
        config = self.config.to_mapping()
        artifacts.check_output_dir(directory, config)
        writers = {
            "config.yaml": artifacts.yaml_writer(config),
            "provenance.json": artifacts.json_writer(self.provenance),
            "summary.json": artifacts.json_writer(self.summary),
        }
        for table in _TABLES:
            writers[f"{table}.parquet"] = artifacts.parquet_writer(getattr(self, table))
        artifacts.write_all(directory, {name: writers[name] for name in _FILES})
        return Path(directory)

    @classmethod
    def load(cls, directory: str | Path) -> Result:
        """Return the result that `save` wrote.

        Raises:
            ConfigError: If files are missing or cannot be read.
        """
        path = artifacts.require_files(directory, _FILES)
        return cls(
            config=run_from_mapping(artifacts.read_yaml(path / "config.yaml")),
            summary=summary_from_json(artifacts.read_json(path / "summary.json")),
            requests=pd.read_parquet(path / "requests.parquet"),
            passes=pd.read_parquet(path / "passes.parquet"),
            by_length=pd.read_parquet(path / "by_length.parquet"),
            provenance=artifacts.read_json(path / "provenance.json"),
        )


def check_output_dir(directory: str | Path, config: RunConfig) -> None:
    """Raise ConfigError if `directory` holds another configuration's result; call before work."""
    artifacts.check_output_dir(directory, config.to_mapping())


def result_from_records(
    records: RunRecords,
    config: RunConfig,
    table: RequestTable,
    *,
    measured: tuple[int, int],
    demand: Demand,
) -> Result:
    """Return the result of a run.

    Args:
        records: What the run left behind.
        config: What was run.
        table: The requests that were run.
        measured: Request ids [first, last) that the summary counts.
        demand: Rate and capacity.
    """
    summary = summarise(
        records, cluster=config.cluster, slo=config.slo, measured=measured, demand=demand
    )
    counted = records.requests[slice(*measured)]
    counted = counted[counted["arrived_at_s"] <= records.ended_at_s]
    return Result(
        config=config,
        summary=summary,
        requests=_request_table(records, config, measured),
        passes=_pass_table(records, measured),
        by_length=by_length(counted, config.slo),
        provenance=_provenance(config, table),
    )


def summary_from_json(values: Mapping[str, Any]) -> Summary:
    """Return a summary read from JSON: null is NaN again, except where it means "not known"."""
    return {
        key: float("nan") if value is None and key not in NULLABLE_KEYS else value
        for key, value in values.items()
    }


@functools.cache
def code_digest() -> str:
    """Return a checksum of the package's sources and of the compiler's versions."""
    return source_digest(Path(__file__).parent)


def column_docs() -> pd.DataFrame:
    """Return what every column and summary key means: table, column, unit, description."""
    rows = [
        (table, name, column.unit, column.description)
        for table, columns in TABLES.items()
        for name, column in columns.items()
    ]
    return pd.DataFrame(rows, columns=["table", "column", "unit", "description"])


def _request_table(
    records: RunRecords, config: RunConfig, measured: tuple[int, int]
) -> pd.DataFrame:
    requests = records.requests
    ids = np.arange(len(requests))
    columns: dict[str, Any] = {name: requests[name] for name in requests.dtype.names or ()}
    columns |= {
        "request_id": ids,
        "measured": (ids >= measured[0]) & (ids < measured[1]),
        "ttft_s": ttft_s(requests),
        "slo_ttft_s": slo_ttft_s(requests["input_tokens"], config.slo),
    }
    return pd.DataFrame({name: columns[name] for name in REQUEST_COLUMNS})


def _pass_table(records: RunRecords, measured: tuple[int, int]) -> pd.DataFrame:
    passes = records.passes
    window = measured_window(records.requests, measured, records.ended_at_s)
    columns: dict[str, Any] = {name: passes[name] for name in passes.dtype.names or ()}
    columns["measured"] = window.holds(passes["ended_at_s"])
    if records.rank_tokens is not None:
        columns["tokens_per_rank"] = list(records.rank_tokens)
    return pd.DataFrame({name: columns[name] for name in PASS_COLUMNS if name in columns})


def _provenance(config: RunConfig, table: RequestTable) -> dict[str, Any]:
    return {
        "sbs_gym": metadata.version("sbs-gym"),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in _PACKAGES},
        "seed": config.seed,
        "config_digest": config.digest(),
        "code_digest": code_digest(),
        "inputs": artifacts.input_digests(config.workload, config.timing),
        "table": table.name,
        "table_digest": table.digest(),
    }
