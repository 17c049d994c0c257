"""`sbs-gym capacity`, `balance` and `memory` at the command line."""

from __future__ import annotations

import json

import pytest

from sbs_gym.cli import main

SMALL = ["timing=linear", "cluster=toy", "cluster.chunk_tokens=1000", "num_requests=400"]


def told(capsys, *words):
    """The exit code, stdout and stderr of a command."""
    code = main(list(words))
    found = capsys.readouterr()
    return code, found.out, found.err


def test_capacity_prints_rates_and_goes_on_where_it_was(capsys, tmp_path):
    words = ["capacity", "schedulers=[round_robin,sbs]", *SMALL, "seeds=2", "tolerance=0.1"]
    words += ["cluster.num_decode=0", f"output_dir={tmp_path}"]
    code, out, err = told(capsys, *words)
    assert code == 0, err
    for word in ("SLO: TTFT 800 ms", "for 90 % of requests", "seeds 0 to 1", "ratio", "in/GPU"):
        assert word in out
    assert max(len(line.rstrip()) for line in out.splitlines()[:-1]) <= 80
    assert "…" not in " ".join(line for line in out.splitlines() if line.startswith("scheduler"))
    saved = json.loads((tmp_path / "capacity.json").read_text())["schedulers"]
    rate = next(line.split() for line in out.splitlines() if line.startswith("sbs "))[1]
    assert float(rate) == pytest.approx(saved["sbs"]["requests_per_s"], abs=0.06)
    assert "runs were taken from" not in out
    assert "runs were taken from" in told(capsys, *words)[1]


def test_capacity_of_one_scheduler_says_that_an_slo_is_infeasible(capsys):
    words = ["capacity", "scheduler=sbs", *SMALL, "seeds=1", "slo.ttft_s=0.01"]
    code, out, err = told(capsys, *words, "cluster.num_decode=0", "slo.ttft_per_token_s=0")
    assert code == 0, err
    assert "no rate meets the SLO" in " ".join(out.split())
    assert "infeasible" in out
    assert "ratio" not in out


BALANCE = ["balance", "timing=linear", "cluster.num_decode=1", "workloads=[sbs_short,sbs_long]"]


def test_balance_prints_both_sides_and_writes_them(capsys, tmp_path):
    path = tmp_path / "new" / "balance.json"
    code, out, err = told(capsys, *BALANCE, f"output={path}")
    assert code == 0, err
    assert max(len(line.rstrip()) for line in out.splitlines()[:-1]) <= 80
    rows = json.loads(path.read_text())["workloads"]
    assert list(rows) == ["sbs_short", "sbs_long"]
    for name, row in rows.items():
        line = next(line.split() for line in out.splitlines() if line.startswith(f"{name} "))
        cells = [float(cell.rstrip("*").replace(",", "")) for cell in line[3:5]]
        wanted = [row["prefill_requests_per_s"], row["decode_requests_per_s"]]
        assert cells == pytest.approx(wanted, abs=0.06)
        smaller = "prefill" if cells[0] < cells[1] else "decode"
        assert row["bottleneck"] == smaller
        assert line[3 if smaller == "prefill" else 4].endswith("*")


def test_balance_says_that_a_tpot_slo_is_infeasible(capsys):
    out = told(capsys, *BALANCE, "slo.tpot_s=0.001")[1]
    assert "no rate meets slo.tpot_s=0.001: one request per rank already takes" in out
    assert out.count(" none ") == 2


def test_memory_adds_up_to_the_room(capsys, tmp_path):
    path = tmp_path / "memory.json"
    code, out, err = told(capsys, "memory", "ep=[4,32]", f"output={path}")
    assert code == 0, err
    assert "465,360" in out
    assert "no room" in out
    decode = json.loads(path.read_text())["phases"]["decode"]
    assert decode["kv_tokens"] == 465_360
    assert decode["kv_blocks"] == 465_360 // 64
    parts = sum(decode[f"{part}_bytes"] for part in ("reserve", "weight", "left"))
    assert parts == pytest.approx(decode["memory_bytes"])
    assert told(capsys, "memory", "cluster=toy")[1].count("(stated)") == 2
