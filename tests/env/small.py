"""Small episodes whose requests a test chooses, and random walks through them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import sbs_gym  # noqa: F401  registers the environments
from sbs_gym.envs.episodes import Episode
from sbs_gym.types import RequestTable

IDS = (
    "SBS/Window-v0",
    "SBS/WindowBudget-v0",
    "SBS/PrefillAllocation-v0",
    "SBS/DecodeAllocation-v0",
    "SBS/Serving-v0",
)
PREFILL_IDS = IDS[:3]
LINKS = {"dispatch_delay_s": 0.001, "signal_delay_s": 0.002}
PREFILL = {"num_prefill": 2, "prefill_dp": 2, "chunk_tokens": 10, **LINKS}
# Room for 30 blocks on a decode rank: so little that prompts wait, ranks refuse and evict.
DECODING = PREFILL | {
    "num_decode": 2,
    "decode_dp": 2,
    "prefill_kv_tokens": 60,
    "decode_kv_tokens": 120,
    "kv_block_tokens": 4,
    "decode_reserve_tokens": 4,
    "max_requests_per_rank": 6,
}
# A full pass takes 0.15 s, so that the cluster does about 20 prompts a second.
LINEAR = {
    "kind": "linear",
    "fixed_s": 0.05,
    "per_token_s": 0.01,
    "decode_fixed_s": 0.02,
    "decode_per_request_s": 0.004,
    "decode_per_kv_token_s": 1e-4,
    "jitter_cv": 0.2,
}


def cluster_for(id: str) -> dict[str, Any]:
    """Return the smallest cluster that has all that a task is about."""
    return DECODING if id.split("/")[1].startswith(("Decode", "Serving")) else PREFILL


def table_of(arrived_at_s: Any, inputs: Any, outputs: Any) -> RequestTable:
    """Return requests in order of arrival."""
    order = np.argsort(np.asarray(arrived_at_s), kind="stable")
    return RequestTable(
        arrived_at_s=np.asarray(arrived_at_s, dtype=np.float64)[order],
        input_tokens=np.asarray(inputs, dtype=np.int32)[order],
        output_tokens=np.asarray(outputs, dtype=np.int32)[order],
        name="small",
    )


def random_table(seed: int, count: int, length_s: float, longest: int = 24) -> RequestTable:
    """Return random requests, a third of which arrive together with others."""
    rng = np.random.default_rng(seed)
    arrived = rng.uniform(0.0, length_s, count)
    together = rng.random(count) < 1 / 3
    arrived[together] = np.round(arrived[together], 1)
    return table_of(arrived, rng.integers(1, longest, count), rng.integers(1, 40, count))


def install(
    monkeypatch: pytest.MonkeyPatch,
    make_table: Callable[[int], RequestTable],
    *,
    warmup_s: float = 0.0,
    exhausts: bool = False,
    seed: int | None = None,
) -> None:
    """Let every episode have the table that `make_table` returns for its seed.

    `seed` replaces the seed of the engines' luck.
    """

    def draw(config: Any, drawn: int, *rest: Any) -> Episode:
        return Episode(
            seed=drawn if seed is None else seed,
            table=make_table(drawn),
            exhausts=exhausts,
            warmup_s=warmup_s,
            arrivals=0,
            timing=0,
            load=float("nan"),
            rate_per_s=float("nan"),
            offset_s=0.0,
            workload="small",
        )

    monkeypatch.setattr("sbs_gym.envs.core.draw_episode", draw)


def make(id: str, **options: Any) -> Any:
    """Return an environment on the small cluster, unwrapped, with records."""
    given = {"cluster": cluster_for(id), "timing": LINEAR, "record": True, "horizon_s": 4.0}
    given |= {"invalid_action": "error"} | options
    return gym.make(id, disable_env_checker=True, **given).unwrapped


@dataclass(slots=True)
class Walk:
    """What happened in an episode; a step goes from one instant to the next.

    Attributes:
        start_s: End of the warm-up.
        instants: Of the decisions, and of the end.
        rejected: Ids that each step rejected; those before the first decision are in the first.
        seen, masks: Before each action, and at the end.
    """

    start_s: float
    instants: list[float]
    rewards: list[float]
    infos: list[dict[str, Any]]
    rejected: list[set[int]]
    seen: list[bytes]
    masks: list[bytes]
    terminated: bool

    @property
    def end_s(self) -> float:
        """The end of the episode."""
        return self.instants[-1]


def random_action(env: Any, rng: np.random.Generator) -> Any:
    """Return a legal action."""
    if env.core.layout.form == "box":
        return env.actions.encode(0, rng.uniform(-1.0, 1.0))
    return env.actions.encode(int(rng.choice(np.flatnonzero(env.core.legal[0]))), 0.0)


def walk(
    env: Any, seed: int = 0, look: Callable[[Any], None] = lambda action: None, at: int = 0
) -> Walk:
    """Play an episode with random legal actions.

    Args:
        env: From `make`.
        seed: Of the actions.
        look: Called with None after the reset, and with the action after each step.
        at: Seed of the episode.
    """
    rng = np.random.default_rng(seed)
    env.reset(seed=at)
    core = env.core
    start_s = core.episodes[0].warmup_s
    gone = _rejected(core)
    before = {
        r for r in gone if core.world(0).requests["rejected_at_s"][r] > start_s or not start_s
    }
    found = Walk(start_s, [float(core.world(0).clock.now_s)], [], [], [], [], [], False)
    look(None)
    over = False
    while not over:
        _note_sight(found, core)
        action = random_action(env, rng)
        _, reward, terminated, truncated, info = env.step(action)
        look(action)
        over = terminated or truncated
        found.instants.append(float(core.world(0).clock.now_s))
        found.rewards.append(reward)
        found.infos.append(info)
        now_gone = _rejected(core)
        found.rejected.append((now_gone - gone) | before)
        gone, before, found.terminated = now_gone, set(), terminated
    _note_sight(found, core)
    return found


def _note_sight(found: Walk, core: Any) -> None:
    found.seen.append(core.seen[0].tobytes())
    found.masks.append(core.legal[0].tobytes())


def _rejected(core: Any) -> set[int]:
    count = len(core.episodes[0].table)
    rejected_at_s = core.world(0).requests["rejected_at_s"][:count]
    return set(np.flatnonzero(~np.isnan(rejected_at_s)).tolist())
