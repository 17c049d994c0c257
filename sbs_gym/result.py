"""The result of one run: a summary, the requests, passes and steps behind it, and its origin."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sbs_gym import artifacts
from sbs_gym.config.run import RunConfig, run_from_mapping
from sbs_gym.jit import source_digest
from sbs_gym.metrics import latency
from sbs_gym.metrics.columns import (
    NULLABLE_KEYS,
    PASS_COLUMNS,
    REQUEST_COLUMNS,
    STEP_COLUMNS,
    TABLES,
)
from sbs_gym.metrics.lengths import by_length
from sbs_gym.metrics.slo import meets_slo, slo_ttft_s
from sbs_gym.metrics.steps import kv_std_tokens
from sbs_gym.metrics.summary import (
    Demand,
    Summary,
    measured_requests,
    measured_window,
    summarise,
)
from sbs_gym.schedulers.registry import source_of
from sbs_gym.sim.records import DECODE_RECORD, RunRecords
from sbs_gym.types import RequestTable

_TABLES = ("requests", "passes", "steps", "by_length")
# What a request has where no decode is modelled; NaN for instants.
_NO_DECODE = {"decode_instance": -1, "decode_rank": -1, "num_preempted": 0}
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
        steps: One row per finished decode step; the columns `…_per_rank` only where ranks were
            recorded. Empty without decode.
        by_length: One row per prompt-length bucket of the measured requests.
        provenance: Versions, seed and checksums of the configuration, code, workload table and
            `inputs`, the files that the configuration names, a user's scheduler's included.
    """

    config: RunConfig
    summary: Summary
    requests: pd.DataFrame
    passes: pd.DataFrame
    steps: pd.DataFrame
    by_length: pd.DataFrame
    provenance: dict[str, Any]

    def save(self, directory: str | Path) -> Path:
        """Write the result to `directory` and return it: all files whole, or none.

        Files: config.yaml, provenance.json, requests.parquet, passes.parquet, steps.parquet,
        by_length.parquet and summary.json (NaN is null). The same configuration overwrites itself.

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
            steps=pd.read_parquet(path / "steps.parquet"),
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
    counted = measured_requests(records, measured)
    return Result(
        config=config,
        summary=summary,
        requests=_request_table(records, config, measured),
        passes=_pass_table(records, measured),
        steps=_step_table(records, config, measured),
        by_length=by_length(counted.requests, counted.decode, config.slo),
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


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of installed packages, by name."""
    return {
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


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
    decode = records.decode
    columns = _columns_of(requests) | _decode_columns(records)
    columns |= {
        "request_id": ids,
        "measured": (ids >= measured[0]) & (ids < measured[1]),
        "ttft_s": latency.ttft_s(requests),
        "ttft_client_s": latency.ttft_client_s(requests, decode),
        "tpot_s": latency.tpot_s(requests, decode),
        "e2e_s": latency.e2e_s(requests, decode),
        "slo_ttft_s": slo_ttft_s(requests["input_tokens"], config.slo),
        "met_slo": meets_slo(requests, decode, config.slo),
    }
    return pd.DataFrame({name: columns[name] for name in REQUEST_COLUMNS})


def _decode_columns(records: RunRecords) -> dict[str, Any]:
    if records.decode is not None:
        return _columns_of(records.decode)
    count = len(records.requests)
    filled = {
        name: np.full(count, _NO_DECODE.get(name, np.nan), dtype=DECODE_RECORD[name])
        for name in DECODE_RECORD.names or ()
    }
    return filled | {"finished_at_s": latency.finished_at_s(records.requests, None)}


def _pass_table(records: RunRecords, measured: tuple[int, int]) -> pd.DataFrame:
    columns = _columns_of(records.passes)
    columns["measured"] = _in_window(records, measured, records.passes)
    if records.rank_tokens is not None:
        columns["tokens_per_rank"] = list(records.rank_tokens)
    return pd.DataFrame({name: columns[name] for name in PASS_COLUMNS if name in columns})


def _step_table(records: RunRecords, config: RunConfig, measured: tuple[int, int]) -> pd.DataFrame:
    steps = records.steps
    columns = _columns_of(steps)
    columns["measured"] = _in_window(records, measured, steps)
    columns["kv_std_tokens"] = kv_std_tokens(steps, dp=config.cluster.decode_dp)
    per_rank = {
        "batch_per_rank": records.step_batch,
        "kv_tokens_per_rank": records.step_kv_tokens,
        "blocks_per_rank": records.step_blocks,
    }
    columns |= {name: list(values) for name, values in per_rank.items() if values is not None}
    return pd.DataFrame({name: columns[name] for name in STEP_COLUMNS if name in columns})


def _columns_of(records: NDArray[Any]) -> dict[str, Any]:
    return {name: records[name] for name in records.dtype.names or ()}


def _in_window(
    records: RunRecords, measured: tuple[int, int], rows: NDArray[Any]
) -> NDArray[np.bool_]:
    window = measured_window(records.requests, measured, records.ended_at_s)
    return window.holds(rows["ended_at_s"])


def _provenance(config: RunConfig, table: RequestTable) -> dict[str, Any]:
    return {
        "sbs_gym": metadata.version("sbs-gym"),
        **versions_of(_PACKAGES),
        "seed": config.seed,
        "config_digest": config.digest(),
        "code_digest": code_digest(),
        "inputs": {
            **artifacts.input_digests(config.workload, config.timing),
            **source_of(config.scheduler),
        },
        "table": table.name,
        "table_digest": table.digest(),
    }
