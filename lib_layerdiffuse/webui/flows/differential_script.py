"""Differential Diffusion in img2img: a script of its own, with or without a layer method.

The host lays the original around its inpaint mask into each step. Here that mask is a map of how
much may change, and what is laid in depends on how far the run is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import gradio as gr
import numpy as np
import torch
from modules import scripts
from modules.ui_components import InputAccordion
from PIL import Image
from torch import Tensor

from ...errors import HostError, MissingCapabilityError, MissingLayerError, SettingsError
from ...imaging.images import from_u8, to_u8
from ...imaging.masks import Mask
from ...nets.differential import DifferentialRun
from ...settings.change_map import ChangeMap, MapSource
from ..job.abort import abort, is_aborted
from ..job.backend import loaded, problem
from ..job.given_images import read_given
from ..job.hooks import hook_of
from ..job.init_checks import check_mask, is_cut
from ..job.job import is_nested, job_of
from ..job.kept_images import keep_image
from ..job.state import CHANGE_MAP, State, find, forget_mask_afterwards, put, take
from ..page import pasted_images as kept_images
from ..page.webui_panel import image_options

_ABOUT = {f.name: f.metadata for f in fields(ChangeMap)}
TITLE, _MAP, _FEATHER, _HASH = (str(about["infotext"]) for about in _ABOUT.values())
_SOFT_INPAINTING = "Soft inpainting enabled"
_ORIGINAL = 1  # The host's number of what is under its mask.


@dataclass(eq=False)
class Differential(State):
    """What one job keeps between hooks.

    Attributes:
        asked: What stood on the processing object before, by attribute.
        map: The change map at the latent's size, once the host has made it.
        run: The current batch's.
    """

    asked: dict[str, Any] = field(default_factory=dict)
    map: Tensor | None = None
    run: DifferentialRun | None = None


_hook = hook_of(lambda p: find(p, CHANGE_MAP))


class DifferentialScript(scripts.Script):
    """The always-on script."""

    sorting_priority = 1  # Below LayerDiffuse, though its hooks come first.

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> object:
        return scripts.AlwaysVisible if is_img2img and not problem() else False

    def ui(self, is_img2img: bool) -> list[Any]:
        sources = [source.value for source in MapSource]
        with InputAccordion(False, label=TITLE, elem_id=self.elem_id("enabled")) as enabled:
            gr.Markdown(
                "The map says how much each part may change: white fully, black not at all."
            )
            source = gr.Radio(
                choices=sources,
                value=sources[0],
                label=_ABOUT["source"]["label"],
                elem_id=self.elem_id("source"),
            )
            feather = gr.Slider(
                minimum=0,
                maximum=_ABOUT["feather"]["bounds"][1],
                step=1,
                value=0,
                label=_ABOUT["feather"]["label"],
                elem_id=self.elem_id("feather"),
            )
            image = gr.Image(
                label=_ABOUT["picture"]["label"],
                type="pil",
                image_mode="RGBA",
                height=240,
                visible=False,
                elem_classes=["layerdiffuse-slot"],
                **image_options(),
                elem_id=self.elem_id("picture"),
            )
        source.change(
            lambda value: gr.update(visible=value == MapSource.PICTURE.value),
            inputs=[source],
            outputs=[image],
            show_progress="hidden",
            queue=False,
        )
        self.infotext_fields = [
            (enabled, lambda params: params.get(TITLE) == "True"),
            (source, _MAP),
            (feather, _FEATHER),
            (image, _pasted_image),
        ]
        return [enabled, source, feather, image]

    def before_process(self, p: Any, *args: Any) -> None:
        take(p, CHANGE_MAP)
        if is_nested() or is_aborted(p):
            return
        try:
            chosen = ChangeMap.from_args(args, read_given)
            if chosen.enabled:
                _begin(p, chosen)
        except Exception as error:
            abort(p, error)

    @_hook
    def process_before_every_sampling(
        self, p: Any, state: Differential, *args: Any, **kwargs: Any
    ) -> None:
        """Starts a run, and keeps the host's own mask from mixing noise into its latents."""
        if _SOFT_INPAINTING in p.extra_generation_params:
            raise SettingsError(
                "Differential Diffusion does not work with soft inpainting.",
                "Turn one of them off.",
            )
        _check_sampler(p)
        if state.map is None:
            state.map = p.nmask
        if state.map is None:
            raise HostError(
                "The WebUI has made no mask of the change map.",
                "Turn off extensions that change the inpaint mask.",
            )
        state.run = DifferentialRun(state.map, loaded(p).sigmas())
        state.change(p, "mask", torch.zeros_like(state.map))
        state.change(p, "nmask", torch.ones_like(state.map))

    @_hook
    def on_mask_blend(self, p: Any, state: Differential, mba: Any, *args: Any) -> None:
        """Lays the original into a step, or into the result, wherever it is held."""
        assert state.run is not None
        latents = mba.current_latent, mba.init_latent
        if mba.is_final_blend:
            mba.blended_latent = state.run.finish(*latents)
        else:
            mba.blended_latent = state.run.hold(*latents, float(mba.sigma.flatten()[0]))

    @_hook
    def postprocess_maskoverlay(self, p: Any, state: Differential, ppmo: Any, *args: Any) -> None:
        """Lets the host lay the original only over what may not change at all."""
        overlay: Image.Image | None = ppmo.overlay_image
        if overlay is not None:
            held = overlay.getchannel("A").point(lambda alpha: 255 if alpha == 255 else 0)
            overlay = overlay.copy()
            overlay.putalpha(held)
            ppmo.overlay_image = overlay

    @_hook
    def postprocess(self, p: Any, state: Differential, processed: Any, *args: Any) -> None:
        take(p, CHANGE_MAP)


