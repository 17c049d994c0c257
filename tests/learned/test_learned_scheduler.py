"""A learned scheduler by its name: configuration, command line, comparison, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sbs_gym import compare, load_config, simulate
from sbs_gym.cli import main
from sbs_gym.commands.catalogue import listings
from sbs_gym.config import learned as files
from sbs_gym.config.run import RunConfig, run_from_mapping
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.envs.config import env_config, scheduler_named
from sbs_gym.errors import ConfigError, SbsGymError
from sbs_gym.schedulers.registry import source_of
from tests.learned.networks import Writer

WORDS = [
    "timing=linear", "cluster=toy", "cluster.chunk_tokens=1000", "cluster.prefill_kv_tokens=20000",
    "cluster.decode_kv_tokens=40000", "num_requests=200", "load=0.9",
]  # fmt: skip
BACKGROUND = {"release": "sbs", "n_limit": 7, "allocation": "least_tokens", "max_interval_s": 1}
CLUSTER = load_config(WORDS).cluster

STORY = f"""
import hashlib, sys
import numpy as np
from sbs_gym.capacity import decode_timing_for, timing_for
from sbs_gym.envs.config import scheduler_named
from sbs_gym.schedulers.driver import run
from sbs_gym.schema import load_config
from sbs_gym.types import RequestTable
config = load_config({WORDS!r})
rng = np.random.default_rng(0)
table = RequestTable(
    arrived_at_s=np.sort(rng.uniform(0.0, 3.0, 30)),
    input_tokens=rng.integers(100, 3000, 30, dtype=np.int32),
    output_tokens=rng.integers(1, 20, 30, dtype=np.int32),
    name="small",
)
for net in sys.argv[1:]:
    done = run(table, config.cluster, scheduler_named("learned:" + net),
               timing_for(config.cluster, config.timing), seed=0,
               decode_timing=decode_timing_for(config.cluster, config.timing))
    told = hashlib.sha256()
    for records in (done.requests, done.decode, done.steps):
        for name in records.dtype.names:
            told.update(records[name].tobytes())
    print(told.hexdigest())
