"""Answers tried out: what would come of each of them, under the same future."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sbs_gym.batch.playing_on import play_on
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.envs.config import scheduler_named
from sbs_gym.envs.core import EnvBatch
from sbs_gym.errors import ConfigError, require_number
from sbs_gym.schedulers.learned.network import Network, lay_out
from sbs_gym.schedulers.learned.weights import layout_on, read_weights
from sbs_gym.sim.codes import Life, Status

_OVER = (int(Life.FINISHED), int(Life.REJECTED))


class Lookahead:
    """Plays environments on from where they stand, as often as asked, and puts them back.

    All answers meet the same arrivals, lengths and luck of passes (common random numbers): what
    they differ by owes nothing to chance until they change what happens. The future is the
    episode's own, so that what is learned from it must be averaged over episodes: a single
    comparison knows what no scheduler can.

    Args:
        core: A batch whose actions are indices, so any but action=box: `env.unwrapped.core` of
            every shell. It stands where it stood after every call; only arrays that were full have
            grown.
        player: Who answers what is asked later: learned:NAME or learned:FILE, or such a scheduler.

    Raises:
        ConfigError: If the player is no network of the same task, or one that sees more than one
            moment or answers with a box.
    """

    def __init__(self, core: EnvBatch, player: str | SchedulerConfig) -> None:
        scheduler = scheduler_named(player) if isinstance(player, str) else player
        self._core, self._net = core, _network(core, scheduler)

    def reaches(self, e: int, horizon_s: float) -> bool:
        """Return whether the episode of environment `e` goes on that long."""
        world = self._core.world(e)
        return bool(world.clock["now_s"] + horizon_s <= world.agent["until_s"])

    def returns(
        self, e: int, actions: Sequence[int], *, horizon_s: float, held: int = 1
    ) -> NDArray[np.float64]:
        """Return what environment `e` would be paid after each of several answers.

        Args:
            e: Environment.
            actions: Legal indices; of a MultiDiscrete space the second choice counts on in it.
            horizon_s: How far to look, seconds from now.
            held: How many questions of this kind the action answers, itself included, before the
                player does. What one release changes is little, and drowns in what follows.

        Returns:
            float64, shape (len(actions),): rewards until then, discounted from now by the
            environment's `reward.tau_s`; without a shadow's.

        Raises:
            ConfigError: If the episode ends before the horizon, or an action is illegal now.
        """
        require_number("horizon_s", horizon_s, 0, 1e9, low_open=True)
        require_number("held", held, 1, 1_000_000, integer=True)
        if not self.reaches(e, horizon_s):
            raise ConfigError(
                f"horizon_s={horizon_s!r}: the episode of environment {e} ends before; see reaches"
            )
        for action in actions:
            if not 0 <= action < self._core.legal.shape[1] or not self._core.legal[e, action]:
                raise ConfigError(f"action={action} is illegal in environment {e} now")
        until_s = float(self._core.world(e).clock["now_s"]) + horizon_s
        return np.array([self._return(e, int(action), held, until_s) for action in actions])

    def _return(self, e: int, action: int, held: int, until_s: float) -> float:
        core = self._core
        while True:
            kept = core.worlds.arena.kept(e, *self._touched(e, until_s))
            status = Status(
                play_on(core.blocks, e, core.worlds.rules, self._net, action, held, until_s)
            )
            reward = float(core.world(e).tally["reward"])
            core.worlds.arena.put_back(e, kept)
            if status is Status.DONE:
                return reward
            core.worlds.grow(status)

    def _touched(self, e: int, until_s: float) -> tuple[int, int]:
        """Return the first request that is not over, and the first that arrives after `until_s`."""
        world = self._core.world(e)
        requests, count = world.requests, int(world.setup["num_requests"])
        arrived = int(world.clock["next_arrival"])
        alive = np.flatnonzero(~np.isin(requests["life"][:arrived], _OVER))
        end = int(np.searchsorted(requests["arrived_at_s"][:count], until_s, side="right"))
        return int(alive[0]) if len(alive) else arrived, end


def _network(core: EnvBatch, scheduler: SchedulerConfig) -> Network:
    if scheduler.learned is None:
        raise ConfigError(f"player={scheduler.name!r} is no network; expected learned:NAME or FILE")
    weights, cluster = read_weights(scheduler.learned), core.config.cluster
    task, role = core.task, weights.role
    mine = task.role(core.layout.form, core.config)
    for name in ("sees", "num_budgets", "num_orders", "num_reserved", "budget_of"):
        if getattr(role, name) != getattr(mine, name):
            raise ConfigError(
                f"player {role.told} has {name}={getattr(role, name)!r}; {task.id} here has "
                f"{getattr(mine, name)!r}"
            )
    if weights.history != 1 or "box" in (role.form, core.layout.form):
        raise ConfigError(
            f"player {role.told} has history={weights.history} and action={role.form!r}, the "
            f"environment action={core.layout.form!r}; expected 1, and no box"
        )
    return lay_out(weights, layout_on(weights, scheduler, cluster), cluster)
