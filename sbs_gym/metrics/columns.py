"""What every column and summary key means, with its unit: written here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result table, or one key of the summary.

    Attributes:
        unit: s, tokens, 1/s, fraction, requests …; "-" for numbers without a unit.
        description: One sentence.
    """

    unit: str
    description: str


_DECODE = "NaN without decode."
_OR_FIRST = "or its first one where no decode is modelled"
_CLIENT = (
    "second token - arrival, as decode answers the client; TTFT for one token and without decode"
)
_DECODED = "answers of several tokens"
_TPOT = "Mean gap between tokens: (last - first token) / (output_tokens - 1)"
_WHOLE_COST = "Price of all GPUs of the cluster, prefill and decode, over the"

REQUEST_COLUMNS: dict[str, Column] = {
    "request_id": Column("-", "Row of the workload table, from 0 in order of arrival."),
    "measured": Column("bool", "Whether the summary counts this request."),
    "arrived_at_s": Column("s", "Arrival at the scheduler."),
    "dispatched_at_s": Column("s", "Left the buffer; NaN before that."),
    "delivered_at_s": Column("s", "Reached its engine; NaN before that."),
    "prefill_started_at_s": Column("s", "Start of the first pass with tokens of it; NaN before."),
    "first_token_at_s": Column("s", "Barrier of the pass that ended its prompt; NaN before."),
    "bound_at_s": Column("s", f"Room on a decode rank was granted; NaN before. {_DECODE}"),
    "transferred_at_s": Column("s", f"Its KV had arrived there; NaN before. {_DECODE}"),
    "admitted_at_s": Column("s", f"Start of its first step; NaN before. {_DECODE}"),
    "second_token_at_s": Column("s", f"End of its first step; NaN before. {_DECODE}"),
    "finished_at_s": Column("s", f"Its last token, {_OR_FIRST}; NaN before."),
    "rejected_at_s": Column("s", "Rejected by the scheduler; NaN if it was not."),
    "ttft_s": Column("s", "first_token_at_s - arrived_at_s."),
    "ttft_client_s": Column("s", f"TTFT as the client sees it: {_CLIENT}."),
    "tpot_s": Column("s", f"{_TPOT}; NaN for one token. {_DECODE}"),
    "e2e_s": Column("s", "finished_at_s - arrived_at_s."),
    "slo_ttft_s": Column("s", "TTFT that the SLO allows this request."),
    "met_slo": Column("bool", "Whether it is finished and met its SLO."),
    "input_tokens": Column("tokens", "Prompt length."),
    "output_tokens": Column("tokens", "Answer length; not generated without decode."),
    "instance": Column("-", "Prefill instance; -1 before dispatch."),
    "rank": Column("-", "DP rank of the instance; -1 before dispatch."),
    "waited_releases": Column("releases", "Releases between its arrival and its own; -1 before."),
    "decode_instance": Column("-", "Decode instance; -1 before it is bound and without decode."),
    "decode_rank": Column("-", "Its rank there; -1 before it is bound and without decode."),
    "num_preempted": Column("-", "Times that a full decode rank evicted it."),
}

PASS_COLUMNS: dict[str, Column] = {
    "instance": Column("-", "Prefill instance."),
    "pass_index": Column("-", "Counts the passes of the instance from 0."),
    "measured": Column("bool", "Whether the pass ended inside the measured window."),
    "started_at_s": Column("s", "Launch of the pass."),
    "ended_at_s": Column("s", "Barrier: all ranks are done."),
    "tokens": Column("tokens", "Prompt tokens over all ranks."),
    "pairs": Column("pairs", "Sum of q * (2 * context + q) over all chunks: twice the attention."),
    "max_rank_tokens": Column("tokens", "Tokens of the fullest rank."),
    "budget_tokens": Column("tokens", "Most tokens one rank was allowed to take."),
    "leftover_tokens": Column("tokens", "Still queued on the instance when the pass was formed."),
    "num_requests": Column("requests", "Requests with a chunk in this pass."),
    "num_finished": Column("requests", "Requests whose prompt ends with this pass."),
    "cost_sum_s": Column("s", "Cost of all ranks by the timing model, added up."),
    "cost_max_s": Column("s", "Cost of the slowest rank by the timing model."),
    "tokens_per_rank": Column("tokens", "List with one entry per DP rank, where recorded."),
}

