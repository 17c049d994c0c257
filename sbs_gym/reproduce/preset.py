"""A preset of `sbs-gym reproduce`: which studies are run, and how large they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sbs_gym.config.groups import read_group
from sbs_gym.errors import ConfigError, require_choice
from sbs_gym.reproduce.registry import STUDIES, TRACES
from sbs_gym.reproduce.studies.traces import traces_of
from sbs_gym.reproduce.study import Study

GROUP = "reproduce"
OWN_RATE = "own"  # in place of a load: the rate at which a trace was recorded
_KEYS = ("about", "source", "studies")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What is reproduced.

    Attributes:
        name: Name of the preset, or the stem of its file.
        about: One sentence on its size.
        sections: Study to its section.
        given: What was asked for, a name or a path.
    """

    name: str
    about: str
    sections: Mapping[str, Mapping[str, Any]]
    given: str = ""

    def studies(self, names: Sequence[str] = ()) -> dict[str, Study]:
        """Return the studies of these names, in the order of the registry; all if none is named.

        Raises:
            ConfigError: If one is not in the preset.
        """
        known = [name for name in STUDIES if name in self.sections]
        for name in names:
            require_choice("studies", name, known)
        return {
            name: STUDIES[name](self.sections[name]) for name in known if name in (names or known)
        }

    def traces(self, paths: Sequence[str], load: float | None) -> dict[str, Study]:
        """Return the study of trace files; none without a file."""
        if not paths:
            return {}
        return {TRACES: traces_of(self.sections.get(TRACES, {}), paths, load)}

    def to_mapping(self) -> dict[str, Any]:
        """Return the preset as its file holds it."""
        return {"preset": self.name, "about": self.about, "studies": dict(self.sections)}


def read_preset(name: str) -> Preset:
    """Return a preset of `conf/reproduce`, or of a YAML file of one's own.

    Args:
        name: Of a preset, or a path that ends with .yaml.

    Raises:
        ConfigError: If there is none, or it names what no study knows.
    """
    given = name
    if name.endswith(".yaml"):
        values, name = _own(name), Path(name).stem
    else:
        values = read_group(GROUP, name)
    for key in values:
        require_choice(f"preset {name}: key", key, _KEYS)
    sections = values.get("studies") or {}
    for study in sections:
        require_choice(f"preset {name}: study", study, (*STUDIES, TRACES))
    if not sections:
        raise ConfigError(f"preset {name}: studies is empty; expected at least one")
    about = str(values.get("about", ""))
    return Preset(name=name, about=about, sections=sections, given=given)


def _own(path: str) -> dict[str, Any]:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"preset={path!r}: there is no such file")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"preset={path!r}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"preset={path!r}: expected a mapping")
    return values
