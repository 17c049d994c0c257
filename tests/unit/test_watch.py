"""`sbs-gym watch`: GIFs, pictures, plain scenes for a pipe, and the live view with its end."""

from __future__ import annotations

import pytest
from PIL import Image

from sbs_gym.cli import main
from sbs_gym.commands import watch
from sbs_gym.report.scene import Scene

SMALL = [
    "timing=linear",
    "cluster=toy",
    "cluster.chunk_tokens=1000",
    "cluster.prefill_kv_tokens=20000",
    "cluster.decode_kv_tokens=40000",
    "rate_per_s=20",
]


def told(capsys, *words):
    """The exit code, stdout and stderr of `sbs-gym watch`."""
    code = main(["watch", *words])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_a_gif_has_a_frame_for_every_period_of_the_run(capsys, tmp_path):
    path = tmp_path / "new folder" / "run.gif"
    code, out, err = told(capsys, *SMALL, "horizon_s=1.5", "fps=10", f"output={path}")
    assert code == 0, err
    assert str(path) in out
    with Image.open(path) as picture:
        assert (picture.n_frames, picture.size) == (15, (960, 540))
        assert picture.info["duration"] == 100
        picture.seek(14)
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 10
    assert [found.name for found in path.parent.iterdir()] == ["run.gif"]


def test_speed_stretches_a_gif(capsys, tmp_path):
    path = tmp_path / "slow.gif"
    words = [*SMALL, "horizon_s=1", "speed=0.5", "fps=5", f"output={path}"]
    assert told(capsys, *words)[0] == 0
    with Image.open(path) as picture:
        assert (picture.n_frames, picture.info["duration"]) == (10, 200)


def test_a_run_of_some_requests_ends_with_the_last_of_them(capsys, tmp_path):
    path = tmp_path / "few.gif"
    words = [*SMALL, "num_requests=5", "fps=20", f"output={path}", "cluster.num_decode=0"]
    code, _, err = told(capsys, *words)
    assert code == 0, err
    assert "drawing: 5 of 5" in err
    with Image.open(path) as picture:
        assert picture.n_frames >= 2


def test_a_png_is_the_last_picture(capsys, tmp_path):
    path = tmp_path / "end.png"
    assert told(capsys, *SMALL, "horizon_s=2", f"output={path}")[0] == 0
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (960, 540))


@pytest.mark.parametrize("problem", [KeyboardInterrupt, OSError])
def test_a_gif_that_is_not_finished_leaves_nothing(capsys, tmp_path, monkeypatch, problem):
    drawn = []
    draw = watch.scene_image

    def fails(scene: Scene):
        drawn.append(scene)
        if len(drawn) == 3:
            raise problem("no more")
        return draw(scene)

    monkeypatch.setattr(watch, "scene_image", fails)
    code, out, _ = told(capsys, *SMALL, "horizon_s=2", f"output={tmp_path / 'run.gif'}")
    assert code != 0
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_gets_a_scene_for_every_second_without_control_codes(capsys):
    code, out, err = told(capsys, *SMALL, "horizon_s=2.5", "scheduler=round_robin")
    assert code == 0, err
    assert "\x1b" not in out
    heads = [line for line in out.splitlines() if line.startswith("round_robin · sbs_short")]
    assert [line.rpartition("t = ")[2] for line in heads] == ["1.00 s", "2.00 s", "2.50 s"]
    assert out.count("prefill 1 ") == 3


def test_the_live_view_ends_by_itself_and_by_ctrl_c(capsys, monkeypatch):
    waits = []

    def pacer(period_s):
        def wait():
            waits.append(period_s)
            if len(waits) == 7:
                raise KeyboardInterrupt

        return wait

    monkeypatch.setattr(watch, "pacer", pacer)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    words = [*SMALL, "horizon_s=1", "fps=4", "speed=1"]
    code, out, err = told(capsys, *words)
    assert code == 0, err
    assert waits == [0.25] * 4
    assert "ended at t = 1.00 s: " in out
    code, out, err = told(capsys, *words)
    assert code == 0, err
    assert "stopped at t = 0.75 s: " in out
    assert out.rstrip().splitlines()[-1].endswith(" ms")


def test_the_pacer_keeps_the_beat_and_forgets_what_is_lost():
    now, slept = [0.0], []

    def sleep(left_s):
        slept.append(round(left_s, 6))
        now[0] += left_s

    wait = watch.pacer(0.1, clock=lambda: now[0], sleep=sleep)
    now[0] = 0.03
    wait()
    assert slept == [0.07]
    now[0] = 0.5  # 0.3 s late
    wait()
    assert slept == [0.07]
    now[0] = 0.56
    wait()
    assert slept == [0.07, 0.04]


@pytest.mark.parametrize(
    "word, message",
    [
        ("speed=0", "speed=0.0 is out of range"),
        ("speed=fast", "speed='fast' is not allowed; expected a number in [0.001, 1000]"),
        ("fps=60", "fps=60.0 is out of range; expected a number in [0.1, 50]"),
        ("window_s=0", "window_s=0.0 is out of range"),
        ("output=run.mp4", "output='run.mp4' is not allowed; expected *.gif or *.png"),
        ("output=/", "is a directory"),
        ("output_dir=here", "watch takes output=FILE.gif"),
        ("sped=2", "Did you mean 'speed'"),
        ("scheduler=sbss", "Did you mean 'sbs'"),
    ],
)
def test_a_mistake_names_field_value_and_range(capsys, word, message):
    code, out, err = told(capsys, word)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
