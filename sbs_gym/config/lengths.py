"""A law of prompt or answer lengths: one family with its parameters, validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sbs_gym.config.groups import read_group, section_from_mapping
from sbs_gym.errors import ConfigError, require_choice, require_number

MOST_TOKENS = 100_000_000
_RANGE = ("low_tokens", "high_tokens")
PARAMETERS: dict[str, tuple[str, ...]] = {
    "constant": ("value_tokens",),
    "uniform": _RANGE,
    "exponential": ("mean_tokens", *_RANGE),
    "truncated_lognormal": ("mu", "mean_tokens", "sigma", *_RANGE),
    "lognormal": ("mu", "sigma", *_RANGE),
    "lognormal_mixture": ("weights", "mus", "sigmas", *_RANGE),
    "bounded_pareto": ("alpha", *_RANGE),
    "empirical": ("quantiles_tokens", "tail_power"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthConfig:
    """One law of lengths; draws are rounded to whole tokens and lie in [low, high].

    A family takes exactly its parameters (`PARAMETERS`); of `mu` and `mean_tokens` the truncated
    lognormal takes one.

    Attributes:
        family: constant; uniform (whole numbers); exponential and lognormal (values outside
            [low, high] are clipped to it); truncated_lognormal (conditioned on [low, high]);
            lognormal_mixture (clipped); bounded_pareto; empirical (quantile table).
        value_tokens: The constant, tokens, 1 to 100 million.
        low_tokens, high_tokens: Range, tokens, 1 <= low <= high <= 100 million.
        mean_tokens: exponential: mean before clipping; truncated_lognormal: mean inside the
            range, from which mu is solved. Tokens, inside (low, high) for the latter.
        mu, sigma: Mean and standard deviation of ln(tokens), mu in [-50, 50], sigma in (0, 10].
        alpha: Tail exponent of the bounded Pareto law, (0, 20].
        weights, mus, sigmas: One entry per component; weights in (0, 1], they are normalised.
        quantiles_tokens: Quantiles that never fall, tokens; entry k of n + 1 belongs to the level
            1 - (1 - k/n)**tail_power; between them the quantile function is linear.
        tail_power: Null or 1 for equal steps of the level, more for finer steps in the tail.

    Source: families and fits, synthetic_presets.json of the trace collection; each file of
    conf/input_lengths and conf/output_lengths names where its numbers come from.
    """

    family: str
    value_tokens: int | None = None
    low_tokens: int | None = None
    high_tokens: int | None = None
    mean_tokens: float | None = None
    mu: float | None = None
    sigma: float | None = None
    alpha: float | None = None
    weights: tuple[float, ...] = ()
    mus: tuple[float, ...] = ()
    sigmas: tuple[float, ...] = ()
    quantiles_tokens: tuple[float, ...] = ()
    tail_power: float | None = None

    def __post_init__(self) -> None:
        require_choice("lengths.family", self.family, PARAMETERS)
        check_parameters("lengths", self, PARAMETERS[self.family], optional=_OPTIONAL)
        if self.low_tokens is not None and self.high_tokens is not None:
            require_number("lengths.low_tokens", self.low_tokens, 1, MOST_TOKENS, integer=True)
            low = self.low_tokens
            require_number("lengths.high_tokens", self.high_tokens, low, MOST_TOKENS, integer=True)
        if self.value_tokens is not None:
            require_number("lengths.value_tokens", self.value_tokens, 1, MOST_TOKENS, integer=True)
        self._check_shape()
        self._check_mixture()
        self._check_quantiles()

    def _check_shape(self) -> None:
        if self.family == "truncated_lognormal" and (self.mu is None) == (self.mean_tokens is None):
            raise ConfigError("lengths.mu and lengths.mean_tokens: give exactly one of the two")
        if self.mu is not None:
            require_number("lengths.mu", self.mu, -50, 50)
        if self.sigma is not None:
            require_number("lengths.sigma", self.sigma, 0, 10, low_open=True)
        if self.alpha is not None:
            require_number("lengths.alpha", self.alpha, 0, 20, low_open=True)
        if self.mean_tokens is not None:
            require_number("lengths.mean_tokens", self.mean_tokens, 0, MOST_TOKENS, low_open=True)
            inside = (self.low_tokens or 0) < self.mean_tokens < (self.high_tokens or 0)
            if self.family == "truncated_lognormal" and not inside:
                raise ConfigError(
                    f"lengths.mean_tokens={self.mean_tokens!r} is out of range; expected a number "
                    f"inside ({self.low_tokens}, {self.high_tokens})"
                )

    def _check_mixture(self) -> None:
        if len({len(self.weights), len(self.mus), len(self.sigmas)}) != 1:
            raise ConfigError("lengths.weights, mus and sigmas differ in length; expected equal")
        for k in range(len(self.weights)):
            require_number(f"lengths.weights[{k}]", self.weights[k], 0, 1, low_open=True)
            require_number(f"lengths.mus[{k}]", self.mus[k], -50, 50)
            require_number(f"lengths.sigmas[{k}]", self.sigmas[k], 0, 10, low_open=True)

    def _check_quantiles(self) -> None:
        if self.tail_power is not None:
            require_number("lengths.tail_power", self.tail_power, 1, 10)
        if self.family != "empirical":
            return
        if len(self.quantiles_tokens) < 2:
            raise ConfigError("lengths.quantiles_tokens: expected at least 2 quantiles")
        before = 1.0
        for k, value in enumerate(self.quantiles_tokens):
            require_number(f"lengths.quantiles_tokens[{k}]", value, before, MOST_TOKENS)
            before = float(value)


_OPTIONAL = frozenset({"mu", "mean_tokens", "tail_power"})


def check_parameters(
    where: str, config: Any, wanted: tuple[str, ...], *, optional: frozenset[str]
) -> None:
    """Raise ConfigError unless `config` holds the parameters of its family and no others."""
    family = config.family
    for field in fields(config):
        if field.name in ("family", "name"):
            continue
        given = getattr(config, field.name) not in (None, ())
        if given and field.name not in wanted:
            known = ", ".join(wanted) or "none"
            raise ConfigError(
                f"{where}.{field.name} is not a parameter of {where}.family={family!r}; "
                f"known: {known}"
            )
        required = field.name in wanted and field.name not in optional
        if required and not given:
            raise ConfigError(
                f"{where}.{field.name} is missing; {where}.family={family!r} needs it"
            )


def length_from_mapping(group: str, field: str, values: object) -> LengthConfig:
    """Return the law that `field` names (a file of `conf/<group>/`) or spells out as a mapping."""
    if isinstance(values, LengthConfig):
        return values
    if isinstance(values, str):
        values = read_group(group, values)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{field}={values!r}: expected the name of a {group} file or a mapping")
    given = {key: as_tuple(value) for key, value in values.items() if key != "name"}
    if "family" not in given:
        raise ConfigError(f"{field}.family is missing; known: {', '.join(sorted(PARAMETERS))}")
    try:
        return section_from_mapping(LengthConfig, field, given)
    except ConfigError as error:
        raise ConfigError(str(error).replace("lengths.", f"{field}.")) from None


def as_tuple(value: Any) -> Any:
    """Return sequences as tuples, so that configurations can be hashed."""
    is_sequence = hasattr(value, "__iter__") and not isinstance(value, (str, Mapping))
    return tuple(value) if is_sequence else value
