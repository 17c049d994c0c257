"""Types that every part of the package shares; the request table above all."""

from __future__ import annotations

import hashlib
import math
import operator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbs_gym.errors import ConfigError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixBlocks:
    """Prefix-block hashes of all requests, flat.

    Attributes:
        hashes: uint64, shape (num_blocks,): equal hashes mean a reusable prefix block.
        offsets: int64, shape (num_requests + 1,): request i owns hashes[offsets[i]:offsets[i + 1]].
        block_tokens: Tokens of one full block.
    """

    hashes: NDArray[np.uint64]
    offsets: IntArray
    block_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestTable:
    """The requests of one run in order of arrival; immutable, arrays are read-only.

    Attributes:
        arrived_at_s: float64, seconds from the first instant of the run, never falling.
        input_tokens: int32, prompt length, at least 1.
        output_tokens: int32, answer length; 0 where a trace says so and the option keeps it.
        name: Which workload this is, for results and error messages.
        priority, session_id, parent_id, turn: int64 or None where the source has none
            (session_id numbers the sessions; parent_id and turn are -1 where there is none).
        delay_s: float64 or None, wait after the parent's completion (closed-loop sources).
        measured_ttft_s, measured_e2e_s: float64 or None, what the source measured.
        cached_tokens: int64 or None, prompt tokens that the source served from a cache.
        blocks: Prefix blocks or None.
    """

    arrived_at_s: FloatArray
    input_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    name: str
    priority: IntArray | None = None
    session_id: IntArray | None = None
    parent_id: IntArray | None = None
    turn: IntArray | None = None
    delay_s: FloatArray | None = None
    measured_ttft_s: FloatArray | None = None
    measured_e2e_s: FloatArray | None = None
    cached_tokens: IntArray | None = None
    blocks: PrefixBlocks | None = None

    def __post_init__(self) -> None:
        when, count = self.arrived_at_s, len(self.arrived_at_s)
        if len(self.input_tokens) != count or len(self.output_tokens) != count:
            raise ConfigError(f"request table {self.name!r}: columns differ in length")
        if count and not np.logical_and.reduce(when[1:] >= when[:-1]):
            self._require_finite()  # what is not a number is never in order
            raise ConfigError(f"request table {self.name!r}: arrived_at_s must not fall")
        if count and not math.isfinite(when[-1] - when[0]):
            self._require_finite()
        if count and np.minimum.reduce(self.input_tokens) < 1:
            raise ConfigError(f"request table {self.name!r}: input_tokens must be at least 1")
        for column in self._arrays():
            column.setflags(write=False)

    def _require_finite(self) -> None:
        if not np.isfinite(self.arrived_at_s).all():
            raise ConfigError(f"request table {self.name!r}: arrived_at_s must be finite")

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.arrived_at_s)

    def _arrays(self) -> list[NDArray[np.generic]]:
        values = list(_columns(self))
        if self.blocks is not None:
            values += [self.blocks.hashes, self.blocks.offsets]
        return [value for value in values if isinstance(value, np.ndarray)]

    def digest(self) -> str:
        """Return a checksum of all columns, so that a result names exactly what it ran on."""
        total = hashlib.sha256()
        for column in self._arrays():
            total.update(np.ascontiguousarray(column).tobytes())
        return total.hexdigest()[:16]


_columns = operator.attrgetter(*RequestTable.__slots__)
