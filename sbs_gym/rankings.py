"""Rankings of rules under a timing and under changes of it: ties, and pairs that change places."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sbs_gym.compare import ratio_interval
from sbs_gym.config.run import RunConfig
from sbs_gym.result import code_digest
from sbs_gym.timing.changes import Unchanged
from sbs_gym.types import FloatArray

Interval = tuple[float, float, float]  # a ratio and the ends of its 95 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Rules that are ordered by one latency, smaller being better.

    Attributes:
        name: Of the ranking, and of its folder.
        metric: Key of the summary.
        configs: Rule to its run; they differ in the scheduler only.
        subject: The rule whose ratio is followed.
        bases: The rules it is divided by: by the best of them under each timing.
    """

    name: str
    metric: str
    configs: Mapping[str, RunConfig]
    subject: str
    bases: Sequence[str]

    @property
    def config(self) -> RunConfig:
        """Return the run of the first rule."""
        return next(iter(self.configs.values()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """What the rules of a ranking did under one timing.

    Attributes:
        values: Rule to its metric, one value per seed; the same seeds in the same order.
        num_overloaded: Runs in which the queue grew.
    """

    values: Mapping[str, FloatArray]
    num_overloaded: int = 0

    def order(self) -> list[str]:
        """Return the rules, best mean first."""
        return sorted(self.values, key=lambda rule: float(self.values[rule].mean()))

    def ratio(self, rule: str, base: str) -> Interval:
        """Return rule over base, paired by seed, with its 95 % interval."""
        return ratio_interval(self.values[rule], self.values[base])[:3]

    def better(self, rule: str, other: str) -> int:
        """Return 1 if `rule` is better beyond its interval, -1 if `other` is, 0 for a tie."""
        _, low, high = self.ratio(rule, other)
        return int(high < 1.0) - int(low > 1.0)

    def followed(self, ranking: Ranking) -> Interval:
        """Return the ratio of the ranking's subject to the best of its bases."""
        base = next(rule for rule in self.order() if rule in ranking.bases)
        return self.ratio(ranking.subject, base)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """A pair that differs under both timings, in opposite directions.

    Attributes:
        ranking, parameter, factor: Where.
        was_better, was_worse: The two rules, as they are ranked without the change.
        before, after: The first over the second, without and with the change.
    """

    ranking: str
    parameter: str
    factor: float
    was_better: str
    was_worse: str
    before: Interval
    after: Interval


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sensitivity:
    """Rankings under a timing and under every change of it.

    Attributes:
        rankings: Name to what was ranked.
        frac: By how much parameters were changed.
        num_seeds: Runs of every rule and timing.
        unchanged: Ranking to what its rules did without a change.
        changed: Parameter and factor, then ranking, to what its rules did with it.
        left_out: What was not changed, and why.
        num_runs, num_reused: Runs in all, and how many of them were found on disk.
    """

    rankings: Mapping[str, Ranking]
    frac: float
    num_seeds: int
    unchanged: Mapping[str, Measured]
    changed: Mapping[tuple[str, float], Mapping[str, Measured]]
    left_out: Sequence[Unchanged]
    num_runs: int
    num_reused: int

    @property
    def parameters(self) -> list[str]:
        """Return the parameters of which at least one change was run."""
        return list(dict.fromkeys(parameter for parameter, _ in self.changed))

    def swaps(self) -> list[Swap]:
        """Return the pairs that change places, both times beyond their intervals."""
        return [swap for pair in self._pairs() if (swap := _swap(*pair)) is not None]

    def ties(self) -> dict[tuple[str, str, str], int]:
        """Return how many changes make a tie of a pair that differs without it.

        Keys are the ranking, the better rule and the worse one.
        """
        counts: dict[tuple[str, str, str], int] = {}
        for name, _, before, after, rules in self._pairs():
            ahead = before.better(*rules)
            if ahead:
                a, b = rules if ahead > 0 else rules[::-1]
                counts[name, a, b] = counts.get((name, a, b), 0) + (after.better(a, b) == 0)
        return {pair: count for pair, count in counts.items() if count}

    def num_overloaded(self) -> int:
        """Return the runs in which the queue grew."""
        every = [self.unchanged, *self.changed.values()]
        return sum(measured.num_overloaded for one in every for measured in one.values())

    def _pairs(self) -> list[_Pair]:
        return [
            (name, change, self.unchanged[name], after, (a, b))
            for change, found in self.changed.items()
            for name, after in found.items()
            for a, b in itertools.combinations(self.rankings[name].configs, 2)
        ]

    def to_mapping(self) -> dict[str, Any]:
        """Return everything as plain mappings and lists, for JSON."""
        return {
            "frac": self.frac,
            "num_seeds": self.num_seeds,
            "confidence": 0.95,
            "code_digest": code_digest(),
            "rankings": {name: self._ranking_mapping(name) for name in self.rankings},
            "changes": [
                {
                    "parameter": parameter,
                    "factor": factor,
                    **{name: self._measured_mapping(name, one) for name, one in found.items()},
                }
                for (parameter, factor), found in self.changed.items()
            ],
            "swaps": [dataclasses.asdict(swap) for swap in self.swaps()],
            "ties": [
                {"ranking": name, "was_better": a, "was_worse": b, "num_changes": count}
                for (name, a, b), count in self.ties().items()
            ],
            "left_out": [dataclasses.asdict(one) for one in self.left_out],
        }

    def _ranking_mapping(self, name: str) -> dict[str, Any]:
        ranking = self.rankings[name]
        return {
            "metric": ranking.metric,
            "ratio": {"of": ranking.subject, "to_the_best_of": list(ranking.bases)},
            "unchanged": self._measured_mapping(name, self.unchanged[name]),
            "configs": {rule: run.to_mapping() for rule, run in ranking.configs.items()},
        }

    def _measured_mapping(self, name: str, measured: Measured) -> dict[str, Any]:
        keys = ("ratio", "ratio_low", "ratio_high")
        return {
            **dict(zip(keys, measured.followed(self.rankings[name]), strict=True)),
            "order": measured.order(),
            "values": dict(measured.values),
        }


_Pair = tuple[str, tuple[str, float], Measured, Measured, tuple[str, str]]


def _swap(
    name: str,
    change: tuple[str, float],
    before: Measured,
    after: Measured,
    rules: tuple[str, str],
) -> Swap | None:
    a, b = rules if before.better(*rules) >= 0 else rules[::-1]
    if before.better(a, b) != 1 or after.better(a, b) != -1:
        return None
    return Swap(
        ranking=name,
        parameter=change[0],
        factor=change[1],
        was_better=a,
        was_worse=b,
        before=before.ratio(a, b),
        after=after.ratio(a, b),
    )
