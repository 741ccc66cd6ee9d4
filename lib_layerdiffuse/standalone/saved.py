"""What was written of a job, and what a program or the user is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..documents.kinds import DocumentKind
from ..methods import Layer
from ..outputs import COMPOSITE
from .generation import LayerImage


@dataclass(frozen=True)
class SavedImage:
    """One file that was written.

    Attributes:
        path: Where.
        image: The layer that it holds, or that it shows.
        method: Id of the method that made it.
        extra: "preview", "matte" or "raw" for what shows a layer in another way, "composite" for
            its set's foreground over the background; empty for a layer.
        latent: The file with its latent, where its transparency could not be found.
    """

    path: Path
    image: LayerImage
    method: str
    extra: str = ""
    latent: Path | None = None

    @property
    def layer(self) -> Layer:
        """The layer that it holds or shows."""
        return self.image.layer

    @property
    def label(self) -> str:
        """What it is called for people."""
        if self.extra == COMPOSITE:
            return "Composite"
        return f"{self.layer.label} ({self.extra})" if self.extra else self.layer.label

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain values, for JSON."""
        height, width = self.image.image.shape[:2]
        values = {
            "path": str(self.path),
            "layer": self.layer.value,
            "set": self.image.set_index,
            "seed": self.image.seed,
            "size": [width, height],
            "method": self.method,
            "infotext": self.image.infotext,
        }
        more = {
            "extra": self.extra,
            "latent": str(self.latent) if self.latent else "",
            "note": "" if self.extra else self.image.note,
        }
        return values | {name: text for name, text in more.items() if text}


@dataclass(frozen=True)
class SavedDocument:
    """One file that holds a set's layers.

    Attributes:
        path: Where.
        kind: Which kind of file.
        set_index: Of which set, from 0.
        layers: What it holds, from bottom to top.
    """

    path: Path
    kind: DocumentKind
    set_index: int
    layers: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain values, for JSON."""
        values = {"path": str(self.path), "kind": self.kind.value, "set": self.set_index}
        return values | {"layers": list(self.layers)}


def number_of(saved: SavedImage) -> int:
    """Returns the number of the first set of the images that one belongs to."""
    return int(saved.path.name.partition("-")[0]) - saved.image.set_index


def left_out(saved: Sequence[SavedImage], kinds: Iterable[DocumentKind]) -> list[str]:
    """Returns a sentence for each set that `save_documents` writes no file of."""
    names = " and ".join(kind.value for kind in kinds)
    latents = {index: latent_of(one) for index, one in by_set(saved).items()}
    return [
        f"there are no {names} files of set {index + 1}, whose foreground has no transparency yet: "
        f"its latent stands in {latent.name}."
        for index, latent in latents.items()
        if names and latent
    ]


def by_set(saved: Sequence[SavedImage]) -> dict[int, list[SavedImage]]:
    """Returns the layers of each set, without what shows them in another way."""
    sets: dict[int, list[SavedImage]] = {}
    for one in saved:
        if not one.extra:
            sets.setdefault(one.image.set_index, []).append(one)
    return sets


def latent_of(of_set: Sequence[SavedImage]) -> Path | None:
    """Returns the file with the latent of a set's foreground that has no transparency yet."""
    return next((one.latent for one in of_set if one.latent), None)
