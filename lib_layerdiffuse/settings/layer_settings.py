"""`LayerSettings`: the user's choices, from the panel, the API or the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..errors import MissingLayerError
from ..imaging.images import AnyImage, ResizeMode
from ..imaging.masks import MaskSource
from ..methods import METHOD_NAMES, METHODS, Layer, LayerMethod
from .fields import ReadImage, check_json, field_name, merged, read, setting


def _image(api: str, label: str) -> Any:
    about = f"The {label.lower()} image to start from, for methods that need one."
    return setting(None, api, label, about, image=True)


def _prompt(api: str, label: str, main: str = "main prompt") -> Any:
    about = f"Put before the {main}, for this layer only, where a method gives several images."
    return setting("", api, label, about)


def _negative(api: str, label: str) -> Any:
    return _prompt(api, label, "negative prompt")


@dataclass(frozen=True, eq=False)
class LayerSettings:
    """The user's choices for one job.

    The first twelve fields stand in the original extension's positional order, which is public.

    Each field says what it is for in its description.

    Attributes:
        fg_image: Conditioning foreground, `h w 3|4`, straight alpha, uint8 or float in [0, 1];
            likewise `bg_image` and `blended_image`.
    """

    enabled: bool = setting(False, "enabled", "Enabled", "Whether the job makes layers.")
    method: LayerMethod = setting(
        METHODS[4],
        "method",
        "Method",
        "Which layers are made, of what: a method's id or label.",
        choices=METHOD_NAMES,
    )
    strength: float = setting(
        1.0,
        "weight",
        "Weight",
        "Scales what the method does to the model; 0 leaves the plain one.",
        bounds=(0.0, 2.0),
    )
    stop_at: float = setting(
        1.0,
        "ending_step",
        "Stop at",
        "The method acts during this first part of the schedule, by sigma.",
        bounds=(0.0, 1.0),
    )
    fg_image: AnyImage | None = _image("fg_image", "Foreground")
    bg_image: AnyImage | None = _image("bg_image", "Background")
    blended_image: AnyImage | None = _image("blend_image", "Blended")
    resize_mode: ResizeMode = setting(
        ResizeMode.CROP,
        "resize_mode",
        "Resize mode",
        "How images to start from are fitted to the job's size.",
        choices={mode.value: mode for mode in ResizeMode},
    )
    output_origin: bool = setting(
        False, "output_origin", "Unused", "Accepted for old requests; no effect.", infotext=None
    )
    fg_prompt: str = _prompt("fg_additional_prompt", "Foreground prompt")
    bg_prompt: str = _prompt("bg_additional_prompt", "Background prompt")
    blended_prompt: str = _prompt("blend_additional_prompt", "Blended prompt")
    fg_negative_prompt: str = _negative("fg_negative_prompt", "Foreground negative prompt")
    bg_negative_prompt: str = _negative("bg_negative_prompt", "Background negative prompt")
    blended_negative_prompt: str = _negative("blend_negative_prompt", "Blended negative prompt")
    show_preview: bool = setting(
        False,
        "show_preview",
        "Checkerboard preview",
        "Also give the foreground over a checkerboard.",
    )
    show_matte: bool = setting(
        False, "show_matte", "Matte", "Also give the foreground's alpha as a grey image."
    )
    show_composite: bool = setting(
        False,
        "show_composite",
        "True composite",
        "Also lay the set's foreground over its background, made or given, where it has both.",
    )
    show_raw: bool = setting(
        False,
        "show_raw",
        "RGB before alpha",
        "Also give the foreground as it was before its transparency was decoded.",
        old_labels=("Before decoding",),
    )
    chain: bool = setting(
        False,
        "chain",
        "Also extract the other layer",
        "For the methods that put a layer into a blended image: then also make the layer that is "
        "missing, with the sampler and stop-at that suit that step.",
    )
    mask_source: MaskSource = setting(
        MaskSource.TAB,
        "mask_source",
        "Redraw",
        "Which part of an init image is redrawn: the tab's mask, or a part by its own alpha.",
        choices={source.value: source for source in MaskSource}
        | {"As the tab says": MaskSource.TAB},
        noun="part to redraw",
    )

    def image(self, layer: Layer) -> AnyImage | None:
        """Returns the conditioning image given for a layer."""
        image: AnyImage | None = getattr(self, f"{layer.value}_image")
        return image

    def prompt(self, layer: Layer) -> str:
        """Returns the prompt of a layer's own; empty for none."""
        return str(getattr(self, f"{layer.value}_prompt"))

    def negative_prompt(self, layer: Layer) -> str:
        """Returns the negative prompt of a layer's own; empty for none."""
        return str(getattr(self, f"{layer.value}_negative_prompt"))

    @property
    def acts(self) -> bool:
        """Whether the UNet is changed at all."""
        return self.strength > 0 and self.stop_at > 0

    def check_images(self) -> None:
        """Checks that every image the method needs was given.

        Raises:
            MissingLayerError: One was not; the message says which.
        """
        for layer in self.method.inputs:
            if self.image(layer) is None:
                raise MissingLayerError(
                    f"This method needs a {layer.label.lower()} image.",
                    f"Put one in the {layer.label} slot.",
                    field=f"{layer.value}_image",
                )

    @classmethod
    def from_args(
        cls,
        args: Sequence[Any],
        read_image: ReadImage | None = None,
        *,
        strict: bool = False,
        over: Mapping[str, Any] | None = None,
    ) -> LayerSettings:
        """Returns the settings for positional values, a dict by name, or a mix of both.

        What is not given has its default. Images that the method does not use are left unread.

        Args:
            args: As in `merged`.
            read_image: Turns what the front end hands over into an image.
            strict: Take JSON's own types only for what a dict names.
            over: As in `merged`.

        Raises:
            SettingsError: A name is unknown or a value cannot be used; `field` names it.
        """
        given, named = merged(cls, args, over)
        for name in named if strict else ():
            check_json(_FIELDS[name], given[name])
        method = read(_FIELDS["method"], given.get("method", cls.method))
        unused = {f"{layer.value}_image" for layer in Layer if layer not in method.inputs}
        used = {name: value for name, value in given.items() if name not in unused}
        return cls(**{k: read(_FIELDS[k], value, read_image) for k, value in used.items()})


def read_setting(name: str, value: Any) -> Any:
    """Returns the value of the field `name` for what was given: as in `from_args`.

    Raises:
        SettingsError: It cannot be used.
    """
    return read(_FIELDS[name], value)


def api_name(name: str) -> str:
    """Returns the name in the API of a field that is called so there or here.

    Raises:
        SettingsError: No field is; `field` is the name.
    """
    return str(_FIELDS[field_name(LayerSettings, name)].metadata["api"])


_FIELDS = {f.name: f for f in fields(LayerSettings)}

PROMPTS = tuple(
    f"{layer.value}_{kind}" for layer in Layer for kind in ("prompt", "negative_prompt")
)
"""The fields that hold the layers' own prompts."""
