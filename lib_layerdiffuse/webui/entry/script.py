"""The WebUI's hooks: a job from its settings to its saved layers."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import torch
from modules import scripts, shared

from ...errors import MissingCapabilityError
from ...hosts.free_memory import give_back
from ...methods import Layer
from ...pipeline import Session
from ...settings.fields import by_name
from ...settings.infotext import for_webui, to_infotext
from ...settings.layer_settings import LayerSettings
from ..flows import second_step
from ..flows.axes import axis_values
from ..flows.grids import give_a_plot_a_sheet, give_one_image_a_set
from ..job import extra_images, hires, init_images, inpaint, passes, results
from ..job.abort import abort, is_aborted
from ..job.alpha import tell_what_is_lost
from ..job.answers import public
from ..job.arguments import read_settings
from ..job.backend import loaded
from ..job.backend import problem as problem_of_host
from ..job.batch import Batch
from ..job.checks import check_job, check_token_merging
from ..job.choices import Choices, choices
from ..job.comments import without_comments
from ..job.given_images import is_opaque, png_base64
from ..job.hooks import hook_of
from ..job.job import Job, begin, end, is_nested, job_of
from ..job.kept_images import keep
from ..job.layer_files import add_layer_files
from ..job.masked_part import note_masked_part
from ..job.progress import stopped, telling
from ..job.rows import row_of
from ..job.set_numbers import take_number
from ..job.sets import lay_out_last
from ..job.undecoded import add_latents
from ..page import pasted_images
from ..page import webui_panel as panel
from ..page.gallery import BelowGallery

TITLE = "LayerDiffuse"
_INPAINT_UPLOAD = "img_inpaint_base"  # The other tabs hand over alpha.
_log = logging.getLogger(__name__)
_hook = hook_of(job_of)


class LayerDiffuseScript(scripts.Script):
    """The always-on script."""

    session: Session | None = None
    wiring = panel.Wiring()
    unfinished: Job | None = None  # It runs, or has ended in an exception.
    off: str | None = None  # Why the extension can do nothing here.

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> object:
        if is_img2img:
            self.on_after_component(_keep_alpha_of_uploads, elem_id=_INPAINT_UPLOAD)
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        self.off = self._problem()
        if self.off:
            _log.warning("LayerDiffuse: %s", self.off)
            return [panel.notice(TITLE, self.off)]
        tab = "img2img" if is_img2img else "txt2img"
        built = panel.build(TITLE, self.elem_id, is_img2img=is_img2img)
        self.wiring.add(tab, built)
        self.infotext_fields = built.infotext_fields + pasted_images.paste_fields(built)
        BelowGallery("img2img" if is_img2img else "txt2img", built).watch(self.on_after_component)
        return built.components

    def _problem(self) -> str | None:
        """Returns why the extension stays off, or None."""
        lacking = problem_of_host()
        if lacking:
            return lacking
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
        step = second_step.step_of(p)
        if is_aborted(p) or (step is None and is_nested()):
            return
        try:
            self._clear_up()
            settings = step or self._asked(p, args)
            if settings is not None and settings.enabled:
                if self.off:
                    raise MissingCapabilityError(
                        f"LayerDiffuse is off: {self.off}", "Or leave LayerDiffuse out of the job."
                    )
                self._begin(p, settings, args)
            else:
                tell_what_is_lost(p)
        except Exception as error:
            abort(p, error)

    @staticmethod
    def _asked(p: Any, args: tuple[Any, ...]) -> LayerSettings | None:
        axes = axis_values(p)
        on = by_name(args) or axes or (args and args[0] not in (None, False, "False", "false"))
        return read_settings(args, axes) if args and on else None

    @staticmethod
    def _clear_up() -> None:
        """Takes off what an exception may have left on the UNet."""
        left, LayerDiffuseScript.unfinished = LayerDiffuseScript.unfinished, None
        if left is not None:
            left.batch.detach()

    def _begin(self, p: Any, settings: LayerSettings, args: tuple[Any, ...]) -> None:
        settings = without_comments(p, settings)
        check_job(p, settings)
        asked = p.batch_size
        counts_images = getattr(p, "is_api", False) and not by_name(args)
        job = begin(p, settings, by_row=counts_images)
        LayerDiffuseScript.unfinished = job
        take_number(p, job)
        init_images.check(p, job)
        lay_out_last(p, job)
        made = p.batch_size * settings.method.frames
        if counts_images and made != asked:
            job.note(p, f"{made} images instead of {asked}, to make whole sets.")
        if is_opaque(settings.fg_image):
            job.note(p, "the foreground image has no transparency.")

    @_hook
    def process(self, p: Any, job: Job, *args: Any) -> None:
        """Checks the checkpoint, fetches the weights, and writes the infotext."""
        method = job.settings.method
        check_token_merging(p, job.settings)
        if not hires.from_button(p):  # Its checkpoint is loaded later.
            passes.checked(p, job.settings)
        hires.take_image(p, job)
        job.choices = choices()
        session = self._session(job.choices)
        with telling("loading the weights"):
            if job.settings.acts:
                session.weights(job.settings)
            if method.decodes:
                session.decoder(method.arch)
            begins_with = (job.first_image, getattr(p, "init_images", None))
            if method.decodes and any(image is not None for image in begins_with):
                session.encoder(method.arch)
        if job.settings.chain:
            second_step.prepare(p, job, loaded(p), session)
        # A new dict: copies of the object, such as a plot's cells, share the one that was there.
        params = p.extra_generation_params.items()
        others = {k: v for k, v in params if not k.startswith("layerdiffusion_")}
        ours = to_infotext(job.settings, keep(job.settings, partial(job.note, p)))
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
        """Notes what the host cuts out and masks; it flattens the images next."""
        if job.init is not None:
            job.init.told, job.init.region = True, pp["crop_region"]
            job.init.mask = p.latent_mask if p.latent_mask is not None else pp["image_mask"]

    @_hook
    def before_process_batch(self, p: Any, job: Job, *args: Any, **kwargs: Any) -> None:
        if job.settings.chain and not p.iteration:
            second_step.announce(p)
        job.batch = Batch()

    @_hook
    def process_before_every_sampling(
        self, p: Any, job: Job, *args: Any, x: torch.Tensor, **kwargs: Any
    ) -> None:
        session = self._session(job.choices)
        note_masked_part(p, job)
        init_images.encode_foregrounds(p, job, loaded(p), session)
        passes.prepare(p, job, session, x)

    @_hook
    def before_hr(self, p: Any, job: Job, *args: Any) -> None:
        if getattr(p, "firstpass_image", None) is None:
            passes.end(p, job)

    # After sampling

    @_hook
    def post_sample(self, p: Any, job: Job, ps: Any, *args: Any) -> None:
        job.batch.stopped = stopped()
        passes.end(p, job)
        passes.keep_latents(p, job, ps.samples)

    @_hook
    def postprocess_batch(self, p: Any, job: Job, *args: Any, **kwargs: Any) -> None:
        pixels = job.batch.pixels = kwargs["images"].clone()  # Others may edit it in place.
        job.batch.pair(list(pixels))

    @_hook
    def postprocess_batch_list(self, p: Any, job: Job, pp: Any, *args: Any, **kwargs: Any) -> None:
        job.batch.pair(pp.images)

    @_hook
    def postprocess_maskoverlay(self, p: Any, job: Job, ppmo: Any, *args: Any) -> None:
        inpaint.hold_overlay(job, ppmo)

    @_hook
    def postprocess_image_after_composite(self, p: Any, job: Job, pp: Any, *args: Any) -> None:
        index = job.batch.row(p.batch_index)
        if index is None:
            job.note(p, "an image that another extension put in has no latent; it stays RGB.")
            return
        layer = job.layer(index)
        if layer is Layer.FG:
            session, arch = self._session(job.choices), job.settings.method.arch
            row, decoder = row_of(p, job, index, pp.image), partial(session.decoder, arch)
            pp.image = results.foreground(p, job, loaded(p), decoder, row, pp.image)
        job.results.append((pp.image, layer.value))
        layers = job.batch.layers
        layers[layer] = pp.image
        if layer is job.settings.method.outputs[-1]:
            results.add_composite(p, job, layers)
            layers.clear()
        if job.settings.chain:
            second_step.remember(p, job, index, pp.image)

    @_hook
    def postprocess(self, p: Any, job: Job, processed: Any, *args: Any) -> None:
        end(p)
        LayerDiffuseScript.unfinished = None
        has_place = extra_images.gather(job, processed)
        if p.script_args[0]:
            give_one_image_a_set(job, processed)
            give_a_plot_a_sheet(p, job, processed)
        if job.settings.chain:
            files = second_step.add_second_steps(p, job, processed)
        else:
            files = [str(path) for path in add_layer_files(p, job, processed)]
        files += add_latents(p, job, processed)
        notes = [public(note) for note in job.notes]
        told: dict[str, Any] = {"layerdiffusion_notes": notes} if notes else {}
        if not p.script_args[0]:  # A selectable script puts the images of many jobs together.
            told["layerdiffusion_layers"] = results.name_images(job, processed)
        if files:
            told["layerdiffusion_files"] = [public(file) for file in files]
        processed.extra_generation_params = processed.extra_generation_params | told
        if not (has_place and extra_images.are_handed_over(p)):
            extra_images.join(job, processed, has_place=has_place)
        if _is_answer(p) and shared.opts.samples_format.lower() != "png":
            processed.images = [
                png_base64(image) if image.mode == "RGBA" else image for image in processed.images
            ]
        give_back()


def _is_answer(p: Any) -> bool:
    """Whether the images go straight into an API's answer, not through a selectable script."""
    return getattr(p, "is_api", False) and not p.script_args[0]


def _keep_alpha_of_uploads(created: Any) -> None:
    """Lets a slot of the host's hand over alpha, which it drops otherwise."""
    created.component.image_mode = "RGBA"


def _title_of(script_class: type) -> str | None:
    try:
        return script_class.title(None)  # type: ignore[attr-defined]
    except Exception:
        return None
