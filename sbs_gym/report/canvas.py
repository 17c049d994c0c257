"""What scenes are drawn on: a picture of 960 x 540 in any size, with few colours.

Pillow is imported when the first picture is drawn.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sbs_gym.report import style
from sbs_gym.report.style import COLOURS

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

WIDTH, HEIGHT = 960, 540
INK, FAINT, TRACK, IDLE = "#1a1a1a", "#6b6b6b", "#eeeeee", style.IDLE
WORK, BUBBLE = style.WORK, style.BUBBLE
QUEUE, DECODE, EXPECTED = COLOURS[4], COLOURS[3], COLOURS[1]
WORK_TO_COME, BUBBLE_TO_COME = "#A9CCE3", "#FBEBCB"  # paler still
WAITING = "#7B2D5B"  # DECODE, darker
AGES = ("#80CFB9", "#40B796", COLOURS[2], "#00543D")  # from young to old
# Grounds that text stands on, and the text; its edges are blends of both.
_WRITTEN = ((INK, "#ffffff"), (FAINT, "#ffffff"), ("#ffffff", WORK), (INK, BUBBLE), (INK, TRACK))
_BLENDS = 7


class Box(NamedTuple):
    """A rectangle; right and bottom are outside."""

    left: float
    top: float
    right: float
    bottom: float


class Canvas:
    """Draws in pixels of a picture of 960 x 540, whatever the size."""

    def __init__(self, size: tuple[int, int]) -> None:
        from PIL import Image, ImageDraw

        self._image = Image.new("RGB", size, "white")
        self._draw = ImageDraw.Draw(self._image)
        self._x, self._y = size[0] / WIDTH, size[1] / HEIGHT

    def pixels(self) -> NDArray[np.uint8]:
        """Return the picture, RGB of shape (height, width, 3)."""
        return np.array(self._image, dtype=np.uint8)

    def fill(self, box: Box, colour: str) -> None:
        """Fill the box, if it is a pixel wide and high."""
        left, right = round(box.left * self._x), round(box.right * self._x) - 1
        top, bottom = round(box.top * self._y), round(box.bottom * self._y) - 1
        if right >= left and bottom >= top:
            self._draw.rectangle((left, top, right, bottom), fill=colour)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        points: float = 11,
        colour: str = INK,
        *,
        bold: bool = False,
        anchor: str = "ls",
    ) -> None:
        """Write on the base line `y`, from `x` on or as Pillow's anchor says."""
        font = _font(round(points * min(self._x, self._y)), bold)
        self._draw.text((x * self._x, y * self._y), text, fill=colour, font=font, anchor=anchor)

    def width(self, text: str, points: float = 11, bold: bool = False) -> float:
        """Return how wide a text is."""
        return _font(round(points * min(self._x, self._y)), bold).getlength(text) / self._x

    def triangle(self, x: float, y: float, colour: str) -> None:
        """Draw a triangle that points down at (x, y)."""
        corners = ((x - 4, y - 6), (x + 4, y - 6), (x, y))
        self._draw.polygon([(a * self._x, b * self._y) for a, b in corners], fill=colour)


@functools.cache
def _font(pixels: int, bold: bool) -> FreeTypeFont:
    """Return matplotlib's own font, which is the same on every machine."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(path, max(6, pixels), layout_engine=ImageFont.Layout.BASIC)


def with_palette(pixels: NDArray[np.uint8]) -> Image:
    """Return a picture in the one palette that all frames of a GIF share."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    return picture.quantize(palette=_palette(), dither=Image.Dither.NONE)


@functools.cache
def _palette() -> Image:
    from PIL import Image

    plain = [INK, FAINT, TRACK, IDLE, WORK, QUEUE, DECODE, EXPECTED, BUBBLE, "#ffffff"]
    found = [_rgb(colour) for colour in (*plain, WORK_TO_COME, BUBBLE_TO_COME, WAITING, *AGES)]
    for text, ground in _WRITTEN:
        parts = np.linspace(0.0, 1.0, _BLENDS + 2)[1:-1, None]
        blends = (1.0 - parts) * np.array(_rgb(text)) + parts * np.array(_rgb(ground))
        found += [(r, g, b) for r, g, b in blends.round().astype(int).tolist()]
    image = Image.new("P", (1, 1))
    image.putpalette([value for colour in found for value in colour])
    return image


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
