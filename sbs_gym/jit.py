"""The `compiled` decorator: numba's njit with a cache that notices an edited callee.

numba keys its cache by the file of the decorated function alone, so a change in a function that is
called from another file would go unnoticed. All cache files therefore live in a directory named by
a digest of every source file that compiled code can see, and of the versions of Python, numba and
numpy.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numba import config as numba_config
from numba import types

Function = TypeVar("Function", bound=Callable[..., Any])
_KEPT_DIGESTS = 6
PURE_PYTHON = bool(numba_config.DISABLE_JIT)


def source_digest(root: Path, unseen: Sequence[str] = ()) -> str:
    """Return a digest of every Python file below `root` and of the compiler's versions.

    Args:
        root: A directory.
        unseen: Names of files and folders directly below it that do not count.
    """
    digest = hashlib.sha256(f"{sys.version}|{numba.__version__}|{np.__version__}".encode())
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] in unseen:
            continue
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


@functools.cache
def cache_directory() -> Path:
    """Return this version's directory of compiled code; `SBS_GYM_CACHE_DIR` moves it."""
    return cached_under("numba", source_digest(Path(__file__).parent, _unseen_by_compiled_code()))


def cached_under(kind: str, digest: str) -> Path:
    """Return the cache directory of one kind of thing that holds for one digest of the sources.

    Those of few other digests are kept beside it, the oldest ones are removed.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sbs_gym"
    base = Path(os.environ.get("SBS_GYM_CACHE_DIR", default)) / kind
    if not (base / digest).is_dir():
        _forget_old_digests(base)
    return base / digest


def _unseen_by_compiled_code() -> list[str]:
    """Return what compiled code never imports, whose edits need no compilation."""
    seen = {"config", "errors.py", "jit.py", "rng.py", "schedulers", "sim", "timing", "types.py"}
    seen |= {"workload", "batch"}
    return [path.name for path in Path(__file__).parent.iterdir() if path.name not in seen]


def _forget_old_digests(base: Path) -> None:
    if not base.is_dir():
        return
    by_age = sorted((p for p in base.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    for stale in by_age[: max(0, len(by_age) - _KEPT_DIGESTS + 1)]:
        shutil.rmtree(stale, ignore_errors=True)


def compiled(function: Function) -> Function:
    """Compile `function` with numba on first call; plain Python under NUMBA_DISABLE_JIT=1."""
    return _compile(function, forceinline=False)


def inlined(function: Function) -> Function:
    """Like `compiled`, and inlined wherever it is called.

    For the small functions of the loop: left to itself the compiler keeps many of them as calls,
    each with a status to look at, and a step is slower.
    """
    return _compile(function, forceinline=True)


def _compile(function: Function, *, forceinline: bool) -> Function:
    if PURE_PYTHON:
        return function
    before = numba_config.CACHE_DIR
    numba_config.CACHE_DIR = str(cache_directory())
    try:
        compile_ = numba.njit(cache=True, error_model="numpy", nogil=True, forceinline=forceinline)
        return _without_literals(compile_(function))  # type: ignore[no-any-return]
    finally:
        numba_config.CACHE_DIR = before


def _without_literals(dispatcher: Any) -> Any:
    """Let calls with constants share the specialisation of their type.

    numba would compile f(w, 0) and f(w, 1) apart.
    """
    specialise = dispatcher.get_call_template

    def specialise_by_type(args: Any, kws: Any) -> Any:
        plain = [types.unliteral(kind) for kind in args]
        return specialise(plain, {name: types.unliteral(kind) for name, kind in kws.items()})

    dispatcher.get_call_template = specialise_by_type
    return dispatcher