STEP_COLUMNS: dict[str, Column] = {
    "instance": Column("-", "Decode instance."),
    "step_index": Column("-", "Counts the steps of the instance from 0."),
    "measured": Column("bool", "Whether the step ended inside the measured window."),
    "started_at_s": Column("s", "Start of the step."),
    "ended_at_s": Column("s", "Barrier: all ranks are done."),
    "batch_sum": Column("requests", "Running requests over all ranks."),
    "batch_max": Column("requests", "Running requests of the fullest rank."),
    "kv_sum_tokens": Column("tokens", "Context tokens over all ranks."),
    "kv_max_tokens": Column("tokens", "Context tokens of the fullest rank."),
    "kv_std_tokens": Column("tokens", "Standard deviation of context tokens over the ranks."),
    "blocks": Column("blocks", "KV blocks held or reserved over all ranks."),
    "num_admitted": Column("requests", "Requests that joined at its start, returned ones too."),
    "num_finished": Column("requests", "Requests that left at its end."),
    "num_preempted": Column("requests", "Requests that a full rank evicted at its end."),
    "cost_sum_s": Column("s", "Cost of all ranks by the timing model, added up."),
    "cost_max_s": Column("s", "Cost of the slowest rank by the timing model."),
    "batch_per_rank": Column("requests", "List with one entry per DP rank, where recorded."),
    "kv_tokens_per_rank": Column("tokens", "The same for context tokens."),
    "blocks_per_rank": Column("blocks", "The same for KV blocks held or reserved."),
}

LENGTH_COLUMNS: dict[str, Column] = {
    "input_tokens": Column("tokens", "Bucket of prompt lengths, e.g. 1K-2K: [1024, 2048)."),
    "num_requests": Column("requests", "Measured requests that arrived, in this bucket."),
    "num_finished": Column("requests", f"Those with their last token, {_OR_FIRST}."),
    "ttft_mean_s": Column("s", "Mean TTFT."),
    "ttft_p50_s": Column("s", "Median TTFT."),
    "ttft_p99_s": Column("s", "99th percentile of TTFT."),
    "buffer_wait_mean_s": Column("s", "Mean wait in the scheduler's buffer."),
    "engine_wait_mean_s": Column("s", "Mean wait between dispatch and the first pass."),
    "prefill_mean_s": Column("s", "Mean time from the first pass to the first token."),
    "ttft_client_mean_s": Column("s", f"Mean TTFT as the client sees it: {_CLIENT}."),
    "tpot_mean_s": Column("s", f"Mean TPOT. {_DECODE}"),
    "slo_attainment_frac": Column("fraction", "Share that met its SLO."),
}

