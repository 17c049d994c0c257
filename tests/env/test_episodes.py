"""Where episodes begin and end, what is drawn for each, and what an agent is shown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from sbs_gym.envs.config import env_config
from sbs_gym.envs.core import EnvBatch
from sbs_gym.envs.environments import WindowEnv
from sbs_gym.envs.episodes import Episode
from sbs_gym.envs.registration import IDS
from sbs_gym.envs.single import SchedulingEnv
from sbs_gym.envs.tasks import TASKS, task_of
from sbs_gym.errors import ConfigError
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.features import GLOBAL, sizes
from tests.env.setups import (
    BUDGET,
    DECODE,
    FORMS,
    PREFILL,
    SERVING,
    WINDOW,
    as_bytes,
    make,
    options_for,
    steps_of,
)


def now_s(env: SchedulingEnv) -> float:
    return float(env.core.world(0).clock.now_s)


def play_randomly(env: SchedulingEnv, seed: int = 0) -> list[Any]:
    return list(steps_of(env, np.random.default_rng(seed)))


@pytest.mark.parametrize("baseline", [None, "sbs"])
@pytest.mark.parametrize("warmup_s", [0.0, (2.0, 4.0)])
@pytest.mark.parametrize("id, action", FORMS)
def test_an_episode_is_truncated_exactly_at_the_horizon(
    id: str, action: str, warmup_s: Any, baseline: str | None
) -> None:
    """Behind the warm-up: the time to the first question and all steps make up the horizon."""
    env = make(id, action=action, warmup_s=warmup_s, reward={"baseline": baseline})
    for seed in (1, 2):
        env.reset(seed=seed)
        episode = env.core.episodes[0]
        assert episode is not None
        first_s = now_s(env) - episode.warmup_s
        steps = play_randomly(env)
        assert not any(terminated for _, _, terminated, _, _ in steps)
        assert [truncated for *_, truncated, _ in steps[:-1]] == [False] * (len(steps) - 1)
        assert now_s(env) == episode.warmup_s + 6.0
        elapsed = [info["elapsed_s"] for *_, info in steps]
        assert min(elapsed) >= 0.0
        assert math.isclose(first_s + sum(elapsed), 6.0, rel_tol=1e-12)


def test_the_discount_of_a_step_is_that_of_its_time() -> None:
    env = make(WINDOW, reward={"tau_s": 5.0})
    env.reset(seed=1)
    for *_, info in play_randomly(env):
        assert info["discount"] == pytest.approx(math.exp(-info["elapsed_s"] / 5.0), rel=1e-15)


# Traces.


def trace_of(path: Path, count: int, gap_s: float) -> dict[str, Any]:
    """Write a trace of `count` equal requests, one every `gap_s`, and return its workload."""
    rows = [f"{k * gap_s},1000,4" for k in range(count)]
    path.write_text("\n".join(["at,prompt,answer", *rows]) + "\n")
    columns = {"arrived_at": "at", "input_tokens": "prompt", "output_tokens": "answer"}
    return {"preset": "trace", "path": str(path), "format": "generic", "columns": columns}


@pytest.mark.parametrize("id", IDS)
def test_a_trace_that_has_drained_is_terminated(id: str, tmp_path: Path) -> None:
    """Forty requests in 2 s, all served long before 60 s."""
    workload = trace_of(tmp_path / "trace.csv", 40, 0.05)
    env = make(id, workload=workload, load=None, warmup_s=0.0, horizon_s=60.0)
    env.reset(seed=1)
    *before, (_, _, terminated, truncated, _) = play_randomly(env)
    assert (terminated, truncated) == (True, False)
    assert not any(step[2] or step[3] for step in before)
    assert now_s(env) < 20.0
    assert env.core.world(0).clock.num_done == 40


@pytest.mark.parametrize("id", IDS)
def test_with_a_shadow_it_is_terminated_when_both_have_drained(id: str, tmp_path: Path) -> None:
    workload = trace_of(tmp_path / "trace.csv", 40, 0.05)
    env = make(
        id,
        workload=workload,
        load=None,
        warmup_s=0.0,
        horizon_s=60.0,
        reward={"baseline": "sbs", "tau_s": None},
    )
    env.reset(seed=1)
    *_, (_, _, terminated, truncated, _) = play_randomly(env)
    assert (terminated, truncated) == (True, False)
    own, shadow = env.core.world(0), env.core.worlds.arena.worlds[1]
    assert own.clock.num_done == shadow.clock.num_done == 40
    alone = make(id, workload=workload, load=None, warmup_s=0.0, horizon_s=60.0)
    alone.reset(seed=1)
    play_randomly(alone)
    assert now_s(env) >= now_s(alone)


def test_a_shadow_that_is_late_keeps_the_episode_open(tmp_path: Path) -> None:
    """A last request that a slow baseline holds back for seconds; the agent sends it at once."""
    workload = trace_of(tmp_path / "trace.csv", 3, 0.01)
    slow = "sbs:multiplier=100:full_batch_bypass=false:max_interval_s=9:min_interval_s=9"
    given: dict[str, Any] = {"workload": workload, "load": None, "warmup_s": 0.0}
    alone = make(WINDOW, **given, horizon_s=60.0)
    alone.reset(seed=1)
    play_randomly(alone)
    env = make(WINDOW, **given, horizon_s=60.0, reward={"baseline": slow})
    env.reset(seed=1)
    *_, (_, _, terminated, _, _) = play_randomly(env)
    assert terminated
    assert now_s(env) > 9.0 > now_s(alone)


def test_a_shadow_that_never_drains_lets_the_episode_be_truncated(tmp_path: Path) -> None:
    workload = trace_of(tmp_path / "trace.csv", 3, 0.01)
    slow = "sbs:multiplier=100:full_batch_bypass=false:max_interval_s=90:min_interval_s=90"
    env = make(
        WINDOW,
        workload=workload,
        load=None,
        warmup_s=0.0,
        horizon_s=20.0,
        reward={"baseline": slow},
    )
    env.reset(seed=1)
    *_, (_, _, terminated, truncated, _) = play_randomly(env)
    assert (terminated, truncated) == (False, True)
    assert now_s(env) == 20.0


def test_a_trace_that_goes_on_behind_the_horizon_is_truncated(tmp_path: Path) -> None:
    workload = trace_of(tmp_path / "trace.csv", 400, 0.05)
    env = make(WINDOW, workload=workload, load=None, warmup_s=0.0)
    env.reset(seed=1, options={"offset_s": 3.0})
    *_, (_, _, terminated, truncated, _) = play_randomly(env)
    assert (terminated, truncated) == (False, True)
    assert now_s(env) == 6.0


def test_an_offset_says_where_in_the_trace_an_episode_begins(tmp_path: Path) -> None:
    workload = trace_of(tmp_path / "trace.csv", 400, 0.05)
    env = make(WINDOW, workload=workload, load=None, warmup_s=0.0)
    env.reset(seed=1, options={"offset_s": 10.02})
    episode = env.core.episodes[0]
    assert episode is not None
    assert episode.offset_s == 10.02
    assert episode.table.arrived_at_s[0] == pytest.approx(0.03)
    assert len(episode.table) == 120
    offsets = set()
    for _ in range(4):
        env.reset()
        episode = env.core.episodes[0]
        assert episode is not None
        assert 0.0 <= episode.offset_s <= 20.0 - 6.0
        offsets.add(episode.offset_s)
    assert len(offsets) == 4


@pytest.mark.parametrize(
    "scaling, loads", [("compress", (0.3, 0.6)), ("thin", (0.2, 0.4)), ("overlay", (0.6, 1.2))]
)
def test_a_load_sets_the_pace_of_a_trace(
    scaling: str, loads: tuple[float, float], tmp_path: Path
) -> None:
    """Its own 20 requests/s are a load of 0.43; thin only slows it down, overlay speeds it up."""
    workload = trace_of(tmp_path / "trace.csv", 4000, 0.05) | {"scaling": scaling}
    env = make(WINDOW, workload=workload, load=loads, warmup_s=0.0)
    counts = []
    for load in loads:
        env.reset(seed=1, options={"load": load, "offset_s": 0.0})
        episode = env.core.episodes[0]
        assert episode is not None
        counts.append(len(episode.table))
        assert counts[-1] == pytest.approx(6.0 * episode.rate_per_s, rel=0.35)
    assert counts[1] > 1.5 * counts[0]


# Options of reset.


@pytest.mark.parametrize("id", IDS)
def test_a_load_may_be_given_for_one_episode(id: str) -> None:
    env = make(id, load=(0.4, 0.6), warmup_s=0.0)
    env.reset(seed=1, options={"load": 1.2})
    episode = env.core.episodes[0]
    assert episode is not None
    assert episode.load == 1.2
    env.reset()
    episode = env.core.episodes[0]
    assert episode is not None
    assert 0.4 <= episode.load <= 0.6


@pytest.mark.parametrize(
    "options, message",
    [
        ({"loadd": 0.5}, r"'loadd' is not known. Did you mean 'load'\? Known: load, offset_s"),
        ({"load": 0.0}, r"options\['load'\]=0.0 is out of range; expected a number in \(0, 10\]"),
        ({"load": 11}, r"options\['load'\]=11 is out of range; expected a number in \(0, 10\]"),
        ({"load": "high"}, r"options\['load'\]='high' is not allowed; expected a number"),
        ({"offset_s": -1.0}, r"options\['offset_s'\]=-1.0 is out of range; expected .* in \[0"),
    ],
)
def test_options_that_are_unknown_or_out_of_range_are_refused(
    options: dict[str, Any], message: str
) -> None:
    env = make(WINDOW)
    with pytest.raises(ConfigError, match=message):
        env.reset(seed=1, options=options)
    many = gym.make_vec(WINDOW, 2, **options_for(WINDOW))
    with pytest.raises(ConfigError, match=message):
        many.reset(seed=1, options=options)


def test_an_offset_behind_the_end_of_the_trace_is_refused(tmp_path: Path) -> None:
    workload = trace_of(tmp_path / "trace.csv", 40, 0.05)
    env = make(WINDOW, workload=workload, load=None)
    with pytest.raises(ConfigError, match=r"expected a number in \[0, 1.95\] s of trace"):
        env.reset(seed=1, options={"offset_s": 5.0})


def test_a_load_for_one_episode_counts_where_a_rate_is_given() -> None:
    env = make(WINDOW, load=None, rate_per_s=5.0, warmup_s=0.0)
    env.reset(seed=1)
    rates = []
    for options in (None, {"load": 1.2}, None):
        env.reset(seed=1, options=options)
        episode = env.core.episodes[0]
        assert episode is not None
        rates.append(episode.rate_per_s)
    assert rates[0] == rates[2] == 5.0
    assert rates[1] > 20.0


def test_an_offset_is_refused_where_no_trace_is_read() -> None:
    env = make(WINDOW)
    with pytest.raises(ConfigError, match="offset_s"):
        env.reset(seed=1, options={"offset_s": 1.0})


# What is drawn.


def drawn(env: SchedulingEnv, count: int, seed: int = 1) -> list[tuple[Any, ...]]:
    """Return what differs between the first episodes of a seed."""
    found = []
    for number in range(count):
        env.reset(seed=seed if number == 0 else None)
        episode = env.core.episodes[0]
        assert episode is not None
        found.append(
            (episode.load, episode.warmup_s, episode.workload, episode.timing, episode.seed)
        )
    return found


def test_everything_given_as_a_range_or_list_is_drawn_anew_for_every_episode() -> None:
    env = make(
        WINDOW,
        load=(0.4, 0.9),
        warmup_s=(1.0, 3.0),
        workload=["sbs_short", "azure_conv_like"],
        timing=["linear", "roofline"],
        arrivals=["poisson", "gamma_renewal"],
        horizon_s=2.0,
    )
    first = drawn(env, 16)
    assert first == drawn(env, 16)
    assert first != drawn(env, 16, seed=2)
    loads, warmups, workloads, timings, seeds = zip(*first, strict=True)
    assert len(set(loads)) == len(set(warmups)) == len(set(seeds)) == 16
    assert 0.4 <= min(loads) < 0.5 < 0.8 < max(loads) <= 0.9
    assert 1.0 <= min(warmups) < 1.5 < 2.5 < max(warmups) <= 3.0
    assert set(workloads) == {"sbs_short", "azure_conv_like"}
    assert set(timings) == {0, 1}


def dispersion(env: SchedulingEnv) -> float:
    """Return variance / mean of arrivals per 0.1 s of the running episode."""
    episode = env.core.episodes[0]
    assert episode is not None
    counts = np.histogram(episode.table.arrived_at_s, bins=60, range=(0.0, 6.0))[0]
    return float(counts.var() / counts.mean())


def test_burstiness_is_the_cv_of_the_gaps() -> None:
    even, bursty = (
        make(WINDOW, arrivals="gamma_renewal", burstiness=cv, warmup_s=0.0) for cv in (0.1, 8.0)
    )
    even.reset(seed=1)
    bursty.reset(seed=1)
    assert dispersion(even) < 0.5 < 5.0 < dispersion(bursty)


def test_burstiness_is_drawn_within_its_range_and_reproducibly() -> None:
    env = make(WINDOW, arrivals="gamma_renewal", burstiness=(0.1, 8.0), warmup_s=0.0)
    told = []
    for number in range(12):
        env.reset(seed=1 if number % 6 == 0 else None)
        told.append(dispersion(env))
    assert told[:6] == told[6:]
    assert max(told) > 3.0 * min(told)


def test_each_drawn_timing_is_the_one_that_is_simulated() -> None:
    """The predicted pass that is observed is that of the episode's timing."""
    env = make(WINDOW, timing=["linear", "constant"], warmup_s=0.0, horizon_s=2.0)
    column = [feature.name for feature in GLOBAL].index("pass_chunk_s")
    found = {}
    for number in range(8):
        observation, _ = env.reset(seed=1 if number == 0 else None)
        episode = env.core.episodes[0]
        assert episode is not None
        found.setdefault(episode.timing, set()).add(float(observation[column]))
    assert found[1] == {0.5}
    assert len(found[0]) == 1
    assert found[0] != found[1]


