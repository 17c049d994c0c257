"""What an environment cannot be made of is refused by field, value and what is allowed."""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym
import pytest

from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.envs.config import as_range, env_config, reward_config, scheduler_named
from sbs_gym.envs.environments import WindowEnv
from sbs_gym.envs.play import play
from sbs_gym.envs.registration import IDS
from sbs_gym.envs.tasks import task_of
from sbs_gym.errors import ConfigError
from tests.env.setups import BUDGET, DECODE, PREFILL, SERVING, WINDOW, make, options_for

# A value, and the whole of what must be said of it: the field, the value, what is allowed.
BAD_VALUES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"horizon_s": 0.0}, "horizon_s=0.0 is out of range; expected a number in (0, 1e+06] s"),
    ({"horizon_s": -1.0}, "horizon_s=-1.0 is out of range; expected a number in (0, 1e+06] s"),
    ({"horizon_s": 1e7}, "horizon_s=10000000.0 is out of range; expected a number in (0, 1e+06]"),
    ({"horizon_s": "long"}, "horizon_s='long' is not allowed; expected a number in (0, 1e+06] s"),
    ({"horizon_s": float("nan")}, "horizon_s=nan is not allowed; expected a number"),
    ({"warmup_s": -1.0}, "warmup_s=-1.0 is out of range; expected a number in [0, 100000]"),
    ({"warmup_s": (3.0, 1.0)}, "warmup_s=(3.0, 1.0) falls; expected (lowest, highest)"),
    ({"warmup_s": (0.0, 1e6)}, "warmup_s=1000000.0 is out of range; expected"),
    ({"load": 0.0}, "load=0.0 is out of range; expected a number in (0, 10]"),
    ({"load": 11.0}, "load=11.0 is out of range; expected a number in (0, 10]"),
    ({"load": (0.9, 0.4)}, "load=(0.9, 0.4) falls; expected (lowest, highest)"),
    ({"load": (0.1, 0.2, 0.3)}, "load=(0.1, 0.2, 0.3): expected a number or (lowest, highest)"),
    ({"load": "high"}, "load='high' is not allowed; expected a number"),
    ({"load": None, "rate_per_s": 0.0}, "rate_per_s=0.0 is out of range; expected a number in (0"),
    ({"load": None, "rate_per_s": "fast"}, "rate_per_s='fast' is not allowed; expected a number"),
    ({"load": 0.5, "rate_per_s": 5.0}, "rate_per_s=5.0 exclude each other; give one"),
    ({"load": None}, "load=None: workload 'sbs_short' has no rate of its own; expected a load or"),
    ({"load_side": "left"}, "load_side='left' is not known. Known: bottleneck, decode, prefill"),
    ({"burstiness": 0.05}, "burstiness=0.05 is out of range; expected a number in [0.1, 20]"),
    ({"burstiness": (1.0, 30.0)}, "burstiness=30.0 is out of range; expected a number in [0.1"),
    ({"burstiness": 2.0}, "burstiness=(2.0, 2.0) with arrivals=poisson: none has a CV; expected"),
    ({"burstiness": (2.0, 1.0)}, "burstiness=(2.0, 1.0) falls; expected (lowest, highest)"),
    ({"history": 0}, "history=0 is out of range; expected a whole number in [1, 64]"),
    ({"record": "maybe"}, "record='maybe' is not allowed; expected true or false"),
    ({"history": 65}, "history=65 is out of range; expected a whole number in [1, 64]"),
    ({"history": 2.0}, "history=2.0 is not allowed; expected a whole number in [1, 64]"),
    ({"history": True}, "history=True is not allowed; expected a whole number in [1, 64]"),
    ({"action": "boxed"}, "action='boxed' is not known. Did you mean 'box'? Known: box, discrete"),
    ({"observation": "dcit"}, "observation='dcit' is not known. Did you mean 'dict'? Known: dict"),
    ({"reask": "signals"}, "reask='signals' is not known. Did you mean 'signal'? Known: arrival"),
    ({"invalid_action": "ignore"}, "invalid_action='ignore' is not known. Known: error, remap"),
    ({"workload": []}, "workloads=() is empty; expected at least one"),
    ({"arrivals": ()}, "arrivals=() is empty; expected at least one"),
    ({"timing": []}, "timings=() is empty; expected at least one"),
    ({"cluster": "toyy"}, "cluster='toyy' is not known. Did you mean 'toy'? Known: "),
    ({"cluster": 3}, "cluster=3: expected the name of a preset or a mapping"),
    ({"cluster": {"num_prefil": 2}}, "'num_prefil' is not known. Did you mean 'num_prefill'?"),
    ({"cluster": {"num_prefill": 0}}, "cluster.num_prefill=0 is out of range; expected a whole"),
    ({"cluster": {"start_rule": "free_running"}}, "start_rule='free_running' is for simulate; exp"),
    ({"workload": "sbs_shrt"}, "workload='sbs_shrt' is not known. Did you mean 'sbs_short'? Known"),
    ({"workload": ["sbs_short", "sbs_shrt"]}, "workload='sbs_shrt' is not known. Did you mean"),
    (
        {"timing": "linearr"},
        "timing='linearr' is not known. Did you mean 'linear'? Known: constant",
    ),
    ({"arrivals": "poison"}, "arrivals='poison' is not known. Did you mean 'poisson'? Known: "),
    ({"scheduler": "sbss"}, "scheduler='sbss' is not known. Did you mean 'sbs'? Known: "),
    ({"scheduler": "sbs:multiplier"}, "scheduler='sbs:multiplier': 'multiplier' is no change; ex"),
    ({"scheduler": "sbs:multiplierr=1"}, "'multiplierr' is not known. Did you mean 'multiplier'?"),
    ({"scheduler": "sbs:multiplier=-1"}, "scheduler.multiplier=-1 is out of range; expected a num"),
    ({"scheduler": {"preset": "sbss"}}, "scheduler='sbss' is not known. Did you mean 'sbs'?"),
    ({"slo": {"ttft": 1.0}}, "'ttft' is not known. Did you mean 'ttft_s'? Known: "),
    ({"slo": {"ttft_s": 0.0}}, "slo.ttft_s=0.0 is out of range; expected a number in (0, 3600] s"),
    ({"reward": {"weightss": {}}}, "'weightss' is not known. Did you mean 'weights'? Known: "),
    ({"reward": {"weights": {"tfft": 1.0}}}, "'tfft' is not known. Did you mean 'ttft'? Known: "),
    ({"reward": {"weights": {"ttft": "1"}}}, "reward.weights.ttft='1' is not allowed; expected a"),
    ({"reward": {"weights": {"ttft": 1e10}}}, "reward.weights.ttft=10000000000.0 is out of range"),
    ({"reward": {"tau_s": 0.0}}, "reward.tau_s=0.0 is out of range; expected a number in (0, 1e+"),
    ({"reward": {"tpot_target_s": -1}}, "reward.tpot_target_s=-1 is out of range; expected a num"),
    ({"reward": {"baseline": "sbss"}}, "scheduler='sbss' is not known. Did you mean 'sbs'? Known"),
    ({"reward": {"baseline": "least_tokens"}}, "reward.baseline with gated=False cannot go on"),
    (
        {"reward": {"baseline": "sbs:n_limit=3"}},
        "reward.baseline with n_limit=3 cannot go on where a scheduler with n_limit=32 has played "
        "the warm-up; expected the same, or warmup_s=0",
    ),
)


