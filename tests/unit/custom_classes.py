"""Rules of the package written again as classes of a user's, for test_custom_scheduler."""

from __future__ import annotations

import numpy as np

from sbs_gym import Scheduler, Window

NEVER = 1 << 60


class OneInterval(Scheduler):
    """release=sbs with multiplier 1."""

    def release(self, view):
        assert len(view.buffer) > 0
        assert view.instance is None
        return Window(multiplier=1.0)


class Pbaa(Scheduler):
    def place_prefill(self, view, request):
        return np.argmax(view.ranks.room)


class LeastLoad(Scheduler):
    """lpt, and least_tokens where nothing waits for readiness."""

    def place_prefill(self, view, request):
        return int(np.argmin(np.where(view.ranks.legal, view.ranks.load, np.inf)))


class LeastRequests(Scheduler):
    def place_prefill(self, view, request):
        return int(np.argmin(np.where(view.ranks.legal, view.ranks.unacked_requests, NEVER)))


class InTurn(Scheduler):
    """round_robin over ranks: a counter per instance."""

    def reset(self, view):
        self.next_rank = [0] * view.cluster.num_prefill

    def place_prefill(self, view, request):
        dp, start = view.cluster.prefill_dp, self.next_rank[view.instance]
        rank = next(d % dp for d in range(start, start + dp) if view.ranks.legal[d % dp])
        self.next_rank[view.instance] = (rank + 1) % dp
        return rank


class Jsq(Scheduler):
    def place_decode(self, view, request):
        assert not request.may_leave
        ranks = view.decode_ranks
        load = ranks.requests
        if not ranks.has_room[ranks.legal].any():
            load = load + 3 * ranks.waiting  # the rule where no rank has room
        return int(np.argmin(np.where(ranks.legal, load, NEVER)))


class Everything(OneInterval, Pbaa, Jsq):
    """All three questions."""


class Wild(Scheduler):
    """Windows, ranks and orders drawn at random; looks whether it is asked for the right request.

    `n_limit` must be the run's.
    """

    n_limit = 3
    orders = ("age_longest", "arrival", "shortest")

    def reset(self, view):
        assert (view.now_s, len(view.buffer), view.num_releases) == (0.0, 0, 0)
        self.rng = np.random.default_rng(5)
        self.order, self.allocation, self.left = "age_longest", None, []
        self.counts = {"left": 0, "past": 0, "window": 0, "decode": 0}

    def release(self, view):
        self.counts["window"] += 1
        self.order = str(self.rng.choice(self.orders))
        return Window(
            multiplier=self.rng.uniform(0, 2),
            budget_tokens=None if self.rng.random() < 0.5 else self.rng.integers(200, 1500),
            order=self.order,
        )

    def place_prefill(self, view, request):
        allocation = (view.now_s, view.num_releases, view.instance)
        if allocation != self.allocation:
            self.allocation, self.left = allocation, []
        assert request.id == self.first_of(view.buffer)
        at = list(view.buffer.ids).index(request.id)
        assert view.buffer.input_tokens[at] == request.input_tokens
        assert view.buffer.age_s[at] == request.age_s >= 0.0
        if request.may_leave and self.rng.random() < 0.3:
            self.left.append(request.id)
            self.counts["left"] += 1
            return None
        return self.rng.choice(np.flatnonzero(view.ranks.legal))

    def place_decode(self, view, request):
        self.counts["decode"] += 1
        return self.rng.choice(np.flatnonzero(view.decode_ranks.legal))

    def first_of(self, buffer):
        """The request whose turn it is, by the text of docs/semantics.md section 9."""
        waiting = [
            (int(waited), int(tokens), int(r))
            for waited, tokens, r in zip(
                buffer.waited_releases, buffer.input_tokens, buffer.ids, strict=True
            )
            if r not in self.left
        ]
        past = [r for waited, _, r in waiting if waited > self.n_limit]
        if past:
            self.counts["past"] += 1
            return min(past)
        keys = {
            "age_longest": lambda one: (-one[0], -one[1], one[2]),
            "arrival": lambda one: one[2],
            "shortest": lambda one: (one[1], one[2]),
        }
        return min(waiting, key=keys[self.order])[2]
