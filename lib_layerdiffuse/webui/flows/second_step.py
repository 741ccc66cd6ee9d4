"""The second step of a chain: after the first, a processing run of its own for each set."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from modules import shared
from modules.paths import data_path
from modules.processing import (
    StableDiffusionProcessing,
    StableDiffusionProcessingTxt2Img,
    process_images,
)
from PIL import Image

from ...errors import SettingsError
from ...host import Host
from ...imaging.images import from_u8
from ...outputs import GIVEN, with_given
from ...pipeline import Session
from ...settings.chains import SECOND_STEPS, second_method, second_settings, step_prompt
from ...settings.layer_settings import LayerSettings
from ..job import progress
from ..job.job import FirstStep, Job
from ..job.layer_files import add_layer_files
from ..job.notes import tell
from ..job.set_numbers import go_on
from ..job.state import find, put

_ATTRIBUTE = "layerdiffuse_step"
_UNI_PC_ORDER = 3
"""Of the sampler where the host has no setting for it."""
_BY_ROW = ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds")
_TOLD = ("layerdiffusion_layers", "layerdiffusion_notes", "layerdiffusion_files")
_log = logging.getLogger(__name__)


def step_of(p: Any) -> LayerSettings | None:
    """Returns the settings of the second step that a processing object runs, or None."""
    settings: LayerSettings | None = find(p, _ATTRIBUTE)
    return settings


def prepare(p: Any, job: Job, host: Host, session: Session) -> None:
    """Checks, before the first step, all that would make the second one fail.

    Raises:
        MissingCapabilityError: The checkpoint cannot run the second method.
        SettingsError: Its sampler needs more steps.
        WeightsError: One of its files cannot be used.
    """
    method = second_method(job.settings.method)
    host.check(method)
    sampler = SECOND_STEPS[method.id].sampler
    fewest = getattr(shared.opts, "uni_pc_order", _UNI_PC_ORDER)  # Some have no such setting.
    if sampler == "UniPC" and p.steps < fewest:
        raise SettingsError(
            f"{sampler}, the sampler that extracts the other layer, needs at least {fewest} "
            f"sampling steps, but there are {p.steps}.",
            "Raise the sampling steps.",
            field="chain",
        )
    with progress.telling("looking for the second step's weights"):
        for file in method.weight_files:
            session.store.ensure(file)


def announce(p: Any) -> None:
    """Tells the host of the runs to come, one for each set."""
    shared.state.job_count += p.n_iter * p.batch_size


def remember(p: Any, job: Job, row: int, image: Image.Image) -> None:
    """Keeps a row's blended image, with what its second step needs."""
    job.first_steps.append(
        FirstStep(
            image,
            job.of_sets[p.iteration * p.batch_size + row],
            p.prompts[row],
            p.negative_prompts[row],
            p.seeds[row],
            p.subseeds[row],
            whole=not job.batch.stopped,
        )
    )


def add_second_steps(p: Any, job: Job, processed: Any) -> list[str]:
    """Runs the second step of each set and puts what it makes behind the set's blended image.

    If one fails or is stopped, what was made until then stays, and the user is told.

    Args:
        p: The host's processing object, whose first step is done.
        job: The job.
        processed: The host's result, to which layers, extras and comments are added.

    Returns:
        The layer files that were written.
    """
    with _last_job_kept():
        files, left = _run_all(p, job, processed)
    _add_given(job, processed)
    return files + _write_left(p, job, processed, left)


def _run_all(p: Any, job: Job, processed: Any) -> tuple[list[str], list[FirstStep]]:
    """Returns the layer files that were written, and the sets that have no second step."""
    files: list[str] = []
    left = list(job.first_steps)
    for number, first in enumerate(job.first_steps, 1):
        stopped = shared.state.interrupted or shared.state.stopping_generation
        if stopped or not first.whole:
            _note(job, processed, "the second step was left out where the first was stopped.")
            continue
        try:
            made = _run(p, job, first, f"step 2 of 2, set {number} of {len(job.first_steps)}")
        except Exception as error:  # The first step's layers must not be lost with it.
            _log.exception("LayerDiffuse: the second step failed", exc_info=error)
            _note(job, processed, f"the second step failed, so its layers are missing. {error}")
            break
        if made.images:
            left.remove(first)
            files += _merge(job, processed, first, made)
    return files, left


