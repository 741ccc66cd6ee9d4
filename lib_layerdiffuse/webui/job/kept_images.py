"""The pictures that layers were made from, kept for pasting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modules import paths_internal, shared

from ...errors import PictureStoreError
from ...imaging.images import Picture
from ...imaging.kept import PictureStore
from ...methods import Layer
from ...settings.layer_settings import LayerSettings

FOLDER = "layerdiffuse-pictures"
OPTION = "layerdiffuse_keep_pictures"


def store() -> PictureStore:
    """Returns the store in the WebUI's output folder; nothing is read or written yet."""
    return PictureStore(Path(paths_internal.default_output_dir) / FOLDER)


def keep(settings: LayerSettings, note: Callable[[str], None]) -> dict[Layer, str]:
    """Keeps the pictures that a job was given, unless the user turned that off.

    A job goes on where they cannot be kept, with a note.

    Args:
        settings: The job's.
        note: Tells the user something below the pictures.

    Returns:
        The name of each kept picture.
    """
    given = {layer: settings.picture(layer) for layer in settings.method.inputs}
    named = {
        layer: keep_picture(picture, note)
        for layer, picture in given.items()
        if picture is not None
    }
    return {layer: name for layer, name in named.items() if name is not None}


def keep_picture(picture: Picture, note: Callable[[str], None]) -> str | None:
    """Returns the name under which a picture is kept; None if it is not, which may be noted."""
    if not getattr(shared.opts, OPTION, True):
        return None
    try:
        return store().keep(picture)
    except PictureStoreError as error:
        note(f"pasting will not bring the pictures back. {error}")
        return None
