"""The buttons below the gallery that save."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modules import images, shared


def save_files(
    js_data: str, images_: Sequence[Any], do_make_zip: bool, index: int
) -> tuple[list[str], str]:
    """Returns the names of the files of a gallery's images, and what is told of them."""
    told, names = json.loads(js_data), []
    first = 0
    if index > -1 and index >= told["index_of_first_image"]:
        images_, first = [images_[index]], index
    for place, (image, _) in enumerate(images_, first):
        text, kind = told["infotexts"][place], shared.opts.samples_format
        names.append(images.save_image(image, shared.opts.outdir_save, "", 1, "", kind, info=text))
    if do_make_zip:
        path = Path(shared.opts.outdir_save) / "all.zip"
        with zipfile.ZipFile(path, "w") as packed:
            for name in names:
                packed.write(name, Path(name).name)
        names.insert(0, str(path))
    return names, f"Saved: {names[0]}"
