"""Learning from answers that were tried out: which are tried, what is kept, what is learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import obs_as_tensor

from agents.export import export
from agents.lookahead.iteration import candidates
from agents.lookahead.lessons import Lessons
from agents.training import train
from sbs_gym.errors import ConfigError
from tests.agents.tiny import arrays_in, model_of, tiny

pytestmark = pytest.mark.usefixtures("few_observations")

EXPERIMENT = "serving_windows"


def test_candidates_are_the_best_guess_and_others_drawn_without_replacement():
    rng = np.random.default_rng(0)
    guesses = rng.normal(size=(500, 9)).astype(np.float32)
    guesses[rng.random(guesses.shape) < 0.3] = -np.inf
    guesses[:, 4] = 0.0  # something is legal everywhere
    found = candidates(guesses, 4, rng)
    assert found.shape == (500, 4)
    np.testing.assert_array_equal(found[:, 0], guesses.argmax(axis=1))
    assert np.isfinite(np.take_along_axis(guesses, found, axis=1)).all()
    enough = np.isfinite(guesses).sum(axis=1) >= 4
    assert enough.mean() > 0.9
    assert all(len(set(row)) == 4 for row in found[enough])


def test_where_few_answers_are_legal_the_best_fills_the_rest():
    guesses = np.full((2, 5), -np.inf, dtype=np.float32)
    guesses[:, 1], guesses[1, 3] = 0.5, 1.0
    found = candidates(guesses, 7, np.random.default_rng(0))
    assert found[0].tolist() == [1] * 7
    assert sorted(found[1].tolist()) == [1, 3, 3, 3, 3, 3, 3]


def test_what_the_policy_expects_much_of_is_tried_more_often_and_nothing_is_never_tried():
    guesses = np.zeros((20_000, 10), dtype=np.float32)
    guesses[:, 0], guesses[:, 1] = 2.0, 1.0
    tried = candidates(guesses, 2, np.random.default_rng(0))[:, 1]
    shares = np.bincount(tried, minlength=10) / len(tried)
    # Of what is left after the best: half by chance, half by exp(guess / 0.2).
    weights = np.exp(guesses[0] / 0.2 - 10.0)
    chance = 0.5 * weights / weights.sum() + 0.05
    expected = chance[1:] / chance[1:].sum()
    np.testing.assert_allclose(shares[1:], expected, atol=4 * np.sqrt(0.25 / len(tried)))
    assert shares[0] == 0.0


def test_the_oldest_lessons_make_room():
    lessons = Lessons(5, 2, {"flat": np.zeros((1, 3), dtype=np.float32)})
    for number in range(4):  # eight rows
        rows = np.array([2 * number, 2 * number + 1])
        lessons.add(
            {"flat": np.tile(rows[:, None], (1, 3))}, np.tile(rows[:, None], 2), rows[:, None]
        )
        assert lessons.count == min(2 * number + 2, 5)
    assert sorted(lessons.tried[:, 0].tolist()) == [3, 4, 5, 6, 7]
    np.testing.assert_array_equal(lessons.tried[:, 0], lessons.seen["flat"][:, 0])
    np.testing.assert_array_equal(lessons.tried[:, 0], lessons.gains[:, 0])
    twin = Lessons(5, 2, {"flat": np.zeros((1, 3), dtype=np.float32)})
    twin.restore(lessons.state())
    for one in (lessons, twin):
        one.add({"flat": np.full((1, 3), 9.0)}, np.array([[9, 9]]), np.array([[9.0, 9.0]]))
    np.testing.assert_array_equal(twin.tried, lessons.tried)


def test_the_policy_learns_the_differences_that_it_is_shown():
    model, env = model_of(tiny("run", "agent.learning_rate=0.01", experiment=EXPERIMENT))
    try:
        model._last_obs = env.reset()
        seen = {name: part.copy() for name, part in model._last_obs.items()}
        rng = np.random.default_rng(0)
        tried = np.stack([rng.permutation(20)[:6] for _ in range(env.num_envs)])
        worth = rng.normal(size=20)  # the same for all states, and not known but by differences
        gains = worth[tried] - worth[tried].mean(axis=1, keepdims=True)
        model._lessons = Lessons(env.num_envs, 6, seen)
        model._lessons.add(seen, tried, gains)
        model.gradient_steps = 400
        model._current_progress_remaining = 1.0
        model.set_logger(_Quiet())
        model.train()
        with torch.no_grad():
            shown = obs_as_tensor(seen, model.device)
            logits = model.policy.get_distribution(shown).distribution.logits.numpy()
        found = np.take_along_axis(logits, tried, axis=1)
        np.testing.assert_allclose(found - found.mean(axis=1, keepdims=True), gains, atol=0.1)
    finally:
        env.close()


class _Quiet:
    def record(self, *_args, **_kwargs):
        """Nobody reads it."""


def test_what_is_tried_is_paid_in_the_unit_of_the_episode(tmp_path):
    model, env = model_of(tiny(tmp_path / "run", "reward_scale=3.0", experiment=EXPERIMENT))
    try:
        model._last_obs = env.reset()
        model._become_player()
        actions = np.array([3, 5, 3])
        e = next(e for e in range(env.num_envs) if model._lookahead.reaches(e, model.horizon_s))
        paid = model._paid(env, e, actions)
        plain = model._lookahead.returns(e, [3, 5], horizon_s=model.horizon_s, held=model.held)
        assert paid[0] == paid[2]
        np.testing.assert_allclose(paid[:2], plain * env.reward_factor(e))
        assert env.reward_factor(e) == pytest.approx(3.0 / env._unit(env.core.episodes[e]))
    finally:
        env.close()


def test_the_player_stands_still_between_refreshes(tmp_path):
    model, env = model_of(tiny(tmp_path / "run", experiment=EXPERIMENT))
    try:
        model._last_obs = env.reset()
        model._become_player()
        before = model._guesses(env.action_masks())
        with torch.no_grad():
            model.policy.mlp_extractor.window.scores.bias += torch.linspace(0.0, 5.0, 162)
        np.testing.assert_array_equal(model._guesses(env.action_masks()), before)
        export(model, env, tmp_path / "now.npz")
        model._become_player()
        assert not np.array_equal(model._guesses(env.action_masks()), before)
        np.testing.assert_array_equal(
            model._player.arrays["b_window"], arrays_in(tmp_path / "now.npz")["b_window"]
        )
    finally:
        env.close()


def test_the_same_seed_gives_the_same_weights(tmp_path):
    for name in ("one", "two"):
        train(tiny(tmp_path / name, "total_steps=256", experiment=EXPERIMENT))
    one, two = (arrays_in(tmp_path / name / "policy.npz") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("env.id=SBS/WindowBudget-v0", "~env.asks", "env.action=multi"), "lookahead"),
        (("agent.tries=1",), r"agent\.tries=1"),
        (("agent.horizon_s=0",), r"agent\.horizon_s=0"),
        (("++env.history=2",), "history"),
        (("agent.horizon_s=100.0",), "horizon"),
        (("env.reward.baseline=sbs",), r"env\.reward\.baseline='sbs' with agent\.algorithm"),
    ],
)
def test_what_cannot_be_tried_out_is_refused_before_any_work(tmp_path, words, message):
    with pytest.raises(ConfigError, match=message):
        train(tiny(tmp_path / "run", *words, experiment=EXPERIMENT))
    assert not (tmp_path / "run").exists()