"""


def written(path: Path, id: str = "SBS/WindowBudget", action: str = "multi", **options: Any) -> str:
    """Write a random network; return its path."""
    options = {"scheduler": BACKGROUND} | options
    return str(Writer(id, action, CLUSTER, **options).write(path))


def config_of(scheduler: str, *words: str) -> RunConfig:
    return load_config([*WORDS, *words, f"scheduler={scheduler}"])


@pytest.fixture
def net(tmp_path: Path) -> str:
    return written(tmp_path / "net.npz")


def test_a_name_means_the_background_of_the_file_and_the_network(net: str) -> None:
    scheduler = config_of(f"learned:{net}").scheduler
    given = BACKGROUND | {"name": f"learned:{net}", "learned": net, "max_interval_s": 1.0}
    assert scheduler == SchedulerConfig(**given)
    assert scheduler_named(f"learned:{net}") == scheduler


def test_the_directory_of_a_training_means_its_weights(net: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="or the directory of a training"):
        scheduler_named(f"learned:{tmp_path / 'nowhere'}")
    shutil.copy(net, tmp_path / "policy.npz")
    found = scheduler_named(f"learned:{tmp_path}")
    same = dataclasses.replace(
        scheduler_named(f"learned:{net}"), name=found.name, learned=found.learned
    )
    assert found == same
    assert files.weights_digest(str(tmp_path)) == files.weights_digest(net)


def test_words_behind_the_name_change_the_background(net: str) -> None:
    name = f"learned:{net}:n_limit=3:leftovers=alone"
    scheduler = config_of(name).scheduler
    assert (scheduler.n_limit, scheduler.leftovers, scheduler.name) == (3, "alone", name)
    assert scheduler_named(name) == scheduler
    assert scheduler.learned == net


def test_python_takes_the_name_as_the_command_line_does(net: str) -> None:
    from_words = config_of(f"learned:{net}")
    mapping = from_words.to_mapping()
    assert run_from_mapping(mapping) == from_words
    named = run_from_mapping({**mapping, "scheduler": f"learned:{net}"})
    assert dataclasses.replace(named, scheduler=from_words.scheduler) == from_words
    assert named.scheduler == from_words.scheduler


def test_shipped_files_go_by_their_name(net: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(files, "_directory", lambda: tmp_path)
    assert files.learned_names() == ["net"]
    assert config_of("learned:net").scheduler.learned == "net"
    shown = [row for listing in listings("schedulers") for row in listing.rows]
    assert ("learned:net", "random numbers") in shown
    with pytest.raises(
        ConfigError,
        match=r"learned:nut' is not known\. Did you mean 'learned:net'\? Known: learned:net;",
    ):
        config_of("learned:nut")


def test_a_saved_result_says_what_was_played_and_loads_again(net: str, tmp_path: Path) -> None:
    config = config_of(f"learned:{net}", "num_requests=50")
    result = simulate(config)
    result.save(tmp_path / "out")
    again = type(result).load(tmp_path / "out")
    assert again.config == config
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["inputs"] == source_of(config.scheduler)
    np.testing.assert_equal(dict(simulate(again.config).summary), dict(result.summary))


def test_the_window_of_the_background_is_not_asked(net: str) -> None:
    runs = [
        simulate(config_of(f"learned:{net}:multiplier={m}:budget={budget}"))
        for m, budget in ((0, "full"), (2, "fixed"))
    ]
    assert runs[0].requests.equals(runs[1].requests)


def test_progress_does_not_change_a_run(net: str) -> None:
    config, told = config_of(f"learned:{net}"), []
    slow = simulate(config, progress=lambda done, total: told.append(done))
    assert told[-1] == 200
    assert slow.requests.equals(simulate(config).requests)


def test_a_comparison_keeps_cells_until_the_file_changes(tmp_path: Path) -> None:
    net = written(tmp_path / "net.npz")
    configs = {name: config_of(name) for name in ("sbs", f"learned:{net}")}
    first = compare(configs, 2, output_dir=tmp_path / "out", jobs=2)
    assert compare(configs, 2, output_dir=tmp_path / "out").num_reused == 4
    assert set(first.inputs) == {f"learned:{net}"}
    written(tmp_path / "net.npz", seed=1)
    changed = compare(configs, 2, output_dir=tmp_path / "out")
    assert changed.num_reused == 2
    assert not changed.runs.equals(first.runs)


def test_a_file_that_changes_during_a_comparison_ends_it(tmp_path: Path) -> None:
    net = written(tmp_path / "net.npz")
    configs = {name: config_of(name) for name in ("sbs", f"learned:{net}")}

    def change(done: int, total: int) -> None:
        if done == 1:
            written(tmp_path / "net.npz", seed=1)

    with pytest.raises(SbsGymError, match="changed while the comparison ran"):
        compare(configs, 1, progress=change)


def test_the_command_line_compares_it(net: str, capsys: Any) -> None:
    assert main(["compare", f"schedulers=[sbs,learned:{net}]", "seeds=1", *WORDS]) == 0
    assert "learned:" in capsys.readouterr().out


def test_plain_python_plays_the_same(tmp_path: Path) -> None:
    nets = [
        written(tmp_path / "a.npz", "SBS/Serving", "discrete", kind="set", history=2),
        written(tmp_path / "b.npz", "SBS/Window", "box"),
    ]
    told = [
        subprocess.run(
            [sys.executable, "-c", STORY, *nets],
            env=os.environ | mode,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for mode in ({"NUMBA_DISABLE_JIT": "1"}, {})
    ]
    assert told[0] == told[1]
    assert len(set(told[0].split())) == 2


@pytest.mark.parametrize("dp", [8, 16, 32])
def test_a_set_plays_more_ranks_than_it_was_made_for(tmp_path: Path, dp: int) -> None:
    small = dataclasses.replace(CLUSTER, prefill_dp=8, decode_dp=8)
    writer = Writer("SBS/Serving", "discrete", small, kind="set", scheduler=BACKGROUND)
    net = writer.write(tmp_path / "net.npz")
    words = [f"cluster.prefill_dp={dp}", f"cluster.decode_dp={dp}", "cluster.num_prefill=3"]
    result = simulate(config_of(f"learned:{net}", *words, "num_requests=300"))
    assert np.isfinite(result.requests["first_token_at_s"]).all()
    assert result.requests["rank"].nunique() > 1


# What is refused, and when.


def spoiled(path: Path, arrays: dict[str, Any] | None = None, **meta: Any) -> str:
    """Write a network with other arrays or another description."""
    options = {name: meta.pop(name) for name in ("kind", "id", "action") if name in meta}
    given = {"id": "SBS/WindowBudget", "action": "multi", "scheduler": BACKGROUND}
    writer = Writer(**{**given, **options}, cluster=CLUSTER)
    writer.meta |= meta
    for name, array in (arrays or {}).items():
        if array is None:
            del writer.arrays[name]
        else:
            writer.arrays[name] = array
    return str(writer.write(path))


BAD_META = {
    "meta.format=2 cannot be read; expected 1": {"format": 2},
    "meta.features='00': it was trained on other features": {"features": "00"},
    "meta.kind='tree' is not known": {"meta_kind": "tree"},
    "meta.activation='gelu' is not known": {"activation": "gelu"},
    "meta.reask='signal'": {"reask": "signal"},
    "meta.answers=8 is out of range": {"answers": 8},
    "meta.history=0 is out of range": {"history": 0},
    "meta.action='multi' goes with answers=1": {"answers": 3},
    "meta.sees=2; expected a set with 1": {"sees": 2},
    "meta.shape.prefill_dp=None is not allowed": {"shape": {"num_prefill": 1}},
    "meta.scheduler=None; expected a mapping": {"scheduler": None},
    "meta.scheduler.custom='mine'": {"scheduler": {"custom": "mine"}},
    "scheduler.release='fixed_window': learned:": {"scheduler": {"release": "fixed_window"}},
}


@pytest.mark.parametrize("message", BAD_META)
def test_a_description_that_cannot_be_played_is_refused(tmp_path: Path, message: str) -> None:
    meta = dict(BAD_META[message])
    if "meta_kind" in meta:
        meta = {}
        net = spoiled(tmp_path / "net.npz")
        found = dict(np.load(net))
        described = json.loads(str(found.pop("meta"))) | {"kind": "tree"}
        np.savez(net, meta=json.dumps(described), **found)
    else:
        net = spoiled(tmp_path / "net.npz", **meta)
    with pytest.raises(ConfigError) as refused:
        config_of(f"learned:{net}")
    assert message in str(refused.value)


BAD_ARRAYS = {
    "array 'w0' is missing; expected shape": {"w0": None},
    "w2 has shape (3, 12); expected (15, 12)": {"w2": np.zeros((3, 12), np.float32)},
    "b1 is of float64; expected float32": {"b1": np.zeros(12)},
    "b1 holds NaN or infinity": {"b1": np.full(12, np.nan, np.float32)},
    "std holds 0.0; expected numbers above 0": {"std": np.zeros(51, np.float32)},
    "mean has shape (4,); expected (51,)": {"mean": np.zeros(4, np.float32)},
}


@pytest.mark.parametrize("message", BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, message: str) -> None:
    net = spoiled(tmp_path / "net.npz", arrays=BAD_ARRAYS[message])
    with pytest.raises(ConfigError) as refused:
        config_of(f"learned:{net}")
    assert message in str(refused.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no weights")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for name, message in (
        ("text.npz", "no weights of a learned scheduler"),
        ("other.npz", "no weights of a learned scheduler"),
        ("gone.npz", "there is no file"),
    ):
        with pytest.raises(ConfigError, match=message):
            config_of(f"learned:{tmp_path / name}")


def test_a_cluster_that_it_cannot_play_is_refused_before_any_run(tmp_path: Path) -> None:
    mlp = written(tmp_path / "mlp.npz")
    with pytest.raises(ConfigError, match=r"num_prefill=5, and learned:.* made for num_prefill=2"):
        config_of(f"learned:{mlp}", "cluster.num_prefill=5")
    serving = written(tmp_path / "set.npz", "SBS/Serving", "discrete", kind="set")
    with pytest.raises(ConfigError, match=r"cluster\.num_decode=0: learned:.* at least 1 decode"):
        config_of(f"learned:{serving}", "cluster.num_decode=0")
    ran: list[int] = []
    configs = {name: config_of(name) for name in ("sbs", f"learned:{mlp}")}
    five = dataclasses.replace(CLUSTER, num_prefill=5)
    configs = {k: dataclasses.replace(v, cluster=five) for k, v in configs.items()}
    with pytest.raises(ConfigError, match="made for num_prefill=2"):
        compare(configs, 1, progress=lambda done, total: ran.append(done))
    assert max(ran) == 0


def test_what_contradicts_the_name_is_refused(net: str) -> None:
    with pytest.raises(ConfigError, match=r"does not go with scheduler\.name='sbs'"):
        config_of("sbs", f"scheduler.learned='{net}'")
    with pytest.raises(ConfigError, match="exclude each other"):
        SchedulerConfig(name=f"learned:{net}", learned=net, custom="learned")
    with pytest.raises(ConfigError, match="is no change; expected key=value"):
        config_of(f"learned:{net}:fast")
    with pytest.raises(ConfigError, match="is a network; environments take schedulers"):
        env_config(scheduler=f"learned:{net}")
