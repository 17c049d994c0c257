"""Utilisation of hand-made passes, and the bubble of random ranks."""

import numpy as np
import pytest

from sbs_gym.metrics.utilisation import Window, bubble_frac, chunk_utilisation_frac, idle_frac
from sbs_gym.sim.records import PASS_RECORD


def passes(*rows):
    table = np.zeros(len(rows), dtype=PASS_RECORD)
    for row, (start, end, tokens, cost_sum, cost_max) in zip(table, rows, strict=True):
        row["started_at_s"], row["ended_at_s"], row["tokens"] = start, end, tokens
        row["cost_sum_s"], row["cost_max_s"] = cost_sum, cost_max
    return table


def test_chunk_utilisation_is_a_ratio_of_sums():
    two = passes((0, 1, 20, 2.0, 1.0), (1, 2, 5, 0.5, 0.25))
    assert chunk_utilisation_frac(two, dp=2, chunk_tokens=10) == 25 / 40


def test_bubble_is_weighted_by_the_duration_of_the_pass():
    # 1 s without bubble, 3 s with half of it.
    two = passes((0, 1, 20, 2.0, 1.0), (1, 4, 10, 1.0, 1.0))
    assert bubble_frac(two, dp=2) == pytest.approx(3 * 0.5 / 4)


def test_empty_pass_is_idle_and_no_bubble():
    two = passes((0, 1, 20, 2.0, 1.0), (1, 2, 0, 0.0, 0.0))
    assert bubble_frac(two, dp=2) == 0.0
    assert idle_frac(two, Window(0.0, 2.0), num_instances=1) == 0.5


def test_idle_counts_the_part_of_a_pass_inside_the_window():
    # Two instances, window of 4 s: 1 s of the first pass and 2 s of the second are inside.
    two = passes((0, 2, 5, 1.0, 1.0), (2, 4, 5, 1.0, 1.0))
    assert idle_frac(two, Window(1.0, 5.0), num_instances=2) == pytest.approx(1 - 3 / 8)


def test_without_passes_or_window_nothing_is_made_up():
    none = passes()
    assert np.isnan(chunk_utilisation_frac(none, dp=2, chunk_tokens=10))
    assert np.isnan(bubble_frac(none, dp=2))
    assert np.isnan(idle_frac(none, Window(1.0, 1.0), num_instances=1))
    assert idle_frac(none, Window(0.0, 1.0), num_instances=1) == 1.0


def test_window_leaves_out_its_start_and_keeps_its_end():
    inside = Window(1.0, 2.0).holds(np.array([1.0, 1.5, 2.0, 2.5, np.nan]))
    assert inside.tolist() == [False, True, True, False, False]


def random_passes(costs):
    """Passes as long as their slowest rank; costs of shape (passes, ranks)."""
    table = np.zeros(len(costs), dtype=PASS_RECORD)
    table["cost_sum_s"], table["cost_max_s"] = costs.sum(axis=1), costs.max(axis=1)
    table["ended_at_s"] = table["cost_max_s"]
    return table


@pytest.mark.parametrize("dp", [2, 8])
@pytest.mark.parametrize("law", ["exponential", "uniform"])
def test_bubble_of_random_ranks_follows_theory(dp, law):
    rng = np.random.default_rng(1)
    harmonic = sum(1 / k for k in range(1, dp + 1))
    theory = 1 - 1 / harmonic if law == "exponential" else 1 - (dp + 1) / (2 * dp)
    found = [
        bubble_frac(random_passes(getattr(rng, law)(size=(2000, dp))), dp=dp) for _ in range(20)
    ]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found) - theory) < 4 * error
