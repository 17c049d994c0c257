"""The command line's words `key=value` made into a validated run, by Hydra's rules.

`load_config` may be called any number of times, also from inside a running Hydra application: the
global state of Hydra is put back. Every mistake is a ConfigError that names what is known.
"""

from __future__ import annotations

import contextlib
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.groups import conf_directory, group_names, read_group
from sbs_gym.config.learned import PREFIX, learned_mapping
from sbs_gym.config.run import RunConfig, SloConfig, run_from_mapping
from sbs_gym.config.scheduler import SchedulerConfig, scheduler_from_mapping
from sbs_gym.config.timing import KINDS
from sbs_gym.config.workload import ArrivalConfig, WorkloadConfig
from sbs_gym.errors import ConfigError, require_choice, require_flag
from sbs_gym.schedulers.learned.playing import learner_for
from sbs_gym.schedulers.registry import (
    custom_scheduler,
    import_plugins,
    registered_schedulers,
    scheduler_names,
)

GROUPS = ("cluster", "workload", "arrivals", "timing", "scheduler")
PLUGINS = "plugins"
_SECTIONS: dict[str, type] = {
    "cluster": ClusterConfig,
    "workload": WorkloadConfig,
    "arrivals": ArrivalConfig,
    "scheduler": SchedulerConfig,
    "slo": SloConfig,
}
_PLAIN_KEYS = ({f.name for f in fields(RunConfig)} - {*GROUPS, "slo"}) | {"output_dir"}
_PATH_FIELDS = ("path", "steps_path", "output_dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A run and where its files go.

    Attributes:
        run: What is simulated.
        output_dir: Directory of the results; None writes nothing.
    """

    run: RunConfig
    output_dir: Path | None = None


def load_config(overrides: Sequence[str] = ()) -> RunConfig:
    """Return the run that words like `scheduler=sbs` and `cluster.num_prefill=2` describe.

    Args:
        overrides: Words `key=value` in Hydra's grammar; what is not named keeps its default from
            `conf/`. Paths need no quotes. `plugins=my_module` imports a module that registers
            schedulers first.

    Raises:
        ConfigError: If a word is no `key=value`, or a key, preset or value is not allowed.
    """
    return load_settings(overrides).run


def load_settings(overrides: Sequence[str] = (), *, also: Sequence[str] = ()) -> Settings:
    """Return the run and the output directory that the words describe.

    Args:
        overrides: Words `key=value`, as for `load_config`.
        also: Keys that the calling command takes out itself; only listed in messages.

    Raises:
        ConfigError: As `load_config`.
    """
    if isinstance(overrides, str):
        raise ConfigError(f"overrides={overrides!r}: expected a list of words, [{overrides!r}]")
    words = _without_variants([_Word.read(text) for text in without_plugins(overrides)])
    chosen = _chosen_presets(words)
    for word in words:
        _check_key(word, chosen, also)
    values = _compose([word for word in words if not word.is_path])
    for word in words:
        if word.is_path:
            _set(values, word.key, _plain_path(word.raw))
    _fill_in_lengths(values, words, chosen["workload"])
    if values["workload"].get("kind") == "trace" and not values["workload"].get("path"):
        raise ConfigError("workload.path is missing; a trace needs workload.path=FILE")
    output_dir = values.pop("output_dir", None)
    run = run_from_mapping(_with_field_types(values))
    if run.scheduler.custom is not None:
        custom_scheduler(run.scheduler.custom)
    learner_for(run.scheduler, run.cluster)  # refuses what could not be run
    return Settings(run=run, output_dir=None if output_dir is None else Path(output_dir))


def without_plugins(words: Sequence[str]) -> list[str]:
    """Import the modules that `plugins=a` or `plugins=[a,b]` names; return the other words.

    Raises:
        ConfigError: If one cannot be imported.
    """
    rest = [word for word in words if word.partition("=")[0] != PLUGINS]
    for word in words:
        if word.partition("=")[0] == PLUGINS:
            inside = word.partition("=")[2].strip().removeprefix("[").removesuffix("]")
            import_plugins([name.strip().strip("'\"") for name in inside.split(",")])
    return rest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """One word of the command line, cut at its first equals sign."""

    key: str
    raw: str

    @classmethod
    def read(cls, text: str) -> _Word:
        key, equals, raw = text.partition("=")
        if text.startswith("~"):
            raise ConfigError(f"{text!r}: nothing can be removed from a run; set it to null")
        if text.startswith("-"):
            raise ConfigError(f"{text!r} is no option; expected words like seed=1")
        if not equals or not key:
            raise ConfigError(f"{text!r} is no setting; expected key=value, for example seed=1")
        return cls(key=key.lstrip("+").strip(), raw=raw)

    @property
    def is_path(self) -> bool:
        return self.key.rpartition(".")[2] in _PATH_FIELDS

    @property
    def group(self) -> str:
        return self.key.partition(".")[0]

    def for_hydra(self) -> str:
        """Return the word as Hydra takes it, with `++` where a preset may leave the key out."""
        if self.key in GROUPS:
            return f"{self.key}={self.raw}"
        return f"++{self.key}={self.raw}"


def _without_variants(words: Sequence[_Word]) -> list[_Word]:
    """Return `scheduler=sbs:placement=jsq` as the preset, a name that tells all, and its fields.

    A user's scheduler likewise: the preset that it is based on, its name, and what it changes. A
    learned one too: its file has all the fields. The last scheduler counts, as for every key; its
    fields come last, so that its name is true.
    """
    presets = [word for word in words if word.key == "scheduler"]
    if not presets:
        return list(words)
    others = [word for word in words if word.key != "scheduler"]
    name = presets[-1].raw.strip().strip("'\"")
    if name.startswith(PREFIX):
        return [*_learned_words(name), *others]
    preset, *parts = name.split(":")
    custom = preset if preset in registered_schedulers() else None
    if not parts and custom is None:
        return [presets[-1], *others]
    named = [_Word(key="scheduler.name", raw=f"'{name}'")]
    if custom is not None:
        named.append(_Word(key="scheduler.custom", raw=f"'{custom}'"))
        preset, *changed = custom_scheduler(custom).base.split(":")
        named += [_variant_field(f"{name} (its base)", part) for part in changed]
    changes = [_variant_field(name, part) for part in parts]
    return [_Word(key="scheduler", raw=preset), *named, *others, *changes]


def _learned_words(name: str) -> list[_Word]:
    """Return a preset, and all fields of a learned scheduler over it."""
    fields = asdict(scheduler_from_mapping(learned_mapping(name)))
    words = [_Word(key=f"scheduler.{key}", raw=json.dumps(value)) for key, value in fields.items()]
    return [_Word(key="scheduler", raw=group_names("scheduler")[0]), *words]


def _variant_field(name: str, text: str) -> _Word:
    key, equals, value = text.partition("=")
    if not (key and equals and value) or key == "name":
        raise ConfigError(
            f"scheduler={name!r}: {text!r} changes nothing in a preset; expected field=value, "
            "for example sbs:placement=jsq"
        )
    return _Word(key=f"scheduler.{key}", raw=value)


def _chosen_presets(words: Sequence[_Word]) -> dict[str, str]:
    """Return the preset of every group: the default of conf/config.yaml or the last word's."""
    top = yaml.safe_load((conf_directory() / "config.yaml").read_text(encoding="utf-8"))
    chosen = {
        k: v for entry in top["defaults"] if isinstance(entry, dict) for k, v in entry.items()
    }
    for word in words:
        if word.key in GROUPS:
            chosen[word.key] = word.raw.strip().strip("'\"")
    return chosen


def _check_key(word: _Word, chosen: Mapping[str, str], also: Sequence[str]) -> None:
    group, dot, field = word.key.partition(".")
    if not dot:
        require_choice("key", word.key, {*GROUPS, *_PLAIN_KEYS, PLUGINS, *also})
        if group in GROUPS:
            _check_preset(group, chosen[group])
        return
    require_choice(f"{word.key}: group", group, {*GROUPS, "slo"})
    require_choice(f"{group}.{field}: key", field.partition(".")[0], _known(group, chosen))


def _check_preset(group: str, name: str) -> None:
    if "," in name:
        raise ConfigError(
            f"{group}={name!r}: a run takes one {group}; `sbs-gym compare schedulers=[…]` takes "
            "several schedulers"
        )
    require_choice(group, name, scheduler_names() if group == "scheduler" else group_names(group))


def _known(group: str, chosen: Mapping[str, str]) -> set[str]:
    if group != "timing":
        return {field.name for field in fields(_SECTIONS[group])}
    kind = read_group("timing", chosen["timing"]).get("kind")
    return {"kind", *(field.name for field in fields(KINDS[str(kind)]))}


def _compose(words: Sequence[_Word]) -> dict[str, Any]:
    """Return what Hydra composes from `conf/config.yaml` and the words, as plain mappings."""
    for word in words:
        _check_grammar(word)
    try:
        with _own_hydra():
            composed = compose(config_name="config", overrides=[w.for_hydra() for w in words])
        values = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as problem:
        raise ConfigError(" ".join(str(problem).split())) from None
    return typing.cast(dict[str, Any], values)


def _check_grammar(word: _Word) -> None:
    told = f"{word.key}={word.raw}"
    try:
        override = OverridesParser.create().parse_override(word.for_hydra())
    except HydraException as problem:
        reason = str(problem).splitlines()[0]
        raise ConfigError(f"{told!r} cannot be read: {reason}; put the value in quotes?") from None
    if override.is_sweep_override():
        raise ConfigError(f"{told!r} lists several values; a run takes one per key")


@contextlib.contextmanager
def _own_hydra() -> Iterator[None]:
    """Let Hydra start here, and put back what a surrounding Hydra application had."""
    outer, base, job = GlobalHydra.instance(), VersionBase.instance(), JobRuntime.instance()
    hydra, version, name = outer.hydra, base.version_base, job.conf.get("name")
    outer.clear()
    try:
        with initialize_config_dir(str(conf_directory()), job_name="sbs_gym", version_base="1.3"):
            yield
    finally:
        GlobalHydra.set_instance(outer)
        outer.hydra, base.version_base = hydra, version
        job.conf["name"] = name


def _fill_in_lengths(values: dict[str, Any], words: Sequence[_Word], preset: str) -> None:
    """Complete `workload.input_tokens.sigma=…` by the other parameters of the preset's law."""
    for side in ("input", "output"):
        field = f"{side}_tokens"
        given = values["workload"].get(field)
        if not isinstance(given, dict) or "family" in given:
            continue
        named = [word.raw for word in words if word.key == f"workload.{field}"]
        base = named[-1] if named else read_group("workload", preset).get(field)
        law = read_group(f"{side}_lengths", base) if isinstance(base, str) else dict(base or {})
        values["workload"][field] = {**law, **given}


def _plain_path(raw: str) -> str | None:
    text = raw.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    if text == "" or raw.strip() == "null":
        return None
    return str(Path(text).expanduser())


def _set(values: dict[str, Any], key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value


def _with_field_types(values: dict[str, Any]) -> dict[str, Any]:
    """Return the mapping with 1 as 1.0 in float fields and 1e4 as 10000 in whole-number fields."""
    typed = _typed_section(RunConfig, values)
    for name, section in _SECTIONS.items():
        typed[name] = _typed_section(section, values.get(name, {}), f"{name}.")
    kind = values["timing"].get("kind")
    if kind in KINDS:
        typed["timing"] = _typed_section(KINDS[kind], values["timing"], "timing.")
    return typed


def _typed_section(section: type, values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    hints = typing.get_type_hints(section)
    return {key: _typed(f"{where}{key}", v, hints.get(key)) for key, v in values.items()}


def _typed(field: str, value: Any, hint: Any) -> Any:
    """Return the value as its field's type where nothing is lost; the dataclass checks the rest."""
    options = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    wanted = options[0]
    if value is None and NoneType not in options and hint is not None:
        raise ConfigError(f"{field}=null is not allowed; the field needs a value")
    if isinstance(value, dict) and is_dataclass(wanted):
        return _typed_section(typing.cast(type, wanted), value, f"{field}.")
    if isinstance(value, list) and typing.get_origin(wanted) is tuple:
        return [_typed(field, item, typing.get_args(wanted)[0]) for item in value]
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if wanted is bool:
        require_flag(field, value)
    if wanted is str and not isinstance(value, str | NoneType):
        raise ConfigError(f"{field}={value!r} is not allowed; expected a word")
    return value
