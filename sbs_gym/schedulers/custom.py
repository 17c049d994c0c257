"""A scheduler of one's own: a class that answers some questions, above a preset for the others.

docs/own_scheduler.md shows one from the class to its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sbs_gym.errors import require_choice, require_number
from sbs_gym.schedulers.cluster_view import ClusterView
from sbs_gym.schedulers.views import RequestView

_ORDERS = ("age_longest", "arrival", "shortest")
_MOST_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The answer to `release`: it stands until the next release has been made.

    Attributes:
        multiplier: Factor on the interval (pass + link) / instances, 0 to 100; the preset clips the
            product to [min_interval_s, max_interval_s].
        budget_tokens: Tokens that a rank may take in a pass, 1 to 1,000,000, never above the chunk;
            None: by the preset's rule, the full chunk under `sbs`.
        order: Who goes first out of the buffer: age_longest, arrival or shortest; None: as the
            preset has it, which is the only order if that is longest.
    """

    multiplier: float = 1.0
    budget_tokens: int | None = None
    order: str | None = None

    def __post_init__(self) -> None:
        for name in ("multiplier", "budget_tokens"):
            value = getattr(self, name)
            if isinstance(value, np.generic):
                object.__setattr__(self, name, value.item())
        require_number("Window.multiplier", self.multiplier, 0, 100)
        if self.budget_tokens is not None:
            budget = self.budget_tokens
            require_number("Window.budget_tokens", budget, 1, _MOST_TOKENS, integer=True)
        if self.order is not None:
            require_choice("Window.order", self.order, _ORDERS)


class Scheduler:
    """Base of a scheduler of one's own; override at least one of the questions.

    Every run makes a new object, without arguments. What it is shown is read-only, and it is only
    what a real scheduler knows: never the length of an answer, never the state of an engine before
    its signal or report has come.

    Attributes:
        base: The preset that answers what the class does not, also changed: "sbs:order=shortest".
    """

    base: ClassVar[str] = "sbs"

    def reset(self, view: ClusterView) -> None:
        """Begin a run: time is 0 and nothing has arrived."""

    def release(self, view: ClusterView) -> Window:
        """Return the window of the next release.

        Asked once per release, at the first scheduler round that finds the buffer not empty. A full
        batch or leftovers may be released earlier, as the preset says. Needs a preset with
        release=sbs.
        """
        raise NotImplementedError

    def place_prefill(self, view: ClusterView, request: RequestView) -> int | None:
        """Return the rank in [0, prefill_dp) of `view.instance` for a request of a release.

        Asked for one request after the other, in the order in which they leave the buffer, until no
        rank has room. None leaves the request in the buffer and goes on with the next one; not
        allowed unless `request.may_leave`. A rank is allowed if `view.ranks.legal` says so.
        """
        raise NotImplementedError

    def place_decode(self, view: ClusterView, request: RequestView) -> int:
        """Return the decode rank in [0, num_decode_ranks) to ask for room for a prompt.

        One that `view.decode_ranks.legal` allows. The rank refuses if it is fuller than the
        records say; the question then comes again in a later round.
        """
        raise NotImplementedError
