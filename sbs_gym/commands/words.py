"""The words that a subcommand takes for itself; the rest describe the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sbs_gym.config.learned import PREFIX
from sbs_gym.config.run import RunConfig
from sbs_gym.errors import ConfigError, require_choice, require_number
from sbs_gym.schedulers import registry


def split_words(words: Sequence[str], own: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the values of the command's own keys, and the other words in their order."""
    taken: dict[str, str] = {}
    rest: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in own:
            taken[key] = value.strip()
        else:
            rest.append(word)
    return taken, rest


def refuse_other(words: Sequence[str], known: Sequence[str], command: str) -> None:
    """Raise ConfigError for the first word that the command does not know."""
    said = command.removeprefix("sbs-gym ")
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is no setting; expected key=value; see {command} --help")
        require_choice(f"{said}: key", key, known)


def items(text: str) -> list[str]:
    """Return the entries of `[a,b]` or `a,b`, in order and without quotes."""
    inside = text.strip().removeprefix("[").removesuffix("]")
    return [part.strip().strip("'\"") for part in inside.split(",") if part.strip()]


def whole(key: str, text: str, low: int, high: int) -> int:
    """Return the whole number that the text writes, in [low, high]."""
    try:
        value = int(text)
    except ValueError:
        raise ConfigError(
            f"{key}={text!r} is not allowed; expected a whole number in [{low}, {high}]"
        ) from None
    require_number(key, value, low, high, integer=True)
    return value


def decimal(key: str, text: str, low: float, high: float) -> float:
    """Return the number that the text writes, in [low, high]."""
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(
            f"{key}={text!r} is not allowed; expected a number in [{low:g}, {high:g}]"
        ) from None
    require_number(key, value, low, high)
    return value


def load_fractions(text: str) -> list[float]:
    """Return the loads of `[0.5,0.7]`, at least one, each in (0, 10] and once."""
    try:
        loads = [float(item) for item in items(text)]
    except ValueError:
        loads = []
    if not loads:
        raise ConfigError(f"loads={text!r} is not allowed; expected numbers such as [0.5,0.7]")
    for load in loads:
        require_number("loads", load, 0, 10, low_open=True)
    if len(set(loads)) != len(loads):
        raise ConfigError(f"loads={text!r} names one twice")
    return loads


def scheduler_names(text: str, at_least: int = 2) -> list[str]:
    """Return the schedulers named in `[a,b]`, each known and named once; two for a comparison.

    Known are presets, what was registered, and files of learned schedulers. A name may change what
    it names: `sbs:placement=jsq:multiplier=0`.
    """
    names = items(text)
    for name in names:
        if not name.startswith(PREFIX):  # whose file is looked for when the run is read
            require_choice("schedulers", name.partition(":")[0], registry.scheduler_names())
    if len(set(names)) != len(names):
        raise ConfigError(f"schedulers={text!r} names one twice")
    if len(names) < at_least:
        needed = "a comparison needs at least two" if at_least > 1 else "expected at least one"
        raise ConfigError(f"schedulers={text!r}: {needed}")
    return names


def output_file(text: str) -> Path:
    """Return the path of a file to write; its folder need not be there."""
    path = Path(text.strip("'\"")).expanduser()
    if path.is_dir():
        raise ConfigError(f"output={text!r} is a directory; expected a file")
    return path


def refuse_keys(words: Sequence[str], keys: Sequence[str], why: str) -> None:
    """Raise ConfigError for the first word whose key, or group, is among `keys`."""
    for word in words:
        if word.lstrip("+").partition("=")[0].partition(".")[0] in keys:
            raise ConfigError(f"{word!r} {why}; leave it out")


def existing_file(text: str) -> Path:
    """Return the path of a file that is there."""
    path = Path(text).expanduser()
    if not path.is_file():
        problem = "is a directory" if path.is_dir() else "is not there"
        raise ConfigError(f"{text!r} {problem}; expected a file")
    return path


def require_trace(config: RunConfig) -> None:
    """Raise ConfigError if the run replays a trace file that is not there."""
    if config.workload.kind == "trace" and config.workload.path is not None:
        existing_file(config.workload.path)
