"""Words to runs: what passes, what is refused, and what Hydra must not notice."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from sbs_gym.config.groups import conf_directory
from sbs_gym.errors import ConfigError
from sbs_gym.schema import load_config, load_settings


def test_no_words_give_the_defaults_of_the_configuration_file():
    config = load_config([])
    assert config.cluster.name == "h800_3p1d"
    assert config.workload.name == "sbs_short"
    assert config.timing.kind == "roofline"
    assert config.scheduler.name == "sbs"
    assert config.load is None


def test_a_field_that_the_preset_leaves_out_can_be_set():
    assert "alpha" not in (conf_directory() / "scheduler/sbs.yaml").read_text()
    assert load_config(["scheduler=sbs", "scheduler.alpha=0.5"]).scheduler.alpha == 0.5


def test_the_order_of_preset_and_field_does_not_matter():
    a = load_config(["cluster.num_prefill=5", "cluster=toy"])
    b = load_config(["cluster=toy", "cluster.num_prefill=5"])
    assert a == b
    assert a.cluster.num_prefill == 5
    assert a.cluster.chunk_tokens == 10


@pytest.mark.parametrize(
    "words, path, value",
    [
        (["cluster.prefill_dp=8"], "cluster.prefill_dp", 8),
        (["cluster.dispatch_delay_s=0.01"], "cluster.dispatch_delay_s", 0.01),
        (["timing=linear", "timing.fixed_s=0.05"], "timing.fixed_s", 0.05),
        (["timing=constant", "timing.pass_s=1"], "timing.pass_s", 1.0),
        (["timing.jitter_cv=0.1"], "timing.jitter_cv", 0.1),
        (["slo.ttft_s=2"], "slo.ttft_s", 2.0),
        (["slo.tpot_s=1"], "slo.tpot_s", 1.0),
        (["load_side=prefill"], "load_side", "prefill"),
        (["load=0.9"], "load", 0.9),
        (["horizon_s=60"], "horizon_s", 60.0),
        (["seed=7"], "seed", 7),
        (["+seed=7"], "seed", 7),
        (["arrivals=gamma_renewal", "arrivals.cv=2"], "arrivals.cv", 2.0),
        (["scheduler.max_interval_s=null"], "scheduler.max_interval_s", None),
    ],
)
def test_a_word_reaches_its_field(words, path, value):
    found = load_config(words)
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_whole_and_decimal_numbers_mean_the_same_run():
    assert load_config(["load=1"]).digest() == load_config(["load=1.0"]).digest()
    assert load_config(["num_requests=1e3"]).num_requests == 1000


def test_a_length_law_keeps_its_other_parameters():
    law = load_config(["workload=sbs_long", "workload.input_tokens.sigma=1.2"]).workload
    assert law.input_tokens.sigma == 1.2
    assert law.input_tokens.high_tokens == 64_000


def test_a_name_may_change_its_preset():
    plain = load_config(["scheduler=sbs"]).scheduler
    found = load_config(["scheduler=sbs:placement=jsq:multiplier=0.5"]).scheduler
    assert found.name == "sbs:placement=jsq:multiplier=0.5"
    changed = {"name": found.name, "placement": "jsq", "multiplier": 0.5}
    assert found == dataclasses.replace(plain, **changed)
    assert load_config(["scheduler='sbs:placement=jsq'"]).scheduler.placement == "jsq"


def test_a_name_that_changes_its_preset_is_true():
    both = load_config(["scheduler=sbs:placement=jsq", "scheduler.placement=random"]).scheduler
    assert (both.name, both.placement) == ("sbs:placement=jsq", "jsq")
    last = load_config(["scheduler=sbs:placement=jsq", "scheduler=lpt"])
    assert last == load_config(["scheduler=lpt"])
    other = load_config(["scheduler=sbs:placement=jsq", "scheduler.alpha=0.5"]).scheduler
    assert other.alpha == 0.5


@pytest.mark.parametrize(
    "word, told",
    [
        ("scheduler=sbss", "Did you mean 'sbs'"),
        ("cluster.num_prefil=3", "Did you mean 'num_prefill'"),
        ("clster.num_prefill=3", "Did you mean 'cluster'"),
        ("sed=3", "Did you mean 'seed'"),
        ("cluster.num_prefill=3.5", "whole number in [1, 64]"),
        ("cluster.num_prefill=0", "out of range"),
        ("load=-1", "out of range"),
        ("slo.tpot_s=0", "out of range"),
        ("load_side=prefil", "Did you mean 'prefill'"),
        ("load=fast", "load='fast'"),
        ("load=0.5,0.6", "lists several values"),
        ("load={a", "cannot be read"),
        ("scheduler=sbs,lpt", "takes one scheduler"),
        ("scheduler=sbss:placement=jsq", "Did you mean 'sbs'"),
        ("scheduler=sbs:plcment=jsq", "Did you mean 'placement'"),
        ("scheduler=sbs:placement=jsqq", "Did you mean 'jsq'"),
        ("scheduler=sbs:release=immediate", "scheduler.routing='staggered'"),
        ("scheduler=sbs:", "'' changes nothing in a preset"),
        ("scheduler=sbs:placement", "'placement' changes nothing"),
        ("scheduler=sbs:placement=", "'placement=' changes nothing"),
        ("scheduler=sbs:name=best", "'name=best' changes nothing"),
        ("scheduler=:placement=jsq", "scheduler=''"),
        ("scheduler.full_batch_bypass=1", "expected true or false"),
        ("scheduler.alpha=null", "needs a value"),
        ("scheduler.release=gated", "Known: "),
        ("timing.pass_s=1", "key='pass_s'"),
        ("workload.path=trace.jsonl", "workload=trace"),
        ("workload=trace", "workload.path=FILE"),
        ("load=${sed}", "sed"),
        ("seed", "expected key=value"),
        ("--seed=3", "no option"),
        ("~load", "nothing can be removed"),
        ("load.x=3", "group='load'"),
        ("slo=3", "key='slo'"),
        ("hydra.run.dir=x", "group='hydra'"),
    ],
)
def test_a_mistake_is_refused_and_told(word, told):
    with pytest.raises(ConfigError) as caught:
        load_config([word])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load_and_rate_exclude_each_other():
    with pytest.raises(ConfigError, match="exclude each other"):
        load_config(["load=0.5", "rate_per_s=10"])


def test_keys_of_the_calling_command_are_listed():
    with pytest.raises(ConfigError, match="Did you mean 'seeds'"):
        load_settings(["seedss=3"], also=("seeds",))


@pytest.mark.parametrize("name", ["my trace (1),[x]{y}=$z.jsonl", "plain.csv", "it's.csv", "a:b,c"])
def test_a_path_needs_no_quotes(name):
    settings = load_settings(["workload=trace", f"workload.path={name}", f"output_dir={name}"])
    assert settings.run.workload.path == name
    assert settings.output_dir == Path(name)


def test_quotes_around_a_path_are_taken_off_and_null_is_no_path():
    assert load_settings(["output_dir='a b'"]).output_dir == Path("a b")
    assert load_settings(["output_dir=null"]).output_dir is None


def test_a_running_hydra_keeps_its_state():
    with initialize_config_dir(str(conf_directory()), version_base="1.3", job_name="outer"):
        before = GlobalHydra.instance().hydra
        assert load_config(["seed=3"]).seed == 3
        assert GlobalHydra.instance().hydra is before
        assert compose("config", overrides=["seed=4"]).seed == 4
    assert not GlobalHydra.instance().is_initialized()
    with pytest.raises(ConfigError):
        load_config(["load=fast"])
    assert not GlobalHydra.instance().is_initialized()


def test_a_hydra_application_may_load_runs(tmp_path):
    (tmp_path / "app.yaml").write_text("word: seed=5\n")
    (tmp_path / "app.py").write_text(
        textwrap.dedent(
            """
            import hydra
            from hydra.core.hydra_config import HydraConfig
            from sbs_gym.schema import load_config

            @hydra.main(config_path=".", config_name="app", version_base="1.2")
            def main(cfg):
                print(load_config([cfg.word]).seed, HydraConfig.get().job.name)

            main()
            """
        )
    )
    command = [sys.executable, "app.py", "hydra.run.dir=out", "word='seed=6'"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["6", "app"]


def test_words_in_one_string_are_refused():
    with pytest.raises(ConfigError, match="expected a list of words"):
        load_config("scheduler=sbs")
