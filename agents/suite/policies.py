"""Who plays a suite: presets, trained agents, and the constants that are tuned for it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.files import BEST
from agents.suite.definition import Suite
from agents.suite.trainings import experiment_of, is_training
from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.learned import PREFIX, learned_names, weights_path
from sbs_gym.errors import ConfigError, require_choice
from sbs_gym.schedulers import registry

STATIC_GLOBAL, STATIC_CELL = "static_global", "static_cell"
STATIC = (STATIC_GLOBAL, STATIC_CELL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A row of the tables.

    Attributes:
        name: As tables show it.
        words: What `scheduler=…` takes; several for trainings of one agent; none for STATIC.
        tasks: The task of every word; empty for presets.
        weights: The file of every word; empty for presets.
    """

    name: str
    words: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    weights: tuple[Path, ...] = ()

    @property
    def is_static(self) -> bool:
        """Whether a search chooses its constants."""
        return self.name in STATIC

    def member(self, place: int) -> str:
        """Return the name of one training in tables of runs."""
        return self.name if len(self.words) <= 1 else f"{self.name}#{place}"

    def paths(self, suite: Suite, chosen: Sequence[str]) -> list[str]:
        """Return those of the chosen paths where it can play."""
        if self.is_static:
            return [name for name in chosen if name == suite.static.path]
        if not self.tasks:
            return list(chosen)
        return [n for n in chosen if set(self.tasks) <= set(suite.path_named(n).tasks)]

    def cannot_play(self, cluster: ClusterConfig) -> str:
        """Return why it cannot act on a cluster; empty if it can."""
        for path in self.weights:
            meta = read_meta(path)
            if meta.get("kind") != "mlp":
                continue
            shape = meta.get("shape") or {}
            for field, found in _shape(cluster).items():
                wanted = shape.get(field, found)
                if wanted != found:
                    return f"not applicable: a network for {field}={wanted}, not {found}"
        return ""


def read_policies(text: str) -> list[Policy]:
    """Return the policies that `[sbs,agent,{name:[file,file]}]` names, each once.

    A word is a preset, also changed (`sbs:multiplier=0`); `learned:NAME`, or the name of a shipped
    agent; a weights file or a training's directory; static_global or static_cell. Directories of
    trainings of one experiment are one policy.

    Raises:
        ConfigError: If a word means nothing, is named twice, or a file is not there.
    """
    found: list[Policy] = []
    for item in top_level_items(text):
        if item.startswith("{"):
            found += [_group(name, members) for name, members in _mapping(item)]
        else:
            found.append(_policy(item))
    found = _beside_shipped(_merged_trainings(found))
    names = [policy.name for policy in found]
    if not names:
        raise ConfigError(f"policies={text!r} is empty; expected at least one")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"policies={text!r} names {name!r} twice; give one another name: "
                "{mine: [outputs/train/…/seed0]}"
            )
    return found


def with_references(policies: Sequence[Policy], suite: Suite) -> list[Policy]:
    """Return the policies with those in front that every cell needs."""
    needed = [suite.baseline, suite.blind, suite.budget_rival]
    given = {policy.name: policy for policy in policies}
    missing = [_policy(name) for name in needed if name not in given]
    return [*missing, *policies]


