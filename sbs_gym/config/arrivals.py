"""How requests arrive: one family with its parameters, relative to a rate that is given apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sbs_gym.config.groups import section_from_mapping
from sbs_gym.config.lengths import as_tuple, check_parameters
from sbs_gym.errors import ConfigError, require_choice, require_number

_LONGEST_S = 1e9
PARAMETERS: dict[str, tuple[str, ...]] = {
    "poisson": (),
    "gamma_renewal": ("cv",),
    "weibull_renewal": ("cv",),
    "mmpp2": ("low_frac", "dwell_low_s", "dwell_high_s"),
    "on_off": ("mean_on_s", "mean_off_s"),
    "ramp": ("start_frac", "end_frac", "ramp_s"),
    "step": ("before_frac", "after_frac", "step_at_s"),
    "diurnal": ("profile", "slot_s", "start_slot"),
    "tick_batches": ("tick_s",),
    "multi_client": ("client_shares", "client_cvs", "client_families"),
    "closed_loop": ("mean_turns", "think_mean_s", "think_sigma", "service_s"),
}
MODULATED = frozenset({"mmpp2", "on_off", "ramp", "step", "diurnal"})
BY_CV = tuple(family for family, needed in PARAMETERS.items() if "cv" in needed)
CLIENT_FAMILIES = ("gamma", "weibull")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalConfig:
    """The shape of the arrival process; `rate_per_s` is given when requests are generated.

    For modulated families (mmpp2, on_off, ramp, step, diurnal) that rate is the one of the PEAK
    state and all levels are fractions of it; for the others it is the mean rate. A family takes
    exactly its parameters (`PARAMETERS`). Durations are absolute: they do not scale with the rate.

    Attributes:
        family: poisson, gamma_renewal, weibull_renewal, mmpp2, on_off, ramp, step, diurnal,
            tick_batches, multi_client or closed_loop.
        name: Name of the preset, for results.
        cv: Standard deviation / mean of the gaps of a renewal process, [0.05, 50].
        low_frac: Low rate / high rate of the two-state MMPP, [0, 1].
        dwell_low_s, dwell_high_s: Mean stay in a state, exponential, seconds.
        mean_on_s, mean_off_s: Mean stay on and off, exponential, seconds.
        start_frac, end_frac, ramp_s: Level at 0 and from ramp_s on, linear between; [0, 1], the
            larger one is 1, the end is not 0; seconds.
        before_frac, after_frac, step_at_s: Level before and after the step; likewise.
        profile, slot_s, start_slot: Levels of equal slots of slot_s seconds, repeated for ever and
            divided by their largest; the slot in which the run starts.
        tick_s: All requests of a tick are stamped with its start, seconds.
        client_shares, client_cvs, client_families: Superposed renewal clients: share of the rate
            (normalised), CV of the gaps, gamma or weibull.
        mean_turns: Mean requests of a session (geometric), [1, 10000].
        think_mean_s, think_sigma: Think time, lognormal: mean in seconds, sigma of its logarithm.
        service_s: Assumed time from a turn's arrival to its answer. The table of an open loop
            cannot wait for the simulated answer: the next turn arrives service_s + think time
            after the previous turn's arrival.

    Source: synthetic_presets.json of the trace collection; each file of conf/arrivals names its
    own.
    """

    family: str
    name: str = "custom"
    cv: float | None = None
    low_frac: float | None = None
    dwell_low_s: float | None = None
    dwell_high_s: float | None = None
    mean_on_s: float | None = None
    mean_off_s: float | None = None
    start_frac: float | None = None
    end_frac: float | None = None
    ramp_s: float | None = None
    before_frac: float | None = None
    after_frac: float | None = None
    step_at_s: float | None = None
    profile: tuple[float, ...] = ()
    slot_s: float | None = None
    start_slot: int | None = None
    tick_s: float | None = None
    client_shares: tuple[float, ...] = ()
    client_cvs: tuple[float, ...] = ()
    client_families: tuple[str, ...] = ()
    mean_turns: float | None = None
    think_mean_s: float | None = None
    think_sigma: float | None = None
    service_s: float | None = None

    def __post_init__(self) -> None:
        require_choice("arrivals.family", self.family, PARAMETERS)
        check_parameters("arrivals", self, PARAMETERS[self.family], optional=frozenset())
        for field, low, high, low_open in _RANGES:
            value = getattr(self, field)
            if value is not None:
                require_number(f"arrivals.{field}", value, low, high, low_open=low_open)
        self._check_levels("start_frac", "end_frac")
        self._check_levels("before_frac", "after_frac")
        self._check_profile()
        self._check_clients()

    def _check_levels(self, first: str, last: str) -> None:
        a, b = getattr(self, first), getattr(self, last)
        if a is not None and max(a, b) != 1:
            raise ConfigError(
                f"arrivals.{first}={a!r} and arrivals.{last}={b!r}: expected the larger one to be "
                "1, because rate_per_s is the rate of the peak"
            )

    def _check_profile(self) -> None:
        for k, level in enumerate(self.profile):
            require_number(f"arrivals.profile[{k}]", level, 0, 1e9)
        if self.profile and max(self.profile) <= 0:
            raise ConfigError("arrivals.profile: expected at least one level above 0")
        if self.start_slot is not None:
            last = len(self.profile) - 1
            require_number("arrivals.start_slot", self.start_slot, 0, last, integer=True)

    def _check_clients(self) -> None:
        count = len(self.client_shares)
        if not count == len(self.client_cvs) == len(self.client_families):
            raise ConfigError(
                "arrivals.client_shares, client_cvs and client_families differ in length"
            )
        for k in range(count):
            share, cv = self.client_shares[k], self.client_cvs[k]
            require_number(f"arrivals.client_shares[{k}]", share, 0, 1e9, low_open=True)
            require_number(f"arrivals.client_cvs[{k}]", cv, 0.05, 50)
            family = self.client_families[k]
            require_choice(f"arrivals.client_families[{k}]", family, CLIENT_FAMILIES)


_RANGES: tuple[tuple[str, float, float, bool], ...] = (
    ("cv", 0.05, 50, False),
    ("low_frac", 0, 1, False),
    *((name, 0, _LONGEST_S, True) for name in ("dwell_low_s", "dwell_high_s")),
    *((name, 0, _LONGEST_S, True) for name in ("mean_on_s", "mean_off_s")),
    *((name, 0, _LONGEST_S, True) for name in ("ramp_s", "step_at_s", "slot_s", "tick_s")),
    ("start_frac", 0, 1, False),
    ("end_frac", 0, 1, True),
    ("before_frac", 0, 1, False),
    ("after_frac", 0, 1, True),
    ("mean_turns", 1, 10_000, False),
    ("think_mean_s", 0, _LONGEST_S, True),
    ("think_sigma", 0, 5, False),
    ("service_s", 0, _LONGEST_S, False),
)


def arrivals_from_mapping(values: Mapping[str, Any]) -> ArrivalConfig:
    """Return the arrival process that a mapping describes; unknown keys are refused."""
    given = {key: as_tuple(value) for key, value in values.items()}
    if "family" not in given:
        raise ConfigError(f"arrivals.family is missing; known: {', '.join(sorted(PARAMETERS))}")
    return section_from_mapping(ArrivalConfig, "arrivals", given)


def require_cv(burstiness: object, arrivals: Sequence[ArrivalConfig]) -> None:
    """Raise ConfigError unless some of the arrivals have the CV that a burstiness replaces."""
    if not any(one.family in BY_CV for one in arrivals):
        raise ConfigError(
            f"burstiness={burstiness!r} with arrivals={', '.join(one.family for one in arrivals)}: "
            f"none has a CV; expected one of {', '.join(BY_CV)} among them, or burstiness=None"
        )
