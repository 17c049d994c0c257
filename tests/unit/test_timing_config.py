"""What a timing mapping may say, and what its refusals name."""

from pathlib import Path

import pytest
import yaml

from sbs_gym.config.timing import (
    ConstantTiming,
    LinearTiming,
    RooflineTiming,
    TableTiming,
    timing_from_mapping,
)
from sbs_gym.errors import ConfigError
from sbs_gym.timing.model import build_timing

CONF = Path(__file__).parents[2] / "conf" / "timing"
FILES = sorted(CONF.glob("*.yaml"))


def content_of(file):
    """What a file says; the table gets the file of passes that it asks its user for."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content | ({"path": "example_passes.csv"} if content["kind"] == "table" else {})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_timing_file_builds_says_what_it_is_and_times_a_full_chunk(file):
    content = content_of(file)
    config = timing_from_mapping(content)
    model = build_timing(config, dp=16, ep=16, chunk_tokens=3072)
    assert content["about"]
    assert content["source"]
    assert 0.1 < model.full_chunk_pass_s() < 1.0
    assert hash(config) == hash(timing_from_mapping(content))


def test_kind_chooses_the_class():
    chosen = {
        "linear": LinearTiming,
        "constant": ConstantTiming,
        "table": TableTiming,
        "roofline": RooflineTiming,
    }
    for file in FILES:
        config = timing_from_mapping(content_of(file))
        assert type(config) is chosen[config.kind]


def test_a_table_without_a_file_is_refused_with_what_to_type():
    with pytest.raises(ConfigError, match=r"timing=table timing.path=FILE"):
        timing_from_mapping(yaml.safe_load((CONF / "table.yaml").read_text(encoding="utf-8")))


def test_only_the_roofline_has_luck_unless_asked():
    roofline = timing_from_mapping(yaml.safe_load((CONF / "roofline.yaml").read_text("utf-8")))
    assert (roofline.jitter_cv, roofline.skew_mean, roofline.skew_sigma) == (0.02, 1.1, 0.3)
    assert (LinearTiming().jitter_cv, LinearTiming().skew_mean) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({}, ["timing.kind", "linear", "roofline"]),
        ({"kind": "liner"}, ["timing.kind='liner'", "Did you mean 'linear'", "table"]),
        ({"kind": "linear", "fixed": 1.0}, ["fixed", "fixed_s", "per_token_s"]),
        ({"kind": "linear", "fixed_s": -1.0}, ["timing.fixed_s=-1.0", "[0, 60]"]),
        ({"kind": "linear", "max_weight": 1.5}, ["timing.max_weight=1.5", "[0, 1]"]),
        ({"kind": "linear", "jitter_cv": "high"}, ["timing.jitter_cv='high'", "[0, 1]"]),
        ({"kind": "constant", "pass_s": 0.0}, ["timing.pass_s=0.0", "(0, 3600]"]),
        ({"kind": "table"}, ["timing.path", "missing"]),
        ({"kind": "roofline"}, ["timing.dense_launch_s", "missing"]),
    ],
)
def test_a_bad_mapping_is_refused_by_field_value_and_range(mapping, words):
    with pytest.raises(ConfigError) as caught:
        timing_from_mapping(mapping)
    for word in words:
        assert word in str(caught.value)


def test_the_roofline_refuses_attention_spread_over_several_gpus():
    config = timing_from_mapping(yaml.safe_load((CONF / "roofline.yaml").read_text("utf-8")))
    with pytest.raises(ConfigError, match="one DP rank per GPU"):
        build_timing(config, dp=8, ep=16, chunk_tokens=1024)
