"""The law: a run that a network plays is the episode in which the same network gives the actions.

The network of the episode is plain numpy, written from the text of the format; where its two best
logits are nearer than rounding, the two may choose differently, so such decisions are counted.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sbs_gym.capacity import decode_timing_for, timing_for
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.envs.config import scheduler_named
from sbs_gym.envs.single import SchedulingEnv
from sbs_gym.schedulers.driver import run
from sbs_gym.sim.records import RunRecords
from tests.env.setups import (
    BUDGET,
    DECODE,
    FORMS,
    PREFILL,
    SERVING,
    TINY_ROOM,
    WHOLE_PATH,
    WINDOW,
    make,
)
from tests.env.test_parity_law import differences
from tests.learned.networks import Reader, Writer

NETWORKS = [("mlp", 1), ("mlp", 3), ("set", 1), ("set", 3)]


def play_both(
    path: Path, id: str, action: str, *, background: str = "sbs", **options: Any
) -> tuple[list[str], Reader, RunRecords]:
    """Play a network of random numbers in an environment and by itself.

    Returns the fields in which the two differ, the network, and the records of the plain run.
    """
    net = {name: options.pop(name) for name in ("kind", "history") if name in options}
    more = ("activation", "relative", "seed")
    net |= {name: options.pop(name) for name in more if name in options}
    net |= {name: options[name] for name in ("asks", "budget_of", "reserves") if name in options}
    rules = scheduler_named(background)
    probe = make(id, action=action, warmup_s=0.0, **options)
    fields = dataclasses.asdict(rules)
    writer = Writer(id, action, probe.config.cluster, scheduler=fields, **net)
    reader = Reader(writer.write(path / "net.npz"))
    env = make(
        id,
        action=action,
        warmup_s=0.0,
        record=True,
        scheduler=rules,
        invalid_action="error",
        observation="flat" if writer.meta["kind"] == "mlp" else "dict",
        history=writer.history,
        **options,
    )
    seen, _ = env.reset(seed=3)
    over = False
    while not over:
        seen, _, terminated, truncated, _ = env.step(reader.action(env, seen))
        over = terminated or truncated
    plain = plain_run(env, scheduler_named(f"learned:{path / 'net.npz'}"))
    return differences(env, env.records(), plain), reader, plain


def plain_run(env: SchedulingEnv, scheduler: SchedulerConfig) -> RunRecords:
    """Run the requests of the running episode, to its horizon, without an environment."""
    episode, config = env.core.episodes[0], env.config
    assert episode is not None
    timing = config.timings[episode.timing]
    decodes = config.cluster.num_decode > 0
    return run(
        episode.table,
        config.cluster,
        scheduler,
        timing_for(config.cluster, timing),
        seed=episode.seed,
        decode_timing=decode_timing_for(config.cluster, timing) if decodes else None,
        stop_at_s=config.horizon_s,
    )


def assert_same(path: Path, id: str, action: str, **options: Any) -> RunRecords:
    """Fail where the two runs differ; return the records."""
    found, reader, plain = play_both(path, id, action, **options)
    print(f"near ties: {reader.num_near} of {reader.num_asked}")
    assert found == []
    assert reader.num_asked > 5
    assert reader.num_near <= reader.num_asked / 1000
    return plain


@pytest.mark.parametrize("kind, history", NETWORKS)
@pytest.mark.parametrize("id, action", FORMS)
def test_a_network_plays_as_in_its_environment(
    tmp_path: Path, id: str, action: str, kind: str, history: int
) -> None:
    assert_same(tmp_path, id, action, kind=kind, history=history, seed=history)


@pytest.mark.parametrize("asks", [("release",), ("release", "decode")])
def test_so_does_one_that_answers_part_of_the_questions(
    tmp_path: Path, asks: tuple[str, ...]
) -> None:
    assert_same(tmp_path, SERVING, "discrete", kind="set", seed=6, asks=asks)


@pytest.mark.parametrize("kind", ["mlp", "set"])
def test_so_does_one_whose_budgets_are_of_the_chunk(tmp_path: Path, kind: str) -> None:
    assert_same(tmp_path, BUDGET, "multi", kind=kind, seed=3, budget_of="chunk")


@pytest.mark.parametrize("kind", ["mlp", "set"])
@pytest.mark.parametrize(
    "id, action", [(WINDOW, "discrete"), (BUDGET, "flat"), (SERVING, "discrete")]
)
def test_so_does_one_that_reserves_instances(
    tmp_path: Path, id: str, action: str, kind: str
) -> None:
    assert_same(tmp_path, id, action, kind=kind, seed=5, reserves=True, workload="sbs_long")


@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize("id", [WINDOW, PREFILL, DECODE, SERVING])
def test_so_does_one_that_sees_rows_beside_their_mean(
    tmp_path: Path, id: str, history: int
) -> None:
    options = {"cluster": WHOLE_PATH} if id == DECODE else {}
    assert_same(
        tmp_path, id, "discrete", kind="set", relative=True, history=history, seed=4, **options
    )


@pytest.mark.parametrize("kind", ["mlp", "set"])
@pytest.mark.parametrize("id, action", FORMS[:5])
def test_so_it_does_where_the_rules_decode(tmp_path: Path, id: str, action: str, kind: str) -> None:
    plain = assert_same(
        tmp_path, id, action, kind=kind, activation="relu", seed=7, cluster=WHOLE_PATH
    )
    assert plain.decode is not None


@pytest.mark.parametrize("kind", ["mlp", "set"])
@pytest.mark.parametrize("id", [WINDOW, PREFILL, DECODE, SERVING])
def test_so_it_does_where_ranks_refuse_and_evict(tmp_path: Path, id: str, kind: str) -> None:
    plain = assert_same(
        tmp_path, id, "discrete", kind=kind, seed=5, cluster=TINY_ROOM, load=None, rate_per_s=24.0
    )
    assert plain.num_refusals > 0


@pytest.mark.parametrize(
    "background",
    [
        "least_tokens",
        "size_or_timeout",
        "sbs:n_limit=1:n_limit_action=reject",
        "sbs:leftovers=alone:order=longest",
    ],
)
def test_the_rules_of_the_file_are_the_background(tmp_path: Path, background: str) -> None:
    assert_same(tmp_path, PREFILL, "discrete", seed=2, background=background, load=1.2)


@pytest.mark.parametrize("cluster", [{"start_rule": "on_release"}, {"signal_loss_frac": 0.3}])
@pytest.mark.parametrize("id, action", [(BUDGET, "multi"), (SERVING, "discrete")])
def test_so_it_does_on_other_clusters(
    tmp_path: Path, id: str, action: str, cluster: dict[str, Any]
) -> None:
    background = "sbs:placement=bf_io:budget=backlog:min_interval_s=0.02"
    assert_same(
        tmp_path,
        id,
        action,
        kind="set",
        background=background,
        cluster=WHOLE_PATH | cluster,
        timing="roofline",
        load=None,
        rate_per_s=30.0,
    )


def test_another_network_gives_another_run(tmp_path: Path) -> None:
    """The comparison sees differences."""
    one, other = (
        assert_same(tmp_path, SERVING, "discrete", kind="set", seed=seed) for seed in (1, 2)
    )
    assert one.requests.tobytes() != other.requests.tobytes()
