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


REQUEST_COLUMNS: dict[str, Column] = {
    "request_id": Column("-", "Row of the workload table, from 0 in order of arrival."),
    "measured": Column("bool", "Whether the summary counts this request."),
    "arrived_at_s": Column("s", "Arrival at the scheduler."),
    "dispatched_at_s": Column("s", "Left the buffer; NaN before that."),
    "delivered_at_s": Column("s", "Reached its engine; NaN before that."),
    "prefill_started_at_s": Column("s", "Start of the first pass with tokens of it; NaN before."),
    "first_token_at_s": Column("s", "Barrier of the pass that ended its prompt; NaN before."),
    "rejected_at_s": Column("s", "Rejected by the scheduler; NaN if it was not."),
    "ttft_s": Column("s", "first_token_at_s - arrived_at_s."),
    "slo_ttft_s": Column("s", "TTFT that the SLO allows this request."),
    "input_tokens": Column("tokens", "Prompt length."),
    "output_tokens": Column("tokens", "Answer length; not generated while no decode is modelled."),
    "instance": Column("-", "Prefill instance; -1 before dispatch."),
    "rank": Column("-", "DP rank of the instance; -1 before dispatch."),
    "waited_releases": Column("releases", "Releases between its arrival and its own; -1 before."),
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

LENGTH_COLUMNS: dict[str, Column] = {
    "input_tokens": Column("tokens", "Bucket of prompt lengths, e.g. 1K-2K: [1024, 2048)."),
    "num_requests": Column("requests", "Measured requests that arrived, in this bucket."),
    "num_finished": Column("requests", "Those with a first token."),
    "ttft_mean_s": Column("s", "Mean TTFT."),
    "ttft_p50_s": Column("s", "Median TTFT."),
    "ttft_p99_s": Column("s", "99th percentile of TTFT."),
    "buffer_wait_mean_s": Column("s", "Mean wait in the scheduler's buffer."),
    "engine_wait_mean_s": Column("s", "Mean wait between dispatch and the first pass."),
    "prefill_mean_s": Column("s", "Mean time from the first pass to the first token."),
    "slo_attainment_frac": Column("fraction", "Share that met its SLO."),
}

_DECODE = "NaN while no decode is modelled."
_CLIENT = "as the client sees it; equal to ttft while no decode is modelled."

SUMMARY_KEYS: dict[str, Column] = {
    "num_arrived": Column("requests", "Measured requests that arrived before the run stopped."),
    "num_finished": Column("requests", "Those with a first token."),
    "num_rejected": Column("requests", "Those that the scheduler rejected."),
    "num_preempted": Column("requests", "Preemptions; 0 while no decode is modelled."),
    "ttft_mean_s": Column("s", "Mean TTFT of the finished measured requests."),
    "ttft_p50_s": Column("s", "Median TTFT."),
    "ttft_p90_s": Column("s", "90th percentile of TTFT."),
    "ttft_p99_s": Column("s", "99th percentile of TTFT."),
    "ttft_client_mean_s": Column("s", f"Mean TTFT {_CLIENT}"),
    "ttft_client_p50_s": Column("s", f"Median TTFT {_CLIENT}"),
    "ttft_client_p90_s": Column("s", f"90th percentile of TTFT {_CLIENT}"),
    "ttft_client_p99_s": Column("s", f"99th percentile of TTFT {_CLIENT}"),
    "buffer_wait_mean_s": Column("s", "Mean of dispatched - arrived."),
    "engine_wait_mean_s": Column("s", "Mean of prefill started - dispatched; holds the link."),
    "prefill_mean_s": Column("s", "Mean of first token - prefill started."),
    "tpot_mean_s": Column("s", f"Mean gap between tokens; {_DECODE}"),
    "tpot_p99_s": Column("s", f"99th percentile of the gap between tokens; {_DECODE}"),
    "e2e_mean_s": Column("s", "Mean of finished - arrived; ends at the first token so far."),
    "arrivals_per_s": Column("1/s", "Requests that arrived in the window, over its arrivals."),
    "requests_per_s": Column("1/s", "First tokens inside the window, per second of it."),
    "input_tokens_per_s": Column("tokens/s", "Prompt tokens of those requests, per second."),
    "output_tokens_per_s": Column("tokens/s", f"Generated tokens; {_DECODE}"),
    "goodput_per_s": Column("1/s", "First tokens inside the window that met the SLO, per second."),
    "slo_attainment_frac": Column("fraction", "Share of measured arrivals that met their SLO."),
    "chunk_utilisation_frac": Column("fraction", "Sum of tokens / sum of dp * chunk over passes."),
    "prefill_bubble_frac": Column("fraction", "Rank time idle at the barrier inside passes."),
    "prefill_idle_frac": Column("fraction", "Rank time of the window between passes."),
    "decode_bubble_frac": Column("fraction", f"Rank time idle at a step's barrier; {_DECODE}"),
    "kv_load_std_tokens": Column("tokens", f"Spread of KV over decode ranks; {_DECODE}"),
    "kv_load_max_over_mean": Column("-", f"Fullest decode rank over the mean; {_DECODE}"),
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
    "overloaded": Column("bool", "Whether TTFT grows over the window; null if too few requests."),
    "ttft_growth_s_per_s": Column("s/s", "Slope of TTFT against arrival time."),
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
    "by_length": LENGTH_COLUMNS,
    "summary": SUMMARY_KEYS,
}
