"""`LayerSettings`: the user's choices, from the panel, the API or the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from enum import Enum
from typing import Any

import numpy.typing as npt

from ..errors import MissingLayerError, SettingsError, shortened
from ..imaging.images import ResizeMode
from ..imaging.masks import MaskSource
from ..methods import METHODS, Layer, LayerMethod, find_method

Picture = npt.NDArray[Any]
Read = Callable[[str, Any], Any]


def _read_flag(name: str, value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, (bool, int)):
        return bool(value)
    got = shortened(value)
    raise SettingsError(f"Expected true or false for {name}, got {got}.", "Use a boolean.")


def _read_text(name: str, value: Any) -> str:
    text = str(value).strip()
    halves = any("\ud800" <= character <= "\udfff" for character in text)
    if halves or not isinstance(value, (str, int, float)):
        raise SettingsError(f"Expected a text for {name}, got {shortened(value)}.", "Use a string.")
    return text


def _read_method(_name: str, value: Any) -> LayerMethod:
    return value if isinstance(value, LayerMethod) else find_method(str(value))


def _reads(kind: type[Enum]) -> Read:
    """Returns what reads one of an enumeration's values."""

    def read(name: str, value: Any) -> Enum:
        try:
            return kind(value)
        except ValueError:
            values = ", ".join(repr(one.value) for one in kind)
            raise SettingsError(
                f"Expected a known {name}, got {shortened(value)}.", f"Use one of: {values}."
            ) from None

    return read


def _read_number(name: str, value: Any) -> float:
    low, high = _FIELDS[_BY_API[name]].metadata["bounds"]
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not low <= number <= high:
        raise SettingsError(
            f"Expected {name} from {low:g} to {high:g}, got {shortened(value)}.",
            "Bring it into that range.",
        )
    return number


def _setting(default: Any, api: str, label: str, about: str, read: Read, **more: Any) -> Any:
    meta = {"api": api, "label": label, "about": about, "read": read}
    return field(default=default, metadata=meta | {"infotext": f"layerdiffusion_{api}"} | more)


def _flag(api: str, label: str, about: str, **more: Any) -> Any:
    return _setting(False, api, label, about, _read_flag, type="boolean", **more)


def _number(api: str, label: str, about: str, high: float) -> Any:
    return _setting(1.0, api, label, about, _read_number, type="number", bounds=(0.0, high))


def _picture(api: str, label: str) -> Any:
    about = f"The {label.lower()} picture to start from, for methods that need one."
    return _setting(
        None, api, label, about, lambda _name, value: value, type="string", picture=True
    )


def _prompt(api: str, label: str, main: str = "main prompt") -> Any:
    about = f"Put before the {main}, for this layer only, where a method gives several pictures."
    return _setting("", api, label, about, _read_text, type="string")


def _negative(api: str, label: str) -> Any:
    return _prompt(api, label, "negative prompt")


