"""What the API does around a job."""

from __future__ import annotations

import base64
import io
from typing import Any

from fastapi import HTTPException
from PIL import Image

from modules import shared
from modules.processing import process_images


def decode_base64_to_image(encoding: str) -> Image.Image:
    if encoding.startswith("http"):
        raise HTTPException(status_code=500, detail="Requests not allowed")
    if encoding.startswith("data:image/"):
        encoding = encoding.split(";")[1].split(",")[1]
    try:
        return Image.open(io.BytesIO(base64.b64decode(encoding)))
    except Exception as error:
        raise HTTPException(status_code=500, detail="Invalid encoded image") from error


def encode_pil_to_base64(image: Image.Image | str) -> str:
    """Returns a picture in the samples' format, which for JPEG and WebP has no alpha."""
    if isinstance(image, str):
        return image
    kind = {"jpg": "JPEG"}.get(shared.opts.samples_format, shared.opts.samples_format.upper())
    with io.BytesIO() as stream:
        (image if kind == "PNG" else image.convert("RGB")).save(stream, format=kind)
        return base64.b64encode(stream.getvalue()).decode()


def answer(p: Any) -> tuple[list[str], Any]:
    """Returns the pictures that a request gets, and the job's result."""
    p.is_api = True
    processed = process_images(p)
    pictures = [encode_pil_to_base64(i) for i in processed.images + processed.extra_images]
    return pictures, processed
