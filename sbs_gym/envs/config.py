"""What an environment is made of: parts of a run, ranges to draw from, reward, spaces."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sbs_gym.config.arrivals import require_cv
from sbs_gym.config.cluster import ClusterConfig, cluster_from_mapping
from sbs_gym.config.groups import changes_in, read_group, section_from_mapping
from sbs_gym.config.learned import PREFIX, learned_mapping
from sbs_gym.config.run import LOAD_SIDES, SloConfig, refuse_stranding
from sbs_gym.config.scheduler import SchedulerConfig, scheduler_from_mapping
from sbs_gym.config.timing import TimingConfig, timing_from_mapping
from sbs_gym.config.workload import (
    ArrivalConfig,
    WorkloadConfig,
    arrivals_from_mapping,
    workload_from_mapping,
)
from sbs_gym.errors import ConfigError, require_choice, require_flag, require_number
from sbs_gym.schedulers.registry import registered_schedulers
from sbs_gym.schedulers.seat import BUDGETS_OF
from sbs_gym.sim.agent_state import TERMS

ACTIONS = ("discrete", "box", "multi", "flat")
OBSERVATIONS = ("flat", "dict")
ASKS = ("release", "prefill", "decode")
REASKS = ("release", "signal", "arrival")
INVALID_ACTIONS = ("remap", "error")
MOST_STACKED = 64
_ONLY_RULES = "environments take schedulers that are made of rules"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig:
    """What a learner is paid.

    Attributes:
        weights: Pairs (term, weight) of the terms that count; empty: the task's own. As an
            argument also a mapping.
        tau_s: Time constant of the discount exp(-t / tau_s), seconds, (0, 1e9]; None: none.
        baseline: Preset of a scheduler whose costs on the same arrivals and luck are subtracted;
            null: none.
        tpot_target_s: Seconds per token after the first that cost nothing in the term `tpot`, 0
            to 3600.
    """

    weights: tuple[tuple[str, float], ...] = ()
    tau_s: float | None = 20.0
    baseline: SchedulerConfig | None = None
    tpot_target_s: float = 0.0

    def __post_init__(self) -> None:
        for name, weight in self.weights:
            require_choice("reward.weights: term", name, TERMS)
            require_number(f"reward.weights.{name}", weight, -1e9, 1e9)
        if self.tau_s is not None:
            require_number("reward.tau_s", self.tau_s, 0, 1e9, unit="s", low_open=True)
        require_number("reward.tpot_target_s", self.tpot_target_s, 0, 3600, unit="s")

    @property
    def beta(self) -> float:
        """The discount rate, 1/s; 0 without discount."""
        return 0.0 if self.tau_s is None else 1.0 / self.tau_s


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvConfig:
    """An environment, all but its task. Parts given as tuples are drawn from, episode by episode.

    Attributes:
        cluster: The cluster.
        workloads, arrivals, timings: One or more of each; every episode draws one, uniformly.
        scheduler: The background: it plays the warm-up and answers what the agent is not asked.
        slo: The promise that the terms slo_miss and rejection hang on.
        load: Lowest and highest load, each (0, 10], drawn uniformly; None with `rate_per_s`, and
            for a trace at its own rate.
        rate_per_s: Requests per second instead of a load.
        load_side: Whose capacity the load is of: prefill, decode or bottleneck.
        burstiness: Lowest and highest CV of the gaps, drawn log-uniformly, [0.1, 20] each, for
            gamma_renewal and weibull_renewal, one of them at least; None: as the arrivals say.
        horizon_s: Length of an episode behind the warm-up, seconds, (0, 1e6].
        warmup_s: Shortest and longest warm-up, drawn uniformly, seconds, [0, 1e5] each.
        reward: What the learner is paid.
        action: The form of the action space, see the task.
        observation: flat (Box) or dict.
        history: Observations stacked, 1 to 64, the newest last.
        asks: Which of the task's questions the agent is asked, release, prefill, decode; the
            scheduler's rules answer the others. Empty: all. Spaces stay those of the task.
        budget_of: What budgets are shares of: backlog, or chunk, of which half the share counts
            (0.2, 0.3, 0.4, 0.5, 0.7); an ablation.
        reserves: Windows also say how many instances are kept free of long prompts: 0, 1 or 2.
            Not with action=box or multi.
        reask: release, or also at every signal or arrival while a window stands.
        invalid_action: remap (to a legal one, counted) or error.
        record: Keep the records of the running episode, see `records()`.
    """

    cluster: ClusterConfig
    workloads: tuple[WorkloadConfig, ...]
    arrivals: tuple[ArrivalConfig, ...]
    timings: tuple[TimingConfig, ...]
    scheduler: SchedulerConfig
    slo: SloConfig = field(default_factory=SloConfig)
    load: tuple[float, float] | None = (0.7, 0.7)
    rate_per_s: float | None = None
    load_side: str = "bottleneck"
    burstiness: tuple[float, float] | None = None
    horizon_s: float = 120.0
    warmup_s: tuple[float, float] = (0.0, 60.0)
    reward: RewardConfig = field(default_factory=RewardConfig)
    action: str = "discrete"
    observation: str = "flat"
    history: int = 1
    asks: tuple[str, ...] = ()
    budget_of: str = "backlog"
    reserves: bool = False
    reask: str = "release"
    invalid_action: str = "remap"
    record: bool = False

    def __post_init__(self) -> None:
        for name in ("workloads", "arrivals", "timings"):
            if not getattr(self, name):
                raise ConfigError(f"{name}=() is empty; expected at least one")
        require_choice("load_side", self.load_side, LOAD_SIDES)
        require_choice("action", self.action, ACTIONS)
        require_choice("observation", self.observation, OBSERVATIONS)
        for question in self.asks:
            require_choice("asks", question, ASKS)
        require_choice("budget_of", self.budget_of, BUDGETS_OF)
        require_flag("reserves", self.reserves)
        require_flag("record", self.record)
        require_choice("reask", self.reask, REASKS)
        require_choice("invalid_action", self.invalid_action, INVALID_ACTIONS)
        require_number("history", self.history, 1, MOST_STACKED, integer=True)
        require_number("horizon_s", self.horizon_s, 0, 1e6, unit="s", low_open=True)
        _require_range("warmup_s", self.warmup_s, 0, 1e5, low_open=False)
        if self.load is not None and self.rate_per_s is not None:
            raise ConfigError(
                f"load={self.load!r} and rate_per_s={self.rate_per_s!r} exclude each other; "
                "give one (load=None with rate_per_s)"
            )
        if self.load is not None:
            _require_range("load", self.load, 0, 10)
        if self.rate_per_s is not None:
            require_number("rate_per_s", self.rate_per_s, 0, 1e7, unit="1/s", low_open=True)
        if self.burstiness is not None:
            _require_range("burstiness", self.burstiness, 0.1, 20, low_open=False)
            require_cv(self.burstiness, self.arrivals)
        self._check_parts()

    def _check_parts(self) -> None:
        for workload in self.workloads:
            if workload.kind == "trace" and workload.path is None:
                raise ConfigError(
                    "workload.path is missing; expected a trace file, such as "
                    "workload={'preset': 'trace', 'path': 'requests.jsonl'}"
                )
        refuse_stranding(self.scheduler, self.cluster)
        if self.cluster.start_rule == "free_running":
            raise ConfigError("cluster.start_rule='free_running' is for simulate; expected 'eager'")
        if self.load is None and self.rate_per_s is None:
            for workload in self.workloads:
                if workload.kind != "trace":
                    raise ConfigError(
                        f"load=None: workload {workload.name!r} has no rate of its own; expected "
                        "a load or rate_per_s"
                    )
        baseline = self.reward.baseline
        for one in (self.scheduler, baseline):
            if one is not None:
                _require_rules(one)
        if baseline is not None and self.warmup_s[1] > 0:
            same = (
                "gated",
                "order",
                "leftovers",
                "budget_unit",
                "n_limit",
                "long_tokens",
                "watchdog_factor",
            )
            for name in same:
                mine, theirs = getattr(self.scheduler, name), getattr(baseline, name)
                if mine != theirs:
                    raise ConfigError(
                        f"reward.baseline with {name}={theirs!r} cannot go on where a scheduler "
                        f"with {name}={mine!r} has played the warm-up; expected the same, or "
                        "warmup_s=0"
                    )


def _require_range(
    name: str, bounds: tuple[float, float], low: float, high: float, *, low_open: bool = True
) -> None:
    for bound in bounds:
        require_number(name, bound, low, high, low_open=low_open)
    if bounds[0] > bounds[1]:
        raise ConfigError(f"{name}={bounds!r} falls; expected (lowest, highest)")


DEFAULT_PARTS = {
    "cluster": "h800_3p1d",
    "workload": "sbs_short",
    "arrivals": "poisson",
    "timing": "roofline",
    "scheduler": "sbs",
}
_DRAWN_PARTS = ("workloads", "arrivals", "timings")
KEYWORDS = (
    *DEFAULT_PARTS,
    *(
        field.name
        for field in dataclasses.fields(EnvConfig)
        if field.name not in (*_DRAWN_PARTS, "cluster", "scheduler")
    ),
)


def as_range(name: str, value: Any) -> tuple[float, float]:
    """Return a number or a pair as (lowest, highest)."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != 2:
            raise ConfigError(f"{name}={value!r}: expected a number or (lowest, highest)")
        return float(value[0]), float(value[1])
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{name}={value!r} is not allowed; expected a number or a pair of them")
    return float(value), float(value)


