"""Scripts, and the runner that calls their hooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partialmethod
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

AlwaysVisible = object()


class ScriptClassData(NamedTuple):
    script_class: type
    path: str
    basedir: str = ""
    module: Any = None


scripts_data: list[ScriptClassData] = []


@dataclass
class PostSampleArgs:
    samples: Tensor


@dataclass
class PostprocessBatchListArgs:
    images: list[Tensor]


@dataclass
class PostprocessImageArgs:
    image: Image.Image
    index: int


class MaskBlendArgs:
    def __init__(
        self,
        current_latent: Tensor,
        nmask: Tensor,
        init_latent: Tensor,
        mask: Tensor,
        blended_latent: Tensor,
        denoiser: Any = None,
        sigma: Tensor | None = None,
    ) -> None:
        self.current_latent, self.blended_latent = current_latent, blended_latent
        self.init_latent, self.mask, self.nmask = init_latent, mask, nmask
        self.denoiser, self.sigma, self.is_final_blend = denoiser, sigma, denoiser is None


@dataclass
class PostProcessMaskOverlayArgs:
    index: int
    mask_for_overlay: Image.Image | None
    overlay_image: Image.Image | None


class Script:
    filename = "script.py"
    args_from = args_to = 0
    infotext_fields: Any = None
    paste_field_names: Any = None
    sorting_priority = 0

    def ui(self, is_img2img: bool) -> list[Any] | None:
        return None

    def elem_id(self, item_id: str) -> str:
        return f"script_{item_id}"

    def on_after_component(self, callback: Any, *, elem_id: str) -> None:
        """Notes what to call once the page has a component."""
        self.__dict__.setdefault("after_component", []).append((elem_id, callback))


class ScriptRunner:
    """Calls each hook of each script in turn; what a hook raises is noted and swallowed."""

    def __init__(self, scripts: Sequence[Script], is_img2img: bool = False) -> None:
        self.alwayson_scripts = [s for s in scripts if not getattr(s, "selectable", False)]
        self.selectable_scripts = [s for s in scripts if getattr(s, "selectable", False)]
        self.reports: list[Exception] = []
        self.inputs: list[Any] = [None]
        for script in scripts:
            script.args_from = len(self.inputs)
            self.inputs += script.ui(is_img2img) or []
            script.args_to = len(self.inputs)

    def run(self, p: Any, *args: Any) -> Any:
        """Returns what the chosen selectable script makes; None without one."""
        if not args[0]:
            return None
        script = self.selectable_scripts[args[0] - 1]
        return script.run(p, *args[script.args_from : script.args_to])

    def _call(self, hook: str, p: Any, *objects: Any, **named: Any) -> None:
        for script in self.alwayson_scripts:
            method = getattr(script, hook, None)
            if method is None:
                continue
            try:
                args = p.script_args[script.args_from : script.args_to]
                method(p, *objects, *args, **named)
            except Exception as error:
                self.reports.append(error)

    before_process = partialmethod(_call, "before_process")
    process = partialmethod(_call, "process")
    before_process_init_images = partialmethod(_call, "before_process_init_images")
    on_mask_blend = partialmethod(_call, "on_mask_blend")
    postprocess_maskoverlay = partialmethod(_call, "postprocess_maskoverlay")
    before_process_batch = partialmethod(_call, "before_process_batch")
    process_batch = partialmethod(_call, "process_batch")
    before_hr = partialmethod(_call, "before_hr")
    process_before_every_sampling = partialmethod(_call, "process_before_every_sampling")
    post_sample = partialmethod(_call, "post_sample")
    postprocess_batch_list = partialmethod(_call, "postprocess_batch_list")
    postprocess_image = partialmethod(_call, "postprocess_image")
    postprocess_image_after_composite = partialmethod(_call, "postprocess_image_after_composite")
    postprocess = partialmethod(_call, "postprocess")

    def postprocess_batch(self, p: Any, images: Tensor, **named: Any) -> None:
        self._call("postprocess_batch", p, images=images, **named)


scripts_postproc: Any = None
