"""Pictures of an instant: the numbers are the world's, nothing is changed, every cluster fits."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sbs_gym.capacity import decode_timing_for, timing_for
from sbs_gym.config.cluster import ClusterConfig
from sbs_gym.config.groups import read_group
from sbs_gym.config.scheduler import scheduler_from_mapping
from sbs_gym.config.timing import LinearTiming
from sbs_gym.errors import ConfigError
from sbs_gym.report import canvas
from sbs_gym.report.scene import mean_of_neighbours, scene_of, whole_chunks
from sbs_gym.report.scene_image import scene_image
from sbs_gym.report.scene_text import scene_text
from sbs_gym.schedulers.driver import Session
from sbs_gym.types import RequestTable

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
ROOM = {"prefill_kv_tokens": 400_000, "decode_kv_tokens": 400_000}
CLUSTERS = {
    "toy": {"num_prefill": 2, "prefill_dp": 2, "num_decode": 1, "decode_dp": 2, **ROOM},
    "h800_3p1d": {"num_prefill": 3, "prefill_dp": 16, "num_decode": 1, "decode_dp": 32, **ROOM},
    "144 ranks": {"num_prefill": 5, "prefill_dp": 32, "num_decode": 1, "decode_dp": 144, **ROOM},
    "wide prefill alone": {"num_prefill": 1, "prefill_dp": 144, "chunk_tokens": 1000},
    "eight prefill alone": {"num_prefill": 8, "prefill_dp": 8, "chunk_tokens": 1000},
    "64 and 4": {"num_prefill": 64, "prefill_dp": 4, "num_decode": 4, "decode_dp": 16, **ROOM},
}


def random_table(per_s, seconds, seed=0):
    """Arrivals in bursts, with prompts of 50 to 8000 tokens."""
    drawn = np.random.default_rng(seed)
    count = int(per_s * seconds)
    return RequestTable(
        arrived_at_s=np.sort(drawn.uniform(0, seconds, count).round(1)),
        input_tokens=np.exp(drawn.uniform(np.log(50), np.log(8000), count)).astype(np.int32),
        output_tokens=drawn.integers(1, 200, count).astype(np.int32),
        name="random",
    )


def session_of(name, scheduler="sbs", per_s=None):
    cluster, timing = ClusterConfig(**CLUSTERS[name]), LinearTiming()
    return Session(
        random_table(per_s or 2.5 * cluster.num_prefill_ranks, 4.0),
        cluster,
        rules(scheduler),
        timing_for(cluster, timing),
        seed=0,
        decode_timing=decode_timing_for(cluster, timing) if cluster.num_decode else None,
        record_ranks=False,
    )


def rules(name):
    return scheduler_from_mapping({"name": name, **read_group("scheduler", name)})


@pytest.fixture(scope="module")
def scenes():
    """A scene of every cluster in the middle of its run."""
    found = {}
    for name in CLUSTERS:
        session = session_of(name)
        session.play_until(2.05)
        found[name] = scene_of(session.world, title=f"sbs on {name}")
    return found


@pytest.mark.parametrize("scheduler", ["sbs", "round_robin"])
@pytest.mark.parametrize("name", ["toy", "eight prefill alone"])
def test_every_token_that_arrived_is_shown_once(name, scheduler):
    session = session_of(name, scheduler)
    for instant_s in (0.0, 0.35, 1.0, 2.05, 3.9):
        session.play_until(instant_s)
        world, scene = session.world, scene_of(session.world)
        arrived = world.requests["input_tokens"][: scene.totals.arrived].sum()
        shown = scene.buffered_tokens.sum() + sum(
            one.pass_tokens.sum() + one.queued_tokens.sum() + one.coming_tokens
            for one in scene.instances
        )
        assert shown + world.shares["done_tokens"].sum() == arrived
        assert scene.now_s == instant_s


def test_a_scene_leaves_the_world_as_it_is():
    session = session_of("toy")
    session.play_until(1.5)
    before = [np.asarray(part).tobytes() for part in session.world]
    scene_of(session.world)
    assert [np.asarray(part).tobytes() for part in session.world] == before


def test_bubble_and_times_of_passes_that_can_be_followed_by_hand():
    # One instance of two ranks: 40 and 10 tokens cost as much as 40 and 40 of lockstep: 3/8 bubble.
    cluster = ClusterConfig(num_prefill=1, prefill_dp=2, chunk_tokens=100, dispatch_delay_s=0.0)
    timing = LinearTiming(fixed_s=0.01, per_token_s=0.001, jitter_cv=0.0)
    table = RequestTable(
        arrived_at_s=np.array([0.0, 0.0, 1.0]),
        input_tokens=np.array([40, 10, 30], dtype=np.int32),
        output_tokens=np.ones(3, dtype=np.int32),
        name="three",
    )
    session = Session(
        table, cluster, rules("round_robin"), timing_for(cluster, timing), seed=0, mean_luck=True
    )
    session.play_until(1.0)
    (instance,) = scene_of(session.world).instances
    (first,) = instance.passes
    assert first.bubble_frac == pytest.approx(3 / 8)
    assert (first.started_at_s, first.tokens, first.index) == (0.0, 50, 0)
    assert instance.running is not None
    assert instance.running.bubble_frac == pytest.approx(1 / 2)
    assert instance.pass_tokens.tolist() == [30, 0]
    later_s = instance.running.ended_at_s
    session.play_until(later_s - 1e-6)
    assert scene_of(session.world).instances[0].running is not None
    assert session.play_until(later_s)
    assert scene_of(session.world, window_s=0.5).instances[0].running is None
    assert len(scene_of(session.world, window_s=0.5).instances[0].passes) == 1  # the other is old
    assert scene_of(session.world, window_s=0.5).totals.mean_ttft_s == pytest.approx(later_s - 1.0)


def test_passes_come_in_order_of_their_ends_wherever_they_are_kept():
    session = session_of("h800_3p1d")
    session.play_until(2.05)
    world = session.world
    kept = [one.passes for one in scene_of(world).instances]
    count = int(world.clock.num_passes)
    assert count > 10
    world.passes[:count] = np.roll(world.passes[:count].copy(), 5)
    assert [one.passes for one in scene_of(world).instances] == kept
    for passes in kept:
        ends = [shown.ended_at_s for shown in passes]
        assert ends == sorted(ends)


def test_what_the_scheduler_believes_is_shown_where_it_believes_in_passes(scenes):
    busy = [one for one in scenes["h800_3p1d"].instances if one.running is not None]
    assert busy
    assert all(one.believed_end_s == pytest.approx(one.running.ended_at_s, abs=0.2) for one in busy)
    session = session_of("toy", "round_robin")
    session.play_until(2.05)
    assert all(np.isnan(one.believed_end_s) for one in scene_of(session.world).instances)


def test_decode_is_shown_as_the_ranks_stand():
    session = session_of("h800_3p1d")
    session.play_until(2.05)
    world = session.world
    decode = scene_of(world).decode
    assert decode is not None
    assert decode.running.shape == decode.waiting.shape == decode.kv_frac.shape == (1, 32)
    assert decode.running.sum() == world.decode_ranks["num_running"].sum() > 0
    assert (decode.running + decode.waiting).sum() == world.decode_ranks["num_bound"].sum()
    assert decode.kv_frac.max() > 0
    assert scene_of(session_of("wide prefill alone").world).decode is None


def test_neighbours_share_a_column_only_if_they_must():
    values = np.array([1, 3, 5, 7, 9])
    assert mean_of_neighbours(values, 5)[0].tolist() == [1, 3, 5, 7, 9]
    means, size = mean_of_neighbours(values, 3)
    assert (means.tolist(), size) == ([2, 6, 9], 2)
    assert mean_of_neighbours(values, 1)[0].tolist() == [5]


@pytest.mark.parametrize("most, chunks", [(0, 1), (10, 1), (11, 2), (21, 4), (40, 4), (41, 8)])
def test_scales_are_powers_of_two_chunks(most, chunks):
    assert whole_chunks(np.array([0, most]), 10) == chunks


@pytest.mark.parametrize("width", [40, 80, 100, 140])
@pytest.mark.parametrize("name", CLUSTERS)
def test_text_fits_its_width_and_is_the_same_with_colours(scenes, name, width):
    plain = scene_text(scenes[name], width, colour=False)
    assert max(len(line) for line in plain.splitlines()) <= width
    assert "\x1b" not in plain
    bare = ESCAPE.sub("", scene_text(scenes[name], width))
    assert [line.rstrip() for line in bare.splitlines()] == plain.splitlines()
    for i in range(len(scenes[name].instances)):
        assert f"prefill {i} " in plain


def test_bars_of_the_text_are_as_high_as_the_ranks_are_full(scenes):
    scene = scenes["h800_3p1d"]
    lines = scene_text(scene, colour=False).splitlines()
    passing = [line for line in lines if line.startswith("  in pass")]
    assert len(passing) == 3
    for line, one in zip(passing, scene.instances, strict=True):
        heights = [" ▁▂▃▄▅▆▇█".index(mark) for mark in line[12:44:2]]
        wanted = 8 * one.pass_tokens / scene.chunk_tokens
        assert np.abs(np.array(heights) - wanted).max() <= 1
        assert f"{one.pass_tokens.sum():,} tokens" in line
    assert f"{len(scene.buffered_tokens):,} prompts" in "\n".join(lines) or "empty" in lines[3]


@pytest.mark.parametrize("name", CLUSTERS)
def test_pictures_are_full_of_colour_and_the_same_every_time(scenes, name):
    pixels = scene_image(scenes[name])
    assert (pixels.shape, pixels.dtype) == ((540, 960, 3), np.uint8)
    assert len(np.unique(pixels.astype(np.int64) @ [65536, 256, 1])) > 20
    assert np.array_equal(pixels, scene_image(scenes[name]))
    assert (pixels[-3:] == 255).all()
    assert (pixels[:, -8:] == 255).all()  # nothing runs out of the picture


def test_bars_of_the_picture_are_as_high_as_the_ranks_are_full(scenes):
    scene = scenes["wide prefill alone"]
    pixels = scene_image(scene)
    is_work = (pixels == _rgb(canvas.WORK)).all(axis=2)[:515, 104:404]  # above the legend
    (one,) = scene.instances
    drawn, wanted = is_work.sum(axis=0), one.pass_tokens / scene.chunk_tokens
    full = drawn.max() / wanted.max()
    per_rank = drawn[((np.arange(144) + 0.5) * 300 / 144).astype(int)]
    assert wanted.max() > 0.3
    assert np.abs(per_rank - wanted * full).max() <= 2


def test_a_picture_takes_other_sizes_and_refuses_tiny_ones(scenes):
    assert scene_image(scenes["toy"], (1920, 1080)).shape == (1080, 1920, 3)
    assert scene_image(scenes["144 ranks"], (640, 360)).shape == (360, 640, 3)
    with pytest.raises(ConfigError, match="size"):
        scene_image(scenes["toy"], (100, 100))


def test_the_palette_of_gifs_keeps_the_picture(scenes):
    pixels = scene_image(scenes["h800_3p1d"])
    kept = np.asarray(canvas.with_palette(pixels).convert("RGB")).astype(int)
    off = np.abs(kept - pixels.astype(int)).max(axis=2)
    assert (off <= 24).mean() > 0.99


def test_an_empty_world_at_time_0_can_be_drawn():
    for name in ("toy", "wide prefill alone"):
        scene = scene_of(session_of(name).world)
        assert "empty" in scene_text(scene)
        assert "TTFT of the last 6 s - ms" in scene_text(scene)
        assert scene_image(scene).shape == (540, 960, 3)


def test_a_long_queue_changes_the_scale_and_stays_inside():
    session = session_of("toy", "round_robin", per_s=200)
    session.play_until(3.9)
    scene = scene_of(session.world)
    assert scene.instances[0].queued_tokens.max() > 4 * scene.chunk_tokens
    assert "chunks" in scene_text(scene)
    assert scene_image(scene).shape == (540, 960, 3)


def _rgb(colour):
    return [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