def env_config(**options: Any) -> EnvConfig:
    """Return the environment that keyword arguments describe.

    Parts are names of presets, mappings, or objects; a list of them where one is drawn per
    episode. A scheduler's name may change its preset: "sbs:multiplier=0". Numbers drawn per
    episode are pairs (lowest, highest).

    Raises:
        ConfigError: If a word is not known or a value not allowed.
    """
    for name in options:
        require_choice("environment keyword", name, KEYWORDS)
    given: dict[str, Any] = DEFAULT_PARTS | options
    built: dict[str, Any] = {
        "cluster": _part("cluster", given.pop("cluster")),
        "workloads": _parts("workload", given.pop("workload")),
        "arrivals": _parts("arrivals", given.pop("arrivals")),
        "timings": _parts("timing", given.pop("timing")),
        "scheduler": _part("scheduler", given.pop("scheduler")),
    }
    if given.get("rate_per_s") is not None:
        given.setdefault("load", None)
    for name in ("load", "burstiness", "warmup_s"):
        if given.get(name) is not None:
            given[name] = as_range(name, given[name])
    if "asks" in given:
        asks = given["asks"] or ()
        given["asks"] = (asks,) if isinstance(asks, str) else tuple(asks)
    if isinstance(given.get("slo"), Mapping):
        given["slo"] = section_from_mapping(SloConfig, "slo", given["slo"])
    given["reward"] = reward_config(given.get("reward") or {})
    return section_from_mapping(EnvConfig, "env", {**given, **built})


