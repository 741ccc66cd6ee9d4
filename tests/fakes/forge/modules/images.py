"""Saves images as the WebUI does."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

from modules import script_callbacks, shared, stealth_infotext


def image_grid(
    imgs: list[Image.Image], batch_size: int = 1, rows: int | None = None
) -> Image.Image:
    """Returns images of one size side by side, with their alpha."""
    rows = rows or batch_size
    cols = -(-len(imgs) // rows)
    params = script_callbacks.ImageGridLoopParams(imgs, cols, rows)
    script_callbacks.image_grid_callback(params)
    width, height = imgs[0].size
    grid = Image.new("RGBA", (cols * width, rows * height), "white")
    for i, image in enumerate(params.imgs):
        grid.paste(image, (i % cols * width, i // cols * height))
    return grid


def save_image(
    image: Image.Image,
    path: str,
    basename: str,
    seed: int | None = None,
    prompt: str | None = None,
    extension: str = "png",
    info: str | None = None,
    *,
    p: Any = None,
    suffix: str = "",
    existing_info: dict[str, Any] | None = None,
) -> str:
    """Returns the name of the file; the option for hidden infotext may erase alpha before."""
    assert image.width < 65535  # The host looks at the size first.
    Path(path).mkdir(parents=True, exist_ok=True)
    number = f"{_next_number(Path(path)):05}-" if shared.opts.save_images_add_number else ""
    words = f"-{prompt}" if shared.opts.samples_filename_pattern == "[seed]-[prompt]" else ""
    name = Path(path) / f"{number}{seed}{words}{suffix}.{extension}"
    texts = (existing_info or {}) | ({} if info is None else {"parameters": info})
    params = script_callbacks.ImageSaveParams(image, p, str(name), texts)
    if shared.opts.enable_pnginfo:
        stealth_infotext.add_stealth_pnginfo(params)
    script_callbacks.before_image_saved_callback(params)
    whole, extension = os.path.splitext(params.filename)
    if hasattr(os, "statvfs"):  # The host takes the whole path for a name.
        whole = whole[: os.statvfs(path).f_namemax - max(4, len(extension))]
    name = wanted = Path(whole + extension)
    if shared.opts.save_images_replace_action != "Replace":
        taken = count(1)
        while name.exists():
            name = wanted.with_stem(f"{wanted.stem}-{next(taken)}")
    lossy = name.suffix in (".jpg", ".webp")
    (params.image.convert("RGB") if lossy else params.image).save(name)
    params.image.already_saved_as = str(name)
    script_callbacks.image_saved_callback(params)
    return str(name)


def _next_number(folder: Path) -> int:
    """Returns one more than the largest number that a file's name begins with."""
    begins = (path.stem.partition("-")[0] for path in folder.iterdir())
    return max((int(one) for one in begins if one.isdigit()), default=-1) + 1


def flatten(image: Image.Image, colour: str) -> Image.Image:
    """Returns RGB, transparent images over a colour."""
    if image.mode == "RGBA":
        below = Image.new("RGBA", image.size, colour)
        below.alpha_composite(image)
        image = below
    return image.convert("RGB")


def read(source: Any) -> Image.Image:
    """Returns a file's image; transparency of palettes that is a list of bytes becomes alpha."""
    return fix_image(Image.open(source))


def read_info_from_image(image: Image.Image) -> tuple[str | None, dict[str, Any]]:
    items = dict(image.info)
    return items.pop("parameters", None), items


def fix_image(image: Image.Image) -> Image.Image:
    return fix_png_transparency(image)


def fix_png_transparency(image: Image.Image) -> Image.Image:
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        return image.convert("RGBA")
    return image


def resize_image(
    mode: int, image: Image.Image, width: int, height: int, upscaler: str | None = None
) -> Image.Image:
    """Returns an image at a size: 0 stretched, 1 covering it, 2 within it; alpha is dropped."""
    assert upscaler in (None, "Lanczos")
    if image.mode == "RGBA":
        image = image.convert("RGB")
    scales = (width / image.width, height / image.height)
    scale = {1: max(scales), 2: min(scales)}.get(mode)
    inner = (width, height) if scale is None else tuple(round(s * scale) for s in image.size)
    resized = image.resize(inner, Image.Resampling.LANCZOS)
    if inner == (width, height):
        return resized
    place = ((width - inner[0]) // 2, (height - inner[1]) // 2)
    if mode == 1:
        left, top = -place[0], -place[1]
        return resized.crop((left, top, left + width, top + height))
    whole = image.resize((width, height))
    whole.paste(resized, place)
    return whole