def test_an_episode_without_a_question_is_drawn_again() -> None:
    """At one request in ten seconds most episodes of a second are empty."""
    env = make(WINDOW, load=None, rate_per_s=0.1, horizon_s=1.0, warmup_s=0.0)
    for number in range(10):
        env.reset(seed=5 if number == 0 else None)
        episode = env.core.episodes[0]
        assert episode is not None
        assert len(episode.table) > 0
        assert env.core.world(0).agent.asked == Question.RELEASE
        assert len(play_randomly(env)) > 0


def test_that_no_episode_has_a_question_is_an_error() -> None:
    env = make(WINDOW, load=None, rate_per_s=1e-9, horizon_s=1.0, warmup_s=0.0)
    with pytest.raises(ConfigError, match=r"no decision in 100 episodes of horizon_s=1\.0"):
        env.reset(seed=1)


@pytest.mark.parametrize("id", IDS)
def test_successive_episodes_differ(id: str) -> None:
    env = make(id, warmup_s=0.0)
    env.reset(seed=1)
    tables = []
    for _ in range(3):
        episode = env.core.episodes[0]
        assert episode is not None
        tables.append(episode.table.arrived_at_s.tobytes())
        env.reset()
    assert len(set(tables)) == 3


def test_an_unseeded_environment_has_luck_of_its_own() -> None:
    one, other = make(WINDOW), make(WINDOW)
    assert as_bytes(one.reset()[0]) != as_bytes(other.reset()[0])
    many = [gym.make_vec(WINDOW, 2, **options_for(WINDOW)) for _ in range(2)]
    observations = [envs.reset()[0] for envs in many]
    assert len({row.tobytes() for batch in observations for row in batch}) == 4


