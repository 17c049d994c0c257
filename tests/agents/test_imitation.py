"""A rule's answers are learned before rewards are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.building import build_env
from agents.config import ImitationConfig
from agents.critic_sight import KEY
from agents.export import export
from agents.imitation import imitate, require_imitable
from agents.kept_runs import summaries
from agents.lessons import collect
from agents.loading import load
from sbs_gym.envs.config import scheduler_named
from sbs_gym.envs.play import RulePlayer
from sbs_gym.errors import ConfigError
from tests.agents.tiny import model_of, tiny

pytestmark = pytest.mark.usefixtures("few_observations")


def agreement(model, env, rule, masked):
    """Return how often model and rule answer alike where the rule has played."""
    env.seed(10_000)
    observation, player, equal = env.reset(), RulePlayer(env, rule), []
    for _ in range(100):
        masks = {"action_masks": env.action_masks()} if masked else {}
        mine, _ = model.predict(observation, deterministic=True, **masks)
        theirs = player.actions()
        equal.append((mine.reshape(len(mine), -1) == theirs.reshape(len(mine), -1)).all(axis=1))
        observation, *_ = env.step(theirs)
    return np.mean(equal)


@pytest.mark.parametrize(
    "experiment, rule, decisions",
    [("window_budget_mlp", "sbs_budget", 2_000), ("prefill_allocation_ppo", "least_tokens", 8_000)],
)
def test_the_rule_is_answered_on_episodes_that_were_not_imitated(
    tmp_path, experiment, rule, decisions
):
    model, env = model_of(tiny(tmp_path, experiment=experiment))
    masked = experiment.startswith("prefill")
    before = agreement(model, env, rule, masked)
    config = ImitationConfig(rule=rule, decisions=decisions, epochs=40, learning_rate=3e-3)
    share = imitate(model, [env], config, seed=0)
    after = agreement(model, env, rule, masked)
    env.close()
    print(f"{rule}: {before:.3f} before, {share:.3f} of the imitated, {after:.3f} of others")
    assert before < 0.5
    assert share > 0.95
    assert after > 0.95


def test_a_share_of_the_probability_stays_with_what_the_rule_does_not_do(tmp_path):
    found = {}
    for smoothing in (0.0, 0.4):
        model, env = model_of(tiny(tmp_path, experiment="prefill_allocation_ppo"))
        config = ImitationConfig(
            rule="sbs", decisions=8_000, epochs=40, learning_rate=1e-2, smoothing=smoothing
        )
        imitate(model, [env], config, seed=0)
        observation, masks = env.reset(), env.action_masks()
        seen = model.policy.obs_to_tensor(observation)[0]
        chances = model.policy.get_distribution(seen, action_masks=masks).distribution.probs
        leave = chances[:, -1].detach().numpy()  # which the rule never does while there is room
        found[smoothing] = leave[masks[:, -1]].mean()
        env.close()
    print(found)
    assert found[0.0] < 0.02
    assert found[0.4] == pytest.approx(0.4 / 5, rel=0.3)  # four ranks and to leave it


def test_windows_may_be_those_of_an_agent_and_all_else_the_rules(tmp_path):
    config = tiny(tmp_path, "env.asks=[release]", experiment="serving_ppo")
    model, env = model_of(config)
    model.learn(256)
    export(model, env, tmp_path / "windows.npz")
    env.close()
    agent = load(str(tmp_path / "windows.npz"))
    config = tiny(tmp_path, experiment="serving_ppo")
    env = build_env(config)
    given = ImitationConfig(rule="sbs", windows=str(tmp_path / "windows.npz"), decisions=400)
    mixed = collect(env, given, seed=3)
    plain = collect(env, ImitationConfig(rule="sbs", decisions=400), seed=3)
    asked = mixed.windows
    shown = {name: part[asked] for name, part in mixed.seen.items() if name != KEY}
    theirs, _ = agent.predict(shown, action_masks=mixed.masks[asked])
    assert 10 < len(asked) < len(mixed.answers)
    assert mixed.seen["global"][asked, 0].all()
    assert (mixed.answers[asked] == theirs).all()
    assert (mixed.chances.argmax(axis=1) == theirs).all()
    assert mixed.chances.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    first = np.setdiff1d(np.arange(env.num_envs), asked)  # later the two runs part
    assert (mixed.answers[first] == plain.answers[first]).all()
    assert len(plain.windows) == 0
    env.close()


def test_an_agent_learns_windows_from_an_agent_and_ranks_from_rules(tmp_path):
    windows = tiny(tmp_path / "w", "env.asks=[release]", experiment="serving_ppo")
    model, env = model_of(windows)
    model.learn(256)
    with torch.no_grad():
        model.policy.mlp_extractor.window.scores.weight *= 100.0  # sure of what it does
    export(model, env, tmp_path / "windows.npz")
    config = tiny(tmp_path / "s", "policy.width=48", experiment="serving_ppo")
    student, whole = model_of(config)
    given = ImitationConfig(
        rule="sbs",
        windows=str(tmp_path / "windows.npz"),
        decisions=4_000,
        epochs=50,
        learning_rate=2e-2,
    )
    share = imitate(student, [whole, env], given, seed=0)
    for one in (env, whole):
        one.close()
    print(f"{share:.3f} as taught")
    assert share > 0.85


def test_windows_of_another_task_are_refused(tmp_path):
    config = tiny(
        tmp_path,
        "imitation.rule=sbs",
        "imitation.windows=window_budget_ppo",
        experiment="serving_ppo",
    )
    env = build_env(config)
    with pytest.raises(ConfigError, match="acts in SBS/WindowBudget; expected SBS/Serving"):
        require_imitable(config, env)
    env.close()


def test_of_several_rules_the_best_of_every_episode_is_imitated(tmp_path):
    """Keeping long prompts together helps where few are long, and harms where most are."""
    words = ("env.workload=[heavy_tail,sbs_long]", "env.cluster.num_prefill=3", "env.load=0.5")
    env = build_env(tiny(tmp_path, *words, experiment="prefill_allocation_ppo"))
    given = ImitationConfig(rule="sbs", rivals=("sbs_reserve",), decisions=16_000)
    told = []
    lessons = collect(env, given, seed=0, tell=lambda *words: told.append(words))
    assert told[:3] == [("comparing rules", 1, 2), ("comparing rules", 2, 2), ("playing", 1, 2_000)]
    env.reset()
    names = ["sbs", "sbs_reserve"]
    best = env.cheapest([scheduler_named(name) for name in names])
    found = {episode.workload: names[k] for episode, k in zip(env.core.episodes, best, strict=True)}
    env.close()
    assert found == {"heavy_tail": "sbs_reserve", "sbs_long": "sbs"}
    left, long = lessons.answers == 4, lessons.seen["request"][:, 0] > 1.0
    assert 0.02 < left[long].mean() < 0.5
    assert not left[~long].any()


def test_some_decisions_are_collected_and_in_later_rounds_the_policy_plays(tmp_path):
    model, env = model_of(tiny(tmp_path, experiment="prefill_allocation_ppo"))
    whole = collect(env, ImitationConfig(rule="sbs", decisions=1_600), seed=3)
    few = collect(env, ImitationConfig(rule="sbs", decisions=160, gap=10), seed=3)
    rows = [e + env.num_envs * 10 * step for step in range(20) for e in range(env.num_envs)]
    assert (few.answers == whole.answers[rows]).all()
    assert all((few.seen[name] == whole.seen[name][rows]).all() for name in few.seen)
    played = collect(env, ImitationConfig(rule="sbs", decisions=1_600), seed=3, player=model)
    first = slice(0, env.num_envs)
    assert (played.answers[first] == whole.answers[first]).all()
    assert (played.seen["request"] != whole.seen["request"]).any()
    given = ImitationConfig(rule="sbs", decisions=800, rounds=3)
    told = []
    share = imitate(model, [env], given, seed=0, tell=lambda *words: told.append(words))
    env.close()
    assert 0.0 < share <= 1.0
    told = {(part, what, done == total) for part, what, done, total in told}
    rounds, parts = ("1/3", "2/3", "3/3"), ("playing", "learning")
    assert told >= {(part, what, True) for part in rounds for what in parts}


def test_a_rival_that_cannot_be_played_is_refused_by_its_name(tmp_path):
    words = ("imitation.rivals=[sbs,sbs_budget]",)
    config = tiny(tmp_path, *words, experiment="prefill_allocation_ppo")
    env = build_env(config)
    with pytest.raises(ConfigError, match=r"imitation.rule='sbs_budget': .*budget='backlog'"):
        require_imitable(config, env)
    env.close()


def test_a_heavier_tail_than_the_rules_counts_against_a_rival(tmp_path):
    words = ("env.workload=[heavy_tail]", "env.cluster.num_prefill=3", "env.load=0.5")
    env = build_env(tiny(tmp_path, *words, experiment="prefill_allocation_ppo"))
    env.reset()
    rules = [scheduler_named(name) for name in ("sbs", "sbs_reserve")]
    logs = []
    for rule in rules:
        kind = env._kind(env.core.episodes[0])
        runs = summaries([env._run(rule, kind, 10_000, seed) for seed in (9998, 9999)])
        means = [np.mean([run[name] for run in runs]) for name in ("ttft_mean_s", "ttft_p99_s")]
        logs.append(np.log(means))
    cost, tail = logs[1] - logs[0]
    print(f"logs of the ratios of mean {cost:.3f}, p99 {tail:.3f}")
    assert cost < -0.01
    assert tail > 0.01
    even = -cost / tail  # the weight at which both count alike
    found = [
        set(env.cheapest(rules, weight).tolist()) for weight in (0.0, even * 0.99, even * 1.01)
    ]
    lighter = set(env.cheapest(rules[::-1], 10.0).tolist())
    env.close()
    assert found == [{1}, {1}, {0}]
    assert lighter == {0}, "a lighter tail than that of the first rule makes up for no higher cost"


def test_rules_are_compared_at_the_arrivals_of_the_episode_if_that_is_asked_for(tmp_path):
    """Budgets pay at half of capacity, but not if that is so for a quarter of the time only."""
    words = ("env.workload=[sbs_short]", "env.arrivals=[poisson,mmpp2_quarter]", "env.load=0.5")
    cluster = "env.cluster.num_prefill=3"
    env = build_env(tiny(tmp_path, *words, cluster, experiment="serving_reserve"))
    env.reset()
    rules = [scheduler_named(name) for name in ("sbs", "sbs_budget:alpha=1.0")]
    bursty = np.array([episode.arrivals for episode in env.core.episodes])
    same, own = env.cheapest(rules), env.cheapest(rules, own_arrivals=True)
    env.close()
    assert 0 < bursty.sum() < len(bursty)
    assert (same == 1).all()
    assert (own == 1 - bursty).all()


def test_where_placements_are_thinned_out_every_window_is_collected(tmp_path):
    env = build_env(tiny(tmp_path, experiment="serving_ppo"))
    whole = collect(env, ImitationConfig(rule="sbs", decisions=1_600), seed=3)
    thin = collect(env, ImitationConfig(rule="sbs", decisions=160, gap=10), seed=3)
    env.close()
    asked = [lessons.seen["global"][:, 0] == 1.0 for lessons in (whole, thin)]
    assert asked[0].sum() == asked[1].sum() > 10
    assert 160 < len(thin.answers) < 800
    for name in whole.seen:
        assert (whole.seen[name][asked[0]] == thin.seen[name][asked[1]]).all()
