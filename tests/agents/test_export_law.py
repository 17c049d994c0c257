"""The law: the compiled loop plays what Stable-Baselines3 would answer, question by question.

Sums are rounded in another order there, so where the two best logits are nearer than rounding the
answers may differ; such questions are counted.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import agents
from agents.building import env_options
from agents.config import MASKED
from agents.critic_sight import KEY, NAMES
from agents.export import export
from sbs_gym.envs.config import scheduler_named
from sbs_gym.schedulers.questions import NUM_MULTIPLIERS
from tests.agents.tiny import model_of, tiny
from tests.env.setups import make
from tests.env.test_parity_law import differences
from tests.learned.test_parity import plain_run

pytestmark = pytest.mark.usefixtures("few_observations")

NEAR = 1e-5
CASES = {
    "ppo": ("window_budget_mlp", ()),
    "with history": ("window_budget_history", ()),
    "one number": ("window_budget_mlp", ("env.id=SBS/Window-v0", "env.action=box")),
    "masks": ("prefill_allocation_ppo", ("policy=mlp",)),
    "dqn": (
        "window_budget_dqn",
        ("agent.learning_starts=64", "agent.buffer_size=800", "agent.target_every=64"),
    ),
    "sets": ("window_budget_ppo", ()),
    "sets, windows in parts": (
        "window_budget_ppo",
        ("policy.windows_in_parts=true", "env.action=flat", "env.reserves=true"),
    ),
    "answers tried out": ("serving_windows", ()),
    "sets, all questions": ("serving_ppo", ("policy.relative=false",)),
    "sets, beside their mean": ("serving_ppo", ("policy.relative=true",)),
}


def make_lively(model):
    """Enlarge what the answers hang on, so that they vary after so short a training."""
    heads = getattr(model.policy, "action_net", None)
    parts = [heads] if isinstance(heads, torch.nn.Linear) else []
    extractor = getattr(model.policy, "mlp_extractor", None)
    for name in ("window", "leave", "prefill", "decode"):
        if hasattr(extractor, name):
            part = getattr(extractor, name)
            parts.append(getattr(part, "score", getattr(part, "scores", part)))
    with torch.no_grad():
        for part in parts:
            part.weight *= 100.0


def told_to_critic(observation):
    """Return the observation with numbers for the critic, any numbers."""
    more = np.full(len(NAMES), 3.0, dtype=np.float32)
    if isinstance(observation, dict):
        return {**observation, KEY: more}
    return np.concatenate([observation, more])


def is_near(agent, seen, legal):
    """Return whether the best two answers are nearer than rounding, of ranks that look different.

    Ranks that look alike have the same logit in every implementation; all take the first.
    """
    logits = agent.logits({k: v[None] for k, v in seen.items()} if _by_groups(seen) else seen[None])
    form = agent.meta["action"]
    if form == "box":
        return False
    if form == "multi":
        return any(_ahead(p) <= NEAR for p in np.split(logits[0], [NUM_MULTIPLIERS]))
    if legal.sum() == 1:
        return False
    chosen = np.where(legal, logits[0], -np.inf)
    if _by_groups(seen):
        chosen = chosen[_first_of_its_kind(agent, seen, len(legal))]
    return _ahead(chosen) <= NEAR


def _by_groups(seen):
    return isinstance(seen, dict)


def _ahead(logits):
    second, first = np.sort(logits)[-2:]
    return first - second


def _first_of_its_kind(agent, seen, count):
    """Return the answers less those of ranks that look like an earlier one."""
    kept = np.arange(count)
    answers = count - len(seen["decode_ranks"]) if "decode_score" in agent.arrays else count
    spans = {}
    if "decode_score" in agent.arrays:
        spans["decode_ranks"] = answers
    if "prefill_score" in agent.arrays:
        spans["ranks"] = answers - 1 - len(seen["ranks"])
    gone = set()
    for group, start in spans.items():
        firsts = np.unique(seen[group], axis=0, return_index=True)[1]
        gone |= {start + row for row in range(len(seen[group])) if row not in firsts}
    return np.array([index for index in kept if index not in gone])


@pytest.mark.parametrize("case", CASES)
def test_the_compiled_loop_answers_as_the_trained_model(case, tmp_path):
    experiment, words = CASES[case]
    config = tiny(tmp_path, *words, experiment=experiment)
    model, training_env = model_of(config)
    model.learn(512)
    make_lively(model)
    export(model, training_env, tmp_path / "net.npz")
    training_env.close()
    agent = agents.load(str(tmp_path / "net.npz"))

    options = env_options(config) | {"warmup_s": 0.0, "record": True}
    options["horizon_s"] = 1.5 if experiment == "serving_ppo" else 30.0
    env = make(options.pop("id"), **options | {"invalid_action": "error"})
    has_masks, has_critic = config.agent.algorithm in MASKED, "ppo" in config.agent.algorithm
    seen, _ = env.reset(seed=5)
    over, given, num_near = False, [], 0
    while not over:
        legal = env.core.legal[0].copy()
        shown = told_to_critic(seen) if has_critic else seen
        masks = {"action_masks": env.action_masks()} if has_masks else {}
        action, _ = model.predict(shown, deterministic=True, **masks)
        loaded, _ = agent.predict(seen, **masks)
        near = is_near(agent, seen, legal)
        num_near += near
        if not near:
            np.testing.assert_allclose(loaded, action, atol=NEAR)
        given.append(np.asarray(loaded).tolist())
        seen, _, terminated, truncated, _ = env.step(loaded)
        over = terminated or truncated
    plain = plain_run(env, scheduler_named(f"learned:{tmp_path / 'net.npz'}"))
    print(f"near ties: {num_near} of {len(given)}")
    assert len(given) > 50
    assert num_near < len(given) / 1000
    assert len({str(answer) for answer in given}) > 1
    if case == "one number":  # an instant moves with the last bit of the number
        np.testing.assert_allclose(
            env.records().requests["first_token_at_s"],
            plain.requests["first_token_at_s"],
            rtol=1e-5,
        )
    else:
        assert differences(env, env.records(), plain) == []