def test_a_seed_per_environment_may_be_given() -> None:
    envs = gym.make_vec(WINDOW, 3, **options_for(WINDOW))
    observation, _ = envs.reset(seed=[7, 3, 7])
    assert observation[0].tobytes() == observation[2].tobytes()
    assert observation[1].tobytes() == as_bytes(make(WINDOW).reset(seed=3)[0])
    with pytest.raises(ConfigError, match="2 seeds; expected num_envs=3"):
        envs.reset(seed=[1, 2])


# Warm start, and when the agent is asked.


@pytest.mark.parametrize("id", [WINDOW, BUDGET, SERVING])
def test_if_requests_wait_after_the_warm_up_the_agent_is_asked_at_once(id: str) -> None:
    env = make(id, warmup_s=(2.0, 3.0), load=1.5)
    num_waiting = 0
    for number in range(10):
        env.reset(seed=1 if number == 0 else None)
        episode, world = env.core.episodes[0], env.core.world(0)
        assert episode is not None
        if world.clock.now_s == episode.warmup_s:
            num_waiting += 1
            assert world.buffer.num > 0
        else:
            assert world.clock.now_s > episode.warmup_s
    assert num_waiting >= 8


def test_a_window_that_runs_at_the_end_of_the_warm_up_may_be_cut_short() -> None:
    """The background holds for two intervals; multiplier 0 lets the buffer go at once."""
    given: dict[str, Any] = {
        "warmup_s": (2.0, 3.0),
        "load": 0.7,
        "scheduler": "sbs:multiplier=2:full_batch_bypass=false",
        "record": True,
    }
    released = {}
    for multiplier in (0, 8):
        env = make(WINDOW, **given)
        env.reset(seed=1)
        asked_at_s, waiting = now_s(env), int(env.core.world(0).buffer.num)
        assert waiting > 0
        env.step(multiplier)
        at = env.records().requests["dispatched_at_s"]
        released[multiplier] = float(np.min(at[at >= asked_at_s]))
        assert released[multiplier] >= asked_at_s
    assert released[0] < released[8]


