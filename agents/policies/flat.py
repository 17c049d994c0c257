"""Flat observations: standardised, then one perceptron that acts and one that judges.

Where an observation ends with what only the critic sees, the actor is shown the part before.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from torch import nn

from agents.inputs import CLIP
from agents.observations import Statistics


class Standardise(BaseFeaturesExtractor):
    """Subtracts the mean and divides by the standard deviation, both constant.

    Numbers behind those that have statistics, the critic's, are passed on as they are.
    """

    def __init__(self, observation_space: gym.spaces.Box, statistics: Statistics) -> None:
        super().__init__(observation_space, int(observation_space.shape[0]))
        self.num_seen = len(statistics.mean["flat"])
        self.register_buffer("mean", torch.as_tensor(statistics.mean["flat"]))
        self.register_buffer("std", torch.as_tensor(statistics.std["flat"]))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return what the layers behind take, shape (batch, features)."""
        seen = observations[:, : self.num_seen]
        standardised = ((seen - self.mean) / self.std).clamp(-CLIP, CLIP)
        if observations.shape[1] == self.num_seen:
            return standardised
        return torch.cat([standardised, observations[:, self.num_seen :]], dim=1)


class FlatActorCritic(nn.Module):
    """Two perceptrons; the actor's takes the first `num_seen` features only."""

    def __init__(
        self, num_seen: int, num_features: int, layers: list[int], activation: type[nn.Module]
    ) -> None:
        super().__init__()
        self.num_seen = num_seen
        self.policy_net = MlpExtractor(num_seen, {"pi": layers, "vf": []}, activation).policy_net
        self.value_net = MlpExtractor(num_features, {"pi": [], "vf": layers}, activation).value_net
        self.latent_dim_pi = layers[-1] if layers else num_seen
        self.latent_dim_vf = layers[-1] if layers else num_features

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the actor's and the critic's last layer take."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        """Return what the actor's last layer takes."""
        return self.policy_net(features[:, : self.num_seen])

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        """Return what the critic's last layer takes."""
        return self.value_net(features)


class _Flat:
    """Builds `FlatActorCritic` in place of the extractor of Stable-Baselines3."""

    def _build_mlp_extractor(self) -> None:
        extractor: Any = self.features_extractor  # type: ignore[attr-defined]
        self.mlp_extractor = FlatActorCritic(
            extractor.num_seen, extractor.features_dim, self.net_arch, self.activation_fn
        )


class FlatPolicy(_Flat, ActorCriticPolicy):
    """Policy of PPO."""


class MaskableFlatPolicy(_Flat, MaskableActorCriticPolicy):
    """Policy of MaskablePPO."""
