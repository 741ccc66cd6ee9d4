"""What one row describes: the job, its checkpoint and its files. The one reader of rows.

The driver checks rows with it, and workers make their jobs with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..codec.views import Views, read_views
from ..documents.kinds import DocumentKind, find_kinds
from ..errors import MissingLayerError, SettingsError, shortened
from ..files.existing import existing_file
from ..hosts.diffusers.sampling import check_sampler
from ..methods import Layer, LayerMethod
from ..settings.chains import check_chain, unread
from ..settings.fields import ReadImage
from ..settings.layer_settings import LayerSettings, api_name
from ..standalone.defaults import defaults, read_size
from ..standalone.generation import Generation, check_job, check_prompts
from ..standalone.models import ModelChoice, read_lora
from ..standalone.two_steps import SecondStep, check_steps
from .addresses import resolved
from .job_fields import JobFields, lora_texts, read_fields, split


@dataclass(frozen=True, eq=False)
class Described:
    """One row, ready to run.

    Attributes:
        job: What to make; of a chain, its first step.
        choice: The checkpoint.
        kinds: Which files hold each set's layers.
        trim: Whether the layers in these are cut.
        second: How a chain's second step differs; None for no chain.
        seeded: Whether the row says its seed.
    """

    job: Generation
    choice: ModelChoice
    kinds: tuple[DocumentKind, ...]
    trim: bool
    second: SecondStep | None
    seeded: bool


def described(
    values: Mapping[str, Any], read_image: ReadImage, choice: ModelChoice, *, strict: bool
) -> Described:
    """Returns what a row describes, checked as far as that goes without a checkpoint.

    Args:
        values: By name; None counts as not given.
        read_image: Turns an image's address into an image.
        choice: The checkpoint where the row names none, and how to compute.
        strict: Take JSON's own types only.

    Raises:
        SettingsError: A value cannot be used; `field` names it.
    """
    of_method, of_job = split({name: v for name, v in values.items() if v is not None})
    if "method" not in of_method:
        hint = "Say which one makes the layers."
        raise SettingsError("There is no method.", hint, field="method")
    row = read_fields(of_job, read_image, strict=strict)
    settings = LayerSettings.from_args([of_method], read_image, strict=strict)
    check_chain(settings)
    _check_images(settings, of_method)
    chosen = _choice(row, choice)
    author = defaults(settings.method, tiny=chosen.tiny)
    if "stop_at" not in of_method:
        settings = replace(settings, stop_at=author.stop_at)
    width, height = _size(row, author.side)
    job = Generation(
        settings=settings,
        prompt=row.prompt,
        negative_prompt=row.negative_prompt,
        width=width,
        height=height,
        sets=row.sets,
        seed=max(row.seed, 0),
        steps=row.steps or author.steps,
        cfg=author.cfg if row.cfg is None else row.cfg,
        sampler=row.sampler or author.sampler,
        init=row.init,
        views=_views(row),
        compiled=row.compiled,
        denoise=Generation.denoise if row.denoise is None else row.denoise,
    )
    return Described(job, chosen, _kinds(row), row.trim, _second(row, job), row.seed >= 0)


def _check_images(settings: LayerSettings, given: Mapping[str, Any]) -> None:
    method = settings.method
    for layer in method.inputs:
        name = api_name(f"{layer.value}_image")
        if settings.image(layer) is None:
            what = f"{method.id} needs a {layer.label.lower()} image."
            raise MissingLayerError(what, f"Give its address as {name}.", field=name)
    unused = unread(method, [name for name, value in given.items() if value], settings.chain)
    if unused:
        name = api_name(unused[0])
        what = f"{method.id} has no use for {name}."
        raise SettingsError(what, "Leave it out, or choose another method.", field=name)


def _choice(row: JobFields, choice: ModelChoice) -> ModelChoice:
    loras = choice.loras
    if row.loras:
        read = [read_lora(text) for text in row.loras]
        loras = tuple((Path(name), weight) for name, weight in read)
    checkpoint = Path(row.checkpoint) if row.checkpoint else choice.checkpoint
    prediction = row.prediction or choice.prediction
    for path, _ in loras:
        existing_file(path, field="loras")
    if checkpoint is not None and not os.path.exists(checkpoint):  # It may be a folder.
        raise SettingsError(
            f"There is no file {checkpoint}.", "Check the name.", field="checkpoint"
        )
    return replace(choice, checkpoint=checkpoint, loras=loras, prediction=prediction)


@contextmanager
def _at(field: str) -> Iterator[None]:
    """Names the field of errors that name none."""
    try:
        yield
    except SettingsError as error:
        error.field = error.field or field
        raise


def _size(row: JobFields, side: int) -> tuple[int, int]:
    if not row.size:
        return side, side
    with _at("size"):
        return read_size(row.size)


def _views(row: JobFields) -> Views:
    if not row.views:
        return Generation.views
    with _at("views"):
        return read_views(row.views)


def _kinds(row: JobFields) -> tuple[DocumentKind, ...]:
    if row.trim and not row.layers:
        raise SettingsError("trim needs layers.", "Say which kind of file.", field="trim")
    with _at("layers"):
        return find_kinds(row.layers.split(",")) if row.layers else ()


def normal(values: Mapping[str, Any], base: str) -> dict[str, Any]:
    """Returns a row's values under the API's names, with whole addresses, and without those that
    say nothing.

    Args:
        values: As the row has them.
        base: The folder that relative addresses begin at.

    Raises:
        SettingsError: A name is unknown.
    """
    of_method, of_job = split({name: v for name, v in values.items() if v is not None})
    found = {api_name(name): value for name, value in of_method.items()} | of_job
    images = [api_name(f"{layer.value}_image") for layer in Layer]
    for name in [*images, "init", "checkpoint"]:
        if isinstance(found.get(name), str) and found[name]:
            found[name] = resolved(_text(found[name], name), base)
    if found.get("loras"):
        texts = [_text(text, "loras") for text in lora_texts(found["loras"])]
        found["loras"] = [resolved(text, base) for text in texts]
    return found


def _text(text: str, name: str) -> str:
    """Returns a text that can be written down; the name of a file may be none."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        what = f"{name} holds bytes that are no UTF-8: {shortened(text)}."
        raise SettingsError(what, "Rename the file.", field=name)
    return text


def _second(row: JobFields, job: Generation) -> SecondStep | None:
    """Returns a chain's second step, once the whole job is checked."""
    if row.denoise is not None and row.init is None:
        raise SettingsError("denoise needs init.", "Give the image to draw over.", field="denoise")
    second = SecondStep(row.second_sampler or None, row.second_stop_at)
    with _at("sampler"):
        check_sampler(job.sampler)
    with _at("prompt"):
        check_prompts(job)
    if job.settings.chain:
        with _at("second_sampler"):
            check_steps(job, second)
        return second
    if row.second_sampler or row.second_stop_at is not None:
        said = "There is no second step without a chain."
        raise SettingsError(said, "Set chain to true, or leave it out.", field="second_sampler")
    check_job(job)
    return None


def images_of(values: Mapping[str, Any], method: LayerMethod) -> dict[str, str]:
    """Returns the addresses of the images that a row's job starts from, by the API's name."""
    names = [api_name(f"{layer.value}_image") for layer in Layer if layer in method.inputs]
    return {name: values[name] for name in [*names, "init"] if values.get(name)}
