"""Layers as files: names, PNGs that carry their infotext, and what a program is told of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import count, groupby
from operator import attrgetter
from pathlib import Path
from tempfile import mkdtemp

from ..documents.kinds import DocumentKind
from ..documents.layer_set import document_of
from ..documents.writing import write_document
from ..errors import SettingsError
from ..files.whole_files import check_folder, names_like, taken_names, whole_file
from ..imaging.images import ImageU8
from ..imaging.png import png_bytes
from ..methods import Layer
from ..outputs import COMPOSITE, asked_for, foreground_extras, true_composite
from ..settings.layer_settings import LayerSettings
from .generation import LayerImage
from .saved import SavedDocument, SavedImage, by_set, latent_of

_NO_EXTRAS = "an image that is given beside the layers is missing: the memory is full."
_NUMBERED = re.compile(r"(\d{5,})-")

_View = tuple[LayerImage, str, ImageU8]
"""A layer, the extra that shows it, and the pixels."""


class OutputFolder:
    """A folder that numbered sets are saved in; it is made when the first image is.

    A set's images share a number, the next that is free: `00004-SEED-fg.png`.
    """

    def __init__(self, folder: Path) -> None:
        """Checks the folder before any image is made.

        Raises:
            SettingsError: There is a file of that name, or nothing can be written there.
        """
        check_folder(folder)
        self.folder = folder

    def save(
        self, images: Iterable[LayerImage], settings: LayerSettings, number: int | None = None
    ) -> list[SavedImage]:
        """Returns what was written: each layer, in order, and the extras that are wanted of it.

        Args:
            images: Layers of one run.
            settings: That run's.
            number: The first set's, of images that were saved before; None for the next that is
                free. A name that is there already is not written over.

        Raises:
            SettingsError: Nothing can be written there, such as on a disk that is full by now. Then
                all of them are in a new folder among the system's temporary ones, which it names.
        """
        views = [
            view
            for _, of_set in groupby(images, attrgetter("set_index"))
            for view in _views(list(of_set), settings)
        ]
        try:
            return self._save(views, settings, number)
        except SettingsError as error:
            with suppress(OSError, SettingsError):
                elsewhere = Path(mkdtemp(prefix="layerdiffuse-"))
                OutputFolder(elsewhere)._save(views, settings, number)
                error.hint = f"What was made is in {elsewhere} instead. {error.hint}"
            raise

    def _save(
        self, views: Sequence[_View], settings: LayerSettings, number: int | None
    ) -> list[SavedImage]:
        with ExitStack() as until_written:
            paths = self._take_names(views, number, until_written)
            return [_write(path, view, settings) for path, view in zip(paths, views, strict=True)]

    def _take_names(
        self, views: Sequence[_View], number: int | None, taken: ExitStack
    ) -> list[Path]:
        """Returns each image's path; other programs cannot take them while the stack is open."""
        if number is not None:
            return [_take_one(self._path(view, number), taken) for view in views]
        for free in count(self.next_number()):
            paths = [self._path(view, free) for view in views]
            try:
                taken.enter_context(taken_names(paths))
            except FileExistsError:
                continue  # Another program was quicker.
            return paths
        raise AssertionError("There is always another number.")

    def save_documents(
        self,
        saved: Sequence[SavedImage],
        settings: LayerSettings,
        kinds: Iterable[DocumentKind],
        *,
        trim: bool = False,
    ) -> list[SavedDocument]:
        """Returns the files that were written: each set's layers in one, for each kind.

        An image that the method was given and did not make is a layer, too. The files stand
        beside the set's first image and have its name, with "layers" in the layer's place. A set
        whose foreground has no transparency yet has none: see `left_out`.

        Args:
            saved: What `save` returned, of one run or of both steps of a chain.
            settings: The last run's.
            kinds: The wanted kinds.
            trim: Cut each layer to the bounds of its alpha.

        Raises:
            SettingsError: Nothing can be written there.
        """
        sets = by_set(saved)
        wanted = tuple(kinds)
        return [
            _write_document(one, settings, kind, trim, several=len(sets) > 1)
            for one in sets.values()
            if not latent_of(one)
            for kind in wanted
        ]

    def _path(self, view: _View, first: int) -> Path:
        made, extra, _ = view
        layer = "" if extra == COMPOSITE else made.layer.value
        parts = [f"{first + made.set_index:05}", str(made.seed), layer, extra]
        name = "-".join(part for part in parts if part)
        return self.folder / f"{name}.png"

    def next_number(self) -> int:
        """Returns the first number above those of all files in the folder."""
        if not self.folder.is_dir():
            return 0
        found = (_NUMBERED.match(path.name) for path in self.folder.iterdir())
        return max((int(match[1]) + 1 for match in found if match), default=0)


def _take_one(path: Path, taken: ExitStack) -> Path:
    """Returns the first name like a path that is free, taken."""
    for free in names_like(path):
        try:
            taken.enter_context(taken_names([free]))
        except FileExistsError:
            continue
        return free
    raise AssertionError("There is always another name.")


def _write(path: Path, view: _View, settings: LayerSettings) -> SavedImage:
    made, extra, pixels_u8 = view
    write_png(path, pixels_u8, made.infotext)
    method, latent = settings.method, None
    if made.latent is not None and not extra:
        # Not before it is needed: it brings PyTorch with it.
        from ..codec.latent_files import write_latent

        latent = write_latent(path.with_suffix(".safetensors"), made.latent, method.arch)
    return SavedImage(path, made, method.id, extra, latent)


def _write_document(
    of_set: Sequence[SavedImage],
    settings: LayerSettings,
    kind: DocumentKind,
    trim: bool,
    several: bool,
) -> SavedDocument:
    first, index = of_set[0], of_set[0].image.set_index
    document = document_of(
        {one.layer: one.image.image for one in of_set},
        settings,
        number=index + 1 if several else None,
        infotexts={one.layer: one.image.infotext for one in of_set},
    )
    name = f"{first.path.stem.removesuffix(first.layer.value)}layers"
    path = write_document(first.path.with_name(name), document, kind, trim=trim)
    return SavedDocument(path, kind, index, tuple(layer.name for layer in document.layers))


def _views(of_set: Sequence[LayerImage], settings: LayerSettings) -> Iterator[_View]:
    """Yields all images of a set that are wanted, with the layer and the extra that each is."""
    wanted = asked_for(settings)
    decoded = all(made.latent is None for made in of_set)
    try:
        layers = {made.layer: made.image for made in of_set}
        compose = decoded and "show_composite" in wanted
        composed = true_composite(layers, settings) if compose else None
        shown = {
            id(made): foreground_extras(made.image, made.before_decode, wanted)
            for made in of_set
            if made.layer is Layer.FG and made.latent is None
        }
    except MemoryError:  # The layers are worth more than what shows them in another way.
        composed, shown = None, {}
        of_set = [replace(of_set[0], note=f"{of_set[0].note} {_NO_EXTRAS}".lstrip()), *of_set[1:]]
    for made in of_set:
        yield made, "", made.image
        for extra, pixels in shown.get(id(made), {}).items():
            yield made, extra, pixels
    if composed is not None:
        yield of_set[0], COMPOSITE, composed


def write_png(path: Path, pixels_u8: ImageU8, infotext: str = "") -> Path:
    """Writes an image, RGB or straight RGBA, and returns its path; makes the folder.

    The infotext stands where the WebUI puts and looks for it.

    Raises:
        SettingsError: Nothing can be written there.
    """
    with whole_file(path) as out:
        out.write(png_bytes(pixels_u8, infotext))
    return path
