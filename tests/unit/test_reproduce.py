"""The whole reproduction on a tiny preset: files, verdicts, and going on after an interrupt."""

from __future__ import annotations

import json
import shutil
import subprocess

import pandas as pd
import pytest
import yaml
from test_report_html import read

from sbs_gym import cells
from sbs_gym.cli import main
from sbs_gym.errors import ConfigError
from sbs_gym.reproduce.claims import VERDICTS
from sbs_gym.reproduce.preset import Preset, read_preset
from sbs_gym.reproduce.run import reproduce

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
WORDS = {"workload": "sbs_short", "timing": "linear", "cluster.num_decode": 0, "num_requests": 200}
RULES = ["round_robin", "least_tokens", "sbs"]
SHORT = {"title": "short prompts"}
STUDIES = {
    "ttft_qps": {
        "schedulers": RULES,
        "loads": [0.4, 0.8],
        "seeds": 2,
        "words": WORDS,
        "panels": {"short": SHORT},
    },
    "queueing": {
        "seeds": 3,
        "words": {
            "workload": "sbs_short",
            "num_requests": 3000,
            "rate_per_s": 50.0,
            "timing": "constant",
            "timing.pass_s": 0.4,
            "cluster.num_decode": 0,
            "cluster.prefill_dp": 1,
            "cluster.chunk_tokens": 1_000_000,
            "cluster.dispatch_delay_s": 0.0,
            "cluster.signal_delay_s": 0.0,
            "cluster.start_rule": "free_running",
        },
        "laws": {"gate": "one_gate"},
        "panels": {"gate": {"title": "one of 3 gates", "schedulers": ["round_robin"]}},
    },
}
MORE = {
    "pictures": {
        "timeline": {
            "schedulers": ["round_robin", "sbs"],
            "words": {**WORDS, "load": 0.7, "num_requests": 1000},
            "stretch_s": 1.0,
        }
    },
    "throughput": {
        "schedulers": RULES,
        "seeds": 2,
        "tolerance_frac": 0.3,
        "words": WORDS,
        "panels": {"slo": SHORT},
    },
    "utilisation": {
        "schedulers": RULES, "loads": [0.8], "seeds": 2, "words": WORDS, "panels": {"short": SHORT},
    },
    "kv_spread": {
        "schedulers": ["sbs:placement=round_robin", "sbs:placement=iqr_lex"],
        "others": ["sbs:placement=round_robin"],
        "loads": [0.5],
        "seeds": 2,
        "words": {"workload": "sbs_short", "load_side": "decode", "num_requests": 200},
        "panels": {"short": SHORT},
    },
    "ablations": {
        "immediate": ["round_robin"],
        "loads": [0.8],
        "seeds": 2,
        "words": WORDS,
        "bases": {"base": {"title": "short prompts"}},
        "changes": [
            {"ablation": "window", "name": "none", "scheduler": "sbs:multiplier=0"},
            {"ablation": "instances", "name": "1", "words": {"cluster.num_prefill": 1}},
        ],
    },
    "suite_map": {
        "schedulers": ["round_robin", "sbs"],
        "loads": [0.8],
        "seeds": 2,
        "workloads": ["sbs_short", "sbs_long"],
        "arrivals": {"poisson": {"arrivals": "poisson"}},
        "words": {key: value for key, value in WORDS.items() if key != "workload"},
    },
}  # fmt: skip


def preset(**sections):
    return Preset(name="tiny", about="It is tiny.", sections={**STUDIES, **sections})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A reproduction in which every study runs."""
    place = tmp_path_factory.mktemp("whole")
    return place, reproduce(preset(**MORE), place)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    place = tmp_path_factory.mktemp("uninterrupted")
    reproduce(preset(), place)
    return place


def files_of(place):
    """Every file but the finished runs, with its bytes."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and "cells" not in path.parts
    }


def verdicts_in(place):
    return {one["id"]: one for one in json.loads((place / "verdicts.json").read_text())}


