"""Pictures between the WebUI and the core."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import HTTPException
from modules import shared
from modules.api.api import decode_base64_to_image
from modules.paths import data_path
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from ...errors import SettingsError
from ...imaging.images import Picture, as_rgba

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif")  # No base64 has a dot.
_LONGEST_PATH = 4096
_WHITE = 65535  # In 16 bits, which PIL would clip to 255 and not scale.
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


def read_picture(value: Any) -> Picture | None:
    """Returns straight RGBA `h w 4` of what a picture slot or an API request hands over.

    Args:
        value: A PIL picture, an array, a dict with one of these as `image`, or a text: base64, a
            data URI, the path of a file in an output folder of the WebUI, or a URL where the
            WebUI allows requests. Empty for none.

    Raises:
        SettingsError: It is no picture.
    """
    if isinstance(value, Mapping):
        value = value.get("image")
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        value = _from_text(value.strip())
    return as_rgba(_pixels(value) if isinstance(value, Image.Image) else value)


def _pixels(image: Image.Image) -> npt.NDArray[Any]:
    """Returns all of a picture's pixels, which PIL reads only now: RGBA, or grey of 16 bits."""
    try:
        upright = ImageOps.exif_transpose(image)
        deep = upright.mode.startswith(("I", "F"))
        pixels = np.asarray(upright if deep else upright.convert("RGBA"))
    except Exception as error:
        raise _no_picture("a whole picture", error) from error
    if not deep:
        return pixels
    if upright.mode == "F" or pixels.min() < 0 or pixels.max() > _WHITE:
        raise _no_picture("a picture of 8 or 16 bits", f"PIL's mode {upright.mode}")
    return pixels.astype(np.float32) / np.float32(_WHITE)


def _from_text(text: str) -> Image.Image:
    if Path(text[-_LONGEST_PATH:]).suffix.lower() in _SUFFIXES and not _is_url(text):
        return _from_file(Path(text))
    wanted = "the address of a picture" if _is_url(text) else "a picture as base64 or a data URI"
    if text.startswith("data:image/"):  # The host reads only those that say nothing more.
        text = text.partition(",")[2]
    try:
        return decode_base64_to_image(text)  # The host knows which addresses are allowed.
    except HTTPException as error:
        raise _no_picture(wanted, error.detail) from error
    except Exception as error:  # The host lets what the network or a bad URI raises through.
        raise _no_picture(wanted, error) from error


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _from_file(path: Path) -> Image.Image:
    place = _resolved(path)
    if place is None or not any(place.is_relative_to(folder) for folder in _open_folders()):
        raise SettingsError(
            "Expected the path of a picture in one of the WebUI's output folders, got another.",
            "Send the file as base64, put it into an output folder, or name its folder with "
            "--gradio-allowed-path.",
        )
    try:
        return Image.open(place)
    except Exception as error:
        raise _no_picture("a file with a picture", error) from error


def _resolved(path: Path) -> Path | None:
    """Returns where a path leads, or None where it can lead nowhere."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):  # Too long; no text for a path; a circle of links.
        return None


def _open_folders() -> list[Path]:
    """Returns the folders that pictures may be read from by path.

    These are the output folders and those that the command line opens. The host has its whole
    data folder open to the page by default; it holds more than pictures, so it does not count.
    None are open where the host keeps users from naming folders.
    """
    if getattr(shared.cmd_opts, "hide_ui_dir_config", False):
        return []
    named = [getattr(shared.opts, name, "") for name in _OUTPUT_OPTIONS]
    opened = [Path(one).resolve() for one in getattr(shared.cmd_opts, "gradio_allowed_path", [])]
    data = Path(data_path).resolve()
    return [Path(one).resolve() for one in named if one] + [one for one in opened if one != data]


def _no_picture(wanted: str, got: object) -> SettingsError:
    return SettingsError(
        f"Expected {wanted}, got: {got}.", "Send the bytes of a PNG, JPEG or WebP file as base64."
    )


def is_opaque(rgba: npt.NDArray[Any] | None) -> bool:
    """Whether a straight RGBA picture in [0, 1] has no transparency at all; False for none."""
    return rgba is not None and bool((rgba[..., 3] >= 1).all())


def png_base64(image: Image.Image) -> str:
    """Returns a picture as a base64 PNG with its texts, whatever format the WebUI sends."""
    texts = PngInfo()
    for key, value in image.info.items():
        if isinstance(key, str) and isinstance(value, str):
            texts.add_text(key, value)
    with io.BytesIO() as stream:
        image.save(stream, format="PNG", pnginfo=texts)
        return base64.b64encode(stream.getvalue()).decode()
