"""Contact sheets: rows of captioned images, transparent ones over a checkerboard."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..imaging.images import FloatImage, ImageU8, ResizeMode, as_rgba, fit
from ..outputs import preview

_GAP, _LINE, _FONT_SIZE, _TITLE_SIZE = 12, 17, 13, 16
_PAPER, _INK, _PALE = (250, 250, 250), (20, 20, 20), (100, 100, 100)
_CAPTION_LINES = 3


@dataclass(frozen=True)
class Tile:
    """One image of a sheet: uint8 or float, RGB or straight RGBA, and what is said of it."""

    image: ImageU8 | FloatImage
    caption: str = ""


@dataclass(frozen=True)
class SheetRow:
    """A titled row of images."""

    title: str
    tiles: Sequence[Tile]


def over_checkerboard(image: ImageU8 | FloatImage, width: int, height: int) -> ImageU8:
    """Returns an image at a size, `height width 3`, over a checkerboard where it has alpha.

    Small images keep their pixels visible: they are enlarged without smoothing.
    """
    rgba = as_rgba(image)
    rows, columns = rgba.shape[:2]
    times = min(width // columns, height // rows)
    if times > 1 and (columns * times, rows * times) == (width, height):
        rgba = rgba.repeat(times, axis=0).repeat(times, axis=1)
    else:
        rgba = fit(rgba, width, height, ResizeMode.STRETCH)
    return preview(rgba)


def contact_sheet(rows: Sequence[SheetRow], cell: int = 256) -> ImageU8:
    """Returns a sheet `H W 3` of titled rows.

    Args:
        rows: What it shows, from the top.
        cell: Longest side of each image in pixels.
    """
    columns = max((len(row.tiles) for row in rows), default=1)
    row_height = _TITLE_SIZE + _GAP + cell + _CAPTION_LINES * _LINE + 2 * _GAP
    width = columns * (cell + _GAP) + _GAP
    sheet = Image.new("RGB", (width, max(1, len(rows)) * row_height + _GAP), _PAPER)
    for index, row in enumerate(rows):
        _draw_row(sheet, row, _GAP + index * row_height, cell)
    return np.asarray(sheet)


def _draw_row(sheet: Image.Image, row: SheetRow, top: int, cell: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, top), row.title, _INK, ImageFont.load_default(_TITLE_SIZE))
    font = ImageFont.load_default(_FONT_SIZE)
    top += _TITLE_SIZE + _GAP
    for column, tile in enumerate(row.tiles):
        left = _GAP + column * (cell + _GAP)
        width, height = _inside(tile.image, cell)
        image = Image.fromarray(over_checkerboard(tile.image, width, height))
        sheet.paste(image, (left, top))
        for line, text in enumerate(_wrapped(tile.caption, cell)):
            draw.text((left, top + cell + 4 + line * _LINE), text, _PALE, font)


def _inside(image: ImageU8 | FloatImage, cell: int) -> tuple[int, int]:
    """Returns the width and height that fit into a square cell."""
    height, width = image.shape[:2]
    scale = cell / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _wrapped(caption: str, cell: int) -> list[str]:
    per_line = max(8, round(cell / (_FONT_SIZE * 0.52)))
    return textwrap.wrap(caption, per_line, max_lines=_CAPTION_LINES, placeholder=" …")
