"""A scene as a picture, for GIFs and for `render_mode="rgb_array"`: the same scene, the same bytes.

Lengths are pixels of a picture of 960 x 540 and grow with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sbs_gym.errors import require_number
from sbs_gym.report import canvas as paint
from sbs_gym.report.canvas import HEIGHT, WIDTH, Box, Canvas
from sbs_gym.report.scene import (
    DecodeScene,
    InstanceScene,
    PassScene,
    Scene,
    full_batch,
    mean_of_neighbours,
    whole_chunks,
)
from sbs_gym.report.style import milliseconds, number, percent

_MARGIN, _LABELS_END, _RANKS_END, _STRIP = 16, 104, 404, 424
_ROWS_TOP, _LEGEND = 134, 520
_DECODE_SHARE, _GAP = 0.30, 6
_MOST_PROMPTS = 800  # drawn one by one
_AHEAD = 1 / 12  # of the window, shown behind now
_DONE = (paint.WORK, paint.BUBBLE)
_LATER = (paint.WORK_TO_COME, paint.BUBBLE_TO_COME)


def scene_image(scene: Scene, size: tuple[int, int] = (WIDTH, HEIGHT)) -> NDArray[np.uint8]:
    """Return the scene as an RGB picture, uint8 of shape (height, width, 3).

    Args:
        scene: What is shown.
        size: Width and height in pixels, [640, 7680] and [360, 4320]; 16 to 9 looks best.
    """
    require_number("size[0]", size[0], 640, 7680, unit="pixels", integer=True)
    require_number("size[1]", size[1], 360, 4320, unit="pixels", integer=True)
    canvas = Canvas(size)
    _draw_head(canvas, scene)
    _draw_buffer(canvas, scene)
    below = _LEGEND - 8.0
    split = below
    if scene.decode is not None:
        split = _ROWS_TOP + (below - _ROWS_TOP) * (1 - _DECODE_SHARE)
    _draw_instances(canvas, scene, split)
    if scene.decode is not None:
        _draw_decode(canvas, scene.decode, Box(0, split, 0, below))
    _draw_legend(canvas, with_decode=scene.decode is not None)
    return canvas.pixels()


def _draw_head(canvas: Canvas, scene: Scene) -> None:
    totals, right = scene.totals, WIDTH - _MARGIN
    clock = f"t = {number(scene.now_s, 2)} s"
    title, room = scene.title, right - _MARGIN - 20 - canvas.width(clock, 17, True)
    while title and canvas.width(title, 17, True) > room:
        title = title[:-2].rstrip() + "…" if len(title) > 2 else ""
    canvas.text(_MARGIN, 30, title, 17, bold=True)
    canvas.text(right, 30, clock, 17, bold=True, anchor="rs")
    told = [f"{totals.arrived:,} arrived", f"{totals.first_tokens:,} with first token"]
    if scene.decode is not None:
        told.append(f"{totals.finished:,} finished")
    if totals.rejected:
        told.append(f"{totals.rejected:,} rejected")
    canvas.text(_MARGIN, 50, "   ".join(told), 12, paint.FAINT)
    ttft = f"mean TTFT of the last {scene.window_s:g} s: {milliseconds(totals.mean_ttft_s)} ms"
    canvas.text(right, 50, ttft, 12, anchor="rs")


def _draw_buffer(canvas: Canvas, scene: Scene) -> None:
    """Draw every buffered prompt as wide as it is long; darker ones have waited longer."""
    tokens, ages_s = scene.buffered_tokens, scene.buffered_age_s
    box = Box(_LABELS_END, 78, WIDTH - _MARGIN, 98)
    whole = scene.dp * scene.chunk_tokens
    scale = whole_chunks(np.array([tokens.sum()]), whole)
    canvas.text(_MARGIN, 92, "buffer", 12, bold=True)
    told = "empty"
    if len(tokens):
        told = f"{len(tokens):,} prompts, {tokens.sum():,} tokens, oldest {ages_s[0]:.2f} s"
    canvas.text(_LABELS_END, 73, told, 11)
    full = f"full bar: {number(scale * whole, 0)} tokens, {_passes(scale)}"
    canvas.text(box.right, 73, full, 10, paint.FAINT, anchor="rs")
    canvas.fill(box, paint.TRACK)
    ends = box.left + np.cumsum(tokens) / (scale * whole) * (box.right - box.left)
    shades = np.minimum(3, 4 * ages_s / max(1e-9, float(ages_s.max(initial=0.0))))
    each = -(-len(tokens) // _MOST_PROMPTS) or 1  # neighbours that are drawn as one
    gap = 1.0 if len(tokens) < _MOST_PROMPTS // 4 else 0.0
    left = box.left
    for end, shade in zip(ends[::-each][::-1].tolist(), shades[::-each][::-1], strict=True):
        canvas.fill(
            Box(left, box.top, max(end - gap, left + 1), box.bottom), paint.AGES[int(shade)]
        )
        left = end


def _short(count: int) -> str:
    return f"{count:,}" if count < 10**6 else f"{count / 1e6:,.1f} M"


def _passes(scale: int) -> str:
    return "1 full pass" if scale == 1 else f"{scale:,} full passes"


def _rows(top: float, bottom: float, count: int) -> Iterable[Box]:
    """Return a box per instance between two heights, and the gaps between them."""
    height = (bottom - top) / count
    gap = min(_GAP, 0.25 * height)
    for i in range(count):
        yield Box(_MARGIN, top + i * height, WIDTH - _MARGIN, top + (i + 1) * height - gap)


def _draw_label(canvas: Canvas, box: Box, place: int, lines: Sequence[str]) -> None:
    """Write as many lines as the row takes; in low rows only now and then a name."""
    height = box.bottom - box.top
    each = math.ceil(12 / max(1.0, height))
    if place % each == 0:
        canvas.text(_MARGIN, box.top + 10, lines[0], 11 if each == 1 else 9, bold=True)
    for k, line in enumerate(lines[1:], start=1):
        if 10 + 13 * k <= height:
            canvas.text(_MARGIN, box.top + 10 + 13 * k, line, 10, paint.FAINT)


def _draw_instances(canvas: Canvas, scene: Scene, bottom: float) -> None:
    scale = max(whole_chunks(one.queued_tokens, scene.chunk_tokens) for one in scene.instances)
    head = "ranks: in this pass, above; queued, below"
    if scale > 1:
        head = f"ranks: in this pass, above; queued, to {scale} chunks"
    canvas.text(_LABELS_END, _ROWS_TOP - 8, head, 10, paint.FAINT)
    strip = f"last {scene.window_s:g} s: passes, with the bubble of each in %"
    canvas.text(_STRIP, _ROWS_TOP - 8, strip, 10, paint.FAINT)
    now_x = _now_x()
    canvas.text(now_x, _ROWS_TOP - 8, "now", 10, anchor="ms")
    rows = list(_rows(_ROWS_TOP, bottom, len(scene.instances)))
    for i, (instance, row) in enumerate(zip(scene.instances, rows, strict=True)):
        running = instance.running
        state = "idle" if running is None else f"bubble {percent(running.bubble_frac, 0)} %"
        queued = f"queue {_short(int(instance.queued_tokens.sum()))}"
        _draw_label(canvas, row, i, [f"prefill {i}", state, queued])
        _draw_ranks(canvas, scene, instance, scale, row)
        _draw_strip(canvas, scene, instance, row)
    canvas.fill(Box(now_x - 0.5, rows[0].top - 3, now_x + 1, rows[-1].bottom + 3), paint.INK)


def _draw_ranks(
    canvas: Canvas, scene: Scene, instance: InstanceScene, scale: int, row: Box
) -> None:
    """Draw tokens in the pass upwards, the wait for the slowest rank above, the queue below."""
    line = row.top + 0.68 * (row.bottom - row.top)
    up, down = line - row.top, row.bottom - line - 1
    canvas.fill(Box(_LABELS_END, row.top, _RANKS_END, row.bottom), paint.TRACK)
    chunk = scene.chunk_tokens
    passing, queued = instance.pass_tokens / chunk, instance.queued_tokens / (chunk * scale)
    slowest = line - min(1.0, float(passing.max())) * up
    for (left, right), now, later in _bars(_LABELS_END, _RANKS_END, passing, queued):
        top = line - min(1.0, now) * up
        canvas.fill(Box(left, slowest, right, top), paint.BUBBLE)
        canvas.fill(Box(left, top, right, line), paint.WORK)
        canvas.fill(Box(left, line + 1, right, line + 1 + later * down), paint.QUEUE)
    canvas.fill(Box(_LABELS_END, line, _RANKS_END, line + 1), paint.FAINT)


def _bars(
    left: float, right: float, first: NDArray[np.float64], second: NDArray[np.float64]
) -> Iterable[tuple[tuple[float, float], float, float]]:
    """Return the sides of every bar and its two values; neighbours share a bar if they must."""
    most = int((right - left) / 2)
    a, b = mean_of_neighbours(first, most)[0], mean_of_neighbours(second, most)[0]
    step = (right - left) / len(a)
    gap = 0.0 if step < 3 else 1.0 if step < 12 else 2.0
    for k, (one, two) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        yield (left + k * step, left + (k + 1) * step - gap), one, two


def _now_x() -> float:
    return _STRIP + (WIDTH - _MARGIN - _STRIP) / (1 + _AHEAD)


def _draw_strip(canvas: Canvas, scene: Scene, instance: InstanceScene, row: Box) -> None:
    """Draw the passes over time, the bubble's share of each from above."""
    strip = row._replace(left=_STRIP)
    now_x = _now_x()
    per_s = (now_x - _STRIP) / scene.window_s
    begin = max(_STRIP, now_x - scene.now_s * per_s)  # nothing was before time 0
    canvas.fill(strip._replace(left=begin), paint.TRACK)
    for shown in instance.passes:
        _draw_pass(canvas, shown, _span(scene, shown, per_s, strip), _DONE)
    if instance.running is not None:
        span = _span(scene, instance.running, per_s, strip)
        _draw_pass(canvas, instance.running, span._replace(left=now_x), _LATER)
        done = span._replace(right=min(now_x, span.right))
        _draw_pass(canvas, instance.running, done, _DONE)
    if not math.isnan(instance.believed_end_s):
        x = now_x + (instance.believed_end_s - scene.now_s) * per_s
        if _STRIP < x < strip.right:
            canvas.fill(Box(x - 1, strip.top, x + 1, strip.bottom), paint.EXPECTED)
            if strip.bottom - strip.top >= 12:
                canvas.triangle(x, strip.top + 5, paint.EXPECTED)


