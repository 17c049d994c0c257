"""Workload and arrival configurations: presets build, mistakes are named as the user wrote them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from sbs_gym.config.groups import group_names, read_group
from sbs_gym.config.workload import (
    ArrivalConfig,
    WorkloadConfig,
    arrivals_from_mapping,
    workload_from_mapping,
)
from sbs_gym.errors import ConfigError
from sbs_gym.workload import backlog, generate, mean_tokens

PRESETS = Path(__file__).parents[3] / "shared" / "traces" / "synthetic_presets.json"


@pytest.mark.parametrize("name", group_names("workload"))
def test_every_workload_preset_builds_and_can_be_hashed(name: str) -> None:
    workload = workload_from_mapping(read_group("workload", name))
    assert workload.name == name
    assert hash(workload) == hash(workload_from_mapping(read_group("workload", name)))


@pytest.mark.parametrize("name", group_names("arrivals"))
def test_every_arrival_preset_builds_and_gives_requests(name: str) -> None:
    arrivals = arrivals_from_mapping(read_group("arrivals", name))
    assert arrivals.name == name
    hash(arrivals)
    workload = workload_from_mapping(read_group("workload", "sbs_short"))
    table = generate(workload, arrivals, rate_per_s=5.0, seed=1, num_requests=50)
    assert len(table) == 50


@pytest.mark.parametrize("group", ["input_lengths", "output_lengths", "workload", "arrivals"])
def test_every_preset_says_what_it_is_and_where_it_comes_from(group: str) -> None:
    for name in group_names(group):
        content = read_group(group, name)
        assert content["about"], name
        assert content["source"], name


def test_every_preset_of_the_trace_collection_is_a_file() -> None:
    if not PRESETS.is_file():
        pytest.skip("the trace collection ../shared/traces is not here")
    wanted = json.loads(PRESETS.read_text(encoding="utf-8"))
    assert set(wanted["input_length"]) <= set(group_names("workload"))
    assert set(wanted["output_length"]) <= set(group_names("output_lengths"))


@pytest.mark.parametrize(
    "name, input_mean, output_mean",
    [
        ("sbs_short", 1000.0, 180.0),
        ("sbs_short_k1024", 1024.0, 180.0),
        ("sbs_long", 6700.0, 900.0),
        ("sbs_long_bounded_pareto", 6700.0, 900.0),
        ("azure_conv_like", 1154.7, 211.1),
        ("deepseek_r1_like", 1268.2, 1527.4),
        ("kimi_conversation_like", 12035.0, 342.6),
    ],
)
def test_preset_has_the_mean_of_its_source(
    name: str, input_mean: float, output_mean: float
) -> None:
    workload = workload_from_mapping(read_group("workload", name))
    assert workload.input_tokens is not None
    assert workload.output_tokens is not None
    assert mean_tokens(workload.input_tokens) == pytest.approx(input_mean, rel=0.02)
    assert mean_tokens(workload.output_tokens) == pytest.approx(output_mean, rel=0.01)


def test_lengths_may_be_spelled_out() -> None:
    workload = workload_from_mapping(
        {"input_tokens": {"family": "constant", "value_tokens": 7}, "output_tokens": "fixed_1"}
    )
    table = backlog(workload, 3, seed=0)
    assert table.input_tokens.tolist() == [7, 7, 7]
    assert table.output_tokens.tolist() == [1, 1, 1]


def test_configuration_survives_a_round_trip_through_json() -> None:
    workload = workload_from_mapping(read_group("workload", "azure_conv_like"))
    arrivals = arrivals_from_mapping(read_group("arrivals", "multi_client"))
    plain = json.loads(json.dumps([dataclasses.asdict(workload), dataclasses.asdict(arrivals)]))
    assert workload_from_mapping(plain[0]) == workload
    assert arrivals_from_mapping(plain[1]) == arrivals


SHORT = {"input_tokens": "sbs_short", "output_tokens": "sbs_short"}
LAW = {"family": "lognormal", "mu": 5.0, "sigma": 1.0, "low_tokens": 1, "high_tokens": 9}


@pytest.mark.parametrize(
    "change, named",
    [
        ({"spread_ticks_s": -1}, "workload.spread_ticks_s"),
        ({"spearman": 2}, "workload.spearman"),
        ({"scaling": "stretch"}, "workload.scaling"),
        ({"format": "mooncak"}, "Did you mean 'mooncake'"),
        ({"spread_tick_s": 1}, "spread_ticks_s"),
        ({"input_tokens": "sbs_shor"}, "sbs_short"),
        ({"input_tokens": None}, "workload.input_tokens is missing"),
        ({"input_tokens": {**LAW, "sigma": -1}}, "workload.input_tokens.sigma"),
        ({"input_tokens": {**LAW, "alpha": 1}}, "workload.input_tokens.alpha"),
        ({"output_tokens": {**LAW, "low_tokens": 10}}, "workload.output_tokens.high_tokens"),
        ({"output_tokens": {"mu": 1}}, "workload.output_tokens.family is missing"),
        ({"path": "x.csv"}, "workload.kind='trace'"),
        ({"kind": "trace", "columns": {"when": "t"}}, "arrived_at"),
        ({"kind": "trace", "format": "azure", "columns": {"turn": "t"}}, "'generic'"),
    ],
)
def test_mistake_in_a_workload_names_the_field(change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        workload_from_mapping({**SHORT, **change})


@pytest.mark.parametrize(
    "values, named",
    [
        ({"family": "poison"}, "Did you mean 'poisson'"),
        ({}, "arrivals.family is missing"),
        ({"family": "gamma_renewal"}, "arrivals.cv is missing"),
        ({"family": "poisson", "cv": 2.0}, "arrivals.cv is not a parameter"),
        ({"family": "gamma_renewal", "cv": 0}, "arrivals.cv=0"),
        ({"family": "step", "before_frac": 0.5, "after_frac": 0.8, "step_at_s": 1}, "peak"),
        ({"family": "gamma_renewal", "cvv": 2}, "cvv"),
        (
            {"family": "multi_client", "client_shares": [1], "client_cvs": [1, 1]}
            | {"client_families": ["gamma"]},
            "differ in length",
        ),
    ],
)
def test_mistake_in_arrivals_names_the_field(values: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        arrivals_from_mapping(values)


def test_unknown_key_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="on_zero_output"):
        workload_from_mapping({**SHORT, "on_zero": "drop"})


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ArrivalConfig(family="poisson").family = "ramp"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        WorkloadConfig(kind="trace").path = "x"  # type: ignore[misc]
