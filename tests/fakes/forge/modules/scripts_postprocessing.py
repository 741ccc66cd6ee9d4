"""The Extras tab: scripts that change finished images, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from modules import images, shared


class PostprocessedImageSharedInfo:
    target_width: int | None = None


class PostprocessedImage:
    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.info: dict[str, Any] = {}
        self.shared = PostprocessedImageSharedInfo()
        self.extra_images: list[PostprocessedImage] = []

    def create_copy(self, new_image: Image.Image) -> PostprocessedImage:
        pp = PostprocessedImage(new_image)
        pp.shared, pp.info = self.shared, self.info.copy()
        return pp


class ScriptPostprocessing:
    name: str | None = None
    order = 1000

    def ui(self) -> dict[str, Any]:
        return {}

    def process_firstpass(self, pp: PostprocessedImage, **args: Any) -> None:
        pass

    def process(self, pp: PostprocessedImage, **args: Any) -> None:
        pass


class ScriptPostprocessingRunner:
    """Runs scripts in their order; what a script raises ends the run."""

    def __init__(self, scripts: Sequence[ScriptPostprocessing]) -> None:
        self.scripts = sorted(scripts, key=lambda script: script.order)
        self.off: set[str | None] = set()
        self.skipped = False

    def scripts_in_preferred_order(self) -> list[ScriptPostprocessing]:
        return [script for script in self.scripts if script.name not in self.off]

    def run(self, pp: PostprocessedImage, args: Mapping[str, Mapping[str, Any]]) -> None:
        """Processes an image; a script's arguments that are not given are None, as in the API."""
        todo = []
        for script in self.scripts_in_preferred_order():
            given = args.get(str(script.name), {})
            todo.append((script, {name: given.get(name) for name in script.ui()}))
        for script, values in todo:
            script.process_firstpass(pp, **values)
        pictures = [pp]
        for script, values in todo:
            if self.skipped:
                break
            for one in list(pictures):
                script.process(one, **values)
                pictures += one.extra_images
                one.extra_images = []
        pp.extra_images = pictures[1:]


def save(pp: PostprocessedImage, folder: str, info: str = "") -> str:
    """Returns the name of the file: the infotext of the image that came in goes into it."""
    return images.save_image(pp.image, folder, "", 1, "", shared.opts.samples_format, info=info)
