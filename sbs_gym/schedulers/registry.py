"""Names for users' schedulers, and the modules that define them."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import marshal
import os
import pickle
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sbs_gym.config.groups import group_names
from sbs_gym.config.learned import PREFIX, weights_digest
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.errors import ConfigError, SbsGymError, require_choice
from sbs_gym.schedulers.custom import Scheduler
from sbs_gym.sim.agent_state import Question

QUESTIONS = {
    "release": Question.RELEASE,
    "place_prefill": Question.PREFILL,
    "place_decode": Question.DECODE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A user's scheduler under its name.

    Attributes:
        name: What `scheduler=…` takes.
        kind: The class.
        digest: Checksum of the file that it stands in, as it was when the name was registered.
    """

    name: str
    kind: type[Scheduler]
    digest: str

    @property
    def place(self) -> str:
        """Module and name of the class."""
        return f"{self.kind.__module__}:{self.kind.__qualname__}"


_REGISTERED: dict[str, Registered] = {}  # names are of the process, as those of presets are


def register_scheduler(name: str, kind: type[Scheduler]) -> None:
    """Let `scheduler=<name>` mean a class derived from Scheduler.

    Do it where the module that defines the class is imported, so that worker processes know it too.

    Raises:
        ConfigError: If the name is a preset's, another class's or cannot be written as a word, or
            the class is none or answers no question.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w-]*", name):
        raise ConfigError(f"name={name!r} is not allowed; expected letters, digits, _ and -")
    if name in group_names("scheduler"):
        raise ConfigError(f"name={name!r} is the name of a preset; expected another one")
    if not isinstance(kind, type) or not issubclass(kind, Scheduler):
        raise ConfigError(f"scheduler {name!r}: {kind!r} is no class derived from Scheduler")
    if not questions_of(kind):
        raise ConfigError(
            f"scheduler {name!r}: {kind.__qualname__} answers no question; expected at least one "
            f"of the methods {', '.join(QUESTIONS)}"
        )
    require_choice(
        f"scheduler {name!r}: base", kind.base.partition(":")[0], group_names("scheduler")
    )
    one = Registered(name=name, kind=kind, digest=_source_digest(kind))
    known = _REGISTERED.get(name)
    if known is not None and known.place != one.place:  # the same place: a cell that is run again
        raise ConfigError(f"name={name!r} is taken by {known.place}; expected another one")
    _REGISTERED[name] = one


def registered_schedulers() -> list[str]:
    """Return the names that were registered, sorted."""
    return sorted(_REGISTERED)


def scheduler_names() -> list[str]:
    """Return all names that `scheduler=…` takes, presets and registered ones, sorted."""
    return sorted([*group_names("scheduler"), *_REGISTERED])


def registered(name: str) -> Registered:
    """Return what was registered under a name.

    Raises:
        ConfigError: If nothing was.
    """
    if name not in _REGISTERED:
        known = ", ".join(registered_schedulers()) or "none"
        raise ConfigError(
            f"scheduler {name!r} is a class that is not registered here; import the module that "
            f"calls register_scheduler({name!r}, …), on the command line with plugins=MODULE. "
            f"Registered: {known}"
        )
    return _REGISTERED[name]


def custom_scheduler(name: str) -> type[Scheduler]:
    """Return the class that was registered under a name.

    Raises:
        ConfigError: If none was.
    """
    return registered(name).kind


def source_of(scheduler: SchedulerConfig) -> dict[str, str]:
    """Return where a scheduler is not made of rules, and the checksum of the file.

    That is module:class of a user's class, learned:NAME of a network.
    """
    if scheduler.learned is not None:
        return {f"{PREFIX}{scheduler.learned}": weights_digest(scheduler.learned)}
    if scheduler.custom is None:
        return {}
    one = registered(scheduler.custom)
    return {one.place: one.digest}


def portable(scheduler: SchedulerConfig) -> Registered | None:
    """Return what a worker process needs to run a scheduler; None if it is made of rules.

    Raises:
        ConfigError: If a worker could not import the class.
    """
    if scheduler.custom is None:
        return None
    one = registered(scheduler.custom)
    main = sys.modules.get("__main__")
    interactive = one.kind.__module__ == "__main__" and not hasattr(main, "__file__")
    try:
        pickle.dumps(one.kind)
    except (pickle.PicklingError, AttributeError):
        interactive = True
    if interactive:
        raise ConfigError(
            f"scheduler {one.name!r}: other processes cannot import {one.place}; expected a class "
            "at the top of a module file, or jobs=1"
        )
    return one


def adopt(one: Registered) -> None:
    """Register in a worker process what its parent has registered.

    Raises:
        SbsGymError: If the file has changed since.
    """
    register_scheduler(one.name, one.kind)
    if _REGISTERED[one.name].digest != one.digest:
        raise SbsGymError(
            f"the file of {one.place} changed while it was run; give the same command again"
        )


def questions_of(kind: type[Scheduler]) -> Question:
    """Return the questions that a class answers itself."""
    answered = Question(0)
    for method, question in QUESTIONS.items():
        if getattr(kind, method) is not getattr(Scheduler, method):
            answered |= question
    return answered


def import_plugins(names: Sequence[str]) -> None:
    """Import modules that register schedulers, from the working directory or as installed.

    Raises:
        ConfigError: If one cannot be imported, or none of them registers a scheduler.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # behind the others: a file named as a library must not hide it
    for name in names:
        _import(name, here)
    if names and not _REGISTERED:
        raise ConfigError(
            f"plugins={','.join(names)}: nothing was registered; expected a call of "
            "register_scheduler(name, class)"
        )


def _import(name: str, here: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")) or name.endswith(".py"):
        raise ConfigError(f"plugins={name!r} is no module; expected a name such as my_module")
    try:
        importlib.import_module(name)
    except SbsGymError:
        raise
    except ModuleNotFoundError as problem:
        if problem.name != name:
            raise ConfigError(_told(name, problem)) from problem
        raise ConfigError(f"plugins={name!r}: there is no {name}.py in {here}") from None
    except Exception as problem:
        raise ConfigError(_told(name, problem)) from problem


def _told(name: str, problem: Exception) -> str:
    last = traceback.extract_tb(problem.__traceback__)[-1]
    line = getattr(problem, "lineno", None) or last.lineno
    path = getattr(problem, "filename", None) or last.filename
    return (
        f"plugins={name!r} cannot be imported: {type(problem).__name__}: {problem} "
        f"({Path(path).name}, line {line})"
    )


def _source_digest(kind: type[Scheduler]) -> str:
    path = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if path is not None and Path(path).is_file():
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    methods = [function for _, function in inspect.getmembers(kind, inspect.isfunction)]
    return hashlib.sha256(b"".join(marshal.dumps(f.__code__) for f in methods)).hexdigest()
