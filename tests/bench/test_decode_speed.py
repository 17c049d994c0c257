"""`make bench`: the speed of the whole path, as a table of its own behind that of prefill.

Nothing here passes or fails by the clock; that every request was served is asserted.
"""

from __future__ import annotations

import pytest

from sbs_gym.capacity import decode_timing_for, timing_for
from sbs_gym.schedulers.driver import run
from sbs_gym.schema import load_config
from sbs_gym.workload.generate import generate
from tests.bench.test_speed import ENVIRONMENTS, PAGE, REPEATS, WHOLE_PATH, seconds

# Room stated, so that clusters too narrow for the weights can be timed too.
ROOM = ["cluster.prefill_kv_tokens=400000", "cluster.decode_kv_tokens=465360"]
LONG_ANSWERS = ["workload=sbs_short", "workload.output_tokens=sbs_long", "cluster.num_prefill=6"]
CASES = [
    # what, words, requests per second and decode rank, requests
    ("32 ranks, long answers", [*LONG_ANSWERS, "timing=linear"], 3.2, 200_000),
    ("32 ranks, long answers, roofline", LONG_ANSWERS, 1.35, 200_000),
    ("default cluster, Azure conversation lengths", ["workload=azure_conv_like"], 7.5, 200_000),
    ("default cluster, sbs_short", [], 9.3, 200_000),
    ("default cluster, sbs_long", ["workload=sbs_long"], 0.7, 50_000),
]
RANKS = (8, 32, 128, 320)
PLACEMENTS = ("iqr_lex", "jsq", "bf_io")
COLUMNS = "case | requests | mean batch | million tokens/s | thousand requests/s | µs per step"

pytestmark = pytest.mark.bench


def test_print_the_speed_of_the_whole_path():
    rows = [measure_case(*case) for case in CASES]
    for ranks in RANKS:
        for placement in PLACEMENTS if ranks == RANKS[-1] else PLACEMENTS[:1]:
            rows.append(measure_ranks(ranks, placement))
    lines = [
        *WHOLE_PATH.split("\n"),
        "Prefill, transfer and decode with their placement, `sbs`, one core. Tokens are generated",
        f"tokens; best of {REPEATS} runs after a warm-up, filling up and drain of a run included.",
        "The last rows scale one decode and one prefill instance of the same size at equal",
        "traffic per rank, 8 requests/s.",
        "",
        f"| {COLUMNS} |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    if PAGE.is_file():
        before, *environments = PAGE.read_text(encoding="utf-8").partition(ENVIRONMENTS)
        before = before.partition(WHOLE_PATH)[0].rstrip("\n")
        text = before + "\n" + "\n".join(lines) + "".join(environments)
        PAGE.write_text(text, encoding="utf-8")
    print("\n" + "\n".join(lines))


def measure_ranks(ranks, placement):
    words = [
        *ROOM,
        "timing=linear",
        "cluster.num_prefill=1",
        f"cluster.prefill_dp={ranks}",
        f"cluster.decode_dp={ranks}",
        f"scheduler.placement={placement}",
    ]
    return measure_case(f"{ranks} + {ranks} ranks, linear, {placement}", words, 8.0, 50_000)


def measure_case(name, words, rate_per_rank, count):
    config = load_config(words)
    model, decode = (
        timing_for(config.cluster, config.timing),
        decode_timing_for(config.cluster, config.timing),
    )
    rate = rate_per_rank * config.cluster.num_decode_ranks
    table = generate(config.workload, config.arrivals, rate_per_s=rate, seed=0, num_requests=count)

    def once():
        return run(
            table,
            config.cluster,
            config.scheduler,
            model,
            decode_timing=decode,
            seed=0,
            record_ranks=False,
        )

    records = once()
    served = records.decode["finished_at_s"] > 0
    assert served.all()
    best = min(seconds(once) for _ in range(REPEATS))
    steps = records.steps
    took_s = steps["ended_at_s"] - steps["started_at_s"]
    batch = (steps["batch_sum"] * took_s).sum() / took_s.sum() / config.cluster.decode_dp
    tokens = int(table.output_tokens.sum(dtype="int64"))
    return (
        f"| {name} | {count:,} | {batch:.1f} | {tokens / best / 1e6:.0f} | "
        f"{count / best / 1e3:.0f} | {best / len(steps) * 1e6:.1f} |"
    )
