"""What every rank did in every pass, worked out from the records of a run.

A rank takes prompts from the front of its queue in one order, so the tokens of its passes, laid end
to end, are its prompts laid end to end: where they overlap is a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from sbs_gym.capacity import timing_for
from sbs_gym.errors import ConfigError
from sbs_gym.result import Result
from sbs_gym.types import FloatArray, IntArray

CHUNK_COLUMNS = ("pass_row", "instance", "rank", "request_id", "tokens", "context")


def chunks_of(result: Result) -> pd.DataFrame:
    """Return one row per chunk: the part of a prompt that a rank processed in one pass.

    Columns: `pass_row` (row of `result.passes`), `instance`, `rank`, `request_id`, `tokens`,
    `context` (prompt tokens that were done before).

    Raises:
        ConfigError: If the run did not record the tokens of its ranks.
    """
    per_rank = rank_tokens(result)
    parts = [_chunks(*laid, instance, rank) for instance, rank, laid in _queues(result, per_rank)]
    if not parts:
        return pd.DataFrame(columns=list(CHUNK_COLUMNS), dtype=np.int64)
    found = pd.concat(parts, ignore_index=True)
    return found.sort_values(["pass_row", "rank", "request_id"], ignore_index=True)


def rank_tokens(result: Result) -> IntArray:
    """Return the tokens of every pass and rank, shape (passes, dp).

    Raises:
        ConfigError: If the run did not record them.
    """
    if "tokens_per_rank" not in result.passes:
        raise ConfigError(
            "the passes hold no tokens_per_rank; expected a run that records its ranks, such as "
            "`sbs-gym simulate output_dir=DIR`"
        )
    dp = result.config.cluster.prefill_dp
    rows = [np.asarray(row, dtype=np.int64) for row in result.passes["tokens_per_rank"]]
    return np.stack(rows) if rows else np.zeros((0, dp), dtype=np.int64)


def busy_frac(result: Result, chunks: pd.DataFrame) -> FloatArray:
    """Return the share of a pass that every rank worked, shape (passes, dp).

    The rest is the rank's bubble: 1 - its cost / the cost of the slowest rank, as in
    `prefill_bubble_frac`. Zero for a pass without tokens.

    Args:
        result: A run.
        chunks: Its `chunks_of`.
    """
    cluster = result.config.cluster
    model = timing_for(cluster, result.config.timing).coefficients[0]
    tokens, context = (chunks[name].to_numpy(np.float64) for name in ("tokens", "context"))
    pairs = tokens * (2.0 * context + tokens)
    cost_s = model["token_cost_s"] * tokens + model["pair_cost_s"] * pairs / 2.0
    cells = np.zeros((len(result.passes), cluster.prefill_dp))
    np.add.at(cells, (chunks["pass_row"].to_numpy(), chunks["rank"].to_numpy()), cost_s)
    most = cells.max(axis=1, keepdims=True, initial=0.0)
    return cells / np.where(most > 0.0, most, 1.0)


_Laid = tuple[IntArray, IntArray, IntArray, IntArray]


def _queues(result: Result, per_rank: IntArray) -> Iterator[tuple[int, int, _Laid]]:
    """Yield instance, rank, and its passes and prompts in order: rows and tokens of each."""
    begun = result.requests[result.requests["prefill_started_at_s"].notna()]
    # Of prompts that begin in one pass at most the last one goes on in the next.
    begun = begun.sort_values(["prefill_started_at_s", "first_token_at_s", "request_id"])
    prompts = dict(list(begun.groupby(["instance", "rank"])))
    in_order = result.passes.reset_index(drop=True).sort_values(["instance", "pass_index"])
    for instance, passes in in_order.groupby("instance"):
        rows = passes.index.to_numpy(np.int64)
        for rank in range(per_rank.shape[1]):
            mine = prompts.get((instance, rank))
            if mine is not None:
                ids = mine["request_id"].to_numpy(np.int64)
                lengths = mine["input_tokens"].to_numpy(np.int64)
                yield int(str(instance)), rank, (rows, per_rank[rows, rank], ids, lengths)


def _chunks(
    rows: IntArray, taken: IntArray, ids: IntArray, lengths: IntArray, instance: int, rank: int
) -> pd.DataFrame:
    """Return the overlaps of passes and prompts, both laid end to end."""
    pass_ends, prompt_ends = np.cumsum(taken), np.cumsum(lengths)
    # The pass under way when the run stopped left no record: its prompts are cut here.
    done = int(pass_ends[-1]) if len(pass_ends) else 0
    ends = np.unique(np.concatenate([pass_ends, prompt_ends[prompt_ends < done]]))
    ends = ends[ends > 0]
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64) if len(ends) else ends
    of_pass = np.searchsorted(pass_ends, starts, side="right")
    of_prompt = np.searchsorted(prompt_ends, starts, side="right")
    return pd.DataFrame(
        {
            "pass_row": rows[of_pass],
            "instance": instance,
            "rank": rank,
            "request_id": ids[of_prompt],
            "tokens": ends - starts,
            "context": starts - (prompt_ends[of_prompt] - lengths[of_prompt]),
        }
    )
