"""What trying out several answers taught: a ring of the newest comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Lessons:
    """At most `size` comparisons, the newest.

    Attributes:
        tried: int64, shape (size, tries): actions, the player's own first.
        gains: float32, shape (size, tries): what each brings above their mean.
        seen: Observations by parts, each of shape (size, …).
        count: How many there are.
    """

    def __init__(self, size: int, tries: int, like: Mapping[str, NDArray[Any]]) -> None:
        self.tried = np.zeros((size, tries), dtype=np.int64)
        self.gains = np.zeros((size, tries), dtype=np.float32)
        self.seen = {
            name: np.zeros((size, *part.shape[1:]), dtype=part.dtype) for name, part in like.items()
        }
        self.count = self._next = 0

    def add(
        self, seen: Mapping[str, NDArray[Any]], tried: NDArray[np.int64], gains: NDArray[Any]
    ) -> None:
        """Keep some comparisons in the place of the oldest."""
        size = len(self.tried)
        places = (self._next + np.arange(len(tried))) % size
        self.tried[places], self.gains[places] = tried, gains
        for name, part in seen.items():
            self.seen[name][places] = part
        self._next = int((self._next + len(tried)) % size)
        self.count = min(self.count + len(tried), size)

    def state(self) -> dict[str, Any]:
        """Return what `restore` goes on from."""
        arrays = {"tried": self.tried, "gains": self.gains, **self.seen}
        kept = {name: array[: self.count].copy() for name, array in arrays.items()}
        return {"arrays": kept, "next": self._next, "count": self.count}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._next, self.count = state["next"], state["count"]
        for name, array in {"tried": self.tried, "gains": self.gains, **self.seen}.items():
            array[: self.count] = state["arrays"][name]
