"""The weights of a learned scheduler: read from its file, checked, and held against a cluster.

docs/learned_schedulers.md says what a file holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.learned import PREFIX, read_weights_file, weights_path
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.errors import ConfigError, require_choice, require_number
from sbs_gym.schedulers.questions import BUDGET_SHARES, NUM_MULTIPLIERS, ORDERS, RESERVED
from sbs_gym.schedulers.seat import BUDGETS_OF, ActionLayout, Role, layout_for
from sbs_gym.sim.agent_state import Question
from sbs_gym.sim.features import Group, feature_digest, sizes

FORMS = ("discrete", "multi", "flat", "box")
KINDS = ("mlp", "set")
ACTIVATIONS = ("tanh", "relu")
ROW_GROUPS = (Group.INSTANCES, Group.RANKS, Group.DECODE_RANKS)
_ALL_ANSWERS = int(Question.RELEASE | Question.PREFILL | Question.DECODE)
_ALL_GROUPS = int(Group.GLOBAL | Group.REQUEST) | sum(map(int, ROW_GROUPS))
_SHAPE = ("num_prefill", "prefill_dp", "num_decode_ranks")
_MOST_STACKED = 64
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """A network and what it was made for.

    Attributes:
        path: The file, for messages.
        role: What it answers and sees.
        kind: mlp or set.
        activation: tanh or relu.
        history: Observations that it sees at once, 1 to 64.
        shape: num_prefill, prefill_dp and num_decode_ranks of its training.
        arrays: Its numbers by name, all finite.
    """

    path: str
    role: Role
    kind: str
    activation: str
    history: int
    shape: Mapping[str, int]
    arrays: Mapping[str, Array]

    def array(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return an array of a shape; axes of length 1 may be there or not.

        Raises:
            ConfigError: If it is missing, or its shape is another one.
        """
        if name not in self.arrays:
            raise ConfigError(f"{self.path}: array {name!r} is missing; expected shape {shape}")
        found = self.arrays[name]
        if _without_ones(found.shape) != _without_ones(shape):
            raise ConfigError(f"{self.path}: {name} has shape {found.shape}; expected {shape}")
        return found.reshape(shape)


def read_weights(learned: str) -> Weights:
    """Return the network of a learned scheduler, by name or path.

    Raises:
        ConfigError: If its file cannot be read, or says what this version does not know.
    """
    file, path = read_weights_file(learned), str(weights_path(learned))
    meta = file.meta
    _check_words(path, meta)
    _check_numbers(path, meta)
    role = Role(
        told=f"{PREFIX}{learned}",
        answers=Question(meta["answers"]),
        sees=Group(meta["sees"]),
        form=meta["action"],
        num_budgets=meta["num_budgets"],
        num_orders=meta["num_orders"],
        num_reserved=meta.get("num_reserved", 1),
        budget_of=meta.get("budget_of", BUDGETS_OF[0]),
    )
    _check_role(path, role)
    if meta.get("features") != feature_digest(role.sees):
        raise ConfigError(
            f"{path}: meta.features={meta.get('features')!r}: it was trained on other features "
            f"than this version observes; expected {feature_digest(role.sees)!r}"
        )
    return Weights(
        path=path,
        role=role,
        kind=meta["kind"],
        activation=meta["activation"],
        history=meta["history"],
        shape={name: meta["shape"][name] for name in _SHAPE},
        arrays={name: _checked(path, name, array) for name, array in file.arrays.items()},
    )


def layout_on(weights: Weights, scheduler: SchedulerConfig, cluster: ClusterConfig) -> ActionLayout:
    """Return the action space of a network on a cluster.

    Raises:
        ConfigError: If it cannot play there.
    """
    layout = layout_for(weights.role, cluster, scheduler)
    for name in _SHAPE if weights.kind == "mlp" else ():
        found = getattr(cluster, name)
        if found != weights.shape[name]:
            raise ConfigError(
                f"cluster: {name}={found}, and {weights.role.told} is an mlp made for "
                f"{name}={weights.shape[name]}; expected that, or a network of kind set"
            )
    if weights.role.sees & Group.DECODE_RANKS and cluster.num_decode == 0:
        raise ConfigError(
            f"cluster.num_decode=0: {weights.role.told} sees decode ranks; expected at least 1"
        )
    return layout


