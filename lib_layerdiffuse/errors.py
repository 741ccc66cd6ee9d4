"""The exceptions that LayerDiffuse raises on purpose.

A message that users meet says what happens, in the words of the page, and its hint what to do.
"Expected …, got …." is for the mistakes of developers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

_LONGEST = 60
_LONGEST_TO_COMPARE = 200
_QUOTES = "'\""
_QUERY = re.compile(r"((?:https?://|\burl: )[^\s?'\"<>]*)\?[^\s'\"<>)]+", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=://)[^/\s@'\"]+@")


def shortened(value: object) -> str:
    """Returns a value as a message names it: as Python writes it, cut where it is long."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}…"


def first_line(error: BaseException) -> str:
    """Returns what another program's error says, in one line without a full stop."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def in_one_line(error: BaseException) -> str:
    """Returns all that another program's error says, in one line; its kind where it is silent."""
    return " ".join(str(error).split()) or type(error).__name__


def without_secrets(text: str) -> str:
    """Returns a text with its addresses cut down to what may be shown: no query, no password.

    The signature of an address that opens a file to whoever has it is a part of its query.
    """
    return _PASSWORD.sub("", _QUERY.sub(r"\1", text))


class LayerDiffuseError(Exception):
    """Base of every error raised on purpose; its texts hold no secret of an address.

    Attributes:
        message: What is wrong, one sentence.
        hint: What the user can do about it, one sentence; empty if there is nothing to add.
        field: Name of the `LayerSettings` field at fault, or None.
    """

    def __init__(self, message: str, hint: str = "", *, field: str | None = None) -> None:
        self.message, self.hint = without_secrets(message), without_secrets(hint)
        super().__init__(self.message)
        self.field = field

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()

    def as_dict(self) -> dict[str, str | None]:
        """Returns the error as plain values, for JSON."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "field": self.field,
        }


class SettingsError(LayerDiffuseError):
    """The user's choices do not fit together, the checkpoint or the job."""


class ArchMismatchError(SettingsError):
    """The method belongs to another checkpoint family than the loaded one."""


class MissingLayerError(SettingsError):
    """The method needs a conditioning image that was not given."""


class BatchSizeError(SettingsError):
    """The number of images in a batch is not a whole number of sets."""


class ImageSizeError(SettingsError):
    """A width or height that the method cannot make."""


class WeightsError(LayerDiffuseError):
    """A weight file cannot be used."""


class WeightsNotFoundError(WeightsError):
    """A weight file is not on disk and may not be downloaded."""


class ChecksumError(WeightsError):
    """A weight file's bytes or tensors are not those of the released file."""


class DownloadError(WeightsError):
    """A weight file could not be downloaded."""


class DownloadStoppedError(DownloadError):
    """The user stopped the download of a weight file."""


class DiskFullError(DownloadError):
    """A weight file does not fit on the disk."""


class ImageStoreError(LayerDiffuseError):
    """A conditioning image cannot be kept."""


class CodecError(LayerDiffuseError):
    """The transparent decoder or encoder has no result for an image."""


class OverflowsError(CodecError):
    """Its result holds NaN or infinity."""


class OutputError(LayerDiffuseError):
    """Results cannot be written, or are not what was written."""


class WorkerDiedError(LayerDiffuseError):
    """The process that worked on a row ended without an answer."""


class HostError(LayerDiffuseError):
    """The WebUI did not do what its contract says."""


class MissingCapabilityError(HostError):
    """The WebUI, or an option of this job, lacks something the method needs."""


def unknown_name(
    noun: str, name: object, names: Mapping[str, object], *, field: str | None = None
) -> SettingsError:
    """Returns the error for a name that nothing has: it suggests the nearest, or lists all.

    Args:
        noun: What is called so, such as "method".
        name: What was given.
        names: What there is, by each of its names; its first one is listed.
        field: As in `LayerDiffuseError`.
    """
    typed = name[:_LONGEST_TO_COMPARE] if isinstance(name, str) else shortened(name)
    near = get_close_matches(typed, names, n=1)
    listed: dict[object, str] = {}
    for known, thing in names.items():
        listed.setdefault(thing, known)
    hint = f"Did you mean {near[0]}?" if near else f"Choose one of: {', '.join(listed.values())}."
    said = shortened(name)
    return SettingsError(
        f"There is no {noun} called {said.strip(_QUOTES) or said}.", hint, field=field
    )
