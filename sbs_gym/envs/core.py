"""A batch of environments: episodes are drawn, and stepped by compiled code."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.batch.stepping import OUTCOME, find_illegal, step_worlds
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.envs.config import EnvConfig
from sbs_gym.envs.episodes import Episode, draw_episode, episode_seed
from sbs_gym.envs.made_of import made_of, require_keys, require_same
from sbs_gym.envs.stored_episodes import EPISODE_ENTRIES, drawn_again, kept_episodes
from sbs_gym.envs.tasks import Task, action_layout
from sbs_gym.envs.worlds import WORLD_ENTRIES, Worlds
from sbs_gym.errors import ConfigError, require_number
from sbs_gym.sim.agent_state import TERMS
from sbs_gym.sim.codes import Status
from sbs_gym.sim.features import num_features
from sbs_gym.sim.records import RunRecords
from sbs_gym.sim.state import World

_MOST_ATTEMPTS = 100
_DRAWN_TOGETHER = 4  # episodes of one environment,
_FEW_REQUESTS = 4_096  # if they have no more than these
_KEPT = ("seen", "legal", "seeds", "numbers")  # in a stored state


class InvalidActionError(ConfigError):
    """An action is illegal, and the environment was told to refuse illegal ones."""


class EnvBatch:
    """`num_envs` environments of one task, with all their state in compiled form.

    Attributes:
        seen: float32, shape (num_envs, num_features): what each agent sees now.
        legal: bool, shape (num_envs, num_actions): which indices are legal now.
        outcomes: OUTCOME, shape (num_envs,): what the last step of each gave.
        rewards, elapsed_s, discounts: float64, terminated, truncated: bool, shape (num_envs,):
            columns of it, views.
        seeds, numbers: int64, shape (num_envs,): what the next episode of each is drawn from.
        episodes: The running episode of each.
        worlds: Their memory.
    """

    def __init__(
        self, task: Task, config: EnvConfig, num_envs: int, *, num_threads: int = 1
    ) -> None:
        require_number("num_envs", num_envs, 1, 1_000_000, integer=True)
        require_number("num_threads", num_threads, 1, 1024, integer=True)
        self.task, self.config, self.num_envs = task, config, num_envs
        self.layout = action_layout(task, config)
        self.num_features = num_features(task.sees, config.cluster)
        self.seen = np.zeros((num_envs, self.num_features), dtype=np.float32)
        with_mask = self.layout.form != "box"
        self.legal = np.ones((num_envs, self.layout.num_actions * with_mask), dtype=np.bool_)
        self.outcomes = np.zeros(num_envs, dtype=OUTCOME)
        self.rewards, self.discounts = self.outcomes["reward"], self.outcomes["discount"]
        self.elapsed_s = self.outcomes["elapsed_s"]
        self.terminated, self.truncated = (
            self.outcomes[name].view(np.bool_) for name in ("terminated", "truncated")
        )
        self.seeds = np.zeros(num_envs, dtype=np.int64)
        self.episodes: list[Episode | None] = [None] * num_envs
        self.numbers = np.zeros(num_envs, dtype=np.int64)
        self._ahead: list[dict[tuple[int, int, int], Episode]] = [{} for _ in range(num_envs)]
        self._capacities_per_s: dict[tuple[int, int], float] = {}
        self.worlds = Worlds(task, config, self.layout, num_envs)
        self._no_actions = np.zeros(num_envs, dtype=np.int64)
        self._no_values = np.zeros(num_envs)
        self._num_threads = min(num_threads, num_envs)
        self._pool = ThreadPoolExecutor(self._num_threads) if self._num_threads > 1 else None

    # Episodes

    def seed(self, e: int, seed: int) -> None:
        """Let the next episode of environment `e` be the first of `seed`, in [0, 2**63)."""
        if not 0 <= seed < 2**63:
            raise ConfigError(
                f"seed={seed!r} is out of range; expected a whole number in [0, 2**63)"
            )
        self.seeds[e], self.numbers[e] = seed, 0

    def reset(self, e: int, options: Mapping[str, Any] | None = None) -> None:
        """Begin the next episode of environment `e` and go on to its first question."""
        number = int(self.numbers[e])
        self.numbers[e] += 1
        self.outcomes["num_invalid"][e] = 0
        for attempt in range(_MOST_ATTEMPTS):
            episode = self._episode(e, number, attempt, options or {})
            if len(episode.table) == 0:
                continue
            self.episodes[e] = episode
            self.worlds.install(e, episode)
            self._run(e, e + 1, self._no_actions, self._no_values)
            if self.outcomes["status"][e] == Status.DECISION_DUE:
                return
        raise ConfigError(
            f"no decision in {_MOST_ATTEMPTS} episodes of horizon_s={self.config.horizon_s!r}: "
            f"expected a longer horizon or a higher load than {self.config.load!r}"
        )

    def _episode(self, e: int, number: int, attempt: int, options: Mapping[str, Any]) -> Episode:
        """Return an episode; with a short one those that follow it are drawn.

        Between steps, what drawing needs is not in the cache: several draws wait for it once.
        """
        seed, ahead = int(self.seeds[e]), self._ahead[e]
        if (seed, number, attempt) in ahead and not options:
            return ahead.pop((seed, number, attempt))
        episode = self._draw(seed, number, attempt, options)
        ahead.clear()
        if number > 0 and not options and len(episode.table) <= _FEW_REQUESTS:
            for later in range(number + 1, number + _DRAWN_TOGETHER):
                ahead[seed, later, 0] = self._draw(seed, later, 0, options)
        return episode

    def _draw(self, seed: int, number: int, attempt: int, options: Mapping[str, Any]) -> Episode:
        drawn = episode_seed(seed, number, attempt)
        return draw_episode(self.config, drawn, options, self._capacities_per_s)

    # Steps

    def step(self, actions: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Answer the question of every environment with an index, or with a value of a box.

        Raises:
            InvalidActionError: Under invalid_action=error; nothing has changed then.
        """
        if self.config.invalid_action == "error":
            self._refuse_illegal(actions)
        if self._pool is None:
            self._run(0, self.num_envs, actions, values)
        else:
            self._run_in_threads(self._pool, actions, values)

    def _run_in_threads(self, pool: ThreadPoolExecutor, actions: Any, values: Any) -> None:
        parts = np.linspace(0, self.num_envs, self._num_threads + 1).astype(int)
        futures = [
            pool.submit(self._call, int(a), int(b), actions, values)
            for a, b in itertools.pairwise(parts)
        ]
        if sum(future.result() for future in futures) > 0:
            self._finish(0, self.num_envs, actions, values)

    def _call(self, first: int, end: int, actions: Any, values: Any) -> int:
        """Step environments [first, end); return how many came back because an array is full."""
        worlds = self.worlds
        num_full: int = step_worlds(
            worlds.arena.blocks,
            worlds.arena.front_lines,
            worlds.rules,
            first,
            end,
            worlds.shadows,
            actions,
            values,
            self.outcomes,
            self.seen,
            self.legal,
        )
        return num_full

    def _run(self, first: int, end: int, actions: Any, values: Any) -> None:
        if self._call(first, end, actions, values) > 0:
            self._finish(first, end, actions, values)

    def _finish(self, first: int, end: int, actions: Any, values: Any) -> None:
        """Enlarge what was full and go on, until every environment has come to its question."""
        while True:
            status = self.outcomes["status"][first:end]
            at_rest = np.isin(status, (int(Status.DECISION_DUE), int(Status.DONE)))
            full = first + np.flatnonzero(~at_rest)
            if len(full) == 0:
                return
            for kind in {Status(int(self.outcomes["status"][e])) for e in full}:
                self.worlds.grow(kind)
            for e in full:
                self._call(int(e), int(e) + 1, actions, values)

    def _refuse_illegal(self, actions: NDArray[np.int64]) -> None:
        e = find_illegal(self.blocks, 0, self.num_envs, actions)
        if e >= 0:
            allowed = np.flatnonzero(self.legal[e])
            raise InvalidActionError(
                f"action={int(actions[e])} of environment {e} is illegal now; expected one of: "
                f"{', '.join(map(str, allowed))}"
            )

    # To go on later

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs to go on exactly from here, also in another process.

        Returns:
            Arrays of numbers, and plain words and numbers: `np.savez` keeps them without pickle.
            The requests of an episode are left out, they are drawn again.

        Raises:
            ConfigError: Before the first reset.
        """
        return {
            "made_of": made_of(self.task, self.config, self.num_envs),
            "outcomes": self.outcomes.view(np.uint8).copy(),
            **{name: getattr(self, name).copy() for name in _KEPT},
            **kept_episodes(self.episodes),
            **self.worlds.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken: every step gives the same bytes as it gave there.

        Args:
            state: From `state()` of a batch of the same task, configuration and size, or that
                which `np.load` makes of it; the number of threads may differ.

        Raises:
            ConfigError: If the state is of other environments or of another version, names what
                differs; nothing has changed then.
        """
        require_keys(state, ("made_of", "outcomes", *_KEPT, *EPISODE_ENTRIES, *WORLD_ENTRIES))
        require_same(str(state["made_of"]), made_of(self.task, self.config, self.num_envs))
        episodes = drawn_again(self.config, state, self._capacities_per_s)
        self.worlds.restore(state, episodes)
        self.episodes = episodes
        for name in _KEPT:
            getattr(self, name)[...] = state[name]
        self.outcomes.view(np.uint8)[...] = state["outcomes"]

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    # What is known of an environment

    def world(self, e: int) -> World:
        """Return the arrays of environment `e`: views, valid until the next call."""
        return self.worlds.arena.worlds[e]

    def records(self, e: int) -> RunRecords:
        """Return the records of the running episode; needs `record`."""
        return self.worlds.records(e)

    def privileged(self) -> NDArray[np.float32]:
        """Return what only a critic may see, see `Worlds.privileged`."""
        return self.worlds.privileged()

    def encode(self, scheduler: SchedulerConfig) -> Any:
        """Return the RULES record of another scheduler in these environments."""
        return self.worlds.encode(scheduler)

    @property
    def blocks(self) -> Any:
        """The worlds as compiled code takes them."""
        return self.worlds.arena.blocks

    def terms(self) -> dict[str, NDArray[np.float64]]:
        """Return the undiscounted reward terms of the last step, each of shape (num_envs,)."""
        return {name: self.outcomes[name].copy() for name in TERMS}
