"""Policies over sets: the numbers of ranks carry no meaning, and their count is free."""

from __future__ import annotations

import pytest
import torch

from tests.agents.tiny import model_of, tiny

pytestmark = pytest.mark.usefixtures("few_observations")

NUM_PREFILL_RANKS, NUM_DECODE_RANKS = 4, 4  # that are asked about: of one instance, and of all


@pytest.fixture(scope="module")
def policy(tmp_path_factory, few_observations):
    """The policy of the task that asks everything, with rows of all groups."""
    model, env = model_of(tiny(tmp_path_factory.mktemp("sets"), experiment="serving_ppo"))
    env.close()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.policy


def drawn(policy, batch=16):
    space = policy.observation_space
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand((batch, *part.shape), generator=generator)
        for name, part in space.spaces.items()
    }


def parts_of(policy, observation):
    """Return the logits by segment, and the critic's value."""
    with torch.no_grad():
        features = policy.extract_features(observation)
        logits = policy.action_net(policy.mlp_extractor.forward_actor(features))
        value = policy.predict_values(observation)
    heads = policy.mlp_extractor.heads
    sizes = [heads.windows, NUM_PREFILL_RANKS, 1, NUM_DECODE_RANKS]
    return dict(
        zip(("window", "ranks", "leave", "decode_ranks"), logits.split(sizes, 1), strict=True)
    ), value


@pytest.mark.parametrize("group", ["ranks", "decode_ranks", "instances"])
def test_renumbering_rows_renumbers_their_logits_and_leaves_the_others(policy, group):
    observation = drawn(policy)
    order = torch.randperm(observation[group].shape[1], generator=torch.Generator().manual_seed(3))
    if group == "instances":
        order = torch.tensor([1, 0])
    before, value = parts_of(policy, observation)
    after, same_value = parts_of(policy, observation | {group: observation[group][:, order]})
    for name, logits in before.items():
        expected = logits[:, order] if name == group else logits
        torch.testing.assert_close(after[name], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(same_value, value, rtol=1e-4, atol=1e-4)
    if group != "instances":
        assert (before[group] - before[group][:, order]).abs().max() > 0.1


def test_a_row_moves_its_own_logit_more_than_the_pooled_context_moves_others(policy):
    observation = drawn(policy)
    changed = observation["ranks"].clone()
    changed[:, 3] += 0.5
    before, _ = parts_of(policy, observation)
    after, _ = parts_of(policy, observation | {"ranks": changed})
    moved = (after["ranks"] - before["ranks"]).abs().mean(dim=0)
    assert moved.argmax() == 3
    assert moved.min() > 0.0


def test_what_was_learned_with_8_ranks_plays_16_and_144(tmp_path):
    def words(prefill_dp):
        return (f"env.cluster.prefill_dp={prefill_dp}", "num_envs=2")

    model, env = model_of(tiny(tmp_path, *words(8), experiment="prefill_allocation_ppo"))
    model.learn(64)
    env.close()
    for prefill_dp in (16, 144):
        wider, env = model_of(
            tiny(tmp_path, *words(prefill_dp), "seed=1", experiment="prefill_allocation_ppo")
        )
        wider.policy.load_state_dict(model.policy.state_dict())
        observation = env.reset()
        chosen = set()
        for _ in range(50):
            actions, _ = wider.predict(observation, action_masks=env.action_masks())
            chosen |= set(actions.tolist())
            observation, *_ = env.step(actions)
        assert env.action_space.n == prefill_dp + 1  # one is to leave the request
        assert max(chosen) > 8
        env.close()