def reward_config(given: RewardConfig | Mapping[str, Any]) -> RewardConfig:
    """Return the reward that a mapping describes."""
    if isinstance(given, RewardConfig):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"reward={given!r}: expected a mapping, such as {{'baseline': 'sbs'}}")
    values = dict(given)
    if isinstance(values.get("weights"), Mapping):
        values["weights"] = tuple(values["weights"].items())
    if values.get("baseline") is not None:
        values["baseline"] = _part("scheduler", values["baseline"])
    return section_from_mapping(RewardConfig, "reward", values)


_BUILD = {
    "cluster": cluster_from_mapping,
    "workload": workload_from_mapping,
    "arrivals": arrivals_from_mapping,
    "timing": timing_from_mapping,
    "scheduler": scheduler_from_mapping,
}
_KINDS = (ClusterConfig, WorkloadConfig, ArrivalConfig, TimingConfig, SchedulerConfig)


def _part(group: str, given: Any) -> Any:
    if isinstance(given, _KINDS):
        return given
    if isinstance(given, str):
        return _scheduler(given) if group == "scheduler" else _preset(group, given)
    if isinstance(given, Mapping):
        return _BUILD[group](_with_base(group, dict(given)))
    raise ConfigError(f"{group}={given!r}: expected the name of a preset or a mapping")


def _preset(group: str, name: str) -> Any:
    named = {} if group == "timing" else {"name": name}
    return _BUILD[group](named | read_group(group, name))


def _scheduler(text: str) -> SchedulerConfig:
    name, *changes = text.split(":")
    if name in registered_schedulers():
        _refuse_class(name)
    if text.startswith(PREFIX):
        return scheduler_from_mapping(learned_mapping(text))
    preset = {"name": name, **read_group("scheduler", name)}
    return scheduler_from_mapping(preset | changes_in(text, changes))


def _require_rules(scheduler: SchedulerConfig) -> None:
    """Raise ConfigError for a scheduler that is a class of the user's, or a network."""
    if scheduler.custom is not None:
        _refuse_class(scheduler.custom)
    if scheduler.learned is not None:
        raise ConfigError(
            f"scheduler={scheduler.name!r} is a network; {_ONLY_RULES}, as background and baseline"
        )


def _refuse_class(name: str) -> None:
    raise ConfigError(
        f"scheduler={name!r} is a Python class; {_ONLY_RULES}, presets and changed ones, as "
        "background and baseline"
    )


def scheduler_named(text: str) -> SchedulerConfig:
    """Return a scheduler preset, whose name may change it: "sbs:multiplier=0"."""
    scheduler: SchedulerConfig = _part("scheduler", text)
    return scheduler


def _with_base(group: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return a mapping laid over the preset that it names under `preset`, if it names one."""
    preset = given.pop("preset", None)
    return given if preset is None else read_group(group, preset) | given


def _parts(group: str, given: Any) -> tuple[Any, ...]:
    if isinstance(given, (list, tuple)):
        return tuple(_part(group, one) for one in given)
    return (_part(group, given),)
