"""Request tables: what they hold, what does not move when something else changes."""

from __future__ import annotations

import ast
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from sbs_gym.config.arrivals import ArrivalConfig, arrivals_from_mapping
from sbs_gym.config.groups import group_names, read_group
from sbs_gym.config.workload import WorkloadConfig, workload_from_mapping
from sbs_gym.errors import ConfigError
from sbs_gym.workload import backlog, generate, with_arrivals

POISSON = ArrivalConfig(family="poisson")
SHORT = workload_from_mapping(read_group("workload", "sbs_short"))


def test_exactly_one_of_number_and_horizon_is_needed() -> None:
    with pytest.raises(ConfigError, match="num_requests and horizon_s"):
        generate(SHORT, POISSON, rate_per_s=1.0, seed=0, num_requests=1, horizon_s=1.0)
    with pytest.raises(ConfigError, match="num_requests and horizon_s"):
        generate(SHORT, POISSON, rate_per_s=1.0, seed=0)


def test_rate_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="rate_per_s=0"):
        generate(SHORT, POISSON, rate_per_s=0, seed=0, num_requests=1)


def test_trace_cannot_be_generated() -> None:
    with pytest.raises(ConfigError, match="load_trace"):
        generate(WorkloadConfig(kind="trace"), POISSON, rate_per_s=1.0, seed=0, num_requests=1)


def test_horizon_holds_the_same_requests_as_their_number() -> None:
    by_time = generate(SHORT, POISSON, rate_per_s=7.0, seed=3, horizon_s=20.0)
    by_number = generate(SHORT, POISSON, rate_per_s=7.0, seed=3, num_requests=len(by_time) + 1)
    assert by_time.arrived_at_s[-1] < 20.0 <= by_number.arrived_at_s[-1]
    assert (by_number.arrived_at_s[:-1] == by_time.arrived_at_s).all()
    assert (by_number.input_tokens[:-1] == by_time.input_tokens).all()


def test_backlog_has_the_lengths_of_the_generated_rows_and_no_time() -> None:
    waiting = backlog(SHORT, 100, seed=3)
    table = generate(SHORT, POISSON, rate_per_s=7.0, seed=3, num_requests=100)
    assert (waiting.arrived_at_s == 0).all()
    assert (waiting.input_tokens == table.input_tokens).all()
    assert (waiting.output_tokens == table.output_tokens).all()


def test_lengths_do_not_depend_on_the_arrival_process() -> None:
    renewal = ArrivalConfig(family="gamma_renewal", cv=3.0)
    one = generate(SHORT, POISSON, rate_per_s=7.0, seed=3, num_requests=100)
    other = generate(SHORT, renewal, rate_per_s=9.0, seed=3, num_requests=100)
    assert (one.input_tokens == other.input_tokens).all()


def test_dependence_moves_the_answers_and_leaves_the_prompts() -> None:
    coupled = dataclasses.replace(SHORT, spearman=0.35)
    one, other = backlog(SHORT, 50_000, seed=3), backlog(coupled, 50_000, seed=3)
    assert (one.input_tokens == other.input_tokens).all()
    # Four standard errors of a rank correlation of 50,000 pairs are 0.018.
    assert spearmanr(one.input_tokens, one.output_tokens)[0] == pytest.approx(0.0, abs=0.018)
    assert spearmanr(other.input_tokens, other.output_tokens)[0] == pytest.approx(0.35, abs=0.018)
    assert other.output_tokens.mean() == pytest.approx(180, rel=0.03)


def test_chunks_of_the_length_draw_leave_no_seam() -> None:
    table = backlog(SHORT, (1 << 18) + 10, seed=1)
    assert (table.input_tokens[:5] == backlog(SHORT, 5, seed=1).input_tokens).all()
    seam = table.input_tokens[(1 << 18) - 3 : (1 << 18) + 3]
    assert len(np.unique(seam)) > 1


def test_table_is_read_only_and_named_after_its_workload() -> None:
    table = backlog(SHORT, 2, seed=0)
    assert table.name == "sbs_short"
    with pytest.raises(ValueError, match="read-only"):
        table.input_tokens[0] = 1


def test_rows_without_times_get_them_in_their_order() -> None:
    waiting = backlog(SHORT, 10, seed=3)
    table = with_arrivals(waiting, POISSON, rate_per_s=7.0, seed=3)
    assert (table.input_tokens == waiting.input_tokens).all()
    generated = generate(SHORT, POISSON, rate_per_s=7.0, seed=3, num_requests=10)
    assert table.digest() == generated.digest()


def digests() -> dict[str, str]:
    """Return a checksum of forty requests of every arrival preset."""
    kimi = workload_from_mapping(read_group("workload", "kimi_conversation_like"))
    found = {}
    for name in group_names("arrivals"):
        arrivals = arrivals_from_mapping(read_group("arrivals", name))
        found[name] = generate(kimi, arrivals, rate_per_s=5, seed=3, num_requests=40).digest()
    return found


def test_plain_python_gives_the_same_bytes_as_compiled_code() -> None:
    plain = subprocess.run(
        [sys.executable, "-c", f"import {Path(__file__).stem} as t; print(t.digests())"],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ast.literal_eval(plain.stdout) == digests()


@pytest.mark.bench
def test_ten_million_requests_take_a_few_seconds() -> None:
    assert len(generate(SHORT, POISSON, rate_per_s=50.0, seed=1, num_requests=10_000_000)) == 10**7
