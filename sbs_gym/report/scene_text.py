"""A scene as text: block characters, with ANSI colours or without; the same scene, the same text.

A column of a bar is a rank, or the mean of as many neighbours as fit no other way. In a strip of
the last seconds the height of a cell is the share of its rank time that was work.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

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

_BLOCKS = " ▁▂▃▄▅▆▇█"
_LABEL = 12  # columns before every bar
_NOTE = 52  # columns behind it
_LEAST_BAR = 8
_NARROWEST = 40
_IN_DETAIL = 4  # instances; more of them get a row each
_COMPACT_BAR = 16
# Codes of the 256-colour palette nearest to the colours of report/style.py.
_CODES = {
    "": "",
    "bold": "1",
    "dim": "2",
    "work": "38;5;25",
    "work next": "38;5;74",  # every other pass, so that neighbours are told apart
    "bubble": "38;5;25;48;5;178",
    "bubble next": "38;5;74;48;5;178",
    "queue": "38;5;74",
    "buffer": "38;5;36",
    "decode": "38;5;175",
    "late": "38;5;166",
}
_Part = tuple[str, str]  # text and the name of its colour
_Line = list[_Part]


def scene_text(scene: Scene, width: int = 100, colour: bool = True) -> str:
    """Return the scene as lines of at most `width` columns, joined by newlines.

    Args:
        scene: What is shown.
        width: Columns; at least 40 are taken.
        colour: Whether to write ANSI colour codes; without them there are no control codes.
    """
    width = max(width, _NARROWEST)
    lines = [*_head(scene, width), [], *_buffer(scene, width), []]
    decodes = 0 if scene.decode is None else len(scene.decode.running)
    if len(scene.instances) <= _IN_DETAIL and decodes <= _IN_DETAIL // 2:
        for i, instance in enumerate(scene.instances):
            lines += _instance_rows(scene, i, instance, width)
        if scene.decode is not None:
            lines += _decode_rows(scene.decode, width)
    else:
        lines += _compact_rows(scene, width)
    return "\n".join(_painted(_clipped(line, width), colour) for line in lines)


def _head(scene: Scene, width: int) -> list[_Line]:
    totals = scene.totals
    clock = f"t = {number(scene.now_s, 2)} s"
    title = scene.title[: width - len(clock) - 1]
    told = [f"arrived {totals.arrived:,}", f"first tokens {totals.first_tokens:,}"]
    if scene.decode is not None:
        told.append(f"finished {totals.finished:,}")
    if totals.rejected:
        told.append(f"rejected {totals.rejected:,}")
    told.append(f"TTFT of the last {scene.window_s:g} s {milliseconds(totals.mean_ttft_s)} ms")
    gap = " " * (width - len(title) - len(clock))
    return [[(title, "bold"), (gap + clock, "bold")], [(", ".join(told), "")]]


def _buffer(scene: Scene, width: int) -> list[_Line]:
    tokens, ages_s = scene.buffered_tokens, scene.buffered_age_s
    if not len(tokens):
        return [[(_label("buffer"), "bold"), ("empty", "dim")], []]
    told = f"{len(tokens):,} prompts, {tokens.sum():,} tokens, oldest {ages_s[0]:.2f} s"
    scale = whole_chunks(tokens, scene.chunk_tokens)
    columns, size = _columns(tokens / (scale * scene.chunk_tokens), width - _LABEL, widest=1)
    note = f"; full: {scale * scene.chunk_tokens:,} tokens"
    note += f", {size} prompts each" if size > 1 else ""
    is_short = _LABEL + len(told) + len(note) <= width
    return [
        [(_label("buffer"), "bold"), (told, ""), (note if is_short else "", "dim")],
        [(_label("  old first"), "dim"), (columns, "buffer")],
    ]


def _instance_rows(scene: Scene, i: int, instance: InstanceScene, width: int) -> list[_Line]:
    room = max(_LEAST_BAR, width - _LABEL - _NOTE)
    chunk = scene.chunk_tokens
    scale = whole_chunks(instance.queued_tokens, chunk)
    passing, size = _columns(instance.pass_tokens / chunk, room)
    queued, _ = _columns(instance.queued_tokens / (chunk * scale), room)
    each = f", {size} ranks each" if size > 1 else ""
    bubble = "" if instance.running is None else _bubble_text(instance.running)
    passed = f"  {instance.pass_tokens.sum():,} tokens{bubble}{each}"
    waiting = f"  {instance.queued_tokens.sum():,} tokens"
    if scale > 1:
        waiting += f", full is {scale} chunks"
    strip, shares = _strip(scene, instance, width - _LABEL)
    return [
        [(_label(f"prefill {i}"), "bold"), *_state(scene, instance)],
        [(_label("  in pass"), "dim"), (passing, "work"), (passed, "")],
        [(_label("  queued"), "dim"), (queued, "queue"), (waiting, "")],
        [(_label(f"  last {scene.window_s:g} s"), "dim"), *strip],
        [(_label("  bubble %"), "dim"), (shares, "dim")],
    ]


def _bubble_text(shown: PassScene) -> str:
    return f", bubble {percent(shown.bubble_frac, 0)} %"


def _state(scene: Scene, instance: InstanceScene) -> list[_Part]:
    """Return what the instance does and what the scheduler thinks of it."""
    running, parts = instance.running, []
    if running is None:
        parts.append("idle")
    else:
        parts.append(f"pass {running.index} since {scene.now_s - running.started_at_s:.2f} s")
        parts.append(f"ends in {running.ended_at_s - scene.now_s:.2f} s")
    if not math.isnan(instance.believed_end_s):
        parts.append(f"scheduler expects {instance.believed_end_s - scene.now_s:.2f} s")
    if instance.release_pending:
        parts.append("next release sent")
    if instance.coming_requests:
        parts.append(f"{instance.coming_requests} prompts on their way")
    return [(", ".join(parts), "")]


def _decode_rows(decode: DecodeScene, width: int) -> list[_Line]:
    room = max(_LEAST_BAR, width - _LABEL - _NOTE)
    lines: list[_Line] = []
    full = full_batch(decode)
    for j in range(len(decode.running)):
        running, waiting, kv = decode.running[j], decode.waiting[j], decode.kv_frac[j]
        bars, size = _columns(running / full, room)
        each = f", {size} ranks each" if size > 1 else ""
        told = f"  {running.sum():,} running (full: {number(full, 0)})"
        told += f", {waiting.sum():,} waiting{each}"
        room_used = (
            f"  {percent(float(kv.mean()), 0)} % of KV room, fullest {percent(kv.max(), 0)} %"
        )
        lines.append([(_label(f"decode {j}"), "bold"), (bars, "decode"), (told, "")])
        lines.append([(_label("  KV"), "dim"), (_columns(kv, room)[0], "decode"), (room_used, "")])
    if decode.unbound:
        lines.append([(_label(""), ""), (_unbound(decode), "late")])
    return lines


def _unbound(decode: DecodeScene) -> str:
    return f"{decode.unbound:,} prompts wait for a decode rank"


def _compact_rows(scene: Scene, width: int) -> list[_Line]:
    """Return a row per instance: its ranks now and its last seconds."""
    bar = min(_COMPACT_BAR, (width - _LABEL) // 4)
    wide = width - _LABEL - 2 * (bar + 2)
    chunk = scene.chunk_tokens
    scale = max(whole_chunks(one.queued_tokens, chunk) for one in scene.instances)
    title = f"queued (of {scale})" if scale > 1 else "queued"
    head = f"{_label('')}{'in pass':<{bar + 2}}{title:<{bar + 2}}last {scene.window_s:g} s"
    lines: list[_Line] = [[(head, "dim")]]
    for i, one in enumerate(scene.instances):
        passing = _columns(one.pass_tokens / chunk, bar)[0].ljust(bar + 2)
        queued = _columns(one.queued_tokens / (chunk * scale), bar)[0].ljust(bar + 2)
        name = (_label(f"prefill {i}"), "bold")
        lines.append([name, (passing, "work"), (queued, "queue"), *_strip(scene, one, wide)[0]])
    if scene.decode is not None:
        lines += [[], *_compact_decode(scene.decode, bar)]
    return lines


def _compact_decode(decode: DecodeScene, bar: int) -> list[_Line]:
    full = full_batch(decode)
    title = f"running (of {number(full, 0)})"
    lines: list[_Line] = [[(f"{_label('')}{title:<{bar + 2}}{'KV room used':<{bar + 2}}", "dim")]]
    for j in range(len(decode.running)):
        running, waiting, kv = decode.running[j], decode.waiting[j], decode.kv_frac[j]
        bars = _columns(running / full, bar)[0].ljust(bar + 2)
        used = _columns(kv, bar)[0].ljust(bar + 2)
        told = f"{running.sum():,} running, {waiting.sum():,} waiting, KV {percent(kv.mean(), 0)} %"
        name = (_label(f"decode {j}"), "bold")
        lines.append([name, (bars, "decode"), (used, "decode"), (told, "")])
    if decode.unbound:
        lines.append([(_label(""), ""), (_unbound(decode), "late")])
    return lines


def _label(text: str) -> str:
    return f"{text:<{_LABEL}}"


def _block(frac: float) -> str:
    """Return the block of a height in [0, 1]; anything above zero is seen."""
    return _BLOCKS[0 if frac <= 0.0 else min(8, max(1, round(8 * frac)))]


def _columns(fracs: NDArray[np.float64], room: int, widest: int = 2) -> tuple[str, int]:
    """Return bars for shares of the full height, and how many shares one column stands for."""
    means, size = mean_of_neighbours(fracs, room)
    wide = max(1, min(widest, room // len(means)))
    return "".join(_block(float(mean)) * wide for mean in means), size


def _strip(scene: Scene, instance: InstanceScene, cells: int) -> tuple[list[_Part], str]:
    """Return the last seconds in `cells` columns, and the bubble of every pass below its start."""
    cell_s = scene.window_s / cells
    from_s = scene.now_s - scene.window_s
    running = () if instance.running is None else (instance.running,)
    at_work, in_pass, last = np.zeros(cells), np.zeros(cells), np.zeros(cells, dtype=np.int64)
    shares = [" "] * cells
    edges_s = from_s + cell_s * np.arange(cells + 1)
    for shown in (*instance.passes, *running):
        inside_s = np.minimum(edges_s[1:], shown.ended_at_s)
        inside_s = np.clip(inside_s - np.maximum(edges_s[:-1], shown.started_at_s), 0.0, cell_s)
        at_work += inside_s / cell_s * (1.0 - shown.bubble_frac)
        in_pass += inside_s / cell_s
        last[inside_s > 0.0] = shown.index
        _write_share(shares, shown, int((shown.started_at_s - from_s) / cell_s))
    before = int(np.count_nonzero(edges_s[1:] <= 0.0))  # cells before time 0 stay empty
    parts = [_cell(at_work[c], in_pass[c], int(last[c])) for c in range(before, cells)]
    return [(" " * before, ""), *parts], "".join(shares)


def _write_share(shares: list[str], shown: PassScene, cell: int) -> None:
    """Write the bubble of a pass from its first cell on, if nothing stands there."""
    text = percent(shown.bubble_frac, 0)
    free = shares[max(0, cell - 1) : cell + len(text)]
    if 0 <= cell <= len(shares) - len(text) and not any(mark.strip() for mark in free):
        shares[cell : cell + len(text)] = text


def _cell(at_work: float, in_pass: float, index: int) -> _Part:
    if in_pass <= 0.0:
        return "·", "dim"
    colour = "bubble" if in_pass >= 0.5 and at_work < in_pass else "work"
    return _block(at_work), colour + (" next" if index % 2 else "")


def _clipped(line: _Line, width: int) -> _Line:
    """Return the line cut at `width` columns."""
    found, left = [], width
    for text, colour in line:
        found.append((text[:left], colour))
        left -= len(found[-1][0])
    return found


def _painted(line: _Line, colour: bool) -> str:
    """Return the parts of a line as one string, equal neighbours under one colour code."""
    if not colour:
        return "".join(text for text, _ in line).rstrip()
    merged: list[_Part] = []
    for text, name in line:
        if merged and merged[-1][1] == name:
            merged[-1] = (merged[-1][0] + text, name)
        else:
            merged.append((text, name))
    return "".join(f"\x1b[{_CODES[name]}m{text}\x1b[0m" if name else text for text, name in merged)