def read_meta(path: Path) -> dict[str, Any]:
    """Return what a weights file says of itself.

    Raises:
        ConfigError: If it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = json.loads(str(file["meta"]))
    except (OSError, ValueError, KeyError) as problem:
        raise ConfigError(f"policies: {str(path)!r} is no weights file: {problem}") from None
    if not isinstance(found, dict) or "task" not in found:
        raise ConfigError(f"policies: {str(path)!r} names no task in its meta")
    return found


def _shape(cluster: ClusterConfig) -> dict[str, int]:
    return {
        "num_prefill": cluster.num_prefill,
        "prefill_dp": cluster.prefill_dp,
        "num_decode_ranks": cluster.num_decode * cluster.decode_dp,
    }


def top_level_items(text: str) -> list[str]:
    """Return the entries of `[a,{b:[c,d]}]` or `a,b`; commas inside brackets do not part them."""
    inside = text.strip()
    if inside.startswith("[") and inside.endswith("]"):
        inside = inside[1:-1]
    found, depth, word = [], 0, ""
    for letter in inside:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            found.append(word)
            word = ""
        else:
            word += letter
    if depth:
        raise ConfigError(f"{text!r}: brackets do not match")
    return [item.strip().strip("'\"") for item in [*found, word] if item.strip()]


def _mapping(item: str) -> list[tuple[str, list[str]]]:
    pairs = []
    for entry in top_level_items(item.removeprefix("{").removesuffix("}")):
        name, colon, members = entry.partition(":")
        if not colon or not name.strip() or not top_level_items(members):
            raise ConfigError(f"policies: {entry!r} is no group; expected name: [file, file]")
        pairs.append((name.strip().strip("'\""), top_level_items(members)))
    return pairs


def _policy(word: str) -> Policy:
    if word in STATIC:
        return Policy(name=word)
    path = Path(word).expanduser()
    if is_training(path) or word.endswith(".npz"):
        return _from_file(word, path)
    name = word.removeprefix(PREFIX)
    if word.startswith(PREFIX) or name in learned_names():
        file = Path(name).expanduser()
        if name.endswith(".npz"):
            return _from_file(word, file)
        require_choice("policies: agent", name, learned_names())
        return _from_file(name, weights_path(name), name)
    known = {*registry.scheduler_names(), *learned_names(), *STATIC}
    if "/" in word or path.exists():
        raise ConfigError(
            f"policies: {word!r} is no weights file (.npz) and no directory with {BEST}"
        )
    require_choice("policies", word.partition(":")[0], known)
    return Policy(name=word, words=(word,))


def _from_file(name: str, path: Path, shipped: str | None = None) -> Policy:
    file = path / BEST if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"policies: {str(file)!r} is not there; expected a weights file")
    task = str(read_meta(file)["task"])
    word = PREFIX + (shipped or str(file.resolve()))
    shown = experiment_of(path) if path.is_dir() else name.removeprefix(PREFIX)
    return Policy(name=shown, words=(word,), tasks=(task,), weights=(file,))


def _group(name: str, members: Sequence[str]) -> Policy:
    return _joined(name, [_policy(member) for member in members])


def _joined(name: str, members: Sequence[Policy]) -> Policy:
    tasks = tuple(dict.fromkeys(task for one in members for task in one.tasks))
    if any(not one.tasks for one in members) or len(tasks) != 1:
        raise ConfigError(
            f"policies: {name!r} groups {', '.join(one.name for one in members)}; expected "
            "trained agents of one task"
        )
    return Policy(
        name=name,
        words=tuple(word for one in members for word in one.words),
        tasks=tasks,
        weights=tuple(path for one in members for path in one.weights),
    )


def _merged_trainings(policies: Sequence[Policy]) -> list[Policy]:
    """Return the policies with trainings of one experiment, given one by one, as one of them."""
    grouped: dict[str, list[Policy]] = {}
    for place, policy in enumerate(policies):
        alone = len(policy.weights) == 1 and _trained_here(policy)
        grouped.setdefault(policy.name if alone else f"{place}:", []).append(policy)
    return [
        members[0] if len(members) == 1 else _joined(members[0].name, members)
        for members in grouped.values()
    ]


def _beside_shipped(policies: Sequence[Policy]) -> list[Policy]:
    """Return the policies; trainings of a shipped agent's experiment beside it get a name."""
    shipped = {f"{PREFIX}{name}" for name in learned_names()}
    beside = {policy.name for policy in policies if policy.words[:1] and policy.words[0] in shipped}
    return [
        dataclasses.replace(policy, name=f"{policy.name}:trained")
        if policy.name in beside and _trained_here(policy)
        else policy
        for policy in policies
    ]


def _trained_here(policy: Policy) -> bool:
    return bool(policy.weights) and is_training(policy.weights[0].parent)
