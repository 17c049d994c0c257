"""A user's own scheduler: same answers, same run; what it may see; mistakes; command line."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from custom_classes import (
    Everything,
    InTurn,
    Jsq,
    LeastLoad,
    LeastRequests,
    OneInterval,
    Pbaa,
    Wild,
)
from test_cli import told

from sbs_gym import ClusterView, Scheduler, Window, compare, load_config, simulate
from sbs_gym.capacity import decode_timing_for, timing_for
from sbs_gym.config.run import run_from_mapping
from sbs_gym.config.scheduler import SchedulerConfig
from sbs_gym.envs.config import env_config
from sbs_gym.errors import ConfigError, SchedulerError
from sbs_gym.result import Result
from sbs_gym.schedulers import deciding, driver, registry, views
from sbs_gym.schedulers.registry import custom_scheduler, register_scheduler
from sbs_gym.types import RequestTable

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own_scheduler.md"
TOY = [
    "timing=linear", "cluster=toy", "cluster.chunk_tokens=1000", "cluster.prefill_kv_tokens=20000",
    "cluster.decode_kv_tokens=40000", "num_requests=300", "load=0.9",
]  # fmt: skip
CLUSTERS = {
    "toy": TOY,
    "bound at dispatch": [*TOY, "cluster.decode_binding=at_dispatch", "cluster.num_prefill=1"],
    "few blocks": [*TOY, "cluster.decode_kv_tokens=12000", "cluster.prefill_kv_tokens=12000"],
    "slow links": [
        *TOY, "cluster.dispatch_delay_s=0.05", "cluster.signal_delay_s=0.04",
        "cluster.signal_loss_frac=0.2",
    ],
    "on release": [*TOY, "cluster.num_decode=0", "cluster.start_rule=on_release"],
    "free running": [
        *TOY, "cluster.num_decode=0", "cluster.start_rule=free_running", "timing=constant",
        "cluster.dispatch_delay_s=0.0", "cluster.signal_delay_s=0.0",
    ],
    "sixteen ranks": ["workload=sbs_long", "cluster.num_decode=0", "num_requests=300"],
}  # fmt: skip
TABLES = ("requests", "passes", "steps", "by_length")


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    """Leave names, modules and the path as they were."""
    modules = set(sys.modules)
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("plugin_"):
            del sys.modules[name]


def above(kind, base, name="mine"):
    """Register a class above a preset; return the class."""
    made = type(kind.__name__, (kind,), {"base": base, "__module__": kind.__module__})
    register_scheduler(name, made)
    return made


def run_of(words, scheduler):
    return simulate(load_config([*words, f"scheduler={scheduler}"]), record_ranks=False)


def assert_same_run(mine, preset):
    for table in TABLES:
        assert getattr(mine, table).equals(getattr(preset, table)), table
    np.testing.assert_equal(dict(mine.summary), dict(preset.summary))


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_three_answers_of_a_preset_give_its_run_bit_for_bit(cluster):
    above(Everything, "sbs:placement=jsq")
    assert_same_run(
        run_of(CLUSTERS[cluster], "mine"), run_of(CLUSTERS[cluster], "sbs:placement=jsq")
    )


@pytest.mark.parametrize("cluster", ["toy", "slow links"])
@pytest.mark.parametrize(
    "kind, base",
    [
        (InTurn, "round_robin"),
        (InTurn, "sbs:allocation=round_robin"),
        (LeastLoad, "lpt"),
        (LeastLoad, "size_or_timeout"),
        (LeastRequests, "least_requests"),
        (Pbaa, "sbs:charge=cost:n_limit=2:n_limit_action=force"),
        (OneInterval, "work_conserving:multiplier=1"),
        (Jsq, "sbs_budget:placement=jsq"),
    ],
)
def test_a_rule_written_as_a_class_gives_the_run_of_the_rule(kind, base, cluster):
    above(kind, base)
    assert_same_run(run_of(CLUSTERS[cluster], "mine"), run_of(CLUSTERS[cluster], base))


@pytest.mark.parametrize(
    "window, preset",
    [
        (Window(multiplier=0.37), "sbs:multiplier=0.37"),
        (Window(multiplier=0), "work_conserving"),
        (Window(budget_tokens=650), "sbs:budget=fixed:budget_tokens=650"),
        (Window(order="shortest"), "sbs:order=shortest"),
        (Window(order="arrival", multiplier=np.float32(2)), "sbs:order=arrival:multiplier=2"),
    ],
)
def test_a_window_is_what_the_fields_of_a_preset_say(window, preset):
    class Constant(Scheduler):
        def release(self, view):
            return window

    register_scheduler("mine", Constant)
    words = [*TOY, "load=1.3"]
    assert_same_run(run_of(words, "mine"), run_of(words, preset))


def test_a_budget_ends_with_its_window():
    class Once(Scheduler):
        def reset(self, view):
            self.budgets = []

        def release(self, view):
            self.budgets.append(view.instances.last_budget_tokens.max())
            return Window(budget_tokens=500 if len(self.budgets) == 1 else None)

    kind = above(Once, "sbs")
    made = []
    kind.__init__ = lambda self: made.append(self)
    run_of([*TOY, "cluster.num_prefill=1"], "mine")
    assert made[0].budgets[:3] == [1000, 500, 1000]


@pytest.mark.parametrize("cluster", ["toy", "few blocks", "slow links", "bound at dispatch"])
def test_random_answers_are_asked_in_the_order_of_the_window(cluster):
    kind = above(Wild, f"sbs:n_limit={Wild.n_limit}")
    made = []
    kind.__init__ = lambda self: made.append(self)
    result = run_of([*CLUSTERS[cluster], "load=1.1"], "mine")
    assert result.summary["num_finished"] == 300
    assert min(made[0].counts.values()) > 0


def test_a_scheduler_that_leaves_whatever_it_may_still_finishes():
    class Lazy(Scheduler):
        def place_prefill(self, view, request):
            if request.may_leave:
                assert request.waited_releases <= 4
                return None
            return int(np.argmax(view.ranks.room))

    for base in ("sbs", "least_tokens", "size_or_timeout"):
        above(Lazy, f"{base}:n_limit=4", name=f"lazy-{base}")
        found = run_of(TOY, f"lazy-{base}")
        assert found.summary["num_finished"] == 300
        assert (found.requests["waited_releases"] > 0).any()


def test_every_run_has_an_object_of_its_own_that_is_reset_first():
    class Counts(Pbaa):
        seen: tuple[int, ...] = ()

        def reset(self, view):
            assert view.now_s == 0.0
            assert view.report_age_s == np.inf
            assert view.last_release_at_s == -np.inf
            assert view.mean_pass_s > 0
            assert view.interval_s == pytest.approx(view.mean_pass_s / 2, rel=0.1)
            Counts.seen += (id(self),)

    register_scheduler("mine", Counts)
    first = run_of(TOY, "mine")
    assert_same_run(run_of(TOY, "mine"), first)
    assert len(Counts.seen) == 2


def test_what_is_seen_cannot_be_written_to_and_is_of_its_instant():
    kept = []

    class Writer(Scheduler):
        def place_prefill(self, view, request):
            for part in (view.buffer, view.instances, view.ranks, view.decode_ranks):
                for field in dataclasses.fields(part):
                    array = getattr(part, field.name)
                    with pytest.raises(ValueError, match="read-only"):
                        array[...] = 0
                    with pytest.raises(dataclasses.FrozenInstanceError):
                        setattr(part, field.name, array)
            for name in ("now_s", "cluster", "buffer", "interval_s", "anything"):
                with pytest.raises(AttributeError, match="read-only"):
                    setattr(view, name, 1)
            with pytest.raises(AttributeError, match="read-only"):
                del view.now_s
            with pytest.raises(dataclasses.FrozenInstanceError):
                request.input_tokens = 1
            kept.append((view, view.ranks.room, view.ranks.room.copy()))
            return int(np.argmax(view.ranks.room))

    register_scheduler("mine", Writer)
    run_of([*TOY, "num_requests=20"], "mine")
    view, room, copy = kept[0]
    assert np.array_equal(room, copy)
    assert np.array_equal(view.ranks.room, copy)
    with pytest.raises(SchedulerError, match=r"mean_pass_s .* was not read before"):
        _ = view.mean_pass_s


def test_no_answer_length_and_no_instant_of_an_engine_is_shown():
    kinds = [kind for kind in vars(views).values() if dataclasses.is_dataclass(kind)]
    shown = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    shown |= {name for name in dir(ClusterView) if not name.startswith("_")}
    assert {"input_tokens", "room", "blocks", "mean_pass_s"} <= shown
    assert not [name for name in shown if re.search("output|finish|first_token|true", name)]


@pytest.mark.parametrize(
    "method, chosen, message",
    [
        ("place_prefill", 2, r"scheduler 'mine': place_prefill\(\) answered 2 for request 0 at .* "
         r"expected one of the ranks 0-1; None is not allowed here"),
        ("place_prefill", -1, "answered -1"),
        ("place_prefill", True, "answered True"),
        ("place_prefill", 0.0, r"answered 0\.0"),
        ("place_prefill", "0", "answered '0'"),
        ("place_prefill", None, "answered None .* None is not allowed here"),
        ("place_decode", 2, r"place_decode\(\) answered 2 for request \d+ .* ranks 0-1$"),
        ("place_decode", None, "answered None"),
        ("release", 1.0, r"release\(\) answered 1\.0; expected a Window"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_allowed_names_all_that_one_needs(method, chosen, message):
    register_scheduler("mine", type("Bad", (Scheduler,), {method: lambda self, *seen: chosen}))
    with pytest.raises(SchedulerError, match=message):
        run_of(TOY, "mine")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"multiplier": 101}, "Window.multiplier=101 is out of range"),
        ({"multiplier": float("nan")}, "Window.multiplier"),
        ({"budget_tokens": 0}, "Window.budget_tokens=0 is out of range"),
        ({"budget_tokens": 10.5}, "whole number"),
        ({"order": "longest"}, "Known: age_longest, arrival, shortest"),
    ],
)
def test_a_window_out_of_range_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Window(**values)


def test_the_order_longest_cannot_be_left():
    class Changes(Scheduler):
        base = "lpt"

        def release(self, view):
            return Window(order="arrival")

    register_scheduler("mine", Changes)
    with pytest.raises(SchedulerError, match="base with order=longest"):
        run_of(TOY, "mine")


@pytest.mark.parametrize(
    "name, kind, message",
    [
        ("sbs", Pbaa, "is the name of a preset"),
        ("a:b", Pbaa, "expected letters, digits"),
        ("mine", Scheduler, "answers no question; expected at least one of the methods release"),
        ("mine", dict, "no class derived from Scheduler"),
        ("mine", Pbaa(), "no class derived from Scheduler"),
        ("mine", type("Odd", (Pbaa,), {"base": "sbss"}), "Did you mean 'sbs'"),
    ],
)
def test_a_name_or_class_that_cannot_be_registered_is_refused(name, kind, message):
    with pytest.raises(ConfigError, match=message):
        register_scheduler(name, kind)


def test_a_name_is_taken_by_one_class_which_may_be_defined_anew():
    register_scheduler("mine", Pbaa)
    register_scheduler("mine", Pbaa)
    assert custom_scheduler("mine") is Pbaa
    with pytest.raises(ConfigError, match=r"taken by custom_classes:Pbaa"):
        register_scheduler("mine", Jsq)


def test_release_needs_a_base_with_an_interval():
    above(OneInterval, "fixed_window")
    with pytest.raises(ConfigError, match=r"release='fixed_window'.*chooses multiples"):
        run_of(TOY, "mine")


def test_a_config_says_what_ran_and_needs_its_class_to_run_again(tmp_path):
    above(Pbaa, "sbs:order=shortest")
    result = run_of(TOY, "mine:n_limit=7")
    scheduler = result.config.scheduler
    assert (scheduler.name, scheduler.custom) == ("mine:n_limit=7", "mine")
    assert (scheduler.order, scheduler.n_limit) == ("shortest", 7)
    preset = load_config([*TOY, "scheduler=sbs:order=shortest:n_limit=7"])
    assert result.config.digest() != preset.digest()
    assert list(result.provenance["inputs"]) == ["custom_classes:Pbaa"]
    result.save(tmp_path)
    loaded = Result.load(tmp_path).config
    assert loaded == result.config
    assert run_from_mapping(loaded.to_mapping()) == loaded
    registry._REGISTERED.clear()
    assert Result.load(tmp_path).config == loaded  # a result can be read without the class
    with pytest.raises(
        ConfigError, match=r"'mine' is a class that is not registered here.*plugins"
    ):
        simulate(loaded)
    with pytest.raises(ConfigError, match="scheduler='mine' is not known"):
        load_config(["scheduler=mine"])
    with pytest.raises(ConfigError, match="custom='other' does not go with"):
        SchedulerConfig(name="sbs", custom="other")


def test_environments_refuse_a_class_as_background_or_baseline():
    register_scheduler("mine", Pbaa)
    custom = load_config([*TOY, "scheduler=mine"]).scheduler
    for given in (
        {"scheduler": "mine"},
        {"scheduler": "mine:n_limit=2"},
        {"scheduler": custom},
        {"reward": {"baseline": "mine"}},
    ):
        with pytest.raises(ConfigError, match="'mine' is a Python class; environments take"):
            env_config(**given)


def test_a_decider_may_be_any_object():
    config = load_config([*TOY, "scheduler=sbs:placement=jsq"])
    cluster, scheduler = config.cluster, config.scheduler
    table = RequestTable(
        arrived_at_s=np.arange(300) * 0.05,
        input_tokens=np.full(300, 700, dtype=np.int32),
        output_tokens=np.full(300, 9, dtype=np.int32),
        name="even",
    )
    given = {"seed": 0, "decode_timing": decode_timing_for(cluster, config.timing)}
    parts = (table, cluster, scheduler, timing_for(cluster, config.timing))
    plain = driver.run(*parts, **given)
    seen = []
    decider = deciding.ClassDecider(scheduler, cluster, Everything)
    asked = driver.run(*parts, **given, decider=decider, progress=lambda *done: seen.append(done))
    for mine, theirs in ((asked.requests, plain.requests), (asked.decode, plain.decode)):
        for name in mine.dtype.names:  # not their bytes: between the fields is padding
            np.testing.assert_array_equal(mine[name], theirs[name])
    assert seen[-1] == (300, 300)


PLUGIN = """
import numpy as np
import sbs_gym

