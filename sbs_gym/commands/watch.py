"""`sbs-gym watch`: a run as it happens, in the terminal or as a GIF."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sbs_gym.artifacts import write_all
from sbs_gym.capacity import decode_timing_for, timing_for
from sbs_gym.commands.progress import ProgressReport
from sbs_gym.commands.simulate import SLO
from sbs_gym.commands.words import decimal, output_file, refuse_keys, require_trace, split_words
from sbs_gym.config.run import RunConfig
from sbs_gym.errors import ConfigError
from sbs_gym.report.canvas import with_palette
from sbs_gym.report.scene import Scene, scene_of
from sbs_gym.report.scene_image import scene_image
from sbs_gym.report.scene_text import scene_text
from sbs_gym.report.style import milliseconds
from sbs_gym.schedulers.driver import Session
from sbs_gym.schema import load_settings
from sbs_gym.simulate import plan_all

OWN = ("speed", "fps", "window_s", "output")
HELP = """
sbs-gym watch [key=value ...]

Play one run: the ranks of every instance in the pass under way and what is queued behind it, the
last seconds with the bubble of every pass, the buffer, and the decode ranks. In a terminal the run
plays live until horizon_s or Ctrl-C; elsewhere it prints a scene for every simulated second, as
fast as it can.

  speed      1.0: simulated seconds in a second, 0.001 to 1000; a run that is slower plays slower
  fps        10: pictures in a second, 0.1 to 50; a GIF counts in hundredths of a second
  window_s   6: seconds to look back at, 0.001 to 3600
  output     FILE.gif: write the pictures of the whole run instead of playing it; FILE.png: the last
             picture, at horizon_s
  horizon_s  60: the run ends here; with num_requests, when all of them have finished

The other words describe the run, as in `sbs-gym simulate`.

  sbs-gym watch scheduler=sbs load=0.7
  sbs-gym watch scheduler=round_robin load=0.9 speed=0.5 cluster.num_prefill=2
  sbs-gym watch scheduler=sbs load=0.7 horizon_s=20 output=run.gif
"""

_HORIZON_S = 60.0
_PLAIN_STEP_S = 1.0
_MOST_COLUMNS = 140
_SUFFIXES = (".gif", ".png")
_NO_RESULTS = "is for results; watch takes output=FILE.gif or output=FILE.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What the command's own words ask for; names and units as in HELP."""

    speed: float
    fps: float
    window_s: float
    output: Path | None


@dataclass(slots=True)
class _Show:
    """A run and how it is looked at."""

    session: Session
    until_s: float
    window_s: float
    title: str

    def now(self) -> Scene:
        """Return the scene of this instant."""
        return scene_of(self.session.world, self.window_s, self.title)

    def every(self, step_s: float) -> Iterator[Scene]:
        """Play on and yield a scene after every `step_s`, the last one at the end of the run."""
        for k in itertools.count(1):
            is_over = self.session.play_until(min(k * step_s, self.until_s))
            yield self.now()
            if is_over or k >= self.num_steps(step_s):
                return

    def num_steps(self, step_s: float) -> float:
        """Return how many scenes there are at most; inf for a run without a horizon."""
        steps = self.until_s / step_s
        return math.ceil(steps - 1e-9) if steps < math.inf else math.inf


def run(words: Sequence[str]) -> None:
    """Play a run, or write its pictures."""
    own, rest = split_words(words, OWN)
    refuse_keys(rest, ("output_dir",), _NO_RESULTS)
    wish = _wish(own)
    config = load_settings(rest, also=(*OWN, *SLO)).run
    require_trace(config)
    if config.num_requests is None and config.horizon_s is None:
        config = dataclasses.replace(config, horizon_s=_HORIZON_S)
    with ProgressReport("preparing"):
        show = _prepare(config, wish.window_s)
    if wish.output is not None:
        _write(show, wish, wish.output)
    elif sys.stdout.isatty():
        _play_live(show, wish)
    else:
        for scene in show.every(_PLAIN_STEP_S):
            print(scene_text(scene, colour=False), end="\n\n", flush=True)


