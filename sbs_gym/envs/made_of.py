"""What a stored state depends on: task, configuration, files, and the layout of the arrays."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sbs_gym.artifacts import input_digests
from sbs_gym.batch.stepping import OUTCOME
from sbs_gym.envs.config import EnvConfig
from sbs_gym.envs.tasks import Task
from sbs_gym.errors import ConfigError
from sbs_gym.sim.features import sizes
from sbs_gym.sim.world import example_world

_MOST_NAMED = 5  # differences


def made_of(task: Task, config: EnvConfig, num_envs: int) -> str:
    """Return as JSON, name by name, what environments are made of."""
    files: dict[str, str] = {}
    for workload in config.workloads:
        for timing in config.timings:
            files |= input_digests(workload, timing)
    parts = {
        "task": task.id,
        "num_envs": num_envs,
        **_flat("", config),
        **{f"content of {name}": digest for name, digest in files.items()},
        **_layout(task, config),
    }
    return json.dumps(parts, sort_keys=True)


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Return a configuration as one entry per number or word, under dotted names."""
    if dataclasses.is_dataclass(value):
        found: dict[str, Any] = {name: type(value).__name__} if name else {}
        for field in dataclasses.fields(value):
            inner = f"{name}.{field.name}" if name else field.name
            found |= _flat(inner, getattr(value, field.name))
        return found
    if isinstance(value, tuple) and any(dataclasses.is_dataclass(one) for one in value):
        return {k: v for n, one in enumerate(value) for k, v in _flat(f"{name}[{n}]", one).items()}
    return {name: value}


def _layout(task: Task, config: EnvConfig) -> dict[str, str]:
    """Return digests of the arrays of a world, of outcomes and of what is observed."""
    # Of a fixed configuration: what differs in it, differs by version.
    fields = {name: np.asarray(field) for name, field in example_world()._asdict().items()}
    layout = {
        f"layout of {name}": _digest((field.dtype.descr, field.shape))
        for name, field in fields.items()
    }
    seen = [
        (rows, [dataclasses.astuple(column) for column in columns])
        for group, (rows, columns) in sizes(config.cluster).items()
        if group & task.sees
    ]
    return {**layout, "layout of outcomes": _digest(OUTCOME.descr), "features": _digest(seen)}


def _digest(content: object) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()[:12]


def require_same(theirs: str, ours: str) -> None:
    """Raise ConfigError, naming what differs, unless a state was made of the same."""
    given, wanted = json.loads(theirs), json.loads(ours)
    names = sorted(given.keys() | wanted.keys())
    wrong = [name for name in names if given.get(name) != wanted.get(name)]
    if wrong:
        told = [f"{name}={given.get(name)!r}, here {wanted.get(name)!r}" for name in wrong]
        rest = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise ConfigError(
            f"the state is of other environments: {'; '.join(told[:_MOST_NAMED])}{rest}; expected "
            "a state of the same configuration and version"
        )


def require_keys(state: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise ConfigError unless a state has entries of these names."""
    missing = [name for name in names if name not in state]
    if missing:
        raise ConfigError(
            f"the state lacks {', '.join(missing)}; expected that of state() of the same class"
        )