SUMMARY_KEYS: dict[str, Column] = {
    "num_arrived": Column("requests", "Measured requests that arrived before the run stopped."),
    "num_finished": Column("requests", f"Those with their last token, {_OR_FIRST}."),
    "num_rejected": Column("requests", "Those that were rejected."),
    "num_preempted": Column("-", "Times that a full decode rank evicted one; 0 without decode."),
    "ttft_mean_s": Column("s", "Mean TTFT of the measured requests with a first token."),
    "ttft_p50_s": Column("s", "Median TTFT."),
    "ttft_p90_s": Column("s", "90th percentile of TTFT."),
    "ttft_p99_s": Column("s", "99th percentile of TTFT."),
    "ttft_client_mean_s": Column("s", f"Mean TTFT as the client sees it: {_CLIENT}."),
    "ttft_client_p50_s": Column("s", "Its median."),
    "ttft_client_p90_s": Column("s", "Its 90th percentile."),
    "ttft_client_p99_s": Column("s", "Its 99th percentile."),
    "buffer_wait_mean_s": Column("s", "Mean of dispatched - arrived."),
    "engine_wait_mean_s": Column(
        "s",
        "Mean of prefill started - dispatched; holds the link, and the wait for a decode rank "
        "that is bound at dispatch.",
    ),
    "prefill_mean_s": Column("s", "Mean of first token - prefill started."),
    "handoff_wait_mean_s": Column(
        "s", f"Mean of bound - first token, 0 if bound before, of {_DECODED}. {_DECODE}"
    ),
    "transfer_mean_s": Column(
        "s", f"Mean of KV there - the later of bound and first token, of {_DECODED}. {_DECODE}"
    ),
    "decode_wait_mean_s": Column("s", f"Mean of admitted - KV there, of {_DECODED}. {_DECODE}"),
    "decode_mean_s": Column(
        "s", f"Mean of finished - admitted, time swapped out included, of {_DECODED}. {_DECODE}"
    ),
    "tpot_mean_s": Column("s", f"Mean over requests of TPOT. {_TPOT}. {_DECODE}"),
    "tpot_p50_s": Column("s", f"Median over requests of TPOT. {_DECODE}"),
    "tpot_p90_s": Column("s", f"90th percentile over requests of TPOT. {_DECODE}"),
    "tpot_p99_s": Column("s", f"99th percentile over requests of TPOT. {_DECODE}"),
    "e2e_mean_s": Column("s", f"Mean of finished - arrived. Finished: last token, {_OR_FIRST}."),
    "arrivals_per_s": Column("1/s", "Requests that arrived in the window, over its arrivals."),
    "first_tokens_per_s": Column("1/s", "First tokens inside the window, per second of it."),
    "requests_per_s": Column(
        "1/s",
        f"Requests finished inside the window, per second of it: by their last token, {_OR_FIRST}.",
    ),
    "input_tokens_per_s": Column(
        "tokens/s",
        "Prompt tokens of requests with their first token inside the window, per second.",
    ),
    "output_tokens_per_s": Column(
        "tokens/s",
        "Tokens generated inside the window, per second: first ones at their instants, the others "
        f"of an answer evenly over its time in decode, answers that ended only. {_DECODE}",
    ),
    "goodput_per_s": Column(
        "1/s", "Requests finished inside the window that met the SLO, per second."
    ),
    "slo_attainment_frac": Column(
        "fraction",
        "Share of measured arrivals that met their SLO: TTFT and, where there is one, TPOT; "
        "unfinished and rejected ones missed it.",
    ),
    "ttft_attainment_frac": Column("fraction", "Share of measured arrivals with TTFT in time."),
    "tpot_attainment_frac": Column(
        "fraction",
        f"Share of measured arrivals finished with TPOT in time, or with one token. {_DECODE}",
    ),
    "chunk_utilisation_frac": Column("fraction", "Sum of tokens / sum of dp * chunk over passes."),
    "prefill_bubble_frac": Column("fraction", "Rank time idle at the barrier inside passes."),
    "prefill_idle_frac": Column("fraction", "Rank time of the window between passes."),
    "prefill_kv_blocked_s": Column(
        "s", "Rank-seconds in which prefill ranks had no KV room for their next prompt, whole run."
    ),
    "decode_bubble_frac": Column(
        "fraction", f"Rank time idle at the barrier inside steps. {_DECODE}"
    ),
    "decode_idle_frac": Column("fraction", f"Rank time of the window between steps. {_DECODE}"),
    "kv_load_std_tokens": Column(
        "tokens",
        "Standard deviation of context tokens over an instance's ranks, mean over the time of "
        f"steps. {_DECODE}",
    ),
    "kv_load_max_over_mean": Column(
        "-",
        f"Context tokens of the fullest rank / mean of ranks, over the time of steps. {_DECODE}",
    ),
    "kv_use_frac": Column(
        "fraction",
        "KV blocks held or reserved / blocks of the instance, mean over the time of steps. "
        f"{_DECODE}",
    ),
    "batch_mean": Column(
        "requests", f"Running requests per rank, over the time of steps. {_DECODE}"
    ),
    "batch_drift_frac": Column(
        "fraction",
        "batch_mean of the window's second half / of its first - 1: far from 0 where decode was "
        f"still filling, so that its numbers are not those of a steady state. {_DECODE}",
    ),
    "num_steps": Column("steps", "Decode steps that ended inside the window; 0 without decode."),
    "step_mean_s": Column("s", f"Mean duration of those steps. {_DECODE}"),
    "num_refusals": Column(
        "refusals", "Placements that a decode rank refused for want of KV room, whole run."
    ),
    "num_gpus": Column("GPUs", "Ranks of prefill and decode; a rank is one GPU."),
    "num_decode_gpus": Column("GPUs", "Those of decode; 0 without decode."),
    "input_tokens_per_prefill_gpu_s": Column(
        "tokens/s", "input_tokens_per_s / prefill GPUs, as published figures count."
    ),
    "input_tokens_per_prefill_node_s": Column("tokens/s", "The same per prefill node."),
    "output_tokens_per_decode_gpu_s": Column(
        "tokens/s", f"output_tokens_per_s / decode GPUs, as published figures count. {_DECODE}"
    ),
    "output_tokens_per_decode_node_s": Column("tokens/s", f"The same per decode node. {_DECODE}"),
    "cost_per_million_input_tokens": Column(
        "price", f"{_WHOLE_COST} prompt tokens of the window; not to be added to the next one."
    ),
    "cost_per_million_output_tokens": Column(
        "price", f"{_WHOLE_COST} generated tokens of the window. {_DECODE}"
    ),
    "rate_per_s": Column("1/s", "Arrival rate asked for; of the peak state where arrivals vary."),
    "capacity_requests_per_s": Column("1/s", "Capacity of the side that load refers to."),
    "capacity_prefill_requests_per_s": Column(
        "1/s",
        "Rate at which work_conserving drains a backlog of this length mix in order of arrival, "
        "at mean luck and without lost signals.",
    ),
    "capacity_decode_requests_per_s": Column(
        "1/s", f"Rate of this length mix that the decode instances keep up with; {_DECODE}"
    ),
    "load_prefill_frac": Column("fraction", "rate_per_s / prefill capacity; above 1 too."),
    "load_decode_frac": Column("fraction", f"rate_per_s / decode capacity; {_DECODE}"),
    "bottleneck": Column("text", "The side with the higher load: prefill or decode."),
    "overloaded": Column(
        "bool",
        "Whether TTFT as the client sees it grows over the window; null if too few requests.",
    ),
    "ttft_growth_s_per_s": Column("s/s", "Slope of TTFT against arrival time."),
    "ttft_client_growth_s_per_s": Column("s/s", "Slope of TTFT as the client sees it."),
    "num_passes": Column("passes", "Passes with tokens that ended inside the window."),
    "num_releases": Column("releases", "Releases of the scheduler in the whole run."),
    "num_signals_lost": Column("signals", "EndForward signals that never arrived, whole run."),
    "num_watchdogs": Column("watchdogs", "Watchdogs that expired, whole run."),
    "pass_mean_s": Column("s", "Mean duration of those passes."),
    "tokens_per_pass_mean": Column("tokens", "Mean tokens of those passes, all ranks together."),
    "window_start_at_s": Column("s", "Start of the measured window: its first arrival."),
    "window_end_at_s": Column("s", "Its end: the next arrival after it, or the end of the run."),
}

# Keys whose null means "not known", not a NaN.
NULLABLE_KEYS = frozenset({"overloaded"})

TABLES: dict[str, dict[str, Column]] = {
    "requests": REQUEST_COLUMNS,
    "passes": PASS_COLUMNS,
    "steps": STEP_COLUMNS,
    "by_length": LENGTH_COLUMNS,
    "summary": SUMMARY_KEYS,
}
