"""What stands in a gallery: images, with what the job has told the page of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modules.infotext_utils import image_from_url_text, parse_generation_parameters
from PIL import Image

from ...errors import SettingsError
from ...imaging.images import as_rgba, to_u8
from ...methods import Layer, LayerMethod
from ...outputs import GIVEN, given_layer
from ...settings.infotext import from_infotext, images_of
from ...settings.layer_settings import LayerSettings
from ..job.given_images import read_given
from ..job.kept_images import store

Slots = Mapping[Layer, Any]

NO_FOREGROUND = (
    "This set has no foreground.",
    "Make one of the blended image, or choose another.",
)
"""What is told of a set that the composite view cannot show."""

_NO_LAYERS = "There are no layers in the gallery.", "Make some first."


@dataclass(frozen=True)
class GalleryImages:
    """A gallery's images in order.

    Attributes:
        images: As the WebUI serves them: the files that it saved, or else lossless copies.
        names: What each is, such as "fg" or "fg-matte"; None where that is not known.
        infotexts: Their infotexts; extras at the end have none.
        first: The place of the first image that is no grid.
    """

    images: Sequence[Image.Image]
    names: Sequence[str | None]
    infotexts: Sequence[str]
    first: int

    @classmethod
    def read(cls, gallery: Sequence[Any] | None, info: str) -> GalleryImages:
        """Returns what a gallery's value and the page's generation info say.

        Only files that the host serves are opened: the host sees to that.
        """
        return cls.named([_image(one) for one in gallery or ()], info)

    @classmethod
    def named(cls, images: Sequence[Any], info: str) -> GalleryImages:
        """Returns images, or whatever stands for each, with what the page's info says of them."""
        told = _parsed(info)
        names = (told.get("extra_generation_params") or {}).get("layerdiffusion_layers") or []
        if len(names) != len(images):  # Other images than the job's have come in between.
            names = [None] * len(images)
        infotexts = told.get("infotexts") or []
        return cls(images, names, infotexts, int(told.get("index_of_first_image") or 0))

    def choose(self, index: int, layer: Layer) -> int:
        """Returns the place of the chosen image; where there is only one, of that.

        Where none is chosen, or the grid, which the host chooses by itself, it is the layer of the
        only set.

        Args:
            index: The place of the chosen image.
            layer: The layer to take from a set.

        Raises:
            SettingsError: None is chosen, or one that is no result by itself.
        """
        if not self.images:
            raise SettingsError("There is no image yet.", "Generate one first.")
        if len(self.images) == 1:
            return 0
        if not self.first <= index < len(self.images):
            return self._only(layer, grid=0 <= index < self.first)
        name = self.names[index] or ""
        if name.endswith(("-preview", "-matte")):
            raise SettingsError("This only shows a layer.", "Choose the layer itself.")
        return index

    def _only(self, layer: Layer, *, grid: bool) -> int:
        """Returns the place of the only set's layer."""
        sets, name = self.sets(), layer.label.lower()
        made = [one[layer] for one in sets if layer in one]
        if made and len(sets) == 1:
            return made[0]
        if made:
            raise SettingsError(
                f"There are {len(sets)} sets.", f"Choose the {name} of one in the gallery."
            )
        if sets:
            raise SettingsError(f"No {name} was made.", "Choose an image in the gallery.")
        if grid:
            raise SettingsError("This is the grid.", "Choose a single image in the gallery.")
        raise SettingsError("No image is chosen.", "Choose one in the gallery.")

    def view_lacks(self) -> str:
        """Returns why there is nothing to look at in the composite view; empty if there is."""
        sets = self.sets()
        if any(Layer.FG in one or self._was_given(Layer.FG, max(one.values())) for one in sets):
            return ""
        return " ".join(NO_FOREGROUND if sets else _NO_LAYERS)

    def method(self, index: int) -> LayerMethod | None:
        """Returns the method that made an image, or None if none did."""
        found: LayerMethod | None = from_infotext(self._params(index)).get("method")
        return found

    def _params(self, index: int) -> dict[str, str]:
        """Returns what an image's infotext says; for an extra, that of the first image."""
        place = index if index < len(self.infotexts) else self.first
        if place >= len(self.infotexts):
            return {}
        params: dict[str, str] = parse_generation_parameters(self.infotexts[place], [])
        return params

    def sets(self) -> list[dict[Layer, int]]:
        """Returns each set's layers with their places."""
        layers = {layer.value: layer for layer in Layer}
        found: list[dict[Layer, int]] = []
        for place, name in enumerate(self.names):
            layer = layers.get(name or "")
            if layer is None:
                continue
            if not found or layer in found[-1]:
                found.append({})
            found[-1][layer] = place
        return found

    def layers(self, index: int, slots: Slots) -> dict[Layer, Image.Image]:
        """Returns the layers of the chosen set, or of the last one, as there are.

        A layer that the method did not make is the one that it was given, at the set's size: the
        one in the gallery, or else the kept one, or else what is in the panel's slot.

        Args:
            index: The place of an image in the gallery; anything else for none.
            slots: What the panel's slots hold.

        Raises:
            SettingsError: There is no set.
        """
        sets = self.sets()
        if not sets:
            raise SettingsError(*_NO_LAYERS)
        chosen = next((one for one in sets if index in one.values()), sets[-1])
        found = {layer: self.images[place] for layer, place in chosen.items()}
        last = max(chosen.values())
        for layer in Layer:
            if layer not in found:
                given = self._given(layer, last, slots)
                found |= {} if given is None else {layer: given}
        return found

    def _was_given(self, layer: Layer, place: int) -> bool:
        return layer in images_of(self._params(place))

    def _given(self, layer: Layer, place: int, slots: Slots) -> Image.Image | None:
        shown = f"{layer.value}-{GIVEN}"
        if shown in self.names:
            return self.images[self.names.index(shown)]
        params = self._params(place)
        settings, given = LayerSettings(**from_infotext(params)), images_of(params)
        if layer not in given:
            return None
        name = given[layer]
        kept = store().load(name) if name else None
        image = read_given(slots.get(layer)) if kept is None else as_rgba(kept)
        slot: dict[str, Any] = {f"{layer.value}_image": image}
        fitted = given_layer(replace(settings, **slot), layer, *self.images[place].size)
        return None if fitted is None else Image.fromarray(to_u8(fitted))


def _image(item: Any) -> Any:
    """Returns the image of a gallery's item.

    Gradio 4 has read it, and gives it with its caption. Gradio 3 gives its file alone, or in a list
    with its caption, and the host copies what it reads from it.
    """
    file = item[0] if isinstance(item, list) else item
    image = image_from_url_text([file])
    if isinstance(file, dict) and image is not None:
        image.already_saved_as = file["name"].rsplit("?", 1)[0]
    return image


def _parsed(info: str) -> dict[str, Any]:
    try:
        told = json.loads(info)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
