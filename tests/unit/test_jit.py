"""The compiled cache notices an edited callee, and the code runs as plain Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sbs_gym.jit import source_digest

PACKAGE = Path(__file__).parents[2] / "sbs_gym"


def run_python(code: str, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_an_edited_callee_in_another_file_takes_effect(tmp_path):
    # timing/luck.py's signal_lost calls rng.py's uniform, which is then changed.
    package = tmp_path / "sbs_gym"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PACKAGE.parent / "conf", tmp_path / "conf")
    where = {"PYTHONPATH": str(tmp_path), "SBS_GYM_CACHE_DIR": str(tmp_path / "cache")}
    code = (
        "import sbs_gym; from sbs_gym.timing.luck import signal_lost;"
        f"assert sbs_gym.__file__.startswith({str(tmp_path)!r});"
        "print([signal_lost(1, 0, k, 0.5) for k in range(8)])"
    )
    before = run_python(code, tmp_path, **where)
    assert run_python(code, tmp_path, **where) == before
    rng = package / "rng.py"
    text = rng.read_text()
    assert "_S11) + 0.5) * _UNIT" in text
    rng.write_text(text.replace("_S11) + 0.5) * _UNIT", "_S11) + 0.5) * 0.0"))
    assert run_python(code, tmp_path, **where) == f"{[True] * 8}\n" != before


def test_the_digest_names_every_source_file(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.py").write_text("x = 1\n")
    first = source_digest(tmp_path)
    (tmp_path / "deep" / "b.py").write_text("")
    second = source_digest(tmp_path)
    (tmp_path / "a.py").write_text("x = 2\n")
    assert len({first, second, source_digest(tmp_path)}) == 3


WHOLE_RUN = """
import hashlib
from sbs_gym.capacity import decode_timing_for, timing_for
from sbs_gym.schedulers.driver import run
from sbs_gym.schema import load_config
from sbs_gym.workload.generate import generate
config = load_config({options!r})
cluster = config.cluster
table = generate(config.workload, config.arrivals, rate_per_s={rate}, seed=0, num_requests=150)
records = run(
    table, cluster, config.scheduler, timing_for(cluster, config.timing), seed=0,
    decode_timing=decode_timing_for(cluster, config.timing) if cluster.num_decode else None,
)
parts = [records.requests, records.passes, records.rank_pairs]
preempted = 0
if cluster.num_decode:
    parts += [records.decode, records.steps]
    parts += [records.step_batch, records.step_kv_tokens, records.step_blocks]
    preempted = records.decode["num_preempted"].sum()
text = repr([part.tolist() for part in parts])
text += repr([records.num_refusals, records.prefill_kv_blocked_s, records.ended_at_s])
print(hashlib.sha256(text.encode()).hexdigest(), len(records.passes), len(records.steps),
      records.num_refusals, preempted)
"""
WORDS = ["cluster=toy", "cluster.chunk_tokens=3000"]
# About four requests fill a decode rank, so that some are refused and some evicted.
WHOLE_PATH = [
    *WORDS,
    "workload.input_tokens={family:uniform,low_tokens:50,high_tokens:900}",
    "workload.output_tokens={family:uniform,low_tokens:1,high_tokens:60}",
    "cluster.prefill_kv_tokens=4000",
    "cluster.decode_kv_tokens=2000",
    "cluster.report_period_s=0.5",
]


@pytest.mark.parametrize(
    "options",
    [
        ["scheduler=sbs", "cluster.signal_loss_frac=0.1", "scheduler.budget_unit=cost"],
        ["scheduler=sbs_budget", "timing=linear", "workload=sbs_long", "scheduler.charge=cost"],
        ["scheduler=lpt", "cluster.start_rule=on_release"],
        ["scheduler=power_of_two"],
    ],
)
def test_plain_python_gives_the_same_bytes_as_compiled_code(options):
    code = WHOLE_RUN.format(options=[*WORDS, "cluster.num_decode=0", *options], rate=6.0)
    compiled = run_python(code)
    assert int(compiled.split()[1]) > 30
    assert run_python(code, NUMBA_DISABLE_JIT="1") == compiled


@pytest.mark.parametrize(
    "options",
    [
        ["scheduler=sbs", "timing=roofline"],
        ["scheduler=sbs:placement=bf_io", "timing=linear", "cluster.preempt=recompute"],
        ["scheduler=round_robin:placement=exp_weighted", "cluster.decode_binding=at_dispatch"],
        ["scheduler=round_robin:placement=vllm_kv", "timing=linear",
         "cluster.transfer_overlap=none"],
    ],
)  # fmt: skip
def test_plain_python_decodes_as_compiled_code_to_the_byte(options):
    code = WHOLE_RUN.format(options=[*WHOLE_PATH, *options], rate=10.0)
    compiled = run_python(code)
    _, passes, steps, refusals, preempted = compiled.split()
    assert int(passes) > 30
    assert int(steps) > 200
    assert int(refusals) > 0
    assert int(preempted) > 0
    assert run_python(code) == compiled  # in another process
    assert run_python(code, NUMBA_DISABLE_JIT="1") == compiled


def test_the_same_seed_gives_the_same_bytes_in_another_process():
    code = (
        "import sbs_gym;"
        "r = sbs_gym.simulate(sbs_gym.load_config(['num_requests=3000', 'seed=11']));"
        "print(r.requests['finished_at_s'].to_numpy().tobytes().hex())"
    )
    first, second = run_python(code), run_python(code)
    assert first == second
    values = np.frombuffer(bytes.fromhex(first.strip()))
    assert len(values) == 3000
    assert np.isfinite(values).all()