@dataclass(frozen=True, eq=False)
class LayerSettings:
    """The user's choices for one job.

    The first twelve fields stand in the original extension's positional order, which is public.
    A field's metadata holds its name in the API (`api`), its `label`, a sentence `about` it, its
    JSON `type` with `bounds` or `choices`, and its `infotext` key, None for what is not written.

    Attributes:
        strength: Scales what the method does to the UNet; 0 leaves the plain UNet.
        stop_at: The method acts during this first part of the schedule, by sigma.
        fg_image: Conditioning foreground, `h w 3|4`, straight alpha, uint8 or float in [0, 1];
            likewise `bg_image` and `blended_image`.
        output_origin: Accepted for the original's order; it never had an effect.
        fg_prompt: Put before the main prompt, in the foreground's row only; likewise the others.
        fg_negative_prompt: The same for the negative prompt.
        show_preview: Also give the foreground over a checkerboard.
        show_matte: Also give the foreground's alpha as a grey picture.
        show_composite: Also lay the set's foreground over its background, where it has both.
        show_raw: Also give the foreground as it was before its transparency was decoded.
        chain: Then also make the layer that is missing, by the method that goes on from here.
        mask_source: Which part of an init picture is redrawn.
    """

    enabled: bool = _setting(
        False, "enabled", "Enabled", "Whether the job makes layers.", _read_flag, type="boolean"
    )
    method: LayerMethod = _setting(
        METHODS[4],
        "method",
        "Method",
        "Which layers are made, of what: a method's id or label.",
        _read_method,
        type="string",
        choices=tuple(name for m in METHODS for name in (m.id, *m.aliases)),
    )
    strength: float = _number(
        "weight", "Weight", "Scales what the method does to the model; 0 leaves the plain one.", 2.0
    )
    stop_at: float = _number(
        "ending_step", "Stop at", "The method acts during this first part of the schedule.", 1.0
    )
    fg_image: Picture | None = _picture("fg_image", "Foreground")
    bg_image: Picture | None = _picture("bg_image", "Background")
    blended_image: Picture | None = _picture("blend_image", "Blended")
    resize_mode: ResizeMode = _setting(
        ResizeMode.CROP,
        "resize_mode",
        "Resize mode",
        "How pictures to start from are fitted to the job's size.",
        _reads(ResizeMode),
        type="string",
        choices=tuple(mode.value for mode in ResizeMode),
    )
    output_origin: bool = _flag(
        "output_origin", "Unused", "Accepted for old requests; no effect.", infotext=None
    )
    fg_prompt: str = _prompt("fg_additional_prompt", "Foreground prompt")
    bg_prompt: str = _prompt("bg_additional_prompt", "Background prompt")
    blended_prompt: str = _prompt("blend_additional_prompt", "Blended prompt")
    fg_negative_prompt: str = _negative("fg_negative_prompt", "Foreground negative prompt")
    bg_negative_prompt: str = _negative("bg_negative_prompt", "Background negative prompt")
    blended_negative_prompt: str = _negative("blend_negative_prompt", "Blended negative prompt")
    show_preview: bool = _flag(
        "show_preview", "Checkerboard preview", "Also give the foreground over a checkerboard."
    )
    show_matte: bool = _flag(
        "show_matte", "Matte", "Also give the foreground's alpha as a grey picture."
    )
    show_composite: bool = _flag(
        "show_composite",
        "True composite",
        "Also lay the set's foreground over its background, made or given, where it has both.",
    )
    show_raw: bool = _flag(
        "show_raw",
        "Before decoding",
        "Also give the foreground as it was before its transparency was decoded.",
    )
    chain: bool = _flag(
        "chain",
        "Then make the missing layer, too",
        "For the methods that put a layer into a blended picture: then also make the layer that "
        "is missing, with the sampler and stop-at that suit that step.",
    )
    mask_source: MaskSource = _setting(
        MaskSource.TAB,
        "mask_source",
        "Redraw",
        "Which part of an init picture is redrawn: the tab's mask, or a part by its own alpha.",
        _reads(MaskSource),
        type="string",
        choices=tuple(source.value for source in MaskSource),
    )

    def picture(self, layer: Layer) -> Picture | None:
        """Returns the conditioning picture given for a layer."""
        picture: Picture | None = getattr(self, f"{layer.value}_image")
        return picture

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

    def check_pictures(self) -> None:
        """Checks that every picture the method needs was given.

        Raises:
            MissingLayerError: One was not; the message says which.
        """
        for layer in self.method.inputs:
            if self.picture(layer) is None:
                raise MissingLayerError(
                    f"Expected a {layer.label.lower()} picture for this method, got none.",
                    f"Put one in the {layer.label} slot.",
                    field=f"{layer.value}_image",
                )

    @classmethod
    def from_args(
        cls, args: Sequence[Any], read_picture: Callable[[Any], Picture | None] | None = None
    ) -> LayerSettings:
        """Returns the settings for positional values, a dict by name, or a mix of both.

        A dict may stand at any place; it overrides the positional values, takes the names of the
        API or of the fields, and means `enabled` unless it says otherwise. None and missing values
        give the defaults. Pictures that the method does not use are left out unread.

        Args:
            args: Values in field order.
            read_picture: Turns what the front end hands over into a picture.

        Raises:
            SettingsError: A name is unknown or a value is out of range; `field` names it.
        """
        if len(args) > len(_FIELDS):
            raise SettingsError(
                f"Expected at most {len(_FIELDS)} values, got {len(args)}.",
                "Give the settings by name, in a dict.",
            )
        given: dict[str, Any] = {}
        named: dict[str, Any] = {}
        for name, value in zip(_FIELDS, args, strict=False):
            if by_name([value]):
                named |= {"enabled": True} | {_field_name(k): v for k, v in value.items()}
            else:
                given[name] = value
        merged = {k: v for k, v in (given | named).items() if v is not None}
        method = _read("method", merged.get("method", cls.method), None)
        unused = {f"{layer.value}_image" for layer in Layer if layer not in method.inputs}
        read = {k: _read(k, v, read_picture) for k, v in merged.items() if k not in unused}
        return cls(**read)


def by_name(args: Sequence[Any]) -> bool:
    """Whether a dict of settings is among the values; one of `image` and `mask` is a picture."""
    dicts = [(i, value) for i, value in enumerate(args) if isinstance(value, Mapping)]
    return any(set(value) - {"image", "mask"} or (i, value) == (0, {}) for i, value in dicts)


def api_name(name: str) -> str:
    """Returns the name in the API of a field that is called so there or here.

    Raises:
        SettingsError: No field is; `field` is the name.
    """
    return str(_FIELDS[_field_name(name)].metadata["api"])


_FIELDS = {f.name: f for f in fields(LayerSettings)}
_BY_API = {f.metadata["api"]: f.name for f in _FIELDS.values()}


def _field_name(name: str) -> str:
    if name in _FIELDS or name in _BY_API:
        return _BY_API.get(name, name)
    near = get_close_matches(str(name), [*_BY_API, *_FIELDS], n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Use one of: {', '.join(_BY_API)}."
    message = f"Expected the name of a setting, got {shortened(name)}."
    raise SettingsError(message, hint, field=str(name)[:99])


def _read(name: str, value: Any, read_picture: Callable[[Any], Picture | None] | None) -> Any:
    meta = _FIELDS[name].metadata
    try:
        if meta.get("picture") and read_picture is not None:
            return read_picture(value)
        return meta["read"](meta["api"], value)
    except SettingsError as error:
        error.field = name
        raise