@pytest.mark.parametrize("options, message", BAD_VALUES, ids=lambda value: str(value)[:40])
def test_a_bad_value_is_refused_by_name_value_and_range(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        gym.make(WINDOW, **{**options_for(WINDOW), **options})


@pytest.mark.parametrize("options, message", BAD_VALUES[::8], ids=lambda value: str(value)[:40])
def test_a_vector_environment_refuses_the_same(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        gym.make_vec(WINDOW, 2, **{**options_for(WINDOW), **options})


@pytest.mark.parametrize(
    "wrong, near",
    [
        ("horizon", "horizon_s"),
        ("warmup", "warmup_s"),
        ("rewards", "reward"),
        ("invalid_actions", "invalid_action"),
        ("num_thread", None),
    ],
)
def test_an_unknown_keyword_is_refused_with_a_near_name(wrong: str, near: str | None) -> None:
    hint = f"Did you mean '{near}'? Known: " if near else "Known: action, "
    message = re.escape(f"environment keyword='{wrong}' is not known. {hint}")
    if not near:
        message = message.replace(re.escape(hint), ".*" + re.escape(hint))
    with pytest.raises(ConfigError, match=message):
        gym.make(WINDOW, **options_for(WINDOW, **{wrong: 1}))


@pytest.mark.parametrize("group", ["workloads", "timings"])
def test_a_keyword_that_would_be_overwritten_is_refused(group: str) -> None:
    with pytest.raises(ConfigError, match=group):
        make(WINDOW, **{group: "nonsense"})


@pytest.mark.parametrize("group", ["workload", "timing"])
def test_the_known_keywords_are_those_that_a_caller_may_give(group: str) -> None:
    """`workload` and `timing` are given; `workloads` and `timings` are what they become."""
    with pytest.raises(ConfigError) as refused:
        make(WINDOW, nonsense=1)
    known = str(refused.value).partition("Known: ")[2].split(", ")
    assert group in known


@pytest.mark.parametrize(
    "id, action, message",
    [
        (WINDOW, "multi", "action='multi' is not a form of SBS/Window; expected one of: discrete,"),
        (WINDOW, "flat", "action='flat' is not a form of SBS/Window; expected one of: discrete, b"),
        (BUDGET, "box", "action='box' is not a form of SBS/WindowBudget; expected one of: multi, "),
        (PREFILL, "box", "action='box' is not a form of SBS/PrefillAllocation; expected one of: d"),
        (DECODE, "flat", "action='flat' is not a form of SBS/DecodeAllocation; expected one of: d"),
        (SERVING, "multi", "action='multi' is not a form of SBS/Serving; expected one of: discre"),
    ],
)
def test_a_form_of_action_that_a_task_has_not_is_refused(
    id: str, action: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        make(id, action=action)


@pytest.mark.parametrize("id", [WINDOW, BUDGET, SERVING])
@pytest.mark.parametrize("scheduler", ["least_tokens", "fixed_window", "size_or_timeout"])
def test_a_window_needs_a_scheduler_with_an_interval(scheduler: str, id: str) -> None:
    with pytest.raises(ConfigError, match="chooses multiples of the interval of release='sbs'; ex"):
        make(id, scheduler=scheduler)


@pytest.mark.parametrize("id", [DECODE, SERVING])
def test_decode_ranks_can_be_chosen_only_where_there_are_some(id: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster.num_decode=0: SBS/\w+ needs at least 1 decode"):
        make(id, cluster={"num_prefill": 2, "prefill_dp": 4})


def test_serving_needs_an_order_that_it_can_choose() -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.order='longest' is not known"):
        make(SERVING, scheduler="sbs:order=longest")


def test_immediate_backgrounds_with_engines_that_wait_for_releases_are_refused() -> None:
    """They would strand split prompts, as RunConfig says."""
    env = make(PREFILL, scheduler="sbs", cluster={"start_rule": "on_release"})
    assert env.config.cluster.start_rule == "on_release"
    with pytest.raises(ConfigError, match="would strand split prompts"):
        make(
            PREFILL,
            scheduler="least_tokens",
            cluster={"start_rule": "on_release"},
            load=None,
            rate_per_s=10.0,
        )


def test_charging_cost_needs_timings_of_one_kind() -> None:
    with pytest.raises(
        ConfigError, match="charge='cost' with timings of which only some have a co"
    ):
        make(WINDOW, scheduler="sbs:charge=cost", timing=["linear", "roofline"])


@pytest.mark.parametrize("wrong", ["SBS/Windows-v0", "SBS/window", "Window"])
def test_an_unknown_environment_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="is not known"):
        task_of(wrong)


def test_an_id_may_go_without_its_version() -> None:
    assert [task_of(id) for id in IDS] == [id.removesuffix("-v0") for id in IDS]
    assert [task_of(id.removesuffix("-v0")) for id in IDS] == [task_of(id) for id in IDS]


def test_a_number_is_a_range_without_width() -> None:
    assert as_range("load", 0.5) == (0.5, 0.5)
    assert as_range("load", [0.4, 0.9]) == (0.4, 0.9)


def test_parts_may_be_names_mappings_or_objects() -> None:
    named = env_config(scheduler="sbs:multiplier=0.5", cluster="toy")
    mapped = env_config(scheduler={"preset": "sbs", "multiplier": 0.5}, cluster=named.cluster)
    assert isinstance(named.scheduler, SchedulerConfig)
    assert named.scheduler.multiplier == mapped.scheduler.multiplier == 0.5
    assert mapped.cluster is named.cluster
    assert env_config(workload=named.workloads[0]).workloads == named.workloads


def test_a_rate_takes_the_place_of_the_default_load() -> None:
    config = env_config(rate_per_s=5.0)
    assert (config.load, config.rate_per_s) == (None, 5.0)


def test_the_defaults_are_those_of_the_documentation() -> None:
    config = WindowEnv().config
    assert (config.horizon_s, config.warmup_s, config.load) == (120.0, (0.0, 60.0), (0.7, 0.7))
    assert (config.reask, config.invalid_action) == ("release", "remap")
    assert (config.reward.tau_s, config.reward.baseline) == (20.0, None)
    assert (config.cluster.name, config.scheduler.name) == ("h800_3p1d", "sbs")


def test_weights_may_be_a_mapping_and_beta_is_the_inverse_of_tau() -> None:
    reward = reward_config({"weights": {"ttft": 0.5, "tpot": 2.0}, "tau_s": 4.0})
    assert reward.weights == (("ttft", 0.5), ("tpot", 2.0))
    assert reward.beta == 0.25
    assert reward_config({"tau_s": None}).beta == 0.0


def test_an_empty_mapping_of_weights_means_the_tasks_own() -> None:
    env = make(SERVING, reward={"weights": {}})
    env.reset(seed=1)
    tally = env.core.world(0).tally
    assert (tally.weight_ttft, tally.weight_tpot, tally.weight_rejection) == (1.0, 1.0, 0.0)


def test_a_changed_scheduler_keeps_the_preset_s_name() -> None:
    scheduler = scheduler_named("sbs:multiplier=0:full_batch_bypass=false")
    assert (scheduler.multiplier, scheduler.full_batch_bypass) == (0, False)


@pytest.mark.parametrize("threads", [0, -1, 1.5])
def test_a_number_of_threads_below_one_is_refused(threads: Any) -> None:
    with pytest.raises(ConfigError, match=r"num_threads=.* expected a whole number in \[1, 1024\]"):
        gym.make_vec(WINDOW, 2, num_threads=threads, **options_for(WINDOW))


@pytest.mark.parametrize("method", ["set_attr", "env_method"])
def test_sb3s_shell_refuses_what_it_does_not_know(method: str) -> None:
    pytest.importorskip("stable_baselines3")
    from sbs_gym.envs.sb3 import SB3SchedulingEnv

    envs = SB3SchedulingEnv(WINDOW, 2, **options_for(WINDOW))
    with pytest.raises(ConfigError, match="spin"):
        getattr(envs, method)("spin", 1)
    assert envs.has_attr("action_masks")
    assert not envs.has_attr("spin")
    envs.reset()
    masks = envs.env_method("action_masks", indices=[1])
    assert [mask.shape for mask in masks] == [(9,)]
    with pytest.raises(ConfigError, match=r"environment='SBS/Nothing' is not known"):
        SB3SchedulingEnv("SBS/Nothing-v0", 2)


def test_times_are_in_infos_where_a_learner_asks_for_them() -> None:
    pytest.importorskip("stable_baselines3")
    from sbs_gym.envs.sb3 import SB3SchedulingEnv

    plain, told = (
        SB3SchedulingEnv(WINDOW, 2, time_in_infos=asked, **options_for(WINDOW))
        for asked in (False, True)
    )
    for envs in (plain, told):
        envs.seed(0)
        envs.reset()
    for _ in range(5):
        assert plain.step([1, 2])[3] == [{}, {}]
        infos = told.step([1, 2])[3]
        assert [info["elapsed_s"] for info in infos] == plain.elapsed_s.tolist()
        assert [info["discount"] for info in infos] == plain.discounts.tolist()
    with pytest.raises(ConfigError, match=r"time_in_infos='yes'.*expected true or false"):
        SB3SchedulingEnv(WINDOW, 2, time_in_infos="yes", **options_for(WINDOW))  # type: ignore[arg-type]


def test_one_question_needs_no_list() -> None:
    assert env_config(asks="release").asks == ("release",)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    pytest.importorskip("stable_baselines3")
    from sbs_gym.envs.sb3 import SB3SchedulingEnv

    envs = SB3SchedulingEnv(WINDOW, 1, **options_for(WINDOW))
    envs.seed(seed)
    with pytest.raises(ConfigError, match=rf"seed={seed} is out of range; expected a whole"):
        envs.reset()


@pytest.mark.parametrize(
    "id, rule, expected",
    [
        (WINDOW, "round_robin", "Expected a rule with release='sbs'"),
        (WINDOW, "sbs:placement=jsq", "Expected an environment with scheduler='sbs:placement=jsq'"),
        (PREFILL, "sbs:multiplier=0.5", "Expected an environment with scheduler='sbs:multiplier="),
    ],
)
def test_a_refused_rule_is_told_what_would_do(id: str, rule: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        play(gym.make(id, **options_for(id)), rule)


def test_play_of_many_environments_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a single environment"):
        play(gym.make_vec(WINDOW, 2, **options_for(WINDOW)), "sbs")
