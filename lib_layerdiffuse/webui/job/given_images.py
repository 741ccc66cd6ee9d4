"""Images between the WebUI and the core."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import HTTPException
from modules import shared
from modules.api.api import decode_base64_to_image
from modules.paths import data_path
from PIL import Image

from ...errors import SettingsError
from ...imaging.images import FloatImage, as_rgba
from ...imaging.png import png_bytes
from ...imaging.reading import read_image

# No base64 has a dot.
_SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif"]
_LONGEST_PATH = 4096
_OUTPUT_OPTIONS = (
    "outdir_samples",
    "outdir_txt2img_samples",
    "outdir_img2img_samples",
    "outdir_extras_samples",
    "outdir_grids",
    "outdir_txt2img_grids",
    "outdir_img2img_grids",
    "outdir_save",
    "outdir_init_images",
)


def read_given(value: Any) -> FloatImage | None:
    """Returns straight RGBA `h w 4` of what an image slot or an API request hands over.

    Args:
        value: A PIL image, an array, a dict with one of these as `image`, or a text: base64, a
            data URI, the path of a file in an output folder of the WebUI, or a URL where the
            WebUI allows requests. Empty for none.

    Raises:
        SettingsError: It is no image.
    """
    if isinstance(value, Mapping):
        value = value.get("image")
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        return _from_text(value.strip())
    return read_image(value) if isinstance(value, Image.Image) else as_rgba(value)


def _from_text(text: str) -> FloatImage:
    if _is_url(text):
        return read_image(_fetched(text))
    if Path(text[-_LONGEST_PATH:]).suffix.lower() in _SUFFIXES:
        return _from_file(Path(text))
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text)
    except ValueError as error:
        raise _unusable("The text for an image is neither base64 nor a data URI.") from error
    return read_image(data)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _fetched(address: str) -> Image.Image:
    """Returns what an address holds, not decoded; the host knows which ones are allowed."""
    try:
        return decode_base64_to_image(address)
    except HTTPException as error:
        raise _unusable(f"The address of an image cannot be used: {error.detail}.") from error
    except Exception as error:  # The host lets what the network raises through.
        raise _unusable(f"The address of an image cannot be used: {error}.") from error


def _unusable(message: str) -> SettingsError:
    return SettingsError(message, "Send the bytes of the file as base64.")


def _from_file(path: Path) -> FloatImage:
    place = _allowed(path)
    if place is None:
        raise SettingsError(
            "The path of an image leads to none of the WebUI's output folders.",
            "Send the file as base64, put it into an output folder, or name its folder with "
            "--gradio-allowed-path.",
        )
    return read_image(place, name=place.name)


def _allowed(path: Path) -> Path | None:
    """Returns where a path leads, or None where that is in no open folder.

    Nothing is touched before the words of the path say that it lies in one: to ask for a file of
    another computer is to log in there.
    """
    open_folders = _open_folders()
    resolved = [Path(folder).resolve() for folder in open_folders]
    rooms: list[str | Path] = [*open_folders, *resolved]
    if not any(lies_in(path, room) for room in rooms):
        return None
    try:
        place = path.resolve()
    except (OSError, ValueError, RuntimeError):  # Too long; no text for a path; a circle of links.
        return None
    return place if any(place.is_relative_to(folder) for folder in resolved) else None


def lies_in(path: str | Path, folder: str | Path, how: ModuleType = os.path) -> bool:
    """Whether a path lies in a folder by its words alone; links may lead elsewhere.

    Args:
        path: What was given; one that is not absolute counts from where the program runs.
        folder: Which.
        how: The system's way to read paths.
    """
    place, room = (how.normcase(how.abspath(one)) for one in (path, folder))
    return bool(place.startswith(how.join(room, "")))


def _open_folders() -> list[str]:
    """Returns the folders that images may be read from by path.

    These are the output folders and those that the command line opens. The host has its whole
    data folder open to the page by default; it holds more than images, so it does not count.
    None are open where the host keeps users from naming folders.
    """
    if getattr(shared.cmd_opts, "hide_ui_dir_config", False):
        return []
    named = [getattr(shared.opts, name, "") for name in _OUTPUT_OPTIONS]
    data = Path(data_path).resolve()
    opened = getattr(shared.cmd_opts, "gradio_allowed_path", None) or []
    return [one for one in named if one] + [one for one in opened if Path(one).resolve() != data]


def is_opaque(rgba: npt.NDArray[Any] | None) -> bool:
    """Whether a straight RGBA image in [0, 1] has no transparency at all; False for none."""
    return rgba is not None and bool((rgba[..., 3] >= 1).all())


def png_base64(image: Image.Image) -> str:
    """Returns an RGBA image as a base64 PNG with its texts, whatever format the WebUI sends."""
    texts = {k: v for k, v in image.info.items() if isinstance(k, str) and isinstance(v, str)}
    return base64.b64encode(png_bytes(np.asarray(image), texts=texts)).decode()