def _span(scene: Scene, shown: PassScene, per_s: float, strip: Box) -> Box:
    """Return where a pass lies in the strip."""
    left = _now_x() + (shown.started_at_s - scene.now_s) * per_s
    right = _now_x() + (shown.ended_at_s - scene.now_s) * per_s
    return strip._replace(left=max(left, strip.left), right=min(right, strip.right))


def _draw_pass(canvas: Canvas, shown: PassScene, span: Box, colours: tuple[str, str]) -> None:
    """Draw work below and bubble above, and the bubble's share if there is room for it."""
    edge = span.top + shown.bubble_frac * (span.bottom - span.top)
    right = span.right - 1 if span.right - span.left > 3 else span.right
    canvas.fill(span._replace(right=right, top=edge), colours[0])
    canvas.fill(span._replace(right=right, bottom=edge), colours[1])
    if right - span.left < 15 or span.bottom - span.top < 24 or colours is _LATER:
        return
    x, share = (span.left + right) / 2, percent(shown.bubble_frac, 0)
    if span.bottom - edge >= 13:
        canvas.text(x, span.bottom - 4, share, 9, "white", anchor="ms")
    else:
        canvas.text(x, span.top + 11, share, 9, anchor="ms")


def _draw_decode(canvas: Canvas, decode: DecodeScene, place: Box) -> None:
    top = place.top + 22
    scale = full_batch(decode)
    head = f"requests per rank, to {number(scale, 0)}"
    canvas.text(_LABELS_END, top - 6, head, 10, paint.FAINT)
    kv = decode.kv_frac
    used = f"KV room used per rank: mean {percent(float(kv.mean()), 0)} %"
    canvas.text(
        _STRIP, top - 6, f"{used}, fullest {percent(float(kv.max()), 0)} %", 10, paint.FAINT
    )
    if decode.unbound:
        waiting = f"{decode.unbound:,} prompts wait for a rank"
        canvas.text(WIDTH - _MARGIN, top - 6, waiting, 10, paint.WAITING, anchor="rs")
    for j, row in enumerate(_rows(top, place.bottom, len(kv))):
        running, waiting_here = int(decode.running[j].sum()), int(decode.waiting[j].sum())
        _draw_label(
            canvas, row, j, [f"decode {j}", f"{running:,} running", f"{waiting_here:,} waiting"]
        )
        ranks, room = row._replace(left=_LABELS_END, right=_RANKS_END), row._replace(left=_STRIP)
        canvas.fill(ranks, paint.TRACK)
        canvas.fill(room, paint.TRACK)
        _draw_stacks(canvas, ranks, decode.running[j] / scale, decode.waiting[j] / scale)
        _draw_stacks(canvas, room, kv[j], np.zeros_like(kv[j]))