def test_the_warm_up_is_played_by_the_background() -> None:
    """Its passes are those of a plain run; see test_parity_law for the whole."""
    given: dict[str, Any] = {"warmup_s": (3.0, 3.0), "record": True, "load": 0.5}
    bypass = "full_batch_bypass=false:max_interval_s=2"
    fast = make(WINDOW, scheduler="sbs:multiplier=0", **given)
    slow = make(WINDOW, scheduler=f"sbs:multiplier=9:{bypass}", **given)
    fast.reset(seed=1)
    slow.reset(seed=1)
    assert fast.records().num_releases > 2 * slow.records().num_releases


@pytest.mark.parametrize("id", [WINDOW, BUDGET, SERVING])
def test_reasking_asks_more_often(id: str) -> None:
    counts = []
    for reask in ("release", "signal", "arrival"):
        env = make(id, reask=reask, warmup_s=0.0, load=0.9)
        env.reset(seed=1)
        count = 0
        over = False
        while not over:
            asked = env.core.world(0).agent.asked
            count += asked == Question.RELEASE
            # Always the longest window, else a rank: the episodes differ only in the questions.
            windows = env.core.layout.num_windows
            action = windows - 1 if asked == Question.RELEASE else env.core.legal[0].argmax()
            _, _, _, over, _ = env.step(
                np.array(divmod(int(action), 6)) if id == BUDGET else int(action)
            )
        counts.append(count)
    release, signal, arrival = counts
    assert release < signal
    assert release < arrival