class Roomiest(sbs_gym.Scheduler):
    def place_prefill(self, view, request):
        return int(np.argmax(view.ranks.room))

sbs_gym.register_scheduler("roomiest", Roomiest)
"""


def plugin(folder, monkeypatch, text=PLUGIN, name="plugin_roomiest"):
    (folder / f"{name}.py").write_text(text)
    monkeypatch.chdir(folder)
    return f"plugins={name}"


def test_the_command_line_runs_a_class_of_the_working_directory(tmp_path, monkeypatch, capsys):
    word = plugin(tmp_path, monkeypatch)
    code, out, err = told(capsys, "simulate", word, "scheduler=roomiest", *TOY, "output_dir=out")
    assert code == 0, err
    assert "roomiest, seed 0" in " ".join(out.split())
    assert_same_run(Result.load("out"), simulate(load_config([*TOY, "scheduler=sbs"])))
    for command in ("watch", "drain", "capacity"):
        words = ["schedulers=[sbs,roomiest]"] if command == "drain" else ["scheduler=roomiest"]
        words += {"watch": ["horizon_s=1"], "drain": ["num_requests=50"]}.get(command, ["seeds=1"])
        small = [w for w in TOY if command == "watch" or "load" not in w]
        small = [w for w in small if "num_requests" not in w or command == "capacity"]
        code, out, err = told(capsys, command, word, *small, *words)
        assert code == 0, (command, err)
        assert "roomiest" in out


def test_two_processes_compare_a_class_and_keep_its_runs_by_its_source(tmp_path, monkeypatch):
    word = plugin(tmp_path, monkeypatch)

    def compared(jobs):
        configs = {n: load_config([word, *TOY, f"scheduler={n}"]) for n in ("sbs", "roomiest")}
        return compare(configs, 2, output_dir="out", jobs=jobs)

    first = compared(jobs=2)
    assert first.num_reused == 0
    assert list(first.inputs) == ["plugin_roomiest:Roomiest"]
    same = first.paired["ratio"].to_numpy()
    assert np.array_equal(same[~np.isnan(same)], np.ones(np.sum(~np.isnan(same))))
    assert compared(jobs=1).num_reused == 4
    (tmp_path / "plugin_roomiest.py").write_text(PLUGIN + "\n# another version\n")
    registry._REGISTERED.clear()
    del sys.modules["plugin_roomiest"]
    assert compared(jobs=1).num_reused == 2


def test_a_class_that_workers_cannot_import_is_refused_before_any_run():
    register_scheduler("mine", type("Local", (Pbaa,), {}))
    configs = {n: load_config([*TOY, f"scheduler={n}"]) for n in ("sbs", "mine")}
    with pytest.raises(ConfigError, match=r"other processes cannot import .*jobs=1"):
        compare(configs, 1, jobs=2)
    assert set(compare(configs, 1).runs["scheduler"]) == {"sbs", "mine"}


@pytest.mark.parametrize(
    "text, message",
    [
        (None, r"plugins='plugin_bad': there is no plugin_bad\.py in "),
        (
            "import no_such_library\n",
            r"No module named 'no_such_library' \(plugin_bad\.py, line 1\)",
        ),
        ("x = 1\ny = x / 0\n", r"ZeroDivisionError: division by zero \(plugin_bad\.py, line 2\)"),
        ("def broken(:\n", r"SyntaxError: .*plugin_bad\.py, line 1"),
        ("x = 1\n", "plugin_bad: nothing was registered"),
        (PLUGIN.replace('"roomiest"', '"sbs"'), "'sbs' is the name of a preset"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_told_in_one_line(
    tmp_path, monkeypatch, capsys, text, message
):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        plugin(tmp_path, monkeypatch, text, "plugin_bad")
    code, out, err = told(capsys, "simulate", "plugins=plugin_bad", "scheduler=roomiest", *TOY)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(message, err), err


def test_plugins_are_modules(capsys):
    for name in ("my_module.py", "a-b", ""):
        code, _, err = told(capsys, "simulate", f"plugins={name}")
        assert code == 2
        assert "is no module; expected a name such as my_module" in err


def test_the_example_of_the_page_runs_and_prints_its_lines(tmp_path, monkeypatch, capsys):
    page = PAGE.read_text(encoding="utf-8")
    code = re.search(r"```python\n# (\w+)\.py\n(.*?)```", page, re.S)
    shown = re.search(r"```text\n\$ sbs-gym (.*?)\n(.*?)```", page, re.S)
    plugin(tmp_path, monkeypatch, code[2], code[1])
    status, out, err = told(capsys, *shlex.split(shown[1]))
    assert status == 0, err
    for line in shown[2].splitlines():
        assert " ".join(line.split()) in " ".join(out.split()), line
