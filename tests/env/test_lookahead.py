"""Trying an answer out pays what taking it pays, and leaves everything as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.loading import LoadedAgent, load
from agents.observations import random_actions
from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.envs.lookahead import Lookahead
from sbs_gym.errors import ConfigError
from tests.env.setups import BUDGET, DECODE, PREFILL, SERVING, TINY_ROOM, WINDOW, options_for
from tests.env.storing import sb3, told
from tests.learned.networks import Writer

# Of the action space of each task: what an agent is asked, and on which cluster.
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "window": (WINDOW, "discrete", {}),
    "budget": (BUDGET, "flat", {}),
    "prefill ranks": (PREFILL, "discrete", {"cluster": TINY_ROOM}),
    "decode ranks": (DECODE, "discrete", {}),
    "everything": (SERVING, "discrete", {"cluster": TINY_ROOM}),
    "windows alone": (SERVING, "discrete", {"asks": ("release",)}),
}
TAU_S = 3.0
STEPS = 12


def batch(case: str, **changes: Any) -> Any:
    id, action, more = CASES[case]
    reward = {"tau_s": TAU_S}
    env = sb3(id, action=action, observation="dict", reward=reward, **more, **changes)
    env.seed(11)
    env.reset()
    return env


def player(case: str, env: Any, folder: Path) -> LoadedAgent:
    """Return a random network that plays the case."""
    id, action, more = CASES[case]
    cluster = ClusterConfig(**options_for(id, **more)["cluster"])
    writer = Writer(id, action, cluster, kind="set", seed=3)
    return load(str(writer.write(folder / "player.npz")))


def go_on(env: Any, count: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        env.step(random_actions(env, rng))


def taken(env: Any, agent: LoadedAgent, state: Any, actions: Any, held: int) -> tuple[Any, Any]:
    """Take the actions from `state` on, then what the player says; return rewards and seconds.

    float64, shape (STEPS, envs), each summed from the first step on.
    """
    seen, paid, spent, weight = env.restore(state), [], [], np.ones(env.num_envs)
    kinds = env.core.worlds.arena.column("agent")["asked"].copy()
    left = np.full(env.num_envs, held)
    for _ in range(STEPS):
        masks = env.action_masks()
        again = (left > 0) & (env.core.worlds.arena.column("agent")["asked"] == kinds)
        again &= masks[np.arange(env.num_envs), actions]
        chosen, _ = agent.predict(seen, action_masks=masks)
        seen, _, dones, _ = env.step(np.where(again, actions, chosen))
        left -= again
        assert not dones.any()
        paid.append(weight * env.core.outcomes["reward"])
        weight = weight * env.discounts
        spent.append(env.elapsed_s)
    return np.cumsum(paid, axis=0), np.cumsum(spent, axis=0)


@pytest.mark.parametrize("held", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_what_is_tried_out_pays_what_taking_it_pays(case: str, held: int, tmp_path: Path) -> None:
    env = batch(case)
    go_on(env, 9)
    state = env.state()
    agent = player(case, env, tmp_path)
    look = Lookahead(env.core, agent.scheduler)
    rng = np.random.default_rng(1)
    tested = 0
    for _ in range(4):
        actions = random_actions(env, rng)
        paid, spent = taken(env, agent, state, actions, held)
        env.restore(state)
        for e in range(env.num_envs):
            horizon_s = spent[-1, e]
            if horizon_s == 0.0:
                continue  # a round of ranks: no time has passed
            first = np.flatnonzero(spent[:, e] == horizon_s)[0]  # all costs until then are paid
            found = look.returns(e, [actions[e]], horizon_s=horizon_s, held=held)
            np.testing.assert_allclose(found[0], paid[first, e], rtol=1e-9, atol=1e-9)
            tested += abs(found[0]) > 0.0
    assert tested > 0


@pytest.mark.parametrize("case", CASES)
def test_environments_stand_where_they_stood(case: str, tmp_path: Path) -> None:
    env, twin = batch(case), batch(case)
    look = Lookahead(env.core, player(case, env, tmp_path).scheduler)
    for turn in range(5):
        for each in (env, twin):
            go_on(each, 7, seed=turn)
        for e in range(env.num_envs):
            if look.reaches(e, 2.0):
                actions = np.flatnonzero(env.core.legal[e])[:3].tolist()
                first = look.returns(e, actions, horizon_s=2.0)
                np.testing.assert_array_equal(
                    look.returns(e, actions[::-1], horizon_s=2.0)[::-1], first
                )
    for each in (env, twin):
        go_on(each, 60, seed=9)
    worlds = [each.core.worlds.arena.worlds for each in (env, twin)]
    # Arrays may have grown, so that what stands in them is compared, not how long they are.
    for name in ("requests", "decodes", "clock", "tally", "instances", "ranks", "agent", "sight"):
        for one, other in zip(*worlds, strict=True):
            mine, theirs = (np.atleast_1d(np.asarray(getattr(w, name))) for w in (one, other))
            count = min(len(mine), len(theirs))
            names = [n for n in mine.dtype.names if not n.endswith("_capacity")]
            assert told(mine[names][:count]) == told(theirs[names][:count]), name
    assert told(env.core.seen) == told(twin.core.seen)
    assert told(env.core.outcomes) == told(twin.core.outcomes)


def test_a_full_array_grows_and_the_answer_is_tried_again(tmp_path: Path) -> None:
    env = batch("windows alone", load=3.0)
    go_on(env, 3)
    look = Lookahead(env.core, player("windows alone", env, tmp_path).scheduler)
    before = [len(world.events) for world in env.core.worlds.arena.worlds]
    rewards = [look.returns(e, [0], horizon_s=4.0) for e in range(env.num_envs)]
    after = [len(world.events) for world in env.core.worlds.arena.worlds]
    assert after > before
    again = [look.returns(e, [0], horizon_s=4.0) for e in range(env.num_envs)]
    np.testing.assert_array_equal(rewards, again)


def test_what_cannot_be_tried_is_refused(tmp_path: Path) -> None:
    env = batch("everything")
    look = Lookahead(env.core, player("everything", env, tmp_path).scheduler)
    illegal = int(np.flatnonzero(~env.core.legal[0])[0])
    with pytest.raises(ConfigError, match=f"action={illegal} is illegal in environment 0"):
        look.returns(0, [illegal], horizon_s=1.0)
    with pytest.raises(ConfigError, match=r"horizon_s=1000.*the episode of environment 0 ends"):
        look.returns(0, [0], horizon_s=1000.0)
    with pytest.raises(ConfigError, match="held=0"):
        look.returns(0, [0], horizon_s=1.0, held=0)
    with pytest.raises(ConfigError, match="player='sbs' is no network"):
        Lookahead(env.core, "sbs")
    other = player("budget", batch("budget"), tmp_path)
    with pytest.raises(ConfigError, match="SBS/Serving here has"):
        Lookahead(env.core, other.scheduler)
