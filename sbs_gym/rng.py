"""Addressed luck: every random number is a hash of where it is used, never drawn from a stream.

A number is named by `(seed, stream, purpose, a, b)`. Adding a use, or asking in another order,
moves no other number, so two schedulers meet the same luck at the same place and time.
Source of the mixer: splitmix64, Steele, Lea and Flood, OOPSLA 2014, doi 10.1145/2660193.2660195.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbs_gym.jit import PURE_PYTHON, compiled


class Stream(IntEnum):
    """Who uses a random number; streams never share one."""

    WORKLOAD = 1
    TIMING = 2
    POLICY = 3
    EPISODE = 4


def _as_it_is(function: Any) -> Any:
    return function


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S31 = np.uint64(31)
_S11 = np.uint64(11)
_UNIT = 1.0 / 9007199254740992.0  # 2**-53
_TWO_PI = 2.0 * math.pi


# Unsigned overflow is meant; only the plain-Python mode would warn about it.
_wrap_around = np.errstate(over="ignore") if PURE_PYTHON else _as_it_is


@compiled
def _mix(word):  # type: ignore[no-untyped-def]
    word = (word ^ (word >> _S30)) * _MIX_1
    word = (word ^ (word >> _S27)) * _MIX_2
    return word ^ (word >> _S31)


@_wrap_around
@compiled
def hash64(seed, stream, purpose, a, b):  # type: ignore[no-untyped-def]
    """Return the 64-bit hash of an address; every argument is in [0, 2**63)."""
    word = _mix(np.uint64(seed) + _GOLDEN)
    word = _mix((word ^ np.uint64(stream)) + _GOLDEN)
    word = _mix((word ^ np.uint64(purpose)) + _GOLDEN)
    word = _mix((word ^ np.uint64(a)) + _GOLDEN)
    return _mix((word ^ np.uint64(b)) + _GOLDEN)


@compiled
def uniform(seed, stream, purpose, a, b):  # type: ignore[no-untyped-def]
    """Return a float64 in (0, 1): 53 bits of the hash, half a step away from both ends."""
    return (float(hash64(seed, stream, purpose, a, b) >> _S11) + 0.5) * _UNIT


@compiled
def normal(seed, stream, purpose, a, b):  # type: ignore[no-untyped-def]
    """Return a standard normal float64 (Box-Muller over two hashes of the same address)."""
    radius = math.sqrt(-2.0 * math.log(uniform(seed, stream, purpose, a, b)))
    return radius * math.cos(_TWO_PI * uniform(seed, stream, purpose + 1000, a, b))


def uniform_array(
    seed: int, stream: int, purpose: int, count: int, *, start: int = 0, b: int = 0
) -> NDArray[np.float64]:
    """Return `uniform(seed, stream, purpose, start + i, b)` for i in [0, count), shape (count,)."""
    return _uniform_array(seed, stream, purpose, start, count, b)  # type: ignore[no-any-return]


@compiled
def _uniform_array(seed, stream, purpose, start, count, b):  # type: ignore[no-untyped-def]
    out = np.empty(count, dtype=np.float64)
    for i in range(count):
        out[i] = uniform(seed, stream, purpose, start + i, b)
    return out