def _wish(own: dict[str, str]) -> _Wish:
    output = output_file(own["output"]) if "output" in own else None
    if output is not None and output.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"output={own['output']!r} is not allowed; expected *.gif or *.png")
    return _Wish(
        speed=decimal("speed", own.get("speed", "1"), 0.001, 1000),
        fps=decimal("fps", own.get("fps", "10"), 0.1, 50),
        window_s=decimal("window_s", own.get("window_s", "6"), 0.001, 3600),
        output=output,
    )


def _prepare(config: RunConfig, window_s: float) -> _Show:
    cluster = config.cluster
    session = Session(
        plan_all(config).table,
        cluster,
        config.scheduler,
        timing_for(cluster, config.timing),
        seed=config.seed,
        decode_timing=decode_timing_for(cluster, config.timing) if cluster.num_decode else None,
        record_ranks=False,
    )
    session.play_until(0.0)  # compile before anything is shown
    until_s = math.inf if config.horizon_s is None else config.horizon_s
    return _Show(session, until_s, window_s, _title(config))


def _title(config: RunConfig) -> str:
    parts = [config.scheduler.name, config.workload.name]
    if config.load is not None:
        parts.append(f"load {config.load:g}")
    elif config.rate_per_s is not None:
        parts.append(f"{config.rate_per_s:g} requests/s")
    return " · ".join(parts)


def _play_live(show: _Show, wish: _Wish) -> None:
    """Show scene after scene at the speed asked for; Ctrl-C ends it."""
    console = Console()
    width = min(console.width, _MOST_COLUMNS)
    colour = console.color_system is not None and not console.no_color
    told = "ended"
    try:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            wait = pacer(1.0 / wish.fps)
            for scene in show.every(wish.speed / wish.fps):
                text = Text.from_ansi(scene_text(scene, width, colour), no_wrap=True)
                live.update(text, refresh=True)
                wait()
    except KeyboardInterrupt:
        told = "stopped"
    console.print(_summary(told, show.now()), markup=False, highlight=False)


def pacer(
    period_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Callable[[], None]:
    """Return a function that waits until a period has passed since the last call's due time.

    Whoever comes late goes on at once, and the time lost is not made up for.
    """
    due_s = clock()

    def wait() -> None:
        nonlocal due_s
        due_s += period_s
        left_s = due_s - clock()
        if left_s > 0.0:
            sleep(left_s)
        else:
            due_s -= left_s

    return wait


def _summary(told: str, scene: Scene) -> str:
    totals = scene.totals
    return (
        f"{told} at t = {scene.now_s:.2f} s: {totals.arrived:,} arrived, {totals.first_tokens:,} "
        f"with first token, mean TTFT of the last {scene.window_s:g} s "
        f"{milliseconds(totals.mean_ttft_s)} ms"
    )


def _write(show: _Show, wish: _Wish, path: Path) -> None:
    """Write the pictures, whole or not at all."""
    save = _save_gif if path.suffix.lower() == ".gif" else _save_png
    write_all(path.parent, {path.name: lambda part: save(show, wish, part)})
    print(f"written to {path}")


def _save_png(show: _Show, wish: _Wish, path: Path) -> None:
    from PIL import Image

    del wish  # a picture has neither speed nor frames
    show.session.play_until(show.until_s)
    Image.fromarray(scene_image(show.now())).save(path, format="PNG")


def _save_gif(show: _Show, wish: _Wish, path: Path) -> None:
    hundredths = max(2, round(100.0 / wish.fps))  # what a GIF can say, and browsers obey
    step_s = wish.speed * hundredths / 100.0
    with ProgressReport("drawing") as progress, path.open("wb") as file:
        frames = (with_palette(scene_image(scene)) for scene in _told(show, step_s, progress))
        next(frames).save(
            file,
            format="GIF",
            save_all=True,
            append_images=frames,
            duration=10 * hundredths,
            loop=0,
        )


def _told(show: _Show, step_s: float, progress: ProgressReport) -> Iterator[Scene]:
    """Yield the scenes and say how many there were, of those with a horizon, or requests done."""
    total = show.num_steps(step_s)
    for k, scene in enumerate(show.every(step_s), start=1):
        if total < math.inf:
            progress(k, total)
        else:
            progress(float(show.session.world.clock.num_done), len(show.session.world.requests))
        yield scene