def input_shape(weights: Weights, cluster: ClusterConfig) -> dict[Group, tuple[int, int]]:
    """Return rows and numbers per row, of all moments of the history, of every group it sees."""
    return {
        group: (rows, len(columns) * weights.history)
        for group, (rows, columns) in sizes(cluster).items()
        if group & weights.role.sees
    }


def num_window_logits(role: Role, layout: ActionLayout) -> int:
    """Return the outputs that choose a window."""
    if role.form == "box":
        return 1
    return NUM_MULTIPLIERS + role.num_budgets if role.form == "multi" else layout.num_windows


def _check_words(path: str, meta: Mapping[str, Any]) -> None:
    for name, known in (("kind", KINDS), ("activation", ACTIVATIONS), ("action", FORMS)):
        require_choice(f"{path}: meta.{name}", str(meta.get(name)), known)
    require_choice(f"{path}: meta.budget_of", meta.get("budget_of", BUDGETS_OF[0]), BUDGETS_OF)
    if meta.get("reask", "release") != "release":
        raise ConfigError(
            f"{path}: meta.reask={meta['reask']!r}: a run asks once per release; expected 'release'"
        )


def _check_numbers(path: str, meta: Mapping[str, Any]) -> None:
    ranges = {
        "answers": (1, _ALL_ANSWERS),
        "sees": (1, _ALL_GROUPS),
        "num_budgets": (1, len(BUDGET_SHARES) + 1),
        "num_orders": (1, len(ORDERS)),
        "num_reserved": (1, len(RESERVED)),
        "history": (1, _MOST_STACKED),
    }
    given = {"num_reserved": 1} | dict(meta)  # not told by files of before
    for name, (low, high) in ranges.items():
        require_number(f"{path}: meta.{name}", given.get(name), low, high, integer=True)
    shape = meta.get("shape")
    if not isinstance(shape, dict):
        raise ConfigError(f"{path}: meta.shape={shape!r}; expected numbers for {', '.join(_SHAPE)}")
    for name in _SHAPE:
        require_number(f"{path}: meta.shape.{name}", shape.get(name), 0, 1_000_000, integer=True)


def _check_role(path: str, role: Role) -> None:
    """Raise ConfigError for what no environment offers."""
    if not role.sees & Group.GLOBAL:
        raise ConfigError(f"{path}: meta.sees={int(role.sees)}; expected a set with 1, global")
    if role.form not in ("multi", "box"):
        return
    if role.answers != Question.RELEASE or role.num_orders > 1 or role.num_reserved > 1:
        raise ConfigError(
            f"{path}: meta.action={role.form!r} goes with answers=1, num_orders=1 and "
            f"num_reserved=1 only, the window; found {int(role.answers)}, {role.num_orders} and "
            f"{role.num_reserved}"
        )
    if role.form == "box" and role.num_budgets > 1:
        raise ConfigError(
            f"{path}: meta.action='box' with num_budgets={role.num_budgets}; expected 1"
        )


def _checked(path: str, name: str, array: NDArray[Any]) -> Array:
    if array.dtype != np.float32:
        raise ConfigError(f"{path}: {name} is of {array.dtype}; expected float32")
    if not np.isfinite(array).all():
        raise ConfigError(f"{path}: {name} holds NaN or infinity; expected finite numbers")
    if name.rpartition("_")[2] in ("std", "spread") and not (array > 0.0).all():
        raise ConfigError(f"{path}: {name} holds {array.min()}; expected numbers above 0")
    return array


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)