def test_every_study_leaves_a_chapter_and_the_page_is_well_formed(whole):
    place, found = whole
    reader = read(found.report.read_text(encoding="utf-8"))
    anchors = [section["id"] for section in reader.all("section")]
    assert anchors == ["verdicts", *_order(), "fails", "repeat"]
    assert len(reader.all("img")) == len(list((place / "figures").glob("*.png"))) >= 8
    assert len(list((place / "figures").glob("*.svg"))) == len(reader.all("img"))


def _order():
    from sbs_gym.reproduce.registry import STUDIES as known

    return list(known)


@pytest.mark.skipif(BROWSER is None, reason="neither Chromium nor Chrome is installed")
def test_the_page_opens_in_a_browser_without_a_network_and_without_an_error(whole, tmp_path):
    _, found = whole
    picture = tmp_path / "page.png"
    command = [
        str(BROWSER),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        f"--screenshot={picture}",
        found.report.resolve().as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert "CONSOLE" not in done.stderr
    assert "ERR_" not in done.stderr
    assert picture.stat().st_size > 10_000


def test_the_verdicts_on_the_page_are_those_of_the_file(whole):
    place, found = whole
    stored = verdicts_in(place)
    assert [claim.id for claim in found.claims] == list(stored)
    told = "".join(read(found.report.read_text(encoding="utf-8")).texts)
    for claim in found.claims:
        assert claim.setting.replace(" %", "\u00a0%") in told
        assert stored[claim.id]["verdict"] == claim.verdict
        assert set(stored[claim.id]) >= {
            "claim",
            "source",
            "range",
            "measured",
            "interval",
            "where",
        }


def test_tables_are_written_as_numbers_twice(whole):
    place, _ = whole
    stored = json.loads((place / "tables" / "tables.json").read_text())
    for tables in stored.values():
        for name, rows in tables.items():
            found = pd.read_csv(place / "tables" / f"{name}.csv")
            assert len(found) == len(rows)
            assert list(found.columns) == list(rows[0])


def test_configuration_and_versions_lie_beside_the_report(whole):
    place, found = whole
    config = yaml.safe_load((place / "config.yaml").read_text())
    assert config["studies"]["ttft_qps"]["loads"] == [0.4, 0.8]
    versions = json.loads((place / "provenance.json").read_text())
    assert versions["code_digest"] in found.report.read_text(encoding="utf-8")


class Stop:
    """Interrupts when a number of runs is done."""

    def __init__(self, after):
        self.after = after

    def __call__(self, what, done, total):
        if done >= self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [5, 12])  # inside the first study and behind it
def test_an_interrupted_reproduction_goes_on_and_ends_with_the_same_bytes(
    tmp_path, uninterrupted, monkeypatch, after
):
    with pytest.raises(KeyboardInterrupt):
        reproduce(preset(), tmp_path, told=Stop(after))
    assert not (tmp_path / "report.html").exists()
    seen, run = [], cells.measured_run
    monkeypatch.setattr(cells, "measured_run", lambda c: (seen.append(c), run(c))[1])
    reproduce(preset(), tmp_path)
    assert 0 < len(seen) <= 15 - after
    assert files_of(tmp_path) == files_of(uninterrupted)


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(tmp_path, uninterrupted):
    reproduce(preset(), tmp_path, jobs=2)
    assert files_of(tmp_path) == files_of(uninterrupted)


def test_a_finished_reproduction_runs_nothing_again(uninterrupted, monkeypatch):
    before = files_of(uninterrupted)
    monkeypatch.setattr(cells, "measured_run", None)
    reproduce(preset(), uninterrupted)
    assert files_of(uninterrupted) == before


def test_another_preset_in_the_same_folder_is_refused(uninterrupted):
    other = {**STUDIES["ttft_qps"], "seeds": 3}
    with pytest.raises(ConfigError, match=r"studies\.ttft_qps\.seeds"):
        reproduce(preset(ttft_qps=other), uninterrupted)


def test_progress_counts_every_run_of_all_studies(tmp_path):
    told = []
    reproduce(preset(), tmp_path, told=lambda *a: told.append(a))
    assert told[0][1:] == (0, 15)
    assert told[-1][1:] == (15, 15)
    assert {text.partition(":")[0] for text, _, _ in told} == {"ttft_qps", "queueing"}


