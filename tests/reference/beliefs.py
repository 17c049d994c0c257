"""What the scheduler knows and believes (section 5)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tests.reference.agenda import Agenda
from tests.reference.clock import Clock
from tests.reference.engine import Release, Signal
from tests.reference.forming import Part, form_rank, price_of, tokens_of
from tests.reference.scenario import EAGER, FREE_RUNNING, ON_RELEASE, Scenario


def moved(average: float, new: float) -> float:
    """Return the exponential moving average after one more value."""
    return average + 0.2 * (new - average)


@dataclass
class RankBelief:
    """One rank's record; `fifo` holds every request sent that is not yet fully acked."""

    fifo: list[tuple[int, int]] = field(default_factory=list)  # request, tokens
    sent: int = 0
    acked: int = 0
    assumed: int = 0
    gone: int = 0  # tokens of fully acked requests, no longer in `fifo`

    @property
    def outstanding(self) -> int:
        return self.sent - self.acked

    def send(self, request: int, tokens: int) -> None:
        self.fifo.append((request, tokens))
        self.sent += tokens

    def acknowledge(self, done: int) -> None:
        self.acked, self.assumed = done, 0
        while self.fifo and self.gone + self.fifo[0][1] <= done:
            self.gone += self.fifo.pop(0)[1]

    def parts(self, skipped: int, length: int) -> list[Part]:
        """Return the tokens behind the acked and `skipped` more, `length` at most."""
        found: list[Part] = []
        skipped += self.acked - self.gone
        for request, tokens in self.fifo:
            done = min(skipped, tokens)
            left = min(tokens - done, length)
            if left > 0:
                found.append((request, done, left))
            skipped, length = skipped - done, length - left
        return found


@dataclass(frozen=True)
class SentRelease:
    """A release on record: its delivery instant, its tokens per rank, its budget."""

    delivered_at_s: float
    tokens: list[int]
    budget: int


@dataclass
class InstanceBelief:
    """One instance as the scheduler sees it."""

    ranks: list[RankBelief]
    releases: list[SentRelease] = field(default_factory=list)
    pending: bool = False
    running: bool = False
    run_start: float = 0.0
    run_end: float = 0.0
    run_pred: float = 0.0
    run_tokens: list[int] = field(default_factory=list)
    put_off: bool = False  # its next pass has not begun: believed only after the round
    idle_since: float = 0.0
    err: float = 0.0
    last_index: int = -1  # of the last pass known or assumed ended
    next_rank: int = 0  # round robin's counter

    @property
    def last_at(self) -> float:
        return self.releases[-1].delivered_at_s if self.releases else -math.inf

    @property
    def outstanding(self) -> int:
        return sum(rank.outstanding for rank in self.ranks)

    def holds_longer_than(self, tokens: int) -> bool:
        """Return whether a longer prompt was sent there and is not known to be done."""
        return any(length > tokens for rank in self.ranks for _, length in rank.fifo)

    def skipped(self, rank: int) -> int:
        """Return the unacked tokens believed done or in the running pass (gated rules)."""
        return (self.run_tokens[rank] if self.running else 0) + self.ranks[rank].assumed


