"""Learned schedulers by name: where their weights lie, and the rules that they stand above.

docs/learned_schedulers.md says what a file holds. Here are its name and its background only; what
it means to the loop is read in schedulers/learned/.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.config.groups import changes_in
from sbs_gym.errors import ConfigError, require_choice

PREFIX = "learned:"
FORMAT = 1
_SUFFIX = ".npz"
BEST = "policy.npz"  # in the directory of a training, the weights that did best in validation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightsFile:
    """What a file holds, unchecked but for its format.

    Attributes:
        meta: Its description.
        arrays: Its other entries.
    """

    meta: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]


def learned_names() -> list[str]:
    """Return the names of the files that this version ships, sorted."""
    return sorted(path.stem for path in _directory().glob(f"*{_SUFFIX}"))


def weights_path(learned: str) -> Path:
    """Return the file that a name, a path that ends with .npz, or a training's directory means.

    Raises:
        ConfigError: If there is none.
    """
    given = Path(learned).expanduser()
    if learned.endswith(_SUFFIX):
        path = given
    elif learned in learned_names():
        path = _directory() / f"{learned}{_SUFFIX}"
    elif given.is_dir():
        path = given / BEST
    else:
        try:
            known = [f"{PREFIX}{name}" for name in learned_names()]
            require_choice("scheduler", f"{PREFIX}{learned}", known)
        except ConfigError as problem:
            raise ConfigError(
                f"{problem}; or the path of a file whose name ends with {_SUFFIX}, or the "
                "directory of a training"
            ) from None
    if not path.is_file():
        raise ConfigError(f"scheduler='{PREFIX}{learned}': there is no file {str(path)!r}")
    return path


def weights_digest(learned: str) -> str:
    """Return the sha256 of the file, in hexadecimal digits."""
    return hashlib.sha256(weights_path(learned).read_bytes()).hexdigest()


def read_weights_file(learned: str) -> WeightsFile:
    """Return what the file of a learned scheduler holds.

    Raises:
        ConfigError: If there is no such file, it cannot be read, or its format is another one.
    """
    path = weights_path(learned)
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        meta = json.loads(str(arrays.pop("meta")[()]))
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as problem:
        raise ConfigError(
            f"{path}: no weights of a learned scheduler ({type(problem).__name__}: {problem}); "
            "expected an .npz file with an entry 'meta' in JSON"
        ) from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = meta.get("format") if isinstance(meta, dict) else meta
        raise ConfigError(f"{path}: meta.format={found!r} cannot be read; expected {FORMAT}")
    return WeightsFile(meta=meta, arrays=arrays)


def learned_mapping(text: str) -> dict[str, Any]:
    """Return the fields of the scheduler that `learned:NAME` or `learned:NAME:key=value` means.

    Raises:
        ConfigError: If the file cannot be read, or a word behind the name changes nothing.
    """
    learned, *changes = text.removeprefix(PREFIX).split(":")
    background = background_of(learned)
    return background | changes_in(text, changes) | {"name": text, "learned": learned}


def background_of(learned: str) -> dict[str, Any]:
    """Return the fields of the rules that answer what the network does not, and play around it.

    Raises:
        ConfigError: If they are no mapping, or themselves no rules.
    """
    given = read_weights_file(learned).meta.get("scheduler")
    where = f"{weights_path(learned)}: meta.scheduler"
    if not isinstance(given, dict):
        raise ConfigError(f"{where}={given!r}; expected a mapping of the fields of a scheduler")
    for key in ("custom", "learned"):
        if given.get(key) is not None:
            raise ConfigError(f"{where}.{key}={given[key]!r}; expected a scheduler made of rules")
    return {key: value for key, value in given.items() if key != "name"}


def _directory() -> Path:
    return Path(__file__).resolve().parent.parent / "schedulers" / "learned"
