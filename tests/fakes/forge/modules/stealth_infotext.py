"""Hides an infotext in the last bits of a PNG's pixels."""

from __future__ import annotations

from typing import Any

from modules import shared


def add_stealth_pnginfo(params: Any) -> None:
    """Writes into alpha, which becomes solid, or into colours, where there must be no alpha.

    An image without alpha stays as it is; the host gives it one.
    """
    options = shared.opts.data
    option = options.get("stealth_pnginfo_opt", options.get("stealth_pnginfo_option", "Alpha"))
    if option == "None" or not params.filename.endswith(".png"):
        return
    if "parameters" not in params.pnginfo:
        return
    if params.image.mode == "RGBA":
        assert option == "Alpha", "too many values to unpack (expected 3)"
        params.image.putalpha(255)
        colour = params.image.getpixel((0, 0))[:3]
        params.image.putpixel((0, 0), (*colour, 254))
