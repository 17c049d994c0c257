"""A policy over sets: ranks and instances go through the same weights, in any number and order.

docs/learned_schedulers.md has the formulas; sbs_gym/schedulers/learned/ evaluates them in the
compiled loop. Renumbering the ranks renumbers the answer. What is learned with 8 ranks plays 144.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from agents.critic_sight import KEY
from agents.inputs import CLIP, ROWS, SINGLE
from agents.observations import Statistics

_SMALL = 0.01  # of the last layers: all answers nearly as likely at first


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Which answers a policy gives.

    Attributes:
        windows: Logits of the window segment, 0 for none.
        parts: Choices that make a window, such as multipliers and budgets, the last one counting
            fastest: logits of their own add up to the window's. Empty: every window has its own.
        prefill: Whether prefill ranks are chosen, behind them to leave the request.
        decode: Whether decode ranks are chosen.
    """

    windows: int = 0
    parts: tuple[int, ...] = ()
    prefill: bool = False
    decode: bool = False


class StandardiseGroups(BaseFeaturesExtractor):
    """Standardises every group and lays them behind each other.

    Attributes:
        layout: Group to (rows, features), in the order in which they stand; the single ones first.
        relative: Whether what sets a row apart from the mean of its group stands behind it.
    """

    def __init__(
        self, observation_space: gym.spaces.Dict, statistics: Statistics, relative: bool
    ) -> None:
        shapes = {
            name: (1, *space.shape) if len(space.shape) == 1 else space.shape
            for name, space in observation_space.spaces.items()
        }
        ordered = [name for name in (*SINGLE, *ROWS, KEY) if name in shapes]
        twice = {name: 2 if relative and name in ROWS else 1 for name in ordered}
        layout = {
            name: (int(shapes[name][0]), int(shapes[name][1]) * twice[name]) for name in ordered
        }
        super().__init__(observation_space, sum(r * f for r, f in layout.values()))
        self.layout, self.relative = layout, relative
        for name in (name for name in ordered if name != KEY):
            self.register_buffer(f"{name}_mean", torch.as_tensor(statistics.mean[name]))
            self.register_buffer(f"{name}_std", torch.as_tensor(statistics.std[name]))
            if twice[name] == 2:
                self.register_buffer(f"{name}_spread", torch.as_tensor(statistics.spread[name]))

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the groups behind each other, shape (batch, features)."""
        found = []
        for name in self.layout:
            if name == KEY:
                found.append(observations[name])
                continue
            found.append(self._standard(name, observations[name]).flatten(1))
        return torch.cat(found, dim=1)

    def _standard(self, name: str, seen: torch.Tensor) -> torch.Tensor:
        mean, std = getattr(self, f"{name}_mean"), getattr(self, f"{name}_std")
        part = ((seen - mean) / std).clamp(-CLIP, CLIP)
        if not (self.relative and name in ROWS):
            return part
        apart = (seen - seen.mean(dim=1, keepdim=True)) / getattr(self, f"{name}_spread")
        return torch.cat([part, apart.clamp(-CLIP, CLIP)], dim=2)


class SetTrunk(nn.Module):
    """From the groups to one joint state and a state per row."""

    def __init__(
        self, layout: dict[str, tuple[int, int]], width: int, single: tuple[str, ...] = SINGLE
    ) -> None:
        super().__init__()
        self.layout, self.singles = layout, single
        self.groups = [name for name in ROWS if name in layout]
        size = sum(features for name, (_, features) in layout.items() if name in single)
        self.single = _linear(size, width)
        self.rows = nn.ModuleDict({g: _linear(layout[g][1], width) for g in self.groups})
        self.context = nn.ModuleDict({g: _linear(width, width, bias=False) for g in self.groups})
        self.joint = _linear(width * (1 + 2 * len(self.groups)), width)

    def forward(
        self, features: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return the joint state and by group the rows' states, and what is seen of them.

        Shapes (batch, width), (batch, rows, width), (batch, rows, features).
        """
        parts = self._split(features)
        single = torch.cat([parts[name][:, 0] for name in parts if name in self.singles], dim=1)
        context = torch.tanh(self.single(single))
        states, pooled = {}, [context]
        for group in self.groups:
            shared = self.context[group](context)[:, None]
            states[group] = torch.tanh(self.rows[group](parts[group]) + shared)
            pooled += [states[group].mean(dim=1), states[group].amax(dim=1)]
        return torch.tanh(self.joint(torch.cat(pooled, dim=1))), states, parts

    def _split(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes = [rows * columns for rows, columns in self.layout.values()]
        pieces = features.split(sizes, dim=1)
        return {
            name: piece.unflatten(1, shape)
            for (name, shape), piece in zip(self.layout.items(), pieces, strict=True)
        }


class Pointer(nn.Module):
    """Scores the rows of a group; with `columns`, by what is seen of them directly too."""

    def __init__(self, width: int, columns: int | None) -> None:
        super().__init__()
        self.rows = _linear(width, width)
        self.joint = _linear(width, width, bias=False)
        self.score = _linear(width, 1, gain=_SMALL, bias=False)
        self.direct = None if columns is None else _linear(columns, 1, gain=_SMALL, bias=False)

    def forward(self, joint: torch.Tensor, rows: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Return a logit per row, shape (batch, rows)."""
        logits = self.score(torch.tanh(self.rows(rows) + self.joint(joint)[:, None]))
        if self.direct is not None:
            logits = logits + self.direct(seen)
        return logits[..., 0]


class _Window(nn.Module):
    """Scores windows, each by itself or as the sum of what it is made of."""

    def __init__(self, width: int, heads: Heads) -> None:
        super().__init__()
        self.scores = _linear(width, sum(heads.parts) or heads.windows, gain=_SMALL)
        self.register_buffer("sums", _sums(heads) if heads.parts else None)

    @property
    def whole(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the one layer that gives the same."""
        weight, bias = self.scores.weight, self.scores.bias
        return (weight, bias) if self.sums is None else (self.sums @ weight, self.sums @ bias)

    def forward(self, joint: torch.Tensor) -> torch.Tensor:
        """Return a logit per window, shape (batch, windows)."""
        scores: torch.Tensor = self.scores(joint)
        return scores if self.sums is None else scores @ self.sums.T


def _sums(heads: Heads) -> torch.Tensor:
    """Return which scores add up to which window, 0 or 1, shape (windows, scores)."""
    windows = np.arange(heads.windows)
    made_of = np.unravel_index(windows, heads.parts)
    sums = np.zeros((heads.windows, sum(heads.parts)), dtype=np.float32)
    for before, choice in zip(np.cumsum((0, *heads.parts)), made_of, strict=False):
        sums[windows, before + choice] = 1.0
    return torch.as_tensor(sums)


class SetActorCritic(nn.Module):
    """Actor and critic over sets, in the place of the MLP extractor of Stable-Baselines3.

    The actor's latent is the logits themselves.
    """

    def __init__(
        self, layout: dict[str, tuple[int, int]], heads: Heads, width: int, relative: bool
    ) -> None:
        super().__init__()
        columns = {name: size if relative else None for name, (_, size) in layout.items()}
        self.heads = heads
        self.actor = SetTrunk(layout, width)
        self.critic = SetTrunk(layout, width, (*SINGLE, KEY))
        if heads.windows:
            self.window = _Window(width, heads)
        if heads.prefill:
            self.prefill = Pointer(width, columns["ranks"])
            self.leave = _linear(width, 1, gain=_SMALL)
        if heads.decode:
            self.decode = Pointer(width, columns["decode_ranks"])
        self.latent_dim_pi = (
            heads.windows
            + (layout["ranks"][0] + 1 if heads.prefill else 0)
            + (layout["decode_ranks"][0] if heads.decode else 0)
        )
        self.latent_dim_vf = width

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and the critic's state."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits of all segments, shape (batch, actions)."""
        joint, rows, seen = self.actor(features)
        logits = []
        if self.heads.windows:
            logits.append(self.window(joint))
        if self.heads.prefill:
            ranks = self.prefill(joint, rows["ranks"], seen["ranks"])
            logits += [ranks, self.leave(joint)]
        if self.heads.decode:
            logits.append(self.decode(joint, rows["decode_ranks"], seen["decode_ranks"]))
        return torch.cat(logits, dim=1)

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        """Return the critic's joint state, shape (batch, width)."""
        return self.critic(features)[0]


class SetPolicy(MaskableActorCriticPolicy):
    """Policy of MaskablePPO over sets.

    Args:
        heads: Which answers it gives.
        width: Numbers per state.
        relative: Whether rows are seen beside the mean of their group, too.
        statistics: Of the observations.
    """

    def __init__(
        self,
        *args: Any,
        heads: Heads,
        width: int,
        relative: bool,
        statistics: Statistics,
        **kwargs: Any,
    ) -> None:
        self._heads, self._width = heads, width
        super().__init__(
            *args,
            ortho_init=False,
            features_extractor_class=StandardiseGroups,
            features_extractor_kwargs={"statistics": statistics, "relative": relative},
            **kwargs,
        )

    def _build_mlp_extractor(self) -> None:
        seen = self.features_extractor
        net = SetActorCritic(seen.layout, self._heads, self._width, seen.relative)
        self.mlp_extractor = net.to(self.device)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()  # the latent is the logits
        self.optimizer = self.optimizer_class(
            self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )


def _linear(inputs: int, outputs: int, *, gain: float = 1.0, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.orthogonal_(layer.weight, gain=gain * (np.sqrt(2) if gain == 1.0 else 1.0))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
