"""Files on disk: those a result was made from, by content, and those that it leaves.

What is left is written whole or not at all, and never over the results of another configuration.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sbs_gym.config.timing import TableTiming, TimingConfig
from sbs_gym.config.workload import WorkloadConfig
from sbs_gym.errors import ConfigError
from sbs_gym.timing.passes import locate

CONFIG_FILE = "config.yaml"
Writer = Callable[[Path], None]


def input_digests(workload: WorkloadConfig, timing: TimingConfig) -> dict[str, str]:
    """Return the files that a workload and a timing name: path as configured to sha256.

    A file that does not exist is left out; whoever reads it says so better. Unchanged files are
    read once per process.
    """
    files: dict[str, Path] = {}
    if workload.path is not None:
        files[workload.path] = Path(workload.path).expanduser()
    if isinstance(timing, TableTiming):
        for path in (timing.path, timing.steps_path):
            if path is not None:
                files[path] = locate(path)
    return {name: file_digest(path) for name, path in files.items() if path.is_file()}


def file_digest(path: Path) -> str:
    """Return the sha256 of a file; an unchanged one is read once per process."""
    stat = path.stat()
    # The time of change too: copying a file over another can keep the time of modification.
    return _digest_of(path.resolve(), (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size))


@functools.lru_cache(maxsize=256)
def _digest_of(path: Path, stamp: tuple[int, int, int]) -> str:
    del stamp  # only there so that a file that changed is another entry
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def check_output_dir(directory: str | Path, config: Mapping[str, Any]) -> None:
    """Raise ConfigError if `directory` holds the results of another configuration.

    Args:
        directory: Where results will go; it need not exist.
        config: What `config.yaml` there would hold.
    """
    path = Path(directory) / CONFIG_FILE
    if not path.exists():
        if Path(directory).exists() and not Path(directory).is_dir():
            raise ConfigError(f"output_dir={str(directory)!r} is a file; expected a directory")
        return
    found = read_yaml(path)
    if found != config:
        raise ConfigError(
            f"output_dir={str(directory)!r} holds the results of another configuration "
            f"(it differs in: {', '.join(differing_keys(found, config))}); "
            "give another output_dir or remove it"
        )


def differing_keys(a: Any, b: Any, where: str = "") -> list[str]:
    """Return the dotted keys in which two nested mappings differ."""
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        return [] if a == b else [where or "everything"]
    keys = sorted(set(a) | set(b), key=str)
    nested = (differing_keys(a.get(k), b.get(k), f"{where}.{k}" if where else str(k)) for k in keys)
    return [key for part in nested for key in part]


def write_all(directory: str | Path, files: Mapping[str, Writer]) -> None:
    """Write every file beside its final place first, then put all of them in place, in order."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    parts = {name: target / f".{name}.{os.getpid()}.part" for name in files}
    try:
        for name, write in files.items():
            write(parts[name])
        for name in files:
            os.replace(parts[name], target / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def json_writer(value: Any) -> Writer:
    """Return a writer of readable JSON; NaN becomes null."""
    text = json.dumps(plain(value), indent=2, allow_nan=False) + "\n"
    return text_writer(text)


def yaml_writer(value: Any) -> Writer:
    """Return a writer of YAML that keeps the order of keys."""
    text = yaml.safe_dump(plain(value), sort_keys=False, allow_unicode=True)
    return text_writer(text)


def parquet_writer(table: pd.DataFrame) -> Writer:
    """Return a writer of a Parquet file without an index."""
    return lambda path: table.to_parquet(path, index=False)


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, or raise ConfigError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, or raise ConfigError that names it."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None


def require_files(directory: str | Path, names: Iterable[str]) -> Path:
    """Return the directory as a path, or raise ConfigError that lists the missing files."""
    target = Path(directory)
    missing = [name for name in names if not (target / name).is_file()]
    if missing:
        raise ConfigError(
            f"{str(target)!r} holds no finished result; missing: {', '.join(missing)}"
        )
    return target


def plain(value: Any) -> Any:
    """Return nested values as JSON knows them: NaN becomes None, numpy scalars Python's own."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def text_writer(text: str) -> Writer:
    """Return a writer of a text in UTF-8."""

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    return write


def csv_writer(table: pd.DataFrame) -> Writer:
    """Return a writer of a CSV file without an index; floats keep all their digits."""
    return lambda path: table.to_csv(path, index=False, lineterminator="\n")
