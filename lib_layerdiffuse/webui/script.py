"""The WebUI's hooks: a job from its settings to its saved layers."""

from __future__ import annotations

import logging
from typing import Any

import torch
from modules import scripts, shared

from ..errors import HostError
from ..infotext import for_webui, to_infotext
from ..methods import Layer
from ..pipeline import Session, check_arch, inject, layer_prompts
from ..settings import LayerSettings, by_name
from . import init_pictures, inpaint, kept_pictures, panel, results
from .abort import abort
from .arguments import read_settings
from .axes import axis_values
from .checks import check_job
from .hooks import hook_of
from .job import Job, begin, end, is_nested, job_of
from .layer_files import add_layer_files
from .options import Choices, choices
from .pictures import is_opaque, png_base64
from .progress import telling

try:
    from ..hosts.forge import ForgeHost
except ImportError:  # Another WebUI; the panel says so.
    ForgeHost = None  # type: ignore[assignment, misc]

TITLE = "LayerDiffuse"
_GREY = "#808080"
_INPAINT_UPLOAD = "img_inpaint_base"  # The other tabs hand over alpha.
_log = logging.getLogger(__name__)
_hook = hook_of(job_of, end)


class LayerDiffuseScript(scripts.Script):
    """The always-on script."""

    session: Session | None = None

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> object:
        if is_img2img:
            self.on_after_component(_keep_alpha_of_uploads, elem_id=_INPAINT_UPLOAD)
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        problem = self._problem()
        if problem:
            _log.warning("LayerDiffuse: %s", problem)
            panel.notice(TITLE, problem)
            return []
        built = panel.build(TITLE, self.elem_id, is_img2img=is_img2img)
        self.infotext_fields = built.infotext_fields + kept_pictures.paste_fields(built)
        return built.components

    def _problem(self) -> str | None:
        """Returns why the extension stays off, or None."""
        if ForgeHost is None:
            return "This WebUI lacks Forge's model backend. Use Stable Diffusion WebUI Forge."
        for data in scripts.scripts_data:
            other = data.script_class
            if not issubclass(other, LayerDiffuseScript) and _title_of(other) == TITLE:
                return (
                    f"The original extension is installed too ({data.path}), so this one stays "
                    "off. Disable the original in the Extensions tab and restart."
                )
        return None

    # Before sampling

    def before_process(self, p: Any, *args: Any) -> None:
        end(p)
        axes = axis_values(p)
        on = by_name(args) or axes or (args and args[0] not in (None, False, "False", "false"))
        if not args or not on or is_nested():
            return
        try:
            settings = read_settings(args, axes)
            if settings.enabled:
                self._begin(p, settings, args)
        except Exception as error:
            end(p)
            abort(p, error)

    def _begin(self, p: Any, settings: LayerSettings, args: tuple[Any, ...]) -> None:
        check_job(p, settings)
        asked = p.batch_size
        counts_pictures = getattr(p, "is_api", False) and not by_name(args)
        job = begin(p, settings, asked if counts_pictures else None)
        init_pictures.lay_out(p, job, by_row=counts_pictures)
        if counts_pictures and p.batch_size != asked:
            job.note(p, f"{p.batch_size} pictures instead of {asked}, to make whole sets.")
        if is_opaque(settings.fg_image):
            job.note(p, "the foreground picture has no transparency.")
        _keep_alpha(p, job)

    @_hook
    def process(self, p: Any, job: Job, *args: Any) -> None:
        """Checks the checkpoint, fetches the weights, and writes the infotext."""
        assert ForgeHost is not None
        method = job.settings.method
        job.host = ForgeHost(p.sd_model)
        check_arch(method, job.host.arch())
        job.host.check(method)
        job.choices = choices()
        session = self._session(job.choices)
        with telling("loading the weights"):
            if job.settings.acts:
                session.weights(job.settings)
            if method.decodes:
                session.decoder(method.arch, job.choices.dtype)
            if method.decodes and job.init is not None:
                session.encoder(method.arch)
        # A new dict: copies of the object, such as a plot's cells, share the one that was there.
        params = p.extra_generation_params.items()
        others = {k: v for k, v in params if not k.startswith("layerdiffusion_")}
        ours = to_infotext(job.settings, kept_pictures.keep(p, job))
        p.extra_generation_params = others | for_webui(ours)

    @classmethod
    def _session(cls, now: Choices) -> Session:
        session = LayerDiffuseScript.session
        if session is None:
            session = LayerDiffuseScript.session = Session(now.store())
        elif not now.has(session.store):
            session.store = now.store()
        return session

    @_hook
    def before_process_init_images(self, p: Any, job: Job, pp: Any, *args: Any) -> None:
        """Notes what the host cuts out and masks; it flattens the pictures next."""
        if job.init is not None:
            job.init.region = pp["crop_region"]
            job.init.mask = p.latent_mask if p.latent_mask is not None else pp["image_mask"]

    @_hook
    def before_process_batch(self, p: Any, job: Job, *args: Any, **kwargs: Any) -> None:
        """Gives each row its layer's prompt; the host sets the main ones again for the infotext."""
        job.attachment = job.latents = job.pixels = None
        p.prompts = layer_prompts(job.settings, p.prompts, negative=False)
        p.negative_prompts = layer_prompts(job.settings, p.negative_prompts, negative=True)

    @_hook
    def process_before_every_sampling(
        self, p: Any, job: Job, *args: Any, x: torch.Tensor, **kwargs: Any
    ) -> None:
        assert job.host is not None
        session = self._session(job.choices)
        init_pictures.encode_foregrounds(p, job, session)
        if job.settings.acts:
            height, width = (8 * side for side in x.shape[2:])
            injection = inject(job.settings, session, job.host, width, height)
            job.attachment = job.host.attach(injection)

    # After sampling

    @_hook
    def post_sample(self, p: Any, job: Job, ps: Any, *args: Any) -> None:
        stopped = shared.state.interrupted or shared.state.skipped
        if job.attachment is not None and not job.attachment.calls and not stopped:
            raise HostError(
                "Expected the UNet to run with the layer method, but something replaced it.",
                "Turn off extensions that wrap the UNet, such as tiled diffusion.",
            )
        job.latents = ps.samples

    @_hook
    def postprocess_batch(self, p: Any, job: Job, *args: Any, **kwargs: Any) -> None:
        job.pixels = kwargs["images"]

    @_hook
    def postprocess_maskoverlay(self, p: Any, job: Job, ppmo: Any, *args: Any) -> None:
        inpaint.hold_overlay(job, ppmo)

    def postprocess_image_after_composite(self, p: Any, pp: Any, *args: Any) -> None:
        job = job_of(p)
        if job is None:
            return
        try:
            layer = job.layer(p.batch_index)
            if layer is Layer.FG:
                decoder = self._session(job.choices).decoder(
                    job.settings.method.arch, job.choices.dtype
                )
                raw, sampled = pp.image, inpaint.before_overlay(p, job, pp.image)
                rgba = results.transparent(p, job, decoder, sampled)
                pp.image = inpaint.put_overlay(p, job, rgba)
                results.add_extras(p, job, pp.image, raw)
            job.results.append((pp.image, layer.value))
            job.layers[layer] = pp.image
            if layer is job.settings.method.outputs[-1]:
                results.add_composite(p, job, job.layers)
                job.layers = {}
        except Exception as error:
            end(p)
            abort(p, error)
            pp.image = p.scripts  # Not even this picture may pass as a result.

    @_hook
    def postprocess(self, p: Any, job: Job, processed: Any, *args: Any) -> None:
        end(p)
        shared.opts.data.update(job.options)  # The host may be told not to restore them.
        files = [str(path) for path in add_layer_files(p, job, processed)]
        told: dict[str, Any] = {"layerdiffusion_notes": job.notes} if job.notes else {}
        if not p.script_args[0]:  # A selectable script puts the pictures of many jobs together.
            told["layerdiffusion_layers"] = results.name_pictures(job, processed)
        if files:
            told["layerdiffusion_files"] = files
        processed.extra_generation_params = processed.extra_generation_params | told
        if _is_answer(p) and shared.opts.samples_format.lower() != "png":
            processed.images = [
                png_base64(image) if image.mode == "RGBA" else image for image in processed.images
            ]


def _is_answer(p: Any) -> bool:
    """Whether the pictures go straight into an API's answer, not through a selectable script."""
    return getattr(p, "is_api", False) and not p.script_args[0]


def _keep_alpha(p: Any, job: Job) -> None:
    """Keeps the host, for this job, from erasing alpha by hidden infotext or laying it on white."""
    for name, value in (("stealth_pnginfo_option", "None"), ("img2img_background_color", _GREY)):
        if name in shared.opts.data_labels:
            # The host restores only what has a value; a default alone is none.
            before = shared.opts.data.setdefault(name, shared.opts.get_default(name))
            job.options[name] = before
            job.change(p, "override_settings", p.override_settings | {name: value})


def _keep_alpha_of_uploads(created: Any) -> None:
    """Lets a slot of the host's hand over alpha, which it drops otherwise."""
    created.component.image_mode = "RGBA"


def _title_of(script_class: type) -> str | None:
    try:
        return script_class.title(None)  # type: ignore[attr-defined]
    except Exception:
        return None
