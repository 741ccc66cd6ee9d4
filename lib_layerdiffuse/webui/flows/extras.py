"""Transparent images in the Extras tab: colour and alpha are upscaled apart.

The host's upscalers and face restorers know RGB only. So each of its scripts is given a
transparent image's colours, and what only resizes is given its alpha, too. No script's place in
the order matters. Their methods are replaced for one call each, and given back before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import finalize

import gradio as gr
import numpy as np
from modules import scripts, scripts_postprocessing, shared
from PIL import Image

from ...errors import LayerDiffuseError, MissingCapabilityError
from ...imaging.colours import fill_hidden
from ...imaging.images import from_u8, to_u8
from ..job.alpha import WHOLE, is_transparent
from ..job.answers import as_http

_MARK = "layerdiffuse_keep"
_FILLED = "layerdiffuse_filled"  # On an image that we have put together.
_RESIZERS = ("Upscale",)
_NEARLY = 2  # levels by which an upscaler may miss clear and solid

Process = Callable[..., Any]


class KeepTransparency(scripts_postprocessing.ScriptPostprocessing):
    """The option, and what takes care of an image whichever scripts follow."""

    name = "Keep transparency"
    order = 900  # Its place on the page: above "Upscale".

    def ui(self) -> dict[str, Any]:
        keep = gr.Checkbox(
            True,
            label="Keep transparency",
            info="Colour and alpha of a transparent image are upscaled apart.",
            elem_id="extras_layerdiffuse_keep_transparency",
        )
        return {"keep": keep}

    def process_firstpass(self, pp: Any, keep: bool | None = None) -> None:
        """Marks an image that has transparency to keep; only the API gives no value.

        Raises:
            MissingCapabilityError: The host could not hand the result out with its transparency;
                over the API, an HTTP answer.
        """
        whole = pp.image.info.pop(WHOLE, pp.image)
        whole.info.pop(WHOLE, None)
        if keep is False or not is_transparent(whole):
            return
        if not is_transparent(pp.image):
            pp.image = whole.copy()
        over_the_api = keep is None
        with _answering(over_the_api):
            _check_format(over_the_api)
        setattr(pp.shared, _MARK, True)  # Copies of an image have this object in common.
        pp.info[self.name] = self.name
        for script in scripts.scripts_postproc.scripts_in_preferred_order():
            if not isinstance(script, KeepTransparency):
                _take_care_of(script, pp, over_the_api)


def _check_format(over_the_api: bool) -> None:
    if over_the_api and shared.opts.samples_format.lower() != "png":
        raise MissingCapabilityError(
            f"The WebUI's API would send the result as {shared.opts.samples_format}, without "
            "its transparency.",
            "Set the option samples_format to png.",
        )


@contextmanager
def _answering(over_the_api: bool) -> Iterator[None]:
    """Makes an HTTP answer of an error of ours, over the API."""
    try:
        yield
    except LayerDiffuseError as error:
        if not over_the_api:
            raise
        raise as_http(error) from error


def _take_care_of(script: Any, pp: Any, over_the_api: bool) -> None:
    """Has a script process a marked image without its alpha when it is called next.

    The script has its own method back before it is called, or once the image is gone, where the
    run ends without that.
    """
    before: Process | None = vars(script).get("process")
    inner: Process = script.process

    def process(pp: Any, **args: Any) -> None:
        give_back()
        if getattr(pp.shared, _MARK, False) and is_transparent(pp.image):
            with _answering(over_the_api):
                _process_apart(script, inner, pp, args)
        else:
            inner(pp, **args)

    def give_back() -> None:
        if vars(script).get("process") is not process:
            return
        del script.process
        if before is not None:
            script.process = before

    script.process = process
    finalize(pp.shared, give_back)


def _process_apart(script: Any, inner: Process, pp: Any, args: dict[str, Any]) -> None:
    rgba, more = pp.image, len(pp.extra_images)
    alpha = rgba.getchannel("A")
    pp.image = _colours(rgba)
    inner(pp, **args)
    resized = pp.image.size != rgba.size
    if len(pp.extra_images) > more or (resized and script.name not in _RESIZERS):
        raise MissingCapabilityError(
            f"{script.name} does not keep transparency.",
            f"Turn off {script.name}, or Keep transparency.",
        )
    if resized:
        copy = pp.create_copy(alpha.convert("RGB"))
        inner(copy, **args)
        alpha = _settled(copy.image.convert("L"))
    pp.image = pp.image.convert("RGB")
    pp.image.putalpha(alpha)
    setattr(pp.image, _FILLED, True)


def _colours(rgba: Image.Image) -> Image.Image:
    """Returns an image's colours, continued where alpha hides them; once for all scripts."""
    if hasattr(rgba, _FILLED):
        return rgba.convert("RGB")
    return Image.fromarray(to_u8(fill_hidden(from_u8(np.asarray(rgba)))[..., :3]))


def _settled(alpha: Image.Image) -> Image.Image:
    """Returns alpha with clear and solid where an upscaler has just missed them."""
    table = [0 if v <= _NEARLY else 255 if v >= 255 - _NEARLY else v for v in range(256)]
    return alpha.point(table)
