"""Statistics: by hand on small tables, and against the trace collection where it is present."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sbs_gym.config.workload import WorkloadConfig
from sbs_gym.types import PrefixBlocks, RequestTable
from sbs_gym.workload import describe, load_trace
from sbs_gym.workload.trace.prefix_cache import hit_ratio, number_blocks

TRACES = Path(__file__).parents[3] / "shared" / "traces"
needs_traces = pytest.mark.skipif(
    not (TRACES / "trace_stats.csv").is_file(), reason="the collection ../shared/traces is not here"
)


def table_of(rows: list[tuple[float, int, int, list[int]]], block_tokens: int) -> RequestTable:
    lengths = [len(row[3]) for row in rows]
    return RequestTable(
        arrived_at_s=np.array([row[0] for row in rows]),
        input_tokens=np.array([row[1] for row in rows], dtype=np.int32),
        output_tokens=np.array([row[2] for row in rows], dtype=np.int32),
        name="t",
        blocks=PrefixBlocks(
            hashes=np.array([h for row in rows for h in row[3]], dtype=np.uint64),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            block_tokens=block_tokens,
        ),
    )


def hits(rows: list[list[int]], capacity_tokens: float | None) -> float:
    """Return the hit tokens of prompts of full 10-token blocks."""
    table = table_of([(0.0, 10 * len(row), 1, row) for row in rows], 10)
    assert table.blocks is not None
    numbers, num_blocks = number_blocks(table.blocks)
    total = int(table.input_tokens.sum())
    return round(hit_ratio(table, numbers, num_blocks, capacity_tokens) * total)


def test_only_the_leading_run_of_known_blocks_is_reused() -> None:
    assert hits([[1, 2, 3], [1, 9, 3]], None) == 10
    assert hits([[1, 2, 3], [9, 2, 3]], None) == 0
    assert hits([[1, 2], [1, 2]], None) == 20


def test_tail_of_a_prompt_is_evicted_before_its_head() -> None:
    # Two blocks fit: of 1, 2, 3 the blocks 1 and 2 stay.
    assert hits([[1, 2, 3], [1, 2, 3]], 20) == 20
    # Touching 8 evicts block 2, the older of the two.
    assert hits([[1, 2], [8], [1, 2]], 20) == 10


def test_cache_of_less_than_a_block_never_hits() -> None:
    assert hits([[1], [1]], 9) == 0


def test_partial_last_block_counts_up_to_the_prompt() -> None:
    table = table_of([(0.0, 15, 1, [1, 2]), (1.0, 15, 1, [1, 2])], 10)
    assert describe(table)["hit_ratio_inf"] == 15 / 30


def test_small_table_by_hand() -> None:
    rows = [(0.0, 10, 1, [1]), (1.0, 20, 2, [1, 2]), (1.0, 30, 0, [1, 3]), (4.0, 40, 4, [])]
    stats = describe(table_of(rows, 10))
    assert stats["requests"] == 4
    assert stats["duration_s"] == 4.0
    assert stats["mean_rate_rps"] == 3 / 4
    # Gaps 1, 0, 3: mean 4/3, variance 14/9.
    assert stats["iat_cv"] == pytest.approx(math.sqrt(14 / 9) / (4 / 3))
    assert stats["iat_zero_share"] == pytest.approx(1 / 3)
    assert stats["distinct_timestamps"] == 3
    assert stats["peak_1s_rps"] == 2
    assert (stats["input_mean"], stats["input_p50"], stats["input_max"]) == (25.0, 25.0, 40)
    assert (stats["output_zero"], stats["total_output_tokens"]) == (1, 7)
    assert stats["input_tok_per_s"] == 25.0
    assert (stats["unique_blocks"], stats["block_refs"]) == (3, 5)
    assert stats["blocks_seen_once_share"] == pytest.approx(2 / 3)
    assert stats["hottest_block_req_share"] == 0.75
    assert stats["distinct_first_blocks"] == 1
    assert stats["hit_ratio_inf"] == pytest.approx(20 / 100)
    assert math.isnan(stats["iod_1s"])


def test_table_of_one_request_has_no_rate() -> None:
    stats = describe(table_of([(0.0, 10, 1, [])], 10))
    assert math.isnan(stats["mean_rate_rps"])
    assert math.isnan(stats["spearman_in_out"])


# `agentic` block statistics of the collection are of session files, not of its flat table.
CASES = {
    "mooncake_conversation": {},
    "mooncake_arxiv_first1000": {},
    "azure_2023_conv": {},
    "rtpllm_pd_online": {},
    "rtpllm_pd_online_completed_only": {"on_zero_output": "drop"},
    "rtpllm_pod1_arrivals": {},
    "arxiv_summarization_lengths": {},
}


def collection_row(name: str) -> dict[str, str]:
    with (TRACES / "trace_stats.csv").open(encoding="utf-8", newline="") as file:
        return next(row for row in csv.DictReader(file) if row["trace"] == name)


def differences(wanted: dict[str, str], found: dict[str, Any], keys: list[str]) -> list[str]:
    wrong = []
    for key in keys:
        if wanted[key] in ("True", "False"):
            agrees = wanted[key] == str(found[key])
        else:
            agrees = math.isclose(float(wanted[key]), float(found[key]), rel_tol=1e-3)
        if not agrees:
            wrong.append(f"{key}: wanted {wanted[key]}, found {found[key]}")
    return wrong


@needs_traces
@pytest.mark.parametrize("name", CASES)
def test_statistics_of_the_collection_are_reproduced(name: str) -> None:
    wanted = collection_row(name)
    path = str(TRACES / wanted["file"].split(" ")[0])
    table, report = load_trace(WorkloadConfig(kind="trace", path=path, **CASES[name]))  # type: ignore[arg-type]
    found = describe(table, report)
    keys = [key for key in wanted if key in found and wanted[key] and key not in ("trace", "file")]
    assert len(keys) > 10
    assert differences(wanted, found, keys) == []
    assert report.rows_read == report.rows_kept + sum(report.dropped.values())


@needs_traces
def test_flat_table_of_coding_sessions_has_the_lengths_of_the_collection() -> None:
    wanted = collection_row("agentic_coding_sessions")
    path = str(TRACES / "agentic_coding" / "requests_flat.csv.gz")
    table, report = load_trace(WorkloadConfig(kind="trace", path=path))
    keys = [key for key in wanted if key.startswith(("input_", "output_")) and wanted[key]]
    keys = [key for key in keys if not key.endswith(("fit", "ks", "params"))]
    assert differences(wanted, describe(table, report), keys) == []


@needs_traces
def test_dynamo_sample_has_seventeen_requests() -> None:
    path = str(TRACES / "dynamo_request_trace" / "pi_request_trace.jsonl.gz")
    table, report = load_trace(WorkloadConfig(kind="trace", path=path))
    assert (len(table), report.format) == (17, "dynamo")
    assert table.blocks is not None
    assert int(table.blocks.hashes.max()) > 2**63


@needs_traces
def test_ticks_of_mooncake_spread_out_leave_local_poisson_arrivals() -> None:
    # README of the collection: the dispersion index at 1 s falls from 7.9 to 1.05.
    path = str(TRACES / "mooncake" / "conversation_trace.jsonl.gz")
    config = WorkloadConfig(kind="trace", path=path, spread_ticks_s=3.0, keep_blocks=False)
    table, report = load_trace(config, seed=1)
    assert describe(table, report)["iod_1s"] == pytest.approx(1.05, abs=0.06)


@needs_traces
@pytest.mark.slow
def test_session_file_of_376_megabytes_is_streamed() -> None:
    wanted = collection_row("agentic_coding_sessions")
    path = str(TRACES / "agentic_coding" / "sessions.jsonl.xz")
    table, report = load_trace(WorkloadConfig(kind="trace", path=path))
    assert (len(table), report.format) == (43_681, "agentic")
    assert table.blocks is not None
    assert len(table.blocks.hashes) == int(wanted["block_refs"])
    lengths = np.diff(table.blocks.offsets)
    assert (lengths == table.input_tokens // 64).all()
