"""What a user may say about the duration of a prefill pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

from sbs_gym.errors import ConfigError, require_choice, require_number


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingConfig:
    """Luck that every kind of timing shares; the kinds below add the duration itself.

    Attributes:
        jitter_cv: Coefficient of variation of the pass duration, in [0, 1].
            Source: assumed; nobody has published it.
        jitter_grid_s: Seconds for which an instance keeps its jitter, > 0. Source: assumed.
        skew_mean: Mean expert skew g = time of the busiest expert group over a balanced one,
            in [1, 10]. Source: assumed; TIMING section 4.4 has 1.0 (EPLB) to 3.1 (power law).
        skew_rho: Correlation of the skew from one grid point to the next, in [0, 1).
            Source: assumed.
        skew_sigma: Spread of log(g - 1), in [0, 3]; 0 keeps g at its mean. Source: assumed.
        skew_grid_s: Seconds between grid points of the skew, > 0. Source: assumed.
    """

    KIND: ClassVar[str] = ""

    jitter_cv: float = 0.0
    jitter_grid_s: float = 0.25
    skew_mean: float = 1.0
    skew_rho: float = 0.95
    skew_sigma: float = 0.0
    skew_grid_s: float = 1.0

    def __post_init__(self) -> None:
        require_number("timing.jitter_cv", self.jitter_cv, 0, 1)
        require_number("timing.jitter_grid_s", self.jitter_grid_s, 0, unit="s", low_open=True)
        require_number("timing.skew_mean", self.skew_mean, 1, 10)
        require_number("timing.skew_rho", self.skew_rho, 0, 0.999999)
        require_number("timing.skew_sigma", self.skew_sigma, 0, 3)
        require_number("timing.skew_grid_s", self.skew_grid_s, 0, unit="s", low_open=True)

    @property
    def kind(self) -> str:
        """Return the name that `timing_from_mapping` knows this class by."""
        return self.KIND


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearTiming(TimingConfig):
    """A pass takes a fixed time plus a time per token of a weighted rank load.

    Attributes:
        fixed_s: Seconds of a pass apart from its tokens, in [0, 60].
            Source: TIMING section 8, a straight line through 1K to 4K tokens per rank.
        per_token_s: Seconds per token of one rank, in (0, 1]. Source: as `fixed_s`, EP16 and EP32.
        max_weight: Weight of the fullest rank, the rest goes to the mean over ranks, in [0, 1].
            Source: TIMING section 6.4.
    """

    KIND: ClassVar[str] = "linear"

    fixed_s: float = 0.06
    per_token_s: float = 1.0 / 6500.0
    max_weight: float = 0.7

    def __post_init__(self) -> None:
        TimingConfig.__post_init__(self)
        require_number("timing.fixed_s", self.fixed_s, 0, 60, unit="s")
        require_number("timing.per_token_s", self.per_token_s, 0, 1, unit="s", low_open=True)
        require_number("timing.max_weight", self.max_weight, 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantTiming(TimingConfig):
    """Every pass takes the same time; for theory tests.

    Attributes:
        pass_s: Seconds of a pass, in (0, 3600]. Source: chosen, no hardware behind it.
    """

    KIND: ClassVar[str] = "constant"

    pass_s: float = 0.5

    def __post_init__(self) -> None:
        TimingConfig.__post_init__(self)
        require_number("timing.pass_s", self.pass_s, 0, 3600, unit="s", low_open=True)


KINDS: dict[str, type[TimingConfig]] = {kind.KIND: kind for kind in (LinearTiming, ConstantTiming)}
_NOTES = ("about", "source")


def timing_from_mapping(mapping: Mapping[str, Any]) -> TimingConfig:
    """Return the timing that `mapping` describes; `kind` chooses, `about` and `source` are notes.

    Raises:
        ConfigError: If the kind or a key is unknown, or a value is out of range.
    """
    if "kind" not in mapping:
        raise ConfigError(f"timing.kind is missing. Known: {', '.join(sorted(KINDS))}")
    require_choice("timing.kind", mapping["kind"], KINDS)
    chosen = KINDS[mapping["kind"]]
    known = {field.name: field for field in fields(chosen)}
    values = {key: value for key, value in mapping.items() if key not in ("kind", *_NOTES)}
    for key in values:
        require_choice(f"timing key (kind={mapping['kind']})", key, known)
    for name, field in known.items():
        if field.default is MISSING and field.default_factory is MISSING and name not in values:
            raise ConfigError(f"timing.{name} is missing; kind={mapping['kind']} needs it")
    return chosen(**{key: _hashable(value) for key, value in values.items()})


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value