@pytest.mark.parametrize("reask", ["signal", "arrival"])
def test_a_revised_window_counts_from_the_last_release(reask: str) -> None:
    """The longest window is chosen; when asked again, multiplier 0 ends it at that instant."""
    env = make(
        WINDOW,
        reask=reask,
        warmup_s=0.0,
        load=0.5,
        scheduler="sbs:full_batch_bypass=false",
        record=True,
    )
    env.reset(seed=1)
    num_revised, over, last_release = 0, False, -math.inf
    while not over:
        world = env.core.world(0)
        at_s, running = now_s(env), float(world.clock.last_release_at_s)
        is_new = running != last_release
        last_release = running
        if is_new:
            _, _, _, over, _ = env.step(8)
            continue
        ready = any(not view["running"] and not view["pending"] for view in world.views)
        _, _, _, over, _ = env.step(0)
        if ready:
            dispatched = env.records().requests["dispatched_at_s"]
            assert at_s in dispatched
            num_revised += 1
    assert num_revised > 3


# Observations.


@pytest.mark.parametrize("id", IDS)
def test_flat_and_grouped_observations_hold_the_same_numbers(id: str) -> None:
    flat, grouped = make(id), make(id, observation="dict")
    seen, _ = flat.reset(seed=1)
    parts, _ = grouped.reset(seed=1)
    sees = TASKS[task_of(id)].sees
    shapes = [
        (rows, len(columns))
        for group, (rows, columns) in sizes(flat.config.cluster).items()
        if group & sees
    ]
    for a, b in zip(
        [(seen,), *steps_of(flat, np.random.default_rng(0))],
        [(parts,), *steps_of(grouped, np.random.default_rng(0))],
        strict=True,
    ):
        assert a[0].tobytes() == b"".join(part.tobytes() for part in b[0].values())
        assert a[1:4] == b[1:4]
        for part, shape in zip(b[0].values(), shapes, strict=True):
            assert part.size == shape[0] * shape[1]
            assert part.shape in (shape, (shape[1],))