def _draw_stacks(
    canvas: Canvas, box: Box, below: NDArray[np.float64], above: NDArray[np.float64]
) -> None:
    height = box.bottom - box.top
    for (left, right), low, high in _bars(box.left, box.right, below, above):
        middle = box.bottom - min(1.0, low) * height
        top = box.bottom - min(1.0, low + high) * height
        canvas.fill(Box(left, middle, right, box.bottom), paint.DECODE)
        canvas.fill(Box(left, top, right, middle), paint.WAITING)


def _draw_legend(canvas: Canvas, *, with_decode: bool) -> None:
    entries = [
        ("buffered (darker: longer)", paint.AGES[2]),
        ("in the pass", paint.WORK),
        ("bubble: waits for the slowest rank", paint.BUBBLE),
        ("queued", paint.QUEUE),
        ("idle", paint.IDLE),
        ("end expected", paint.EXPECTED),
    ]
    if with_decode:
        entries += [("decode", paint.DECODE), ("bound, waiting", paint.WAITING)]
    x = float(_MARGIN)
    for text, colour in entries:
        canvas.fill(Box(x, _LEGEND, x + 10, _LEGEND + 10), colour)
        canvas.text(x + 14, _LEGEND + 9, text, 10, paint.FAINT)
        x += 14 + canvas.width(text, 10) + 16
