"""Which checkpoints whoever has the studio's page before them may load."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import LayerDiffuseError, SettingsError, unknown_name
from ..hosts.diffusers.families import family_of
from ..methods import Arch

TINY = "The tiny family"
"""What the page calls the checkpoint without a name."""

_OF_A_FOLDER = "model_index.json"  # Each checkpoint that is a folder of diffusers' has it.


class Checkpoints:
    """What the page's field for the checkpoint takes.

    Attributes:
        offered: The paths by the names that the field lists, None for the tiny family's; None
            where any path may be typed.
        first: What stands in the field at first.
    """

    def __init__(self, own: Path | None = None, folder: Path | None = None) -> None:
        """Lets any path be typed, or offers a folder's checkpoints, as they lie there now.

        Args:
            own: The one that the studio was started with, offered too.
            folder: Where the others lie, in folders of their own or not; None for any path.

        Raises:
            SettingsError: There is no such folder.
        """
        self.offered: dict[str, Path | None] | None = None
        self.first = str(own or "")
        if folder is not None:
            self._offer(found_in(folder), own)

    @classmethod
    def only(cls, own: Path | None) -> Checkpoints:
        """Offers none but the one that the studio was started with, and the tiny family."""
        checkpoints = cls()
        checkpoints._offer({}, own)
        return checkpoints

    def _offer(self, found: dict[str, Path], own: Path | None) -> None:
        self.offered, self.first = {"": None, **found}, ""
        if own is not None:
            known = (name for name, path in found.items() if path.absolute() == own.absolute())
            self.first = next(known, own.name)
            self.offered[self.first] = own

    def choices(self) -> list[tuple[str, str]]:
        """Returns what the field lists: label and value of each."""
        return [(name or TINY, name) for name in self.offered or ()]

    def path(self, text: str) -> Path | None:
        """Returns the checkpoint that the field says; None for the tiny family.

        Raises:
            SettingsError: It is none of those that are offered.
        """
        if self.offered is None:
            text = text.strip().strip("\"'")
            return Path(text).expanduser() if text else None
        if text not in self.offered:
            raise unknown_name("checkpoint", text, {name: name for name in self.offered if name})
        return self.offered[text]

    def arch(self, text: str) -> Arch | None:
        """Returns the family of what the field says; None where that is unknown or any."""
        try:
            path = self.path(text)
            return family_of(path).arch if path else None
        except LayerDiffuseError:
            return None


def found_in(folder: Path) -> dict[str, Path]:
    """Returns the checkpoints in a folder and in its folders, by their place in it.

    Raises:
        SettingsError: There is no such folder.
    """
    if not folder.is_dir():
        raise SettingsError(f"There is no folder {folder}.", "Check the name.")
    found: dict[str, Path] = {}
    for place, folders, files in os.walk(folder):
        here = Path(place)
        if _OF_A_FOLDER in files and here != folder:
            folders.clear()
            found[here.relative_to(folder).as_posix()] = here
            continue
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(".safetensors"):
                found[(here / name).relative_to(folder).as_posix()] = here / name
    return found
