"""Pictures between the WebUI and the core."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import HTTPException
from modules.api.api import decode_base64_to_image
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from ..errors import SettingsError
from ..images import Picture, as_rgba


def read_picture(value: Any) -> Picture | None:
    """Returns straight RGBA `h w 4` of what a picture slot or an API request hands over.

    Args:
        value: A PIL picture, an array, a dict with one of these as `image`, or a text: base64, a
            data URI, or a URL where the WebUI allows requests. Empty for none.

    Raises:
        SettingsError: It is no picture.
    """
    if isinstance(value, Mapping):
        value = value.get("image")
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        value = _from_text(value.strip())
    if isinstance(value, Image.Image):
        value = np.asarray(ImageOps.exif_transpose(value).convert("RGBA"))
    return as_rgba(value)


def _from_text(text: str) -> Image.Image:
    try:
        return decode_base64_to_image(text)
    except HTTPException as error:
        raise SettingsError(
            f"Expected a picture as base64 or a data URI, got {len(text)} characters that are "
            f"none ({error.detail}).",
            "Send the bytes of a PNG, JPEG or WebP file as base64.",
        ) from error


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
