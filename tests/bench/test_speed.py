"""`make bench`: the speed of the simulator as one table, also written to docs/benchmarks.md.

Nothing here passes or fails by the clock: machines differ. What must hold on any machine, that the
work was done and that memory per request stays small, is asserted.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import pytest

from sbs_gym.capacity import capacity_requests_per_s, timing_for
from sbs_gym.schedulers.driver import run
from sbs_gym.schema import load_config
from sbs_gym.workload.generate import generate

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
CLUSTER = ["cluster.num_prefill=3", "cluster.prefill_dp=8", "cluster.num_decode=0"]
WHOLE_PATH = "\n## The whole path\n"  # what test_decode_speed.py writes behind this table
ENVIRONMENTS = "\n## Environments\n"  # and test_env_speed.py behind that
REPEATS = 3
CASES = [
    # scheduler, timing, workload, load, requests
    ("sbs", "linear", "sbs_short", 0.7, 10_000),
    ("sbs", "linear", "sbs_short", 0.7, 100_000),
    ("sbs", "linear", "sbs_short", 0.7, 1_000_000),
    ("sbs", "linear", "sbs_short", 0.7, 10_000_000),
    ("sbs", "linear", "sbs_short", 1.3, 10_000),
    ("sbs", "linear", "sbs_short", 1.3, 1_000_000),
    ("sbs", "linear", "sbs_short", 1.3, 10_000_000),
    ("sbs", "roofline", "sbs_short", 0.7, 1_000_000),
    ("sbs", "linear", "sbs_long", 0.7, 1_000_000),
    ("sbs_budget", "linear", "sbs_short", 0.7, 1_000_000),
    ("work_conserving", "linear", "sbs_short", 0.7, 1_000_000),
    ("round_robin", "linear", "sbs_short", 0.7, 1_000_000),
    ("least_tokens", "linear", "sbs_short", 0.7, 1_000_000),
]

pytestmark = pytest.mark.bench


def test_print_the_speed_of_the_simulator():
    rows = [measure_case(*case) for case in CASES]
    lines = [
        "# Speed",
        "",
        "Written by `make bench`. One core, 3 instances x 8 ranks, chunk 3072, Poisson arrivals;",
        f"best of {REPEATS} runs after a warm-up; the request table is made beforehand. Bytes are",
        "the table's and the peak of the run's own arrays, measured at up to a million requests.",
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs.",
        "",
        "| scheduler | timing | workload | load | requests | million requests/s | bytes/request |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "| start-up | seconds |",
        "|---|---|",
        *start_up_rows(),
        "",
    ]
    whole_path = PAGE.read_text(encoding="utf-8").partition(WHOLE_PATH) if PAGE.is_file() else ()
    PAGE.write_text("\n".join(lines) + "".join(whole_path[1:]), encoding="utf-8")
    print("\n" + "\n".join(lines))


def measure_case(scheduler, timing, workload, load, count):
    config = load_config(
        [f"scheduler={scheduler}", f"timing={timing}", f"workload={workload}", *CLUSTER]
    )
    model = timing_for(config.cluster, config.timing)
    rate = load * capacity_requests_per_s(config.cluster, config.workload, config.timing)
    table = generate(config.workload, config.arrivals, rate_per_s=rate, seed=0, num_requests=count)

    def once():
        return run(table, config.cluster, config.scheduler, model, seed=0, record_ranks=False)

    records = once()
    assert (records.requests["first_token_at_s"] > 0).all()
    best = min(seconds(once) for _ in range(REPEATS))
    size = ""
    if count <= 1_000_000:
        tracemalloc.start()
        once()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        own = table.arrived_at_s.nbytes + table.input_tokens.nbytes + table.output_tokens.nbytes
        size = f"{(peak + own) / count:.0f}"
        if count == 1_000_000 and scheduler == "sbs":
            assert (peak + own) / count < 200
    return (
        f"| {scheduler} | {timing} | {workload} | {load} | {count:,} | "
        f"{count / best / 1e6:.2f} | {size} |"
    )


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def start_up_rows():
    """Seconds of whole processes: import, and a first run without and with a filled cache."""
    simulate = (
        "import sbs_gym; sbs_gym.simulate(sbs_gym.load_config(['num_requests=1000', 'load=0.5']))"
    )
    with tempfile.TemporaryDirectory() as empty:
        cold = whole_process(simulate, empty)
    warm_import = min(whole_process("import sbs_gym") for _ in range(REPEATS))
    warm = min(whole_process(simulate) for _ in range(REPEATS))
    return [
        f"| first run of a fresh installation (compiles) | {cold:.1f} |",
        f"| `import sbs_gym` | {warm_import:.1f} |",
        f"| a run of 1,000 requests afterwards, whole process | {warm:.1f} |",
    ]


def whole_process(code, cache=None):
    environment = dict(os.environ) | ({} if cache is None else {"SBS_GYM_CACHE_DIR": cache})
    return seconds(
        lambda: subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    )