@contextmanager
def _last_job_kept() -> Iterator[None]:
    """Keeps what the host noted down as the last job, since it notes each processing run."""
    file = Path(data_path) / "params.txt"
    text = file.read_bytes() if file.exists() else None
    try:
        yield
    finally:
        if text is not None:
            file.write_bytes(text)


def _run(p: Any, job: Job, first: FirstStep, text: str) -> Any:
    """Returns the host's result of one set's second step."""
    settings = second_settings(job.settings, from_u8(np.asarray(first.image.convert("RGB"))))
    shared.state.skipped = False  # That was said of the image before.
    with progress.telling(text), closing(_processing(p, job, first, settings)) as step:
        put(step, _ATTRIBUTE, settings)
        go_on(step, first.image)
        return process_images(step)


def _processing(p: Any, job: Job, first: FirstStep, settings: LayerSettings) -> Any:
    """Returns a text-to-image run that differs from the first step's only where it has to."""
    layer = settings.method.outputs[0]
    common = {f.name: getattr(p, f.name) for f in fields(StableDiffusionProcessing) if f.init}
    changed: dict[str, Any] = {
        "prompt": step_prompt(first.settings.prompt(layer), first.prompt),
        "negative_prompt": step_prompt(
            first.settings.negative_prompt(layer), first.negative_prompt
        ),
        "prompt_for_display": None,
        "styles": [],  # They are in the prompts.
        "seed": first.seed,
        "subseed": first.subseed,
        "sampler_index": None,
        "sampler_name": SECOND_STEPS[settings.method.id].sampler,
        "scheduler": "Automatic",
        "batch_size": 1,
        "n_iter": 1,
        "do_not_save_grid": True,
        "denoising_strength": None,
        "overlay_images": None,
        "firstpass_image": None,
        "extra_generation_params": {},
        "override_settings": dict(p.override_settings),
    }
    step = StableDiffusionProcessingTxt2Img(**{k: changed.get(k, v) for k, v in common.items()})
    step.scripts_setup_complete = True  # What they set up has been taken over.
    step.scripts = p.scripts
    step.script_args = (0, *p.script_args[1:])
    step.user = p.user
    return step


def _merge(job: Job, processed: Any, first: FirstStep, made: Any) -> list[str]:
    """Puts one second step's result into the first's, set by set; returns its layer files."""
    place = next(i for i, image in enumerate(processed.images) if image is first.image) + 1
    processed.images[place:place] = made.images
    processed.infotexts[place:place] = made.infotexts
    row = place - processed.index_of_first_image
    for name in _BY_ROW:
        rows = getattr(processed, name)
        setattr(processed, name, [*rows[:row], *getattr(made, name), *rows[row:]])
    extras = getattr(made, "extra_images", [])  # Some hosts have one list for all.
    processed.extra_images = [*processed.extra_images, *extras]
    names, notes, files = (made.extra_generation_params.get(name, []) for name in _TOLD)
    job.results += zip([*made.images, *extras], names, strict=True)
    for note in notes:
        if note not in job.notes:
            job.notes.append(note)
    known = processed.comments.splitlines()
    new = [line for line in made.comments.splitlines() if line not in known]
    processed.comments += "".join(f"{line}\n" for line in new)
    return list(files)


def _add_given(job: Job, processed: Any) -> None:
    """Shows the given layer beside the others, as it was fitted to their size."""
    if job.first_steps:
        [made], [layer] = job.settings.method.outputs, job.settings.method.inputs
        blended_u8 = np.asarray(job.first_steps[0].image.convert("RGB"))
        given = Image.fromarray(with_given({made: blended_u8}, job.settings)[layer])
        processed.extra_images = [*processed.extra_images, given]
        job.results.append((given, f"{layer.value}-{GIVEN}"))


def _write_left(p: Any, job: Job, processed: Any, left: list[FirstStep]) -> list[str]:
    """Returns the layer files of those sets that have no second step."""
    images = {id(first.image) for first in left}
    results = [(image, name) for image, name in job.results if id(image) in images]
    if not results:
        return []
    return [str(path) for path in add_layer_files(p, replace(job, results=results), processed)]


def _note(job: Job, processed: Any, text: str) -> None:
    if text not in job.notes:
        job.notes.append(text)
        tell(processed, text)
