"""Runs from plain mappings of words, `cluster.chunk_tokens: 5120`, as presets of a study hold them.

The words are those of the command line, read without Hydra; what is not named is the default of
`conf/config.yaml`.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import yaml

from sbs_gym.config.groups import changes_in, conf_directory, read_group
from sbs_gym.config.learned import PREFIX, learned_mapping
from sbs_gym.config.run import RunConfig, SloConfig, run_from_mapping
from sbs_gym.errors import require_choice

Words = Mapping[str, Any]
_GROUPS = ("cluster", "workload", "arrivals", "timing")
_SLO = {field.name for field in fields(SloConfig)}
_PLAIN = {field.name for field in fields(RunConfig)} - {*_GROUPS, "scheduler", "slo"}


def run_config(words: Words, scheduler: str) -> RunConfig:
    """Return the run of a scheduler that words describe.

    Args:
        words: Key of the command line to its value: a preset of a group, a field of a group
            (`timing.fixed_s`), of the SLO (`slo.ttft_s`), or a plain key (`num_requests`).
        scheduler: A preset, changed or not (`sbs:multiplier=0`), or `learned:NAME`.

    Raises:
        ConfigError: If a key, a preset or a value is not known or not allowed.
    """
    presets = {**_default_presets()} | {key: words[key] for key in _GROUPS if key in words}
    parts: dict[str, dict[str, Any]] = {
        group: {"name": name, **_preset_of(group, str(name))} for group, name in presets.items()
    }
    del parts["timing"]["name"]
    parts["slo"] = {}
    plain: dict[str, Any] = {}
    for key, value in words.items():
        group, dot, field = key.partition(".")
        if not dot:
            require_choice("key", key, {*_GROUPS, *_PLAIN})
            plain |= {} if key in _GROUPS else {key: value}
        else:
            require_choice(f"{key}: group", group, parts)
            parts[group][field] = value
    require_slo_keys(parts["slo"])
    return run_from_mapping({**parts, **plain, "scheduler": scheduler_mapping(scheduler)})


def require_slo_keys(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for a field that the SLO does not have."""
    for field in given:
        require_choice(f"slo.{field}: key", field, _SLO)


def scheduler_mapping(text: str) -> dict[str, Any]:
    """Return the fields of a scheduler by its name, which may change a preset."""
    if text.startswith(PREFIX):
        return learned_mapping(text)
    preset, *changes = text.split(":")
    return dict(_preset_of("scheduler", preset)) | changes_in(text, changes) | {"name": text}


def as_words(words: Words) -> str:
    """Return words as one types them, quoted for a shell."""
    return " ".join(shlex.quote(f"{key}={_plain(value)}") for key, value in words.items())


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(_plain(item) for item in value)}]"
    return "null" if value is None else str(value)


@functools.cache
def _preset_of(group: str, name: str) -> Mapping[str, Any]:
    """Return a preset; studies name the same few hundreds of times, and reading YAML is slow."""
    return read_group(group, name)


@functools.cache
def _default_presets() -> Mapping[str, str]:
    top = yaml.safe_load((conf_directory() / "config.yaml").read_text(encoding="utf-8"))
    entries = [entry for entry in top["defaults"] if isinstance(entry, dict)]
    return {group: name for one in entries for group, name in one.items() if group in _GROUPS}