@pytest.mark.parametrize("subject", ["round_robin", "least_tokens"])
def test_the_claim_fails_where_the_scheduler_is_the_one_it_is_compared_with(tmp_path, subject):
    same = {**STUDIES["ttft_qps"], "schedulers": [subject], "subject": subject}
    sections = {"ttft_qps": same}
    reproduce(Preset(name="tiny", about="", sections=sections), tmp_path)
    found = verdicts_in(tmp_path)["ttft_short_best_immediate"]
    assert (found["measured"], found["interval"]) == (0.0, [0.0, 0.0])
    assert found["verdict"] == "falls short"
    assert found["holds"] is False
    page = "".join(read((tmp_path / "report.html").read_text(encoding="utf-8")).texts)
    assert "the claim falls short" in page
    assert "These claims fall short of their range" in page


def test_theory_fails_where_its_assumption_does(tmp_path):
    # Requests that may take the next of 3 gates do not wait as if they were bound to one.
    section = STUDIES["queueing"]
    wrong = {**section, "panels": {"gate": {"title": "t", "schedulers": ["work_conserving"]}}}
    reproduce(Preset(name="tiny", about="", sections={"queueing": wrong}), tmp_path)
    assert verdicts_in(tmp_path)["queueing_gate"]["verdict"] == "differs"
    page = "".join(read((tmp_path / "report.html").read_text(encoding="utf-8")).texts)
    assert "Here simulation and theory differ" in page


def test_studies_without_a_claim_say_so(tmp_path):
    reproduce(Preset(name="tiny", about="", sections={"suite_map": MORE["suite_map"]}), tmp_path)
    assert verdicts_in(tmp_path) == {}
    page = "".join(read((tmp_path / "report.html").read_text(encoding="utf-8")).texts)
    assert "These studies measure no claim of the paper." in page


@pytest.fixture
def tiny_file(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"about": "It is tiny.", "studies": STUDIES}))
    return path


def test_the_command_prints_the_verdicts_and_where_the_report_is(tiny_file, tmp_path, capsys):
    trace = tmp_path / "trace.jsonl"
    rows = [{"timestamp": 20 * k, "input_length": 900, "output_length": 1} for k in range(300)]
    trace.write_text("".join(f"{json.dumps(row | {'hash_ids': []})}\n" for row in rows))
    words = [f"preset={tiny_file}", f"output_dir={tmp_path / 'out'}", "jobs=1"]
    words.append("studies=[queueing]")
    assert main(["reproduce", *words, f"trace={trace}"]) == 0
    out, err = capsys.readouterr()
    assert "traces: trace.jsonl: 15 of 15" in err  # 3 runs of a gate, 4 of each of 3 schedulers
    assert "Waits follow queueing theory" in out
    assert "report.html" in out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert [s["id"] for s in read(page).all("section")][1:3] == ["queueing", "traces"]
    stored = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert list(stored["inputs"]) == [str(trace)]
    again = (
        f"sbs-gym reproduce preset={tiny_file} 'studies=[queueing]' trace={trace} trace_load=0.7"
    )
    assert again in "".join(read(page).texts)
    assert main(["reproduce", *words, f"trace={trace}", "show=summary"]) == 0  # runs nothing again
    out, _ = capsys.readouterr()
    assert "what the paper says, and what was measured" in out
    assert any(f"{verdict} 1" in out for verdict in VERDICTS)


@pytest.mark.parametrize(
    "words, message",
    [
        (["preset=slow"], "Known: full, quick"),
        (["presets=quick"], "Did you mean 'preset'"),
        (["studies=[queueng]"], "Did you mean 'queueing'"),
        (["trace=/no/such/file"], "is not there"),
        (["jobs=0"], "out of range"),
        (["show=some"], "Known: all, summary"),
        (["trace_load=0"], "out of range"),
        (["quick"], "expected key=value"),
    ],
)
def test_a_mistake_is_one_line(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_presets_say_how_large_they_are():
    for name in ("quick", "full"):
        assert name in read_preset(name).about
