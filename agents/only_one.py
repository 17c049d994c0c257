"""One process at a time in a directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sbs_gym.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows, where nobody is kept out
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold the file `lock`, which a process that ends in any way gives back.

    Raises:
        ConfigError: If another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"output_dir={str(lock.parent)!r}: another process works there; expected a "
                    "directory of its own for every run"
                ) from None
        yield
