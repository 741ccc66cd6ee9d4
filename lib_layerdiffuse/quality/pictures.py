"""The transparent images that a codec is measured on: a folder's, or ones drawn by a program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import SettingsError
from ..files.existing import unreadable
from ..imaging.formats import has_alpha, suffixes
from ..imaging.images import FloatImage, ResizeMode, as_rgba, fit, from_u8, to_u8
from ..imaging.reading import read_image
from ..tiny import scenes

OPAQUE, EMPTY = "opaque", "empty"
KINDS = (*(kind.name for kind in scenes.KINDS), OPAQUE, EMPTY)
"""What is drawn, in turn. Glass, bubbles, glow, smoke, fire and fur are soft, the others have hard
edges, but for an image without transparency and one without anything."""

_APART = 2
"""Beside a seed: no scene that the tiny family learnt from, or is measured by, has it."""


@dataclass(frozen=True)
class Picture:
    """One transparent image.

    Attributes:
        name: The file's, or a drawn one's.
        kind: Of `KINDS`; "" where nobody has said.
        rgba: `H W 4`, straight, in [0, 1], in steps of 1/255 as files have them.
    """

    name: str
    kind: str
    rgba: FloatImage


def drawn(number: int, width: int, height: int) -> Picture:
    """Returns the drawn image of a number, the same in every process; kinds follow each other.

    Args:
        number: From 0.
        width: In pixels.
        height: In pixels.
    """
    kind = KINDS[number % len(KINDS)]
    name = f"{number:03d}-{kind.replace(' ', '-')}"
    return _picture(name, kind, _painted(number, kind, max(width, height)), width, height)


def _painted(number: int, kind: str, side: int) -> FloatImage:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([number, _APART])))
    subject, background = scenes.draw(rng)
    if kind not in (OPAQUE, EMPTY):
        named = scenes.kind_named(kind)
        subject = scenes.Subject(named, subject.colour, subject.size, subject.position)
    scene = scenes.render(subject, background, rng, side)
    if kind == OPAQUE:
        return as_rgba(scene.blended.clip(0, 1))
    return np.zeros_like(scene.fg) if kind == EMPTY else scene.fg


def in_folder(folder: Path) -> list[Path]:
    """Returns the image files of a folder, not of folders in it, by name.

    Each is read, so that none ends the work later.

    Raises:
        SettingsError: There is no such folder, none is in it, one cannot be read, or its kind of
            file says nothing of alpha.
    """
    if not folder.is_dir():
        raise SettingsError(f"There is no folder {folder}.", "Check the name.")
    try:
        files = sorted(one for one in folder.iterdir() if one.suffix.lower() in suffixes())
    except OSError as error:
        raise unreadable(folder, error) from error
    if not files:
        raise SettingsError(
            f"The folder {folder} holds no images.", "Put transparent images into it, such as PNGs."
        )
    for file in files:
        read_image(file)
        if not has_alpha(file):
            raise SettingsError(
                f"{file} has no alpha channel.", "Leave it out, or save it as RGBA, opaque or not."
            )
    return files


def opened(path: Path, width: int, height: int) -> Picture:
    """Returns the image of one of those files, cropped and resized to a size.

    Raises:
        SettingsError: It cannot be read any more.
    """
    return _picture(path.name, "", read_image(path), width, height)


def _picture(name: str, kind: str, rgba: FloatImage, width: int, height: int) -> Picture:
    return Picture(name, kind, from_u8(to_u8(fit(rgba, width, height, ResizeMode.CROP))))