@pytest.mark.parametrize("id", IDS)
def test_history_holds_the_last_observations_the_newest_last(id: str) -> None:
    one, three = make(id), make(id, history=3)
    seen = [one.reset(seed=1)[0]]
    stacked, _ = three.reset(seed=1)
    assert stacked.tobytes() == np.concatenate([seen[0]] * 3).tobytes()  # nothing before
    for a, b in zip(
        steps_of(one, np.random.default_rng(0)),
        steps_of(three, np.random.default_rng(0)),
        strict=True,
    ):
        seen.append(a[0])
        expected = ([seen[0]] * 3 + seen[1:])[-3:]
        assert b[0].tobytes() == np.concatenate(expected).tobytes()
    assert three.reset()[0].tobytes() == np.concatenate([one.reset()[0]] * 3).tobytes()


def test_history_of_groups_keeps_rows_apart() -> None:
    """A row of `instances` has its numbers of three times one after the other."""
    one, three = make(WINDOW, observation="dict"), make(WINDOW, observation="dict", history=3)
    seen = [one.reset(seed=1)[0]["instances"]]
    three.reset(seed=1)
    stacked = None
    for a, b in zip(
        steps_of(one, np.random.default_rng(0)),
        steps_of(three, np.random.default_rng(0)),
        strict=True,
    ):
        seen.append(a[0]["instances"])
        stacked = b[0]["instances"]
    assert stacked is not None
    assert stacked.tobytes() == np.concatenate(seen[-3:], axis=1).tobytes()


@pytest.mark.parametrize("id", IDS)
def test_the_question_is_observed(id: str) -> None:
    env = make(id, load=1.0)
    env.reset(seed=1)
    kinds = [Question.RELEASE, Question.PREFILL, Question.DECODE]
    seen, asked = env.reset(seed=1)[0], set()
    for step in steps_of(env, np.random.default_rng(0)):
        seen = step[0]
        kind = int(env.core.world(0).agent.asked)
        asked.add(kind)
        assert seen[:3].tolist() == [float(kind == one) for one in kinds]
    wanted = {int(one) for one in kinds if one & TASKS[task_of(id)].answers}
    assert asked == wanted | {0}


# What only a critic may see.


def test_without_a_baseline_nothing_is_privileged() -> None:
    _, info = make(WINDOW).reset(seed=1)
    assert "privileged" not in info


