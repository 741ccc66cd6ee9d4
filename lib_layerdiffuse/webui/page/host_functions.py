"""Functions of the host that lose alpha or layers, exchanged while the extension is loaded.

The host has no hook where they do it. Each goes on as ever for images without alpha of their own,
and in jobs that are not ours.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

from modules import infotext_utils, patches, shared
from PIL import Image

from ...imaging.images import to_u8
from ...imaging.reading import read_image
from ..job.alpha import BELOW, WHOLE, is_transparent
from ..job.job import job_of

Function = Callable[..., Any]

_log = logging.getLogger(__name__)

_APPLIED = {"transparency", "icc_profile", "gamma", "chromaticity", "srgb"}
"""What an image says of its colours, by Pillow's names: in those that are read it is done."""

_STEALTH = ("stealth_pnginfo_option", "stealth_pnginfo_opt")
"""What hosts call the setting for where an infotext is hidden."""


def _hiding(hide: Function) -> Function:
    """The host erases alpha to hide an infotext there, and fails to hide it in colours beside."""

    def add_stealth_pnginfo(params: Any) -> None:
        in_colours = any(shared.opts.data.get(name) == "RGB" for name in _STEALTH)
        fails = in_colours and params.image.mode == "RGBA"
        if job_of(params.p) is None and not fails and not is_transparent(params.image):
            hide(params)

    return add_stealth_pnginfo


def _flattening(flatten: Function) -> Function:
    """The host flattens every init image on the colour of the user's settings."""

    def flattened(img: Image.Image, bgcolor: Any) -> Any:
        return flatten(img, getattr(img, BELOW, bgcolor))

    return flattened


def _reading(fix: Function) -> Function:
    """The host reads alpha of some files only, so others would turn solid in the Extras tab."""

    def fix_png_transparency(image: Image.Image) -> Any:
        bands = image.getbands()
        if image.mode == "RGBA" or (bands[-1] not in "Aa" and "transparency" not in image.info):
            return fix(image)
        whole = Image.fromarray(to_u8(read_image(image)))
        whole.info = {name: image.info[name] for name in image.info.keys() - _APPLIED}
        return whole

    return fix_png_transparency


def _noting(read: Function) -> Function:
    """One host takes alpha off for the Extras tab's steps, once it has read the infotext."""

    def read_info_from_image(image: Image.Image) -> Any:
        image.info.pop(WHOLE, None)
        found = read(image)
        if is_transparent(image):
            image.info[WHOLE] = image
        return found

    return read_info_from_image


def _sending(send: Function) -> Function:
    """The host sends an image that stands by itself, as in PNG Info, without its alpha."""

    def send_image_and_dimensions(x: Any) -> Any:
        sent, *size = send(x)
        given = x if isinstance(x, Image.Image) else infotext_utils.image_from_url_text(x)
        whole = given is not None and is_transparent(given)
        return (given if whole else sent, *size)

    return send_image_and_dimensions


def _saving(save: Function) -> Function:
    """The host saves no gallery with images at its end that have no infotext, such as mattes."""

    def save_files(js_data: str, images: Any, *args: Any) -> Any:
        told = json.loads(js_data)
        texts = told["infotexts"]
        place = min(told["index_of_first_image"], len(texts) - 1)
        told["infotexts"] = texts + [texts[place]] * (len(images) - len(texts))
        return save(json.dumps(told), images, *args)

    return save_files


def _keeping(save: Function) -> Function:
    """The host ends a job whose image it cannot write, and what was made so far is lost."""

    def save_image(*args: Any, p: Any = None, **options: Any) -> Any:
        job = None if p is None else job_of(p)
        try:
            return save(*args, p=p, **options)
        except OSError as error:
            if job is None:
                raise
            _log.exception("LayerDiffuse: an image is not saved", exc_info=error)
            why = error.strerror or error
            job.note(p, f"an image could not be saved: {why}. Save it from the gallery.")
            return None, None

    return save_image


_EXCHANGED: tuple[tuple[str, str, Callable[[Function], Function]], ...] = (
    ("modules.stealth_infotext", "add_stealth_pnginfo", _hiding),
    ("modules.images", "flatten", _flattening),
    ("modules.images", "save_image", _keeping),
    ("modules.images", "fix_png_transparency", _reading),
    ("modules.images", "read_info_from_image", _noting),
    ("modules.infotext_utils", "send_image_and_dimensions", _sending),
    ("modules.ui_common", "save_files", _saving),
)


def exchange() -> None:
    """Puts ours in the place of the host's functions, as many as it has."""
    give_back()
    for module, name, ours in _EXCHANGED:
        inner = _found(module, name)
        if inner is not None:
            patches.patch(__name__, import_module(module), name, wraps(inner)(ours(inner)))


def give_back() -> None:
    """Puts the host's functions back where ours are."""
    for module, name, _ in _EXCHANGED:
        if _found(module, name) and patches.original(__name__, import_module(module), name):
            patches.undo(__name__, import_module(module), name)


def _found(module: str, name: str) -> Function | None:
    try:
        found: Function | None = getattr(import_module(module), name, None)
    except ImportError:
        return None
    return found


def send_alpha(_demo: Any, _app: Any) -> None:
    """Has images that are sent to other tabs from slots, such as a history's, keep their alpha."""
    for binding in infotext_utils.registered_param_bindings:
        slot = binding.source_image_component
        if (getattr(slot, "type", None), getattr(slot, "image_mode", None)) == ("pil", "RGB"):
            slot.image_mode = "RGBA"