def _check_sampler(p: Any) -> None:
    """Checks that the sampler lets the original be laid into what each step makes.

    Raises:
        MissingCapabilityError: It does so into the noise before a step, and tells no sigma.
    """
    if getattr(getattr(p.sampler, "model_wrap_cfg", None), "mask_before_denoising", False):
        raise MissingCapabilityError(
            f"Differential Diffusion does not work with the sampler {p.sampler_name} in this "
            "WebUI.",
            "Choose another sampler, such as Euler or DPM++ 2M.",
        )


def _begin(p: Any, chosen: ChangeMap) -> None:
    """Puts the change map on the processing object as its inpaint mask."""
    state = Differential()
    put(p, CHANGE_MAP, state)
    drawn = chosen.source is MapSource.MASK
    mask = None if p.image_mask is None else _levels(p.image_mask)
    images = _init_images(p)
    maps = [chosen.of(init, mask) for init in images]
    if not all(np.array_equal(maps[0], one) for one in maps):
        raise SettingsError(
            "The init images give different change maps, but the WebUI has one mask for all.",
            "Run them one by one, or in the Batch tab.",
            field="source",
        )
    changes: dict[str, Any] = {"inpainting_fill": _ORIGINAL, "mask_round": False}
    if not drawn or chosen.feather:
        changes["image_mask"] = Image.fromarray(to_u8(maps[0]), mode="L")
    if not drawn:
        changes |= dict.fromkeys((*_blurs(p), "inpainting_mask_invert"), 0)
    for name, value in changes.items():
        state.change(p, name, value)
    if is_cut(p):
        check_mask(p, images)
    forget_mask_afterwards(p, state)
    _write_infotext(p, chosen)


def _blurs(p: Any) -> tuple[str, ...]:
    """Returns what the mask's blur is set by: one for each way, or in Forge Neo one for both."""
    for_both = isinstance(getattr(type(p), "mask_blur_x", None), property)
    return ("mask_blur",) if for_both else ("mask_blur_x", "mask_blur_y")


def _init_images(p: Any) -> list[Any]:
    """Returns the distinct init images that the user gave, straight RGBA."""
    job = job_of(p)
    given = p.init_images if job is None else job.asked.get("init_images", p.init_images)
    read = [read_given(one) for one in {id(one): one for one in given}.values()]
    if not read or any(rgba is None for rgba in read):
        raise MissingLayerError("There is no init image.", "Put one into the tab.")
    return read


def _levels(mask: Image.Image) -> Mask:
    """Returns the host's mask as it reads it: by alpha if that varies, else by brightness."""
    by_alpha = mask.mode == "RGBA" and mask.getextrema()[-1] != (255, 255)
    channel = mask.getchannel("A") if by_alpha else mask.convert("L")
    return from_u8(np.asarray(channel))


def _write_infotext(p: Any, chosen: ChangeMap) -> None:
    ours = {TITLE: "True", _MAP: chosen.source.value}
    if chosen.feather:
        ours[_FEATHER] = f"{chosen.feather:g}"
    if chosen.source is MapSource.PICTURE and chosen.picture is not None:
        name = keep_image(chosen.picture, lambda text: p.comment(f"{TITLE}: {text}"))
        ours |= {_HASH: name} if name else {}
    p.extra_generation_params = p.extra_generation_params | ours


def _pasted_image(params: Mapping[str, str]) -> Any:
    name = params.get(_HASH)
    return None if name is None else kept_images.load(name, "the change map")
