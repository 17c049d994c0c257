"""The command line: help, mistakes in one line, tables, files, and no work before checks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sbs_gym import __version__
from sbs_gym.cli import COMMANDS, main
from sbs_gym.config.groups import group_names
from sbs_gym.config.workload import TRACE_FORMATS

SMALL = ["timing=linear", "cluster=toy", "cluster.chunk_tokens=1000", "num_requests=400"]


def told(capsys, *words):
    """The exit code, stdout and stderr of a command."""
    code = main(list(words))
    found = capsys.readouterr()
    return code, found.out, found.err


def test_help_names_every_command(capsys):
    code, out, _ = told(capsys, "--help")
    assert code == 0
    for name in COMMANDS:
        assert f"  {name} " in out


def test_no_command_is_a_mistake_that_shows_the_commands(capsys):
    code, out, _ = told(capsys)
    assert code == 2
    assert "simulate" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(capsys, command):
    code, out, _ = told(capsys, command, "--help")
    assert code == 0
    assert out.count(f"sbs-gym {command}") >= 2


def test_version(capsys):
    assert told(capsys, "--version")[1].strip() == f"sbs-gym {__version__}"


@pytest.mark.parametrize(
    "words, message",
    [
        (["simulat"], "Did you mean 'simulate'"),
        (["simulate", "scheduler=sbss"], "Did you mean 'sbs'"),
        (["simulate", "load=0"], "out of range"),
        (["simulate", "loda=0.5"], "Did you mean 'load'"),
        (["simulate", "workload=trace", "workload.path=/no/such file.csv"], "/no/such file.csv"),
        (["compare", "schedulers=[sbs]"], "at least two"),
        (["compare", "schedulers=[sbs,sbs]"], "twice"),
        (["compare", "schedulers=[sbs,rr]"], "Known: "),
        (["compare", "scheduler=sbs"], "schedulers=[a,b]"),
        (["compare", "seeds=many"], "whole number"),
        (["compare", "seeds=0"], "out of range"),
        (["compare", "show=tftf"], "Did you mean 'ttft'"),
        (["compare", "reference=lpt"], "reference='lpt'"),
        (["compare", "jbos=2"], "Did you mean 'jobs'"),
        (["compare", "sol=2"], "slo.*"),
        (["simulate", "sol=2"], "slo.*"),
        (["compare", "loads=[0.5,x]"], "expected numbers such as"),
        (["compare", "loads=[]"], "expected numbers such as"),
        (["compare", "loads=[0.5]", "load=0.7"], "exclude each other"),
        (["compare", "loads=[0.5]", "rate_per_s=7"], "exclude each other"),
        (["compare", "loads=[0.5,0.50]"], "names one twice"),
        (["compare", "loads=[0.5,-1]"], "out of range"),
        (["compare", "loads=[0.5]", "show=engines"], "Known: pairs, ttft"),
        (["drain"], "schedulers=[a,b,…] is missing"),
        (["drain", "schedulers=[sbs]"], "at least two"),
        (["drain", "schedulers=[sbs,lpt]", "load=0.7"], "does not matter to a backlog"),
        (["drain", "schedulers=[sbs,lpt]", "num_requests=0"], "out of range"),
        (["drain", "schedulers=[sbs,lpt]", "workloda=x"], "Did you mean 'workload'"),
        (["capacity"], "scheduler=NAME or schedulers=[a,b,…] is missing"),
        (["capacity", "scheduler=sbs", "schedulers=[sbs]"], "exclude each other"),
        (["capacity", "scheduler=sbss"], "Did you mean 'sbs'"),
        (["capacity", "scheduler=sbs", "load=0.7"], "is what is searched"),
        (["capacity", "scheduler=sbs", "tolerance=0"], "out of range"),
        (["capacity", "scheduler=sbs", "tolerance=fine"], "expected a number in"),
        (["capacity", "scheduler=sbs", "sol=2"], "slo.*"),
        (["balance", "workload=sbs_long"], "does not matter to capacities"),
        (["balance", "workloads=[sbs_lnog]"], "Did you mean 'sbs_long'"),
        (["balance", "workloads=[trace]"], "workloads='trace'"),
        (["balance", "cluster.num_decode=0"], "cluster.num_decode=0"),
        (["balance", "output=/"], "is a directory"),
        (["memory", "timing=linear"], "does not matter to memory"),
        (["memory", "ep=[32,many]"], "ep='many'"),
        (["memory", "ep=[]"], "expected numbers such as"),
        (["memory", "clster=toy"], "Did you mean 'cluster'"),
        (["simulate", "load_side=both"], "Known: bottleneck, decode, prefill"),
        (["simulate", "cluster.num_decode=0", "load_side=decode"], "cluster.num_decode=0"),
        (["list", "schedulrs"], "Did you mean 'schedulers'"),
        (["traces"], "describe PATH"),
        (["traces", "describe"], "PATH"),
        (["traces", "describe", "/no/such.csv"], "/no/such.csv"),
        (["traces", "describe", "x.csv", "seed=1"], "workload.key=value"),
        (["traces", "describe", "/"], "is a directory"),
        (["traces", "descrbe", "/"], "Did you mean 'describe'"),
        (["timing"], "fit"),
        (["timing", "ft"], "Did you mean 'fit'"),
        (["timing", "fit", "kernels=/no/such.csv"], "systems=CSV is missing"),
        (["timing", "fit", "kernel=/no/such.csv"], "Did you mean 'kernels'"),
        (["timing", "validate", "seed=1"], "timing.key=value"),
        (["timing", "validate", "path=/no/such.csv"], "not there"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, words, message):
    code, out, err = told(capsys, *words)
    assert code == 2
    assert message in err
    assert err.startswith("sbs-gym: ")
    assert not err.startswith("sbs-gym: sbs-gym")
    assert err.count("\n") == 1
    assert out == ""


def test_list_names_every_preset_and_format(capsys):
    code, out, _ = told(capsys, "list")
    assert code == 0
    for group in ("scheduler", "workload", "arrivals", "cluster", "timing"):
        for name in group_names(group):
            assert name in out
    for name in TRACE_FORMATS:
        assert name in out


def test_list_shows_what_a_scheduler_is_made_of(capsys):
    out = told(capsys, "list", "schedulers")[1]
    assert "least_tokens     immediate / least_tokens / arrival / least_tokens / full" in out


def test_simulate_prints_its_tables(capsys):
    code, out, err = told(capsys, "simulate", *SMALL, "load=0.6")
    assert code == 0, err
    for word in ("load 0.60", "capacity", "overloaded: no", "TTFT", "bubble", "prompt tokens"):
        assert word in out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80


def test_simulate_writes_its_files_and_refuses_another_run_there(capsys, tmp_path):
    where = f"output_dir={tmp_path / 'my run'}"
    assert told(capsys, "simulate", *SMALL, where)[0] == 0
    names = {path.name for path in (tmp_path / "my run").iterdir()}
    assert {"summary.json", "requests.parquet", "passes.parquet"} <= names
    assert told(capsys, "simulate", *SMALL, where)[0] == 0
    code, _, err = told(capsys, "simulate", *SMALL, where, "seed=1")
    assert code == 2
    assert "another configuration" in err
    assert "seed" in err


def test_compare_prints_pairs_and_writes_a_figure(capsys, tmp_path):
    words = ["compare", "schedulers=[round_robin,sbs]", *SMALL, "seeds=3", "load=0.6"]
    code, out, err = told(capsys, *words, f"output_dir={tmp_path}")
    assert code == 0, err
    for word in ("round_robin", "load 0.60", "seeds 0 to 2", "against", "prompt tokens"):
        assert word in out
    names = {path.name for path in tmp_path.iterdir()}
    assert {"comparison.json", "runs.parquet", "comparison.png", "comparison.svg"} <= names
    assert json.loads((tmp_path / "comparison.json").read_text())["num_seeds"] == 3


def test_compare_gives_the_same_text_twice(capsys):
    words = ["compare", "schedulers=round_robin,sbs", *SMALL, "seeds=2", "show=[ttft,pairs]"]
    assert "engines" not in told(capsys, *words)[1]
    assert told(capsys, *words)[1] == told(capsys, *words)[1]


def test_compare_names_the_words_that_change_every_scheduler(capsys):
    words = ["compare", "schedulers=[round_robin,sbs]", *SMALL, "seeds=1", "show=ttft"]
    out = told(capsys, *words, "timing.fixed_s=0.05", "scheduler.multiplier=0.5")[1]
    lines = out.splitlines()
    assert "changed in every scheduler: scheduler.multiplier=0.5" in lines
    assert "with cluster.chunk_tokens=1000 timing.fixed_s=0.05" in lines
    assert "changed in every" not in told(capsys, *words)[1]


@pytest.fixture
def trace_path(tmp_path):
    path = tmp_path / "trace.csv"
    rows = [f"{second / 4},{100 + second},5" for second in range(400)]
    path.write_text("\n".join(["arrived_at,input_tokens,output_tokens", *rows]))
    return path


ON_TRACE = ["workload=trace", "timing=linear", "cluster=toy", "cluster.chunk_tokens=1000"]


@pytest.mark.parametrize(
    "words, line",
    [
        ([], "every seed replays this trace"),
        (["load=0.5"], "every seed replays this trace"),
        (["workload.spread_ticks_s=1"], "drawn anew for every seed: the spread over ticks"),
        (
            ["workload.scaling=thin", "rate_per_s=2"],
            "drawn anew for every seed: the rows kept by thinning",
        ),
        (
            ["workload.scaling=overlay", "rate_per_s=8"],
            "drawn anew for every seed: the shifts of overlaid copies",
        ),
        (["workload.scaling=thin"], "every seed replays this trace"),
        (
            ["loads=[0.6,0.9]", "workload.spread_ticks_s=1"],
            "drawn anew for every seed: the spread over ticks",
        ),
    ],
)
def test_compare_tells_what_seeds_share_of_a_trace(capsys, trace_path, words, line):
    chosen = ["compare", "schedulers=[round_robin,sbs]", "seeds=1", "show=ttft", *ON_TRACE]
    code, out, err = told(capsys, *chosen, f"workload.path={trace_path}", *words)
    assert code == 0, err
    assert line in out
    assert ("replays" in out) == ("replays" in line)
    assert "no arrival times read" not in out


def test_arrivals_that_a_trace_does_not_have_are_told(capsys, trace_path):
    lengths = trace_path.read_text().replace("arrived_at,", "timestamp,")
    trace_path.write_text(lengths)
    chosen = [*ON_TRACE, f"workload.path={trace_path}"]
    line = "no arrival times read: poisson arrivals at"
    code, out, err = told(capsys, "simulate", *chosen, "rate_per_s=4")
    assert code == 0, err
    assert f"{line} 4.0 per second" in out
    compared = ["compare", "schedulers=[round_robin,sbs]", "seeds=1", "show=ttft", *chosen]
    out = told(capsys, *compared)[1]
    assert line in out
    assert "drawn anew for every seed: arrivals\n" in out
    assert f"{line} the rate of each load" in told(capsys, *compared, "loads=[0.5]")[1]
    out = told(capsys, "traces", "describe", str(trace_path))[1]
    assert "arrived_at: timestamp" in " ".join(out.split())


LOADS = ["compare", "schedulers=[round_robin,least_tokens,sbs]", "loads=[0.5,0.7]", "seeds=2"]


def test_compare_at_several_loads_prints_them_across_and_writes_a_folder_each(capsys, tmp_path):
    code, out, err = told(capsys, *LOADS, *SMALL, f"output_dir={tmp_path}")
    assert code == 0, err
    for word in ("load 0.5", "load 0.7", "seeds 0 to 1", "against sbs", "against †"):
        assert word in out
    assert max(len(line.rstrip()) for line in out.splitlines()[:-1]) <= 80
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "config.yaml", "load_0.5", "load_0.7", "loads.parquet", "loads.png", "loads.svg"
    }  # fmt: skip
    assert (tmp_path / "load_0.7" / "comparison.json").is_file()
    code, _, err = told(capsys, *LOADS, *SMALL, f"output_dir={tmp_path}", "cluster.num_prefill=3")
    assert code == 2
    assert "another configuration" in err


def test_one_load_of_several_is_the_comparison_at_that_load(capsys):
    several = told(capsys, *LOADS, *SMALL, "show=ttft")[1]
    one = told(capsys, *LOADS[:2], *SMALL, "seeds=2", "load=0.7", "show=ttft")[1]
    sbs_at = next(line.split() for line in several.splitlines() if line.startswith("sbs "))
    sbs = next(line.split() for line in one.splitlines() if line.startswith("sbs "))
    assert sbs_at[2] == sbs[1]


def test_drain_prints_both_orders_and_the_first_scheduler_is_the_measure(capsys):
    words = ["drain", "schedulers=[round_robin,sbs]", *SMALL]
    code, out, err = told(capsys, *words)
    assert code == 0, err
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    first, second = (
        line.split() for line in out.splitlines() if line.startswith(("round", "sbs "))
    )
    assert first[3] == first[6] == "+0.0"
    assert first[1] == first[4]  # an immediate scheduler has no buffer to order
    own, base = float(second[4]), float(first[4])
    assert float(second[6]) == pytest.approx(100 * (own / base - 1), abs=0.5)
    assert "400 requests" in out


def test_a_resumed_comparison_tells_how_many_runs_it_took(capsys, tmp_path):
    words = ["compare", "schedulers=[round_robin,sbs]", *SMALL, "show=ttft"]
    words.append(f"output_dir={tmp_path / 'one'}")
    assert "taken from" not in told(capsys, *words, "seeds=1")[1]
    assert "2 of 4 runs were taken from" in told(capsys, *words, "seeds=2")[1]
    words[-1] = f"output_dir={tmp_path / 'loads'}"
    assert "taken from" not in told(capsys, *words, "seeds=1", "loads=[0.5,0.7]")[1]
    assert "4 of 4 runs were taken from" in told(capsys, *words, "seeds=1", "loads=[0.5,0.7]")[1]


def test_an_interrupted_comparison_tells_what_was_kept(capsys, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("sbs_gym.commands.compare.compare", stop)
    code, _, err = told(capsys, "compare", *SMALL, f"output_dir={tmp_path}")
    assert code == 130
    assert str(tmp_path) in err
    assert "goes on from there" in err
    assert told(capsys, "compare", *SMALL)[2].count("nothing was kept") == 1


def test_traces_describe_prints_the_rows(capsys, tmp_path):
    path = tmp_path / "my trace.csv"
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    rows += [f"2023-11-16 18:15:{second:02d}.0000000,{100 + second},5" for second in range(50)]
    path.write_text("\n".join(rows))
    code, out, err = told(capsys, "traces", "describe", str(path))
    assert code == 0, err
    assert "azure" in out
    assert "50" in out


def test_timing_validate_writes_points(capsys, tmp_path):
    code, out, err = told(capsys, "timing", "validate", f"output={tmp_path / 'points.json'}")
    assert code == 0, err
    assert "not predicted" in out
    points = json.loads((tmp_path / "points.json").read_text())["points"]
    assert any(point["predicted"] is not None for point in points)


def test_timing_passes_show_the_weight_of_the_fullest_rank(capsys):
    # Linear timing weighs the fullest rank with 0.7, whatever the others hold.
    code, out, err = told(capsys, "timing", "passes", "timing=linear")
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()[3:] if line.strip()]
    assert {row[-1] for row in rows} == {"70", "-"}
    full_ms = 1e3 * (0.06 + 3072 / 6500)
    assert float(rows[-1][1]) == pytest.approx(full_ms, abs=0.5)


def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    command = f"{sys.executable} -m sbs_gym.cli list | head -1"
    found = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stderr == ""


def test_logs_get_plain_lines_and_no_control_characters(tmp_path):
    command = [sys.executable, "-m", "sbs_gym.cli", "compare", "schedulers=[lpt,sbs]", "seeds=1"]
    found = subprocess.run(
        [*command, *SMALL], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "comparing: 2 of 2" in found.stderr
    assert "\x1b" not in found.stdout + found.stderr
