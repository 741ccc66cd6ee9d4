"""What describes one setting, and what reads its values: the same for every front end.

Values, sentences, suggestions, the JSON Schema, the infotext and the panel come from what `setting`
is told of a field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, field, fields
from functools import cache
from typing import Any

from ..errors import SettingsError, shortened, unknown_name

ReadImage = Callable[[Any], Any]

IMAGE_TEXT = "base64, a data URI, the path of a file in an output folder, or an allowed URL"
"""What stands for an image in a request."""

_JSON = (bool, int, float, str, Sequence, Mapping)
_TYPES = {"boolean": (bool,), "number": (int, float), "integer": (int,), "string": (str,)}
_WORDS = {
    "boolean": "true or false",
    "number": "a number",
    "integer": "a whole number",
    "string": "text",
}


def setting(default: Any, api: str, label: str, about: str, **more: Any) -> Any:
    """Returns a field of a dataclass of settings; its metadata is all that is told here.

    Args:
        default: Of the type that is read: bool, float, str, or one of the `choices`.
        api: Its name in the API.
        label: Its name on the page.
        about: A sentence for who asks what it does.
        more: The JSON `type`, where the default does not tell it; a number's `bounds`; the
            `choices`, by every spelling that is read, a thing's first one being the one to show,
            and the `noun` for such a thing, where it is not the label; `image` for an image;
            `old_labels`; the `infotext` key, None for what is not written.
    """
    kinds = {bool: "boolean", float: "number"}
    meta = {"api": api, "label": label, "about": about, "infotext": f"layerdiffusion_{api}"}
    meta["type"] = kinds.get(type(default), "string")
    return field(default=default, metadata=meta | more)


def by_name(args: Sequence[Any]) -> bool:
    """Whether a dict of settings is among the values; one of `image` and `mask` is an image."""
    dicts = [(i, value) for i, value in enumerate(args) if isinstance(value, Mapping)]
    return any(set(value) - {"image", "mask"} or (i, value) == (0, {}) for i, value in dicts)


def merged(
    kind: type, args: Sequence[Any], over: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Returns what was given, by field, and the fields that a dict named.

    A dict may stand at any place; it overrides the values beside it, takes the names of the API or
    of the fields, and means `enabled` unless it says otherwise. None counts as not given.

    Args:
        kind: The dataclass of settings.
        args: Values in the fields' order, dicts among them.
        over: Values by field that win, and count as a dict.

    Raises:
        SettingsError: A name is unknown, or there are too many values.
    """
    names = [one.name for one in fields(kind)]
    if len(args) > len(names):
        raise SettingsError(
            f"There are {len(names)} settings, but {len(args)} values were given.",
            "Give the settings by name, in a dict.",
        )
    given = dict(zip(names, args, strict=False))
    dicts = [name for name, value in given.items() if by_name([value])]
    named = {field_name(kind, k): v for name in dicts for k, v in given.pop(name).items()}
    winning = dict(over or {})
    switch = {"enabled": True} if dicts or winning else {}
    found = {k: v for k, v in (given | switch | named | winning).items() if v is not None}
    return found, [name for name in found if name in named and name not in winning]


def field_name(kind: type, name: Any) -> str:
    """Returns the name of the field that is called so, there or in the API.

    Raises:
        SettingsError: None is; `field` is the name.
    """
    names = _names(kind)
    if name not in names:
        raise unknown_name("setting", name, names, field=str(name)[:99])
    return names[name]


@cache
def _names(kind: type) -> dict[str, str]:
    by_api = {one.metadata["api"]: one.name for one in fields(kind)}
    return by_api | {name: name for name in by_api.values()}


def check_json(one: Field[Any], value: Any) -> None:
    """Checks that a request that names its settings sends a field in JSON's own type.

    A value that JSON has no type for, such as an image in memory, is left to who reads it.

    Raises:
        SettingsError: It does not, or not in one of the spellings to choose from.
    """
    meta = one.metadata
    kind = meta["type"]
    fits = isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "boolean")
    if isinstance(value, _JSON) and not fits:
        hint = f"Send JSON's {kind}, or null for the default."
        if meta.get("image"):
            hint = f"Send the image as {IMAGE_TEXT}."
        raise _refused(one, _WORDS[kind], value, hint, api=True)
    if "choices" in meta and isinstance(value, str) and value not in meta["choices"]:
        raise _unknown(one, value)


def read(one: Field[Any], value: Any, read_image: ReadImage | None = None) -> Any:
    """Returns a field's value from what was given: its own type, or text that stands for it.

    Args:
        one: The field.
        value: What was given; not None.
        read_image: Turns what the front end hands over into an image.

    Raises:
        SettingsError: It cannot be used; `field` is the field's name.
    """
    meta = one.metadata
    if meta.get("image"):
        try:
            return value if read_image is None else read_image(value)
        except SettingsError as error:
            error.field = one.name
            raise
    if "choices" in meta:
        return _chosen(one, value)
    readers = {"boolean": _flag, "number": _number, "integer": _whole, "string": _text}
    return readers[meta["type"]](one, value)


def _chosen(one: Field[Any], value: Any) -> Any:
    if isinstance(value, type(one.default)):
        return value
    found = one.metadata["choices"].get(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise _unknown(one, value)
    return found


def _flag(one: Field[Any], value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, (bool, int)):
        return bool(value)
    raise _refused(one, _WORDS["boolean"], value, "Use one of the two.")


def _number(one: Field[Any], value: Any) -> float:
    low, high = one.metadata["bounds"]
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if not low <= found <= high:
        hint = "Choose a value in that range."
        raise _refused(one, f"between {low:g} and {high:g}", value, hint)
    return found


def _whole(one: Field[Any], value: Any) -> int:
    if _number(one, value) != int(float(value)):
        low, high = one.metadata["bounds"]
        wanted = f"a whole number between {low} and {high}"
        raise _refused(one, wanted, value, "Choose a whole number.")
    return int(float(value))


def _text(one: Field[Any], value: Any) -> str:
    if not isinstance(value, (str, int, float)):
        raise _refused(one, "text", value, "Write it as text.")
    found = str(value).strip()
    if any("\ud800" <= character <= "\udfff" for character in found):
        raise _refused(one, "whole text", value, "Half a character is in it: write that again.")
    return found


def _unknown(one: Field[Any], value: Any) -> SettingsError:
    meta = one.metadata
    noun = meta.get("noun", meta["label"].lower())
    return unknown_name(noun, value, meta["choices"], field=one.name)


def _refused(
    one: Field[Any], wanted: str, value: Any, hint: str, *, api: bool = False
) -> SettingsError:
    label, name = one.metadata["label"], one.metadata["api"]
    same = label.lower() == name.replace("_", " ")
    called = f"{label} ({name})" if api and not same else label
    message = f"{called} must be {wanted}, but is {shortened(value)}."
    return SettingsError(message, hint, field=one.name)
