"""What the studio's page does, without the page: jobs from its fields, views of their results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..callbacks import OnProgress
from ..codec.views import Views
from ..errors import SettingsError
from ..imaging.images import FloatImage, ImageU8, as_rgba, flatten, to_u8
from ..imaging.reading import read_image
from ..methods import Layer
from ..outputs import given_layer, over
from ..settings.chains import check_chain
from ..settings.layer_settings import LayerSettings
from ..standalone.defaults import defaults, draw_seed, read_size
from ..standalone.generation import Generation, check_job
from ..standalone.models import ModelChoice, Models
from ..standalone.output import OutputFolder
from ..standalone.run import run
from ..standalone.saved import SavedImage, number_of
from ..standalone.sheet import over_checkerboard
from ..standalone.two_steps import Step, check_steps, run_chain
from ..standalone.undrawn import UndrawnError, save_undrawn
from .checkpoints import Checkpoints

if TYPE_CHECKING:
    from ..hosts.diffusers import DiffusersHost
    from ..pipeline import Session

AUTOMATIC = "Automatic"
"""What a size or a sampler is called that the author's choice for the method is taken for."""

SIZES = (AUTOMATIC, "512x512", "512x640", "640x512", "1024x1024", "896x1152", "1152x896")
"""Sizes to choose from; another may be typed."""

PREDICTIONS = {AUTOMATIC: None, "Noise (eps)": "eps", "Velocity (v)": "v"}
"""What a checkpoint's UNet may predict, as `ModelChoice` calls it."""

BACKDROPS = ("Checkerboard", "Colour", "Image", "The set's background")
"""What a layer can be looked at over."""


@dataclass(frozen=True)
class Fields:
    """What stands in the page's fields beside the panel.

    Attributes:
        checkpoint: A path, or the name of one that is offered; empty for the tiny family.
        size: "512x640", or `AUTOMATIC`.
        seed: Below 0 for a new one.
        sampler: By its WebUI name, or `AUTOMATIC`.
        views: One of the `CHOICES` of the decoder's views.
        compiled: Whether the decoder is compiled.
        init: An image to draw over, or None.
        denoise: How much of it changes.
        prediction: One of the `PREDICTIONS`; `AUTOMATIC` for what the checkpoint says.
    """

    checkpoint: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    size: str = AUTOMATIC
    sets: int = 1
    seed: int = -1
    steps: int = 20
    cfg: float = 7.0
    sampler: str = AUTOMATIC
    views: Views = 8
    compiled: bool = False
    init: Image.Image | None = None
    denoise: float = 0.75
    prediction: str = AUTOMATIC


@dataclass(frozen=True)
class Result:
    """What one job made.

    Attributes:
        settings: The job's.
        saved: Its files in order.
    """

    settings: LayerSettings
    saved: Sequence[SavedImage]

    def of_set(self, layer: Layer, chosen: SavedImage) -> FloatImage | None:
        """Returns a layer that was made in the same set as an image, or given to it; or None.

        It is straight RGBA `h w 4` of the image's size.
        """
        for one in self.saved:
            same = one.image.set_index == chosen.image.set_index
            if same and one.layer is layer:
                return as_rgba(one.image.image)
        height, width = chosen.image.image.shape[:2]
        return given_layer(self.settings, layer, width, height)