class Beliefs:
    """The records of all instances, and how signals and watchdogs change them."""

    def __init__(self, scenario: Scenario, clock: Clock, agenda: Agenda) -> None:
        self.scenario, self.clock, self.agenda = scenario, clock, agenda
        self.pass_avg = clock.full_pass_s
        ranks = range(scenario.dp)
        self.instances = [
            InstanceBelief([RankBelief() for _ in ranks]) for _ in range(scenario.num_prefill)
        ]

    def leftover_parts(self, instance: int, rank: int) -> list[Part]:
        """Return a rank's leftovers in FIFO order, with their context."""
        belief = self.instances[instance]
        skipped = belief.skipped(rank) if self.scenario.gated else 0
        left = belief.ranks[rank].outstanding - skipped
        return belief.ranks[rank].parts(skipped, left) if left > 0 else []

    def leftover(self, instance: int, rank: int) -> int:
        belief = self.instances[instance]
        skipped = belief.skipped(rank) if self.scenario.gated else 0
        return max(0, belief.ranks[rank].outstanding - skipped)

    def leftovers(self, instance: int) -> list[int]:
        return [self.leftover(instance, rank) for rank in range(self.scenario.dp)]

    def lead(self, instance: int) -> float:
        margin = min(2 * self.instances[instance].err, 0.05 * self.pass_avg)
        return self.scenario.dispatch_delay_s + margin

    def is_ready(self, instance: int, now: float) -> bool:
        b = self.instances[instance]
        if b.pending or not b.running:
            return not b.pending
        if self.scenario.leftovers == "alone":
            return False
        late_s = (self.scenario.watchdog_factor - 1) * b.run_pred
        return now > b.run_start and b.run_end - self.lead(instance) <= now < b.run_end + late_s

    def record(self, release: Release, now: float) -> None:
        """Note a release; an idle instance is believed to start when it arrives."""
        b = self.instances[release.instance]
        tokens = [0] * self.scenario.dp
        for request, rank in release.placed:
            b.ranks[rank].send(request, self.scenario.input_tokens[request])
            tokens[rank] += self.scenario.input_tokens[request]
        at_s = now + self.scenario.dispatch_delay_s
        b.releases.append(SentRelease(at_s, tokens, release.budget))
        if not self.scenario.gated:
            return
        if b.running:
            b.pending = True
        else:
            self._believe_start(release.instance, at_s, now, self._all_unassumed(b), release.budget)

    def start_without_release(self, instance: int, now: float) -> None:
        """Believe that an idle instance whose leftovers left no room starts on them now."""
        b = self.instances[instance]
        self._believe_start(instance, now, now, self._all_unassumed(b), b.releases[-1].budget)

    def settle_put_off_starts(self, now: float) -> None:
        """After the round: believe the starts that were put off and got no release."""
        for i, b in enumerate(self.instances):
            if b.put_off:
                work = [rank.outstanding for rank in b.ranks]
                self._believe_start(i, b.idle_since, now, work, self._budget_at(b, b.idle_since))

    def hear(self, signal: Signal, now: float) -> None:
        b = self.instances[signal.instance]
        for rank, done in zip(b.ranks, signal.done, strict=True):
            rank.acknowledge(done)
        if signal.tokens > 0:
            self.pass_avg = moved(self.pass_avg, signal.ended_at_s - signal.started_at_s)
        if not self.scenario.gated:
            return
        if b.running and signal.index == b.last_index + 1:
            b.err = moved(b.err, abs(signal.ended_at_s - b.run_end))
        b.running = False
        self.agenda.cancel_watchdog(signal.instance)
        b.last_index = signal.index
        self._believe_next_pass(signal, now)

    def _believe_next_pass(self, signal: Signal, now: float) -> None:
        i, ended = signal.instance, signal.ended_at_s
        b = self.instances[i]
        in_flight = b.last_at > ended
        all_work = [rank.outstanding for rank in b.ranks]
        work = self._delivered_work(b, ended)
        starts_by_itself = {
            EAGER: any(tokens > 0 for tokens in work),
            ON_RELEASE: not in_flight and any(all_work) and b.last_at > signal.started_at_s,
            FREE_RUNNING: True,
        }[self.scenario.start_rule]
        b.pending = in_flight and starts_by_itself
        if starts_by_itself and self._has_not_begun(b, signal):
            b.put_off, b.idle_since = True, ended
        elif starts_by_itself:
            self._believe_start(i, ended, now, work, self._budget_at(b, ended))
        elif in_flight and any(all_work):
            self._believe_start(i, b.last_at, now, all_work, b.releases[-1].budget)
        else:
            b.idle_since = ended

    def _has_not_begun(self, b: InstanceBelief, signal: Signal) -> bool:
        """Return whether a release of this round still makes the pass that follows `signal`.

        With zero link delays the signal is heard as its pass ends, and the next pass starts after
        the round; but a release that waits for that pass already is not joined, and an eager engine
        under `leftovers = alone` finishes what it split before it gets anything new.
        """
        s = self.scenario
        if s.start_rule == ON_RELEASE or (s.start_rule == EAGER and s.leftovers == "alone"):
            return False
        return s.has_instant_link and b.last_at <= signal.started_at_s

    @staticmethod
    def _all_unassumed(b: InstanceBelief) -> list[int]:
        return [rank.outstanding - rank.assumed for rank in b.ranks]

    def _delivered_work(self, b: InstanceBelief, ended: float) -> list[int]:
        in_flight = b.releases[-1].tokens if b.last_at > ended else [0] * self.scenario.dp
        return [rank.outstanding - t for rank, t in zip(b.ranks, in_flight, strict=True)]

    def _budget_at(self, b: InstanceBelief, ended: float) -> int:
        """Return the last release's budget, or that of the one before if it came after `ended`."""
        delivered = b.releases[:-1] if b.last_at > ended else b.releases
        return delivered[-1].budget if delivered else self.scenario.chunk_tokens

    def give_up_on_pass(self, instance: int, now: float) -> None:
        """The watchdog: declare the believed pass ended without its signal."""
        b = self.instances[instance]
        for rank, tokens in zip(b.ranks, b.run_tokens, strict=True):
            rank.assumed += tokens
        b.last_index += 1
        b.running = b.pending = False
        b.idle_since = now

    def _believe_start(
        self,
        instance: int,
        at_s: float,
        now: float,
        work: list[int],
        budget: int,
    ) -> None:
        b = self.instances[instance]
        price = price_of(self.scenario) if self.scenario.budget_unit == "cost" else None
        parts = [rank.parts(rank.assumed, w) for rank, w in zip(b.ranks, work, strict=True)]
        chunks = [form_rank(of_rank, budget, price) for of_rank in parts]
        b.running, b.put_off = True, False
        b.run_start, b.run_pred = at_s, self.clock.predicted_pass_s(chunks)
        b.run_end = at_s + b.run_pred
        b.run_tokens = [tokens_of(of_rank) for of_rank in chunks]
        # A signal may come after the instant its next pass's watchdog would have had.
        self.agenda.set_watchdog(
            instance, max(now, at_s + self.scenario.watchdog_factor * b.run_pred)
        )
