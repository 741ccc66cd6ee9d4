"""Draws strip.png, the README's strip of results, with the tiny family, in a minute.

Run it in the repository's folder, in the environment that `make demo` makes:

    .venv/bin/python docs/images/make_strip.py

The images come from the command line, as a user would make them. `rows` says which.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from lib_layerdiffuse import cli  # noqa: E402

SIDE, GAP, CAPTION, HEADING, ROUND = 192, 18, 36, 38, 10
COLUMNS = 6
CELL, LIGHT, DARK = 12, (236, 236, 236), (204, 204, 204)
GREY = (125, 131, 140, 255)  # Can be read on white and on black, since the paper is transparent.


class Tile(NamedTuple):
    """An image file and what is said below it."""

    path: Path
    caption: str


class Group(NamedTuple):
    """Tiles beside each other, below a heading."""

    heading: str
    tiles: Sequence[Tile]


def draw(folder: Path, *command: str) -> dict[str, Path]:
    """Returns the images that a command makes, by layer."""
    out = folder / str(len(list(folder.iterdir())))
    if cli.main([*command, "--quiet", "--out", str(out)]) != 0:
        raise SystemExit(1)
    return {path.stem.rpartition("-")[2]: path for path in out.glob("*.png")}


def subject(folder: Path, method: str, thing: str, seed: int) -> Tile:
    """Returns one transparent subject."""
    prompt = ("--prompt", f"a large {thing}")
    made = draw(folder, "generate", "--method", method, *prompt, "--seed", str(seed))
    return Tile(made["fg"], thing)


def scene(folder: Path, fg: str, bg: str, seed: int) -> dict[str, Path]:
    """Returns the three layers of a scene that is made at once."""
    prompts = ("--fg-prompt", fg, "--bg-prompt", bg, "--blended-prompt", f"{fg}, {bg}")
    return draw(folder, "generate", "--method", "joint_sd15", *prompts, "--seed", str(seed))


def rows(folder: Path) -> list[list[Group]]:
    """Returns what the strip shows, from the top."""
    mushroom = scene(folder, "a red mushroom", "a green meadow", 4)
    ball = "a large cyan glass ball"
    sunset = scene(folder, ball, "a sunset", 1)["bg"]
    prompts = ("--blended-prompt", f"{ball}, a sunset", "--fg-prompt", ball)
    chain = draw(folder, "chain", "bg-to-fg", "--bg", str(sunset), *prompts, "--seed", "1")
    subjects = [
        subject(folder, "fg_attn_sd15", "blue glass ball", 8),
        subject(folder, "fg_attn_sd15", "orange flame", 3),
        subject(folder, "fg_conv_sdxl", "blue soap bubble", 3),
        subject(folder, "fg_attn_sd15", "yellow glowing orb", 8),
        subject(folder, "fg_attn_sd15", "red fur ball", 5),
        subject(folder, "fg_attn_sd15", "purple butterfly", 7),
    ]
    layers = [
        Tile(mushroom["fg"], "foreground"),
        Tile(mushroom["bg"], "background"),
        Tile(mushroom["blended"], "blended"),
    ]
    steps = [
        Tile(sunset, "your background"),
        Tile(chain["blended"], "1. with a glass ball"),
        Tile(chain["fg"], "2. the ball alone"),
    ]
    return [
        [Group("One transparent thing", subjects)],
        [Group("All layers of a scene", layers), Group("Something for your background", steps)],
    ]


def strip(rows: Sequence[Sequence[Group]]) -> Image.Image:
    """Returns the strip, on transparent paper."""
    height = HEADING + SIDE + CAPTION
    size = (COLUMNS * (SIDE + GAP) - GAP, len(rows) * (height + GAP) - GAP)
    paper = Image.new("RGBA", size)
    pen = ImageDraw.Draw(paper)
    for row, groups in enumerate(rows):
        left, top = 0, row * (height + GAP)
        for heading, tiles in groups:
            pen.text((left, top + 2), heading, GREY, ImageFont.load_default(22))
            for tile in tiles:
                image = enlarged(tile.path)
                paper.paste(image, (left, top + HEADING), rounded())
                middle = (left + SIDE / 2, top + HEADING + SIDE + 8)
                pen.text(middle, tile.caption, GREY, ImageFont.load_default(18), anchor="ma")
                left += SIDE + GAP
    return paper


def enlarged(path: Path) -> Image.Image:
    """Returns an image at a tile's size, over a checkerboard."""
    board = Image.new("RGBA", (SIDE, SIDE), LIGHT)
    pen = ImageDraw.Draw(board)
    for y in range(0, SIDE, CELL):
        for x in range(y // CELL % 2 * CELL, SIDE, 2 * CELL):
            pen.rectangle((x, y, x + CELL - 1, y + CELL - 1), DARK)
    image = Image.open(path).convert("RGBA").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return Image.alpha_composite(board, image)


def rounded() -> Image.Image:
    """Returns a tile's shape, smooth at the corners."""
    times = 4
    mask = Image.new("L", (SIDE * times, SIDE * times))
    edge = SIDE * times - 1
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, edge, edge), ROUND * times, fill=255)
    return mask.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        strip(rows(Path(made))).save(ROOT / "docs" / "images" / "strip.png", optimize=True)