class Workbench:
    """Runs the page's jobs and saves what they make.

    Args:
        models: Loads checkpoints.
        choice: How they are loaded; the page's field says which.
        out: Where images are saved.
        checkpoints: Which may be loaded; any, where it is left out.
    """

    def __init__(
        self,
        models: Models,
        choice: ModelChoice,
        out: Path,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.models, self.choice = models, choice
        self.checkpoints = checkpoints or Checkpoints(choice.checkpoint)
        self.folder = OutputFolder(out)

    def generate(self, fields: Fields, panel: Sequence[Any], on_progress: OnProgress) -> Result:
        """Returns what one job made.

        Args:
            fields: The page's own.
            panel: The values of the panel's components, in order.
            on_progress: As in `run`.

        Raises:
            LayerDiffuseError: The job cannot work; it says why and what to do.
        """
        settings = replace(LayerSettings.from_args(panel, read_image), enabled=True)
        check_chain(settings)
        settings.check_images()
        choice = replace(self.choice, checkpoint=self.checkpoints.path(fields.checkpoint))
        choice = replace(choice, prediction=PREDICTIONS[fields.prediction])
        job = _job(fields, settings, choice)
        (check_steps if settings.chain else check_job)(job)
        on_progress("loading", 0, 1)
        host, session = self.models.open(choice, settings.method.arch)
        number: int | None = None
        saved: list[SavedImage] = []
        try:
            for step in _steps(job, session, host, on_progress):
                saved += self.folder.save(step.images, step.settings, number)
                number = number_of(saved[0]) if saved else None
        except UndrawnError as error:
            save_undrawn(error, self.folder, number)  # The page shows the error, which names them.
            raise
        return Result(step.settings, saved)


def _steps(
    job: Generation, session: Session, host: DiffusersHost, on_progress: OnProgress
) -> Iterator[Step]:
    """Yields a job's one step, or a chain's two."""
    if job.settings.chain:
        yield from run_chain(job, session, host, on_progress=on_progress)
    else:
        yield Step(job.settings, run(job, session, host, on_progress=on_progress))


def _job(fields: Fields, settings: LayerSettings, choice: ModelChoice) -> Generation:
    author = defaults(settings.method, tiny=choice.tiny)
    size = fields.size.strip()
    width, height = (author.side,) * 2 if size in ("", AUTOMATIC) else read_size(size)
    sets = int(fields.sets)
    return Generation(
        settings=settings,
        prompt=fields.prompt.strip(),
        negative_prompt=fields.negative_prompt.strip(),
        width=width,
        height=height,
        sets=sets,
        seed=int(fields.seed) if fields.seed >= 0 else draw_seed(sets * settings.method.frames),
        steps=int(fields.steps),
        cfg=float(fields.cfg),
        sampler=author.sampler if fields.sampler in ("", AUTOMATIC) else fields.sampler,
        views=fields.views,
        compiled=fields.compiled,
        init=None if fields.init is None else read_image(fields.init),
        denoise=float(fields.denoise),
    )


def composed(
    result: Result, chosen: SavedImage, backdrop: str, colour: str, image: Image.Image | None
) -> ImageU8:
    """Returns a set's foreground over one of the `BACKDROPS`, `h w 3`.

    The foreground is the one that was made or given; for want of both it is the chosen image.
    A checkerboard stands in for an image that there is none of.

    Args:
        result: The job that made the set.
        chosen: An image of the set.
        backdrop: Which.
        colour: The colour picker's text.
        image: A PIL image of the user's, or None.
    """
    made = result.of_set(Layer.FG, chosen)
    rgba = as_rgba(chosen.image.image) if made is None else made
    own = None if image is None else read_image(image)
    under = own if backdrop == "Image" else result.of_set(Layer.BG, chosen)
    if backdrop == "Colour":
        return over_colour(rgba, colour)
    if backdrop != "Checkerboard" and under is not None:
        return over(rgba, under)
    height, width = rgba.shape[:2]
    return over_checkerboard(rgba, width, height)


def over_colour(layer: FloatImage | ImageU8, colour: str) -> ImageU8:
    """Returns a layer over a colour, `h w 3`.

    Args:
        layer: RGB or straight RGBA.
        colour: As a colour picker gives it: "#ffaa00" or "rgba(255, 170, 0, 1)".
    """
    return to_u8(flatten(as_rgba(layer), [part / 255 for part in read_colour(colour)]))


def read_colour(text: str) -> tuple[int, int, int]:
    """Returns red, green and blue in 0..255 of a colour picker's text.

    Raises:
        SettingsError: It is no colour.
    """
    text = text.strip()
    digits = text.removeprefix("#")
    try:
        if text.startswith("rgb"):
            parts = text.partition("(")[2].rstrip(")").split(",")
            red, green, blue = (round(float(part)) for part in parts[:3])
        else:
            digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
            red, green, blue = bytes.fromhex(digits)
    except ValueError as error:
        raise SettingsError(
            f"{text!r} is no colour such as #ffaa00.", "Choose one with the picker."
        ) from error
    return red, green, blue
