"""Layers in the grids that the WebUI and its scripts make."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from modules import images
from PIL import Image

from ...outputs import preview
from ..job.arguments import is_called, selected_script
from ..job.hooks import callback_of
from ..job.job import Job, asked_for_a_list, is_nested


@callback_of("imgs")
def show_transparency(params: Any) -> None:
    """Lays transparent images on a checkerboard for a grid without alpha.

    Colours that nobody should see would show in it. A script that runs many jobs draws a legend and
    drops alpha; the grid of a single job keeps it in some hosts.
    """
    if not (is_nested() and _keeps_alpha()):
        params.imgs = [_on_checkerboard(i) if i.mode == "RGBA" else i for i in params.imgs]


def _keeps_alpha() -> bool:
    """Whether the host draws a grid on an image with alpha; it can be asked by its code alone."""
    return "RGBA" in inspect.unwrap(images.image_grid).__code__.co_consts


def _on_checkerboard(image: Image.Image) -> Image.Image:
    return Image.fromarray(preview(np.asarray(image)))


def give_one_image_a_set(job: Job, processed: Any) -> None:
    """Gives a script that asked for a list of prompts one image for each: the set in a row.

    The layers themselves come after, among the extra images.

    Args:
        job: The job, with its results.
        processed: The host's result.
    """
    frames = job.settings.method.frames
    if frames == 1 or not asked_for_a_list(job):
        return
    start = processed.index_of_first_image
    layers, texts = processed.images[start:], processed.infotexts[start:]
    sets = [layers[i : i + frames] for i in range(0, len(layers), frames)]
    rows = [images.image_grid(of_set, rows=1) for of_set in sets]
    processed.images = processed.images[:start] + rows
    processed.infotexts = processed.infotexts[:start] + texts[::frames] + texts
    processed.extra_images = [*layers, *processed.extra_images]


def give_a_plot_a_sheet(p: Any, job: Job, processed: Any) -> None:
    """Gives an X/Y/Z plot, whose cell is a job's first image, a sheet of all layers.

    The host itself makes one, but not over the API, nor where its settings say so.

    Args:
        p: The host's processing object.
        job: The job, with its results.
        processed: The host's result.
    """
    made = processed.index_of_first_image > 0
    if made or job.settings.method.frames == 1 or not is_called(selected_script(p), "X/Y/Z plot"):
        return
    processed.images.insert(0, images.image_grid(processed.images, p.batch_size))
    processed.infotexts.insert(0, processed.infotexts[0])
    processed.index_of_first_image = 1
