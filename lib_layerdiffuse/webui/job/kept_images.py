"""The images that layers were made from, kept for pasting."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from modules import paths_internal, shared

from ...errors import ImageStoreError
from ...imaging.images import FloatImage
from ...imaging.kept import ImageStore
from ...methods import Layer
from ...settings.layer_settings import LayerSettings
from .choices import most_pictures

FOLDER = "layerdiffuse-pictures"
OPTION = "layerdiffuse_keep_pictures"


def store() -> ImageStore:
    """Returns the store in the WebUI's output folder; nothing is read or written yet."""
    return ImageStore(Path(paths_internal.default_output_dir) / FOLDER)


def keep(settings: LayerSettings, note: Callable[[str], None]) -> dict[Layer, str]:
    """Keeps the images that a job was given, unless the user turned that off.

    A job goes on where they cannot be kept, with a note.

    Args:
        settings: The job's.
        note: Tells the user something below the images.

    Returns:
        The name of each kept image.
    """
    given = {layer: settings.image(layer) for layer in settings.method.inputs}
    named = {layer: keep_image(image, note) for layer, image in given.items() if image is not None}
    return {layer: name for layer, name in named.items() if name is not None}


def keep_image(image: FloatImage, note: Callable[[str], None]) -> str | None:
    """Returns the name under which an image is kept; None if it is not, which may be noted.

    The least recently used ones are deleted where there are more than the settings page allows.
    Those of the running job stay.
    """
    if not getattr(shared.opts, OPTION, True):
        return None
    images, most, began = store(), most_pictures(), getattr(shared.state, "time_start", None)
    try:
        name = images.keep(image)
        images.prune(*most, since=began or time.time())
        return name
    except ImageStoreError as error:
        note(f"pasting will not bring the images back. {error}")
        return None
