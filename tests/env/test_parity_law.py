"""The parity law: a rule that plays an environment does what it does in a plain run.

Every instant, place and count of every request, pass and decode step is the same, bit for bit.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest

from sbs_gym.capacity import decode_timing_for, timing_for
from sbs_gym.config.scheduler import ALLOCATIONS, PLACEMENTS
from sbs_gym.envs.play import RulePlayer, play
from sbs_gym.envs.single import SchedulingEnv
from sbs_gym.envs.tasks import ORDERS
from sbs_gym.errors import ConfigError
from sbs_gym.schedulers.driver import run
from sbs_gym.schedulers.questions import BUDGET_SHARES
from sbs_gym.schedulers.rules import LONGEST_FIRST
from sbs_gym.sim.records import RunRecords
from tests.env.setups import (
    BUDGET,
    DECODE,
    PREFILL,
    PREFILL_ONLY,
    SERVING,
    TINY_ROOM,
    WHOLE_PATH,
    WINDOW,
    make,
)

QUARTERS = [q / 4 for q in range(9)]
COUNTS = ("num_releases", "num_signals_lost", "num_watchdogs", "num_refusals")
_LONGEST_FIRST = [rule.name.lower() for rule in LONGEST_FIRST]


def differences(env: SchedulingEnv, records: RunRecords, plain: RunRecords) -> list[str]:
    """Return the names of the fields in which two runs differ."""
    found = [name for name in COUNTS if getattr(records, name) != getattr(plain, name)]
    pairs = [
        ("requests", records.requests, plain.requests),
        ("passes", records.passes, plain.passes),
    ]
    if plain.decode is not None:
        pairs += [("decode", records.decode, plain.decode), ("steps", records.steps, plain.steps)]
    for table, ours, theirs in pairs:
        if len(ours) != len(theirs):
            found.append(f"{table}: {len(ours)} rows, plain {len(theirs)}")
            continue
        found += [
            f"{table}.{name}"
            for name in theirs.dtype.names
            if ours[name].tobytes() != theirs[name].tobytes()
        ]
    for name in ("rank_tokens", "rank_pairs", "step_batch", "step_kv_tokens", "step_blocks"):
        ours, theirs = getattr(records, name), getattr(plain, name)
        if theirs is not None and ours.tobytes() != theirs.tobytes():
            found.append(name)
    return found


def plain_run(env: SchedulingEnv, rule: Any) -> RunRecords:
    """Run the requests of the running episode, to its horizon, without an environment."""
    episode, config = env.core.episodes[0], env.config
    assert episode is not None
    timing = config.timings[episode.timing]
    decodes = config.cluster.num_decode > 0
    return run(
        episode.table,
        config.cluster,
        RulePlayer(env, rule).scheduler,
        timing_for(config.cluster, timing),
        seed=episode.seed,
        decode_timing=decode_timing_for(config.cluster, timing) if decodes else None,
        stop_at_s=episode.warmup_s + config.horizon_s,
    )


def assert_parity(id: str, rule: Any, *, seed: int = 3, **changes: Any) -> RunRecords:
    """Let `rule` play and fail where it differs from the plain run, whose records are returned."""
    env = make(id, record=True, invalid_action="error", **changes)
    play(env, rule, seed=seed)
    plain = plain_run(env, rule)
    assert differences(env, env.records(), plain) == []
    return plain


# What the environment's scheduler plays does not matter where the agent answers.
ALONE = {"warmup_s": 0.0, "scheduler": "sbs"}


@pytest.mark.parametrize("multiplier", QUARTERS)
def test_every_multiplier_of_the_discrete_window(multiplier: float) -> None:
    assert_parity(WINDOW, f"sbs:multiplier={multiplier}", **ALONE)


@pytest.mark.parametrize("multiplier", [0.0, 0.125, 0.8125, 1.0, 1.375, 2.0])
def test_every_multiplier_of_the_box(multiplier: float) -> None:
    """Those that float32 holds exactly; 0.3 would arrive as another number."""
    assert_parity(WINDOW, f"sbs:multiplier={multiplier}", action="box", **ALONE)


@pytest.mark.parametrize("action", ["multi", "flat"])
@pytest.mark.parametrize("alpha", [*BUDGET_SHARES, None])
@pytest.mark.parametrize("multiplier", [0.0, 1.0, 1.75])
def test_every_budget(multiplier: float, alpha: float | None, action: str) -> None:
    budget = "budget=full" if alpha is None else f"budget=backlog:alpha={alpha}"
    rule = f"sbs:multiplier={multiplier}:{budget}"
    assert_parity(BUDGET, rule, action=action, load=1.0, **ALONE)


def test_the_budgets_differ_from_each_other() -> None:
    """Else the test above could pass with any budget."""
    used = {
        assert_parity(BUDGET, f"sbs:budget=backlog:alpha={alpha}", load=1.0, **ALONE)
        .passes["budget_tokens"]
        .tobytes()
        for alpha in BUDGET_SHARES
    }
    assert len(used) == len(BUDGET_SHARES)


@pytest.mark.parametrize("background", ["sbs", "fixed_window", "least_tokens", "size_or_timeout"])
@pytest.mark.parametrize("rule", ALLOCATIONS)
def test_every_allocation(rule: str, background: str) -> None:
    changes = {"warmup_s": 0.0, "scheduler": background}
    plain = assert_parity(PREFILL, rule, load=1.0, **changes)
    assert len(set(plain.requests["rank"])) > 2


@pytest.mark.parametrize("binding", ["at_prefill_end", "at_dispatch"])
@pytest.mark.parametrize("rule", PLACEMENTS)
def test_every_placement(rule: str, binding: str) -> None:
    asked = "iqr_lex" if rule in _LONGEST_FIRST else "jsq"
    cluster = TINY_ROOM | {"decode_binding": binding, "decode_kv_tokens": 30_000}
    changes = {"warmup_s": 0.0, "scheduler": f"sbs:placement={asked}"}
    plain = assert_parity(DECODE, rule, cluster=cluster, load=None, rate_per_s=8.0, **changes)
    assert plain.decode is not None
    assert len(set(plain.decode["decode_rank"])) > 1


@pytest.mark.parametrize("rule", ["sbs", "work_conserving", "sbs_budget", "sbs:multiplier=1.5"])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_in_serving(order: str, rule: str) -> None:
    assert_parity(SERVING, f"{rule}:order={order}", load=1.2, **ALONE)


@pytest.mark.parametrize("allocation", ["least_tokens", "round_robin", "random"])
def test_every_part_of_serving_at_once(allocation: str) -> None:
    rule = f"sbs:multiplier=0.5:order=shortest:budget=backlog:allocation={allocation}"
    rule += ":placement=bf_io"
    assert_parity(SERVING, rule, load=1.0, **ALONE)


# Circumstances, each with every environment.
CIRCUMSTANCES: dict[str, dict[str, Any]] = {
    "shadow": {"reward": {"baseline": "work_conserving"}, "warmup_s": 0.0},
    "warm start": {"warmup_s": (1.0, 4.0)},
    "shadow after a warm start": {"reward": {"baseline": "sbs"}, "warmup_s": (1.0, 4.0)},
    "long links": {"cluster": {"dispatch_delay_s": 0.05, "signal_delay_s": 0.03}},
    "no delays": {"cluster": {"dispatch_delay_s": 0.0, "signal_delay_s": 0.0}},
    "signals get lost": {"cluster": {"signal_loss_frac": 0.3}},
    "jitter and skew": {"timing": "roofline", "load": None, "rate_per_s": 20.0},
    "ties": {"timing": "constant", "load": None, "rate_per_s": 20.0},
    "engines wait for releases": {"cluster": {"start_rule": "on_release"}, "load": 1.1},
    "overload": {"load": 2.5},
    "bound at dispatch": {"cluster": {"decode_binding": "at_dispatch"}},
    "tiny KV room": {
        "cluster": TINY_ROOM,
        "load": None,
        "rate_per_s": 24.0,
    },
    "tiny KV room at dispatch": {
        "cluster": TINY_ROOM | {"decode_binding": "at_dispatch"},
        "load": None,
        "rate_per_s": 24.0,
    },
    "long prompts": {"workload": "sbs_long", "load": 1.0},
    "bursts": {"arrivals": {"preset": "gamma_renewal", "cv": 4.0}},
}
# A rule for every environment, and what of the background it changes.
RULES = {
    WINDOW: ("sbs", "multiplier=0.75"),
    BUDGET: ("sbs", "multiplier=0.25:budget=backlog:alpha=0.6"),
    PREFILL: ("sbs", "allocation=least_requests"),
    DECODE: ("sbs", "placement=bf_io"),
    SERVING: ("sbs", "multiplier=0.5:budget=backlog:order=shortest:allocation=random"),
}


def circumstances(id: str, name: str) -> dict[str, Any]:
    """Return the options that put an environment into circumstances."""
    changes = dict(CIRCUMSTANCES[name])
    whole = id in (DECODE, SERVING) or "KV" in name or "dispatch" in name
    changes["cluster"] = (WHOLE_PATH if whole else PREFILL_ONLY) | changes.get("cluster", {})
    changes.setdefault("warmup_s", 0.0)
    return changes


@pytest.mark.parametrize("name", CIRCUMSTANCES)
@pytest.mark.parametrize("id", RULES)
def test_a_rule_does_the_same_in_all_circumstances(id: str, name: str) -> None:
    preset, change = RULES[id]
    rule = f"{preset}:{change}"
    changes = circumstances(id, name)
    has_warm_up = changes["warmup_s"] != 0.0
    background = rule if has_warm_up else preset  # which plays the warm-up
    if name == "shadow after a warm start":
        changes["reward"] = {"baseline": background}
    for seed in (3, 4):
        assert_parity(id, rule, seed=seed, scheduler=background, **changes)


@pytest.mark.parametrize("action", ["reject", "force", "keep"])
@pytest.mark.parametrize("limit", [0, 2])
@pytest.mark.parametrize("id", RULES)
def test_a_rule_does_the_same_where_requests_may_not_wait(id: str, limit: int, action: str) -> None:
    preset, change = RULES[id]
    limits = f"{preset}:n_limit={limit}:n_limit_action={action}"
    for seed in (3, 4):
        plain = assert_parity(
            id, f"{limits}:{change}", seed=seed, scheduler=limits, warmup_s=0.0, load=1.8
        )
    if action == "reject":
        assert np.isfinite(plain.requests["rejected_at_s"]).any()


@pytest.mark.parametrize("scheduler", ["least_tokens", "power_of_two", "round_robin", "random"])
@pytest.mark.parametrize("name", ["shadow", "long links", "overload", "bound at dispatch"])
def test_an_allocation_does_the_same_where_requests_are_sent_at_once(
    name: str, scheduler: str
) -> None:
    changes = circumstances(PREFILL, name)
    if name == "shadow":
        changes["reward"] = {"baseline": scheduler}
    assert_parity(PREFILL, "least_requests", scheduler=scheduler, **changes)


@pytest.mark.parametrize("id", [PREFILL, SERVING, WINDOW])
def test_refusals_and_evictions_do_happen_in_the_tiny_rooms(id: str) -> None:
    """Else the circumstances would not be what their names say."""
    preset, change = RULES[id]
    plain = assert_parity(
        id, f"{preset}:{change}", scheduler=preset, **circumstances(id, "tiny KV room")
    )
    assert plain.decode is not None
    assert plain.num_refusals > 0
    assert plain.decode["num_preempted"].sum() > 0


@pytest.mark.parametrize("id", [BUDGET, SERVING])
def test_the_budget_of_the_background_holds_until_the_first_answer(id: str) -> None:
    """After a warm start leftovers may be released while nothing waits, so before a question."""
    rule = "sbs:budget=backlog:alpha=0.4"
    cluster = WHOLE_PATH | {"start_rule": "on_release", "num_prefill": 1}
    for seed in range(20):
        assert_parity(
            id,
            rule,
            seed=seed,
            scheduler=rule,
            cluster=cluster,
            workload="azure_conv_like",
            warmup_s=(1.0, 4.0),
            load=None,
            rate_per_s=4.0,
        )


def test_another_rule_gives_another_run() -> None:
    """The comparison sees differences: the records of one rule are not those of another."""
    env = make(WINDOW, record=True, **ALONE)
    play(env, "sbs:multiplier=2", seed=3)
    found = differences(env, env.records(), plain_run(env, "sbs:multiplier=1"))
    assert "requests.first_token_at_s" in found


# Drawn circumstances.


def drawn(rng: random.Random) -> tuple[str, str, dict[str, Any]]:
    """Return an environment, a rule that it can be played by, and its options."""
    id = rng.choice(tuple(RULES))
    whole = id in (DECODE, SERVING) or rng.random() < 0.3
    cluster = _drawn_cluster(rng, whole)
    background, rule = _drawn_rules(rng, id)
    warm = rng.random() < 0.4
    dp, num = cluster["prefill_dp"], cluster["num_prefill"]
    options: dict[str, Any] = {
        "cluster": cluster,
        "workload": rng.choice(["sbs_short", "sbs_long", "azure_conv_like"]),
        "timing": rng.choice(["linear", "linear", "roofline", "constant"]),
        "arrivals": rng.choice(["poisson", "gamma_renewal", "tick_batches", "mmpp2_half"]),
        "scheduler": rule if warm else background,
        "load": None,
        "rate_per_s": rng.choice([0.3, 0.8, 1.0, 2.0]) * num * dp * 1.5,
        "warmup_s": (0.0, 3.0) if warm else 0.0,
        "horizon_s": rng.choice([3.0, 5.0]),
        "reask": "release",
    }
    if rng.random() < 0.3:
        options["reward"] = {"baseline": options["scheduler"]}
    if id == WINDOW:
        options["action"] = rng.choice(["discrete", "box"])
    if id == BUDGET:
        options["action"] = rng.choice(["multi", "flat"])
    return id, rule, options


def _drawn_cluster(rng: random.Random, whole: bool) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "num_prefill": rng.randint(1, 4),
        "prefill_dp": rng.choice([1, 2, 4, 7]),
        "chunk_tokens": rng.choice([512, 1024, 3072]),
        "start_rule": rng.choice(["eager", "eager", "on_release"]),
        "dispatch_delay_s": rng.choice([0.0, 0.001, 0.02]),
        "signal_delay_s": rng.choice([0.0, 0.001, 0.02]),
        "signal_loss_frac": rng.choice([0.0, 0.0, 0.2]),
    }
    if whole:
        cluster |= {
            "num_decode": rng.randint(1, 2),
            "decode_dp": rng.choice([1, 2, 5]),
            "decode_kv_tokens": rng.choice([20_000, 60_000, 300_000]),
            "prefill_kv_tokens": rng.choice([40_000, 300_000]),
            "decode_reserve_tokens": rng.choice([0, 64, 512]),
            "decode_binding": rng.choice(["at_prefill_end", "at_dispatch"]),
            "report_period_s": rng.choice([0.02, 0.1]),
            "preempt": rng.choice(["swap", "recompute"]),
            "transfer_overlap": rng.choice(["chunked", "none"]),
            "mtp_tokens": 2,
        }
    return cluster


def _drawn_rules(rng: random.Random, id: str) -> tuple[str, str]:
    """Return a background and a rule that differs from it in what the agent answers."""
    n_limit, action = rng.choice([0, 1, 32]), rng.choice(["keep", "reject", "force"])
    common = f":n_limit={n_limit}:n_limit_action={action}"
    common += f":charge={rng.choice(['tokens', 'cost'])}"
    common += f":watchdog_factor={rng.choice([1.5, 3.0])}"
    common += f":placement={rng.choice(_LONGEST_FIRST)}"
    base = "sbs"
    if id == PREFILL and rng.random() < 0.4:
        base = rng.choice(["least_tokens", "size_or_timeout:timeout_s=0.1", "fixed_window"])
        common = common.replace("watchdog_factor", "placement_iqr_k")
    else:
        common += f":full_batch_bypass={rng.choice(['true', 'false'])}"
        common += f":leftovers={rng.choice(['join', 'alone'])}"
        common += f":min_interval_s={rng.choice([0.0, 0.05])}"
        common += f":budget_unit={rng.choice(['tokens', 'cost'])}"
        if id != SERVING:
            common += f":order={rng.choice(['age_longest', 'longest', 'arrival', 'shortest'])}"
    changes = {
        WINDOW: f":multiplier={rng.choice(QUARTERS)}",
        BUDGET: f":multiplier={rng.choice(QUARTERS)}" + _drawn_budget(rng),
        PREFILL: f":allocation={rng.choice(ALLOCATIONS)}",
        DECODE: f":placement={rng.choice(_LONGEST_FIRST)}",
        SERVING: f":multiplier={rng.choice(QUARTERS)}{_drawn_budget(rng)}"
        f":order={rng.choice(ORDERS)}:allocation={rng.choice(ALLOCATIONS)}",
    }
    return base + common, base + common + changes[id]


def _drawn_budget(rng: random.Random) -> str:
    alpha = rng.choice([*BUDGET_SHARES, None])
    return ":budget=full" if alpha is None else f":budget=backlog:alpha={alpha}"


def assert_drawn_parity(number: int) -> None:
    """Draw number `number` of the circumstances and play them."""
    rng = random.Random(number)
    id, rule, options = drawn(rng)
    try:
        assert_parity(id, rule, seed=number, **options)
    except Exception as error:
        if str(error).startswith("no decision in 100 episodes"):
            return  # prompts so long that none ends before the horizon
        error.add_note(f"number {number}: {id} played by {rule!r} with {options}")
        raise


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_a_rule_does_the_same_in_drawn_circumstances(first: int) -> None:
    for number in range(first, first + 10):
        assert_drawn_parity(number)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(60, 560, 50))
def test_a_rule_does_the_same_in_many_drawn_circumstances(first: int) -> None:
    for number in range(first, first + 50):
        assert_drawn_parity(number)


# What an action space does not contain.


@pytest.mark.parametrize(
    "id, changes, rule, message",
    [
        (WINDOW, {}, "sbs:multiplier=3", r"multiplier=3; SBS/Window has 0, 0.25 … 2"),
        (WINDOW, {}, "sbs:multiplier=0.3", "discrete actions have .*Expected action='box'"),
        (BUDGET, {}, "sbs:multiplier=0.3", r"multiplier=0.3; SBS/WindowBudget has 0, 0.25 … 2"),
        (WINDOW, {}, "sbs_literal", "full_batch_bypass=False, which SBS/Window does not choose"),
        (WINDOW, {}, "learned:window_ppo", "is a network.*agents.load..window_ppo..\\.predict"),
        (WINDOW, {}, "sbs_budget", "budget='backlog', which SBS/Window does not choose"),
        (WINDOW, {}, "lpt", "order='longest', which SBS/Window does not choose"),
        (WINDOW, {}, "least_tokens", "release='immediate', which SBS/Window does not choose"),
        (WINDOW, {}, "sbs:allocation=random", "allocation='random', which SBS/Window"),
        (WINDOW, {}, "sbs:placement=jsq", "placement='jsq', which SBS/Window does not"),
        (WINDOW, {}, "sbs:max_interval_s=0.1", "max_interval_s=0.1, which SBS/Window does not"),
        (BUDGET, {}, "sbs:budget=backlog:alpha=0.7", "alpha=0.7; SBS/WindowBudget has full, and"),
        (BUDGET, {}, "sbs:budget=fixed", "budget='fixed', .*SBS/WindowBudget has full, and"),
        (BUDGET, {}, "sbs_budget:floor_tokens=64", "floor_tokens=64, which SBS/WindowBudget does"),
        (BUDGET, {}, "sbs:order=shortest", "order='shortest', which SBS/WindowBudget does not"),
        (PREFILL, {}, "sbs:multiplier=0", "multiplier=0, which SBS/PrefillAllocation does not"),
        (PREFILL, {}, "size_or_timeout", "release='size_or_timeout', which SBS/PrefillAllocation"),
        (DECODE, {}, "jsq", "places in order, the environment asks longest first"),
        (DECODE, {"scheduler": "sbs:placement=jsq"}, "bf_io", "places longest first, the env"),
        (DECODE, {}, "sbs:allocation=lpt", "allocation='lpt', which SBS/DecodeAllocation does"),
        (SERVING, {}, "sbs:order=longest", "order='longest'; SBS/Serving has age_longest, arr"),
        (SERVING, {}, "sbs:full_batch_bypass=false", "full_batch_bypass=False, which SBS/Serving"),
        (SERVING, {}, "sbs:placement=random", "places in order, the environment asks longest"),
        (WINDOW, {}, "nonsense", "scheduler='nonsense' is not known"),
    ],
)
def test_a_rule_that_cannot_play_is_told_what_is_missing(
    id: str, changes: dict[str, Any], rule: str, message: str
) -> None:
    env = make(id, **changes)
    with pytest.raises(ConfigError, match=message):
        RulePlayer(env, rule)


def test_a_scheduler_object_plays_as_its_name_does() -> None:
    env = make(WINDOW, record=True, **ALONE)
    play(env, dataclasses.replace(env.config.scheduler, multiplier=0.5), seed=3)
    assert differences(env, env.records(), plain_run(env, "sbs:multiplier=0.5")) == []


def test_records_that_were_not_kept_are_not_given() -> None:
    env = make(WINDOW)
    env.reset(seed=1)
    with pytest.raises(ConfigError, match=r"record=False keeps no records; expected record=True"):
        env.records()


def test_a_playback_has_a_row_per_step_and_a_return_per_episode() -> None:
    env = make(SERVING, observation="dict")
    played = play(env, "sbs", episodes=2, seed=1)
    steps = len(played.rewards)
    assert played.actions.shape == (steps,)
    assert played.masks.shape == (steps, env.core.layout.num_actions)
    assert played.masks[np.arange(steps), played.actions].all()
    assert {len(part) for part in played.observations.values()} == {steps}
    assert sorted(set(played.episodes)) == [0, 1]
    for number in (0, 1):
        of_episode = played.rewards[played.episodes == number]
        assert np.isclose(played.returns[number], of_episode.sum(), rtol=1e-12)