@pytest.mark.parametrize("id", [WINDOW, PREFILL, SERVING])
def test_the_shadow_is_told_to_the_critic(id: str) -> None:
    """Requests without first token, tokens sent and not done, busy instances, of the shadow."""
    env = make(id, reward={"baseline": "sbs"}, load=1.2)
    _, info = env.reset(seed=1)
    told = []
    for *_, info in steps_of(env, np.random.default_rng(0)):
        shadow = env.core.worlds.arena.worlds[1]
        expected = [
            shadow.tally.num_waiting,
            shadow.views["outstanding_tokens"].sum(),
            shadow.instances["busy"].sum(),
        ]
        assert info["privileged"].tolist() == expected
        assert info["privileged"].dtype == np.float32
        told.append(tuple(expected))
    assert len(set(told)) > 10


def test_a_shadow_changes_no_observation() -> None:
    with_shadow, without = make(SERVING, reward={"baseline": "sbs"}), make(SERVING)
    assert as_bytes(with_shadow.reset(seed=1)[0]) == as_bytes(without.reset(seed=1)[0])
    for a, b in zip(
        steps_of(with_shadow, np.random.default_rng(0)),
        steps_of(without, np.random.default_rng(0)),
        strict=True,
    ):
        assert as_bytes(a[0]) == as_bytes(b[0])
        assert a[4]["action_mask"].tolist() == b[4]["action_mask"].tolist()


@pytest.mark.parametrize("id", IDS)
def test_a_rule_against_itself_as_baseline_is_paid_nothing(id: str) -> None:
    from sbs_gym.envs.play import play

    env = make(id, reward={"baseline": "sbs"}, warmup_s=(1.0, 3.0), load=1.0)
    played = play(env, "sbs", seed=2)
    assert np.abs(played.rewards).max() < 1e-9


@pytest.mark.parametrize("id", IDS)
def test_a_picture_and_a_text_show_the_instant(id: str) -> None:
    text = make(id, render_mode="ansi")
    text.reset(seed=1)
    assert task_of(id) in text.render()
    picture = make(id, render_mode="rgb_array")
    picture.reset(seed=1)
    assert picture.render().shape[2] == 3


def test_what_cannot_be_rendered_is_refused() -> None:
    env = make(DECODE)
    env.reset(seed=1)
    with pytest.raises(ConfigError, match="render_mode=None renders nothing; expected ansi or rgb"):
        env.render()
    with pytest.raises(ConfigError, match=r"'human' is not known; expected one of: ansi, rgb_arr"):
        WindowEnv(render_mode="human", **options_for(WINDOW))


@pytest.mark.parametrize("seed_of_e", [(3, 3), (3, 4)])
def test_episodes_drawn_together_are_those_drawn_alone(seed_of_e: tuple[int, int]) -> None:
    """Reset after reset, also where a seed or an option comes in between."""
    together, alone = (make_batch(count) for count in (2, 1))
    for e, seed in enumerate(seed_of_e):
        together.seed(e, seed)
    steps: list[tuple[int, dict[str, Any]]] = [(0, {}), (1, {})] * 6
    steps[6:6] = [(0, {"load": 0.9}), (0, {})]
    for e, options in steps:
        number = int(together.numbers[e])
        together.reset(e, options)
        alone.seed(0, seed_of_e[e])
        alone.numbers[0] = number
        alone.reset(0, options)
        assert_same_episode(together.episodes[e], alone.episodes[0])
    together.seed(0, 99)
    alone.seed(0, 99)
    together.reset(0)
    alone.reset(0)
    assert_same_episode(together.episodes[0], alone.episodes[0])


def make_batch(count: int) -> EnvBatch:
    return EnvBatch(
        TASKS[task_of(WINDOW)], env_config(**options_for(WINDOW, load=(0.4, 0.9))), count
    )


def assert_same_episode(found: Episode | None, expected: Episode | None) -> None:
    assert found is not None
    assert expected is not None
    assert (found.seed, found.load) == (expected.seed, expected.load)
    assert found.table.digest() == expected.table.digest()
