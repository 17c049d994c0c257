"""Policy iteration by trying answers out, in the form of an algorithm of Stable-Baselines3.

At a state several answers are played on from, each under the same future and followed by the same
player; the policy learns what each brings above the mean of those that were tried, and becomes the
player now and then. Common random numbers make such a difference far less noisy than the returns
that PPO learns from, which chance dominates: one release among hundreds.
Rollout policy iteration: Lagoudakis and Parr, ICML 2003; Bertsekas, Rollout, Policy Iteration, and
Distributed Reinforcement Learning, 2020.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor
from torch.nn.functional import smooth_l1_loss

from agents.export import export
from agents.loading import LoadedAgent, load
from agents.lookahead.lessons import Lessons
from agents.observations import parts, random_actions
from sbs_gym.envs.lookahead import Lookahead

_TEMPERATURE = 0.2  # of the policy's guesses, where it says which answers are worth trying
_FAR = 4.0  # spreads: what a single comparison may say at most


class LookaheadIteration(MaskablePPO):
    """Learns from differences between answers that were tried out.

    `num_timesteps` counts the states at which answers were tried. Logits are guesses of what an
    answer brings above others, in units of `spread`.

    Args:
        tries: Answers per state, the player's own among them.
        horizon_s, held: See `Lookahead.returns`.
        gap: Mean decisions of an environment between two such states.
        random_frac: Share of the decisions in between that are made by chance.
        refresh_every: States after which the policy becomes the player.
        lessons: States that are learned from, the newest.
        gradient_steps: Of `batch_size` states, every time all environments have been tried.
        args, kwargs: Of MaskablePPO.

    Attributes:
        spread: Standard deviation of what answers differ by, of the first states.
    """

    masked = True

    def __init__(
        self,
        *args: Any,
        tries: int,
        horizon_s: float,
        held: int,
        gap: int,
        random_frac: float,
        refresh_every: int,
        lessons: int,
        gradient_steps: int,
        seed: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, n_steps=2, seed=seed, **kwargs)  # of its buffer nothing is used
        self.tries, self.horizon_s, self.held, self.gap = tries, horizon_s, held, gap
        self.random_frac, self.refresh_every = random_frac, refresh_every
        self.gradient_steps, self.spread = gradient_steps, 0.0
        self._rng = np.random.default_rng(seed)
        self._num_lessons = lessons
        self._lessons: Lessons | None = None
        self._player_weights: dict[str, torch.Tensor] | None = None
        self._player_since = 0

    def collect_rollouts(self, env: Any, callback: BaseCallback, *args: Any, **kwargs: Any) -> bool:
        """Try answers out in every environment; False if the callback stops it."""
        callback.on_rollout_start()
        if self._player_weights is None or self._is_stale():
            self._become_player()
        self._go_on(env, int(self._rng.integers(self.gap // 2, self.gap + self.gap // 2 + 1)))
        self._try_out(env)
        self.num_timesteps += env.num_envs
        callback.update_locals(locals())
        if not callback.on_step():
            return False
        callback.on_rollout_end()
        return True

    def _is_stale(self) -> bool:
        return self.num_timesteps >= self._player_since + self.refresh_every

    def _become_player(self) -> None:
        self._player_weights = copy.deepcopy(self.policy.state_dict())
        self._player_since = self.num_timesteps
        self._load_player()

    def _load_player(self) -> None:
        """Let the compiled loop play what the player's weights say."""
        now = copy.deepcopy(self.policy.state_dict())
        self.policy.load_state_dict(self._player_weights)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"player_{self.num_timesteps}.npz"
            export(self, self.env, path)
            self._player: LoadedAgent = load(str(path))
            self._lookahead = Lookahead(self.env.core, self._player.scheduler)
        self.policy.load_state_dict(now)

    def _go_on(self, env: Any, steps: int) -> None:
        """Make some decisions as the player does, and a few by chance."""
        for _ in range(steps):
            actions = self._guesses(env.action_masks()).argmax(axis=1)
            chance = self._rng.random(env.num_envs) < self.random_frac
            actions[chance] = random_actions(env, self._rng)[chance]
            found, _, dones, _ = env.step(actions)
            self._last_obs, self._last_episode_starts = found, dones

    def _guesses(self, masks: NDArray[np.bool_]) -> NDArray[np.float32]:
        seen = parts(self._last_obs)
        logits = self._player.logits(seen.get("flat", seen))
        return np.where(masks, logits, -np.inf)

    def _try_out(self, env: Any) -> None:
        """Learn what answers differ by, in every environment whose episode lasts long enough."""
        masks, look = env.action_masks(), self._lookahead
        rows = [e for e in range(env.num_envs) if look.reaches(e, self.horizon_s)]
        if not rows:
            return
        tried = candidates(self._guesses(masks)[rows], self.tries, self._rng)
        paid = np.array([self._paid(env, e, row) for e, row in zip(rows, tried, strict=True)])
        gains = paid - paid.mean(axis=1, keepdims=True)
        if self.spread == 0.0:
            self.spread = float(gains.std()) or 1.0
        seen = {name: part[rows] for name, part in parts(self._last_obs).items()}
        if self._lessons is None:
            self._lessons = Lessons(self._num_lessons, self.tries, seen)
        self._lessons.add(seen, tried, np.clip(gains / self.spread, -_FAR, _FAR))

    def _paid(self, env: Any, e: int, actions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what environment `e` would be paid, each action tried once."""
        distinct, places = np.unique(actions, return_inverse=True)
        returns = self._lookahead.returns(
            e, distinct.tolist(), horizon_s=self.horizon_s, held=self.held
        )
        found: NDArray[np.float64] = returns[places] * env.reward_factor(e)
        return found

    def train(self) -> None:
        """Bring the policy nearer to what was found."""
        if self._lessons is None:
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = [self._learn_from_batch(self._lessons) for _ in range(self.gradient_steps)]
        self._n_updates += self.gradient_steps
        self.logger.record("train/loss", float(np.mean(losses)))
        self.logger.record("train/n_updates", self._n_updates)
        self.policy.set_training_mode(False)

    def _learn_from_batch(self, lessons: Lessons) -> float:
        rows = self._rng.integers(lessons.count, size=self.batch_size)
        part = {name: values[rows] for name, values in lessons.seen.items()}
        seen = obs_as_tensor(part.get("flat", part), self.device)
        logits = self.policy.get_distribution(seen).distribution.logits
        guesses = logits.gather(1, torch.as_tensor(lessons.tried[rows]))
        gains = torch.as_tensor(lessons.gains[rows])
        loss = smooth_l1_loss(guesses - guesses.mean(dim=1, keepdim=True), gains)
        self.policy.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        return float(loss.item())

    def lookahead_state(self) -> dict[str, Any]:
        """Return what `restore_lookahead` goes on from, beside the policy and the environments."""
        return {
            "lessons": None if self._lessons is None else self._lessons.state(),
            "player": self._player_weights,
            "player_since": self._player_since,
            "spread": self.spread,
            "random": self._rng.bit_generator.state,
        }

    def restore_lookahead(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; the policy and the environments stand there already."""
        self._player_weights, self._player_since = state["player"], state["player_since"]
        self.spread = state["spread"]
        self._rng.bit_generator.state = state["random"]
        if state["lessons"] is not None:
            self._lessons = Lessons(self._num_lessons, self.tries, parts(self._last_obs))
            self._lessons.restore(state["lessons"])
        if self._player_weights is not None:
            self._load_player()


def candidates(
    guesses: NDArray[np.float32], tries: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return actions worth trying, shape (states, tries): the best guess first.

    The others are drawn without replacement, half by chance alone and half by what the policy
    expects of them. Where fewer are legal, the best one fills the rest.

    Args:
        guesses: What the policy expects of each action, -inf where it is illegal.
        tries: At least 2.
        rng: What is drawn from.
    """
    legal = np.isfinite(guesses)
    best = guesses.argmax(axis=1)
    weights = np.exp((guesses - guesses.max(axis=1, keepdims=True)) / _TEMPERATURE)
    chance = 0.5 * weights / weights.sum(axis=1, keepdims=True)
    chance += 0.5 * legal / legal.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        keys = np.log(chance) + rng.gumbel(size=guesses.shape)  # the largest: without replacement
    keys[np.arange(len(best)), best] = np.inf
    count = min(tries, guesses.shape[1])
    found = np.argsort(-keys, axis=1)[:, :count]
    found = np.pad(found, ((0, 0), (0, tries - count)), mode="edge")
    allowed = np.take_along_axis(legal, found, axis=1)
    return np.where(allowed, found, best[:, None])
