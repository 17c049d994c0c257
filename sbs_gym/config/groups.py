"""Named configuration groups: the YAML files of `conf/`, read without Hydra."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sbs_gym.errors import ConfigError, require_choice, require_flag

Section = TypeVar("Section")
DOCUMENTATION_KEYS = frozenset({"about", "source"})


@functools.cache
def conf_directory() -> Path:
    """Return `conf/`: beside the modules in an installed wheel, at the root of a checkout."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise ConfigError(f"no conf/config.yaml in {package} or beside it: the installation is broken")


def group_names(group: str) -> list[str]:
    """Return the names that `group=<name>` accepts, sorted."""
    return sorted(path.stem for path in (conf_directory() / group).glob("*.yaml"))


def read_group(group: str, name: str) -> dict[str, Any]:
    """Return the mapping of `conf/<group>/<name>.yaml`.

    Raises:
        ConfigError: If the name is not known (lists the known ones) or the file is no mapping.
    """
    require_choice(group, name, group_names(group))
    path = conf_directory() / group / f"{name}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping, found {type(content).__name__}")
    return content


def changes_in(text: str, words: Sequence[str]) -> dict[str, Any]:
    """Return what words `key=value` behind the name of a scheduler change in it.

    Args:
        text: The whole, for the message.
        words: Its parts behind the name.

    Raises:
        ConfigError: If a word has no equals sign.
    """
    changes = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"scheduler={text!r}: {word!r} is no change; expected key=value")
        changes[key] = yaml.safe_load(value)
    return changes


def section_from_mapping(kind: type[Section], where: str, values: Mapping[str, Any]) -> Section:
    """Build a configuration dataclass from a mapping; unknown keys are refused.

    `about` and `source` document a YAML file and are passed on only where the class has them.
    Flags are true or false, nothing that counts as such.
    """
    types = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    given = {k: v for k, v in values.items() if k in types or k not in DOCUMENTATION_KEYS}
    for key, value in given.items():
        if key not in types:
            require_choice(f"{where}.{key}: key", key, types)
        if types[key] in (bool, "bool"):
            require_flag(f"{where}.{key}", value)
    return kind(**given)
