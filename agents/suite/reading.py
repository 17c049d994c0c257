"""A suite read from its YAML file, with words of the command line over it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agents.suite.definition import (
    SPLITS,
    Admission,
    Change,
    Choice,
    LoadLevel,
    Overload,
    OverloadCell,
    PathPart,
    Shifts,
    StaticSearch,
    Suite,
)
from sbs_gym.config.groups import conf_directory, section_from_mapping
from sbs_gym.config.lengths import as_tuple
from sbs_gym.errors import ConfigError, require_choice

Section = TypeVar("Section")


def load_suite(name: str, overrides: Sequence[str] = ()) -> Suite:
    """Return the suite of `conf/suite/<name>.yaml`, or of a YAML file, changed by words.

    Args:
        name: Name of a preset or path of a file.
        overrides: Words `part=train` in Hydra's grammar, without the prefix `suite.`.

    Raises:
        ConfigError: If there is no such suite, or a key or value is not allowed.
    """
    path = _suite_file(name)
    try:
        with _own_hydra(path.parent):
            found = compose(config_name=path.stem, overrides=[f"++{word}" for word in overrides])
        values = OmegaConf.to_container(found, resolve=True)
    except (HydraException, OmegaConfBaseException) as problem:
        raise ConfigError(f"suite={name!r}: {' '.join(str(problem).split())}") from None
    return suite_from_mapping(_mapping("suite", values))


def suite_from_mapping(values: Mapping[str, Any]) -> Suite:
    """Return the suite that a nested mapping describes; unknown and missing keys are refused."""
    built = dict(values)
    splits = _mapping("suite.splits", values.get("splits") or {})
    built["splits"] = {split: _seeds(split, ends) for split, ends in splits.items()}
    built["paths"] = tuple(_path(one) for one in values.get("paths") or ())
    for group in ("workloads", "arrivals"):
        built[group] = tuple(
            _section(Choice, f"suite.{group}", one) for one in values.get(group) or ()
        )
    built["admission"] = _section(Admission, "suite.admission", values.get("admission") or {})
    built["static"] = _section(StaticSearch, "suite.static", values.get("static") or {})
    built["overload"] = _with_list(Overload, "overload", "cells", OverloadCell, values)
    built["shifts"] = _with_list(Shifts, "shifts", "changes", Change, values)
    return _section(Suite, "suite", built)


def _suite_file(name: str) -> Path:
    folder = conf_directory() / "suite"
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise ConfigError(f"suite={name!r} is not there; expected a YAML file or a name")
        return path
    require_choice("suite", name, [path.stem for path in folder.glob("*.yaml")])
    return folder / f"{name}.yaml"


@contextlib.contextmanager
def _own_hydra(folder: Path) -> Iterator[None]:
    """Let Hydra start here, also inside a training that Hydra has started."""
    outer = GlobalHydra.instance()
    hydra = outer.hydra
    outer.clear()
    try:
        with initialize_config_dir(str(folder), job_name="evaluate", version_base="1.3"):
            yield
    finally:
        GlobalHydra.set_instance(outer)
        outer.hydra = hydra


def _path(values: Any) -> PathPart:
    given = _mapping("suite.paths", values)
    loads = tuple(_section(LoadLevel, "suite.paths.loads", one) for one in given.get("loads") or ())
    return _section(PathPart, "suite.paths", {**given, "loads": loads})


def _with_list(
    kind: type[Section], name: str, key: str, entry: type[Any], values: Mapping[str, Any]
) -> Section | None:
    """Return the section `name` with its list `key` built; None where the suite has none."""
    if values.get(name) is None:
        return None
    given = _mapping(f"suite.{name}", values[name])
    entries = tuple(_section(entry, f"suite.{name}.{key}", one) for one in given.get(key) or ())
    return _section(kind, f"suite.{name}", {**given, key: entries})


def _section(kind: type[Section], where: str, values: Any) -> Section:
    given = {key: as_tuple(value) for key, value in _mapping(where, values).items()}
    try:
        return section_from_mapping(kind, where, given)
    except TypeError as problem:  # a field without a default is missing
        raise ConfigError(f"{where}: {str(problem).partition('() ')[2]}") from None


def _seeds(split: str, ends: Any) -> tuple[int, int]:
    require_choice("suite.splits", split, SPLITS)
    found = as_tuple(ends)
    whole = isinstance(found, tuple) and all(type(end) is int for end in found)
    if not whole or len(found) != 2 or not 0 <= found[0] <= found[1]:
        raise ConfigError(f"suite.splits.{split}={ends!r}: expected [first, last] seed")
    return found[0], found[1]


def _mapping(where: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}={values!r}: expected a mapping")
    return {str(key): value for key, value in values.items()}
