"""Files that are written whole or not at all, and the kinds that there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_documents import pixels
from PIL import Image

from lib_layerdiffuse.documents.document import Document, DocumentLayer
from lib_layerdiffuse.documents.kinds import DocumentKind, find_kinds
from lib_layerdiffuse.documents.writing import write_document
from lib_layerdiffuse.errors import SettingsError

DOCUMENT = Document(6, 8, (DocumentLayer("a", pixels(8, 6)),))


@pytest.mark.parametrize("kind", DocumentKind)
def test_files_are_new_and_whole(tmp_path, kind):
    folder = tmp_path / "new" / "ü ⛵"
    first = write_document(folder / "v1.5-a", DOCUMENT, kind)
    assert first == folder / f"v1.5-a.{kind.value}"
    data = first.read_bytes()
    first.write_bytes(b"mine")
    second = write_document(folder / f"v1.5-a.{kind.value.upper()}", DOCUMENT, kind)
    third = write_document(folder / f"v1.5-a.{kind.value}", DOCUMENT, kind)
    assert [p.name for p in (second, third)] == [f"v1.5-a-{i}.{kind.value}" for i in (2, 3)]
    assert first.read_bytes() == b"mine"
    assert second.read_bytes() == third.read_bytes() == data
    assert sorted(folder.iterdir()) == sorted([first, second, third])


def test_layers_are_trimmed_on_request(tmp_path):
    picture = np.zeros((8, 6, 4), np.uint8)
    picture[2:5, 1:3] = 9
    document = Document(6, 8, (DocumentLayer("a", picture, 10, 20),))
    kept, cut = (
        write_document(tmp_path / "a", document, DocumentKind.PSD, trim=trim)
        for trim in (False, True)
    )
    boxes = [by_psd_boxes(path) for path in (kept, cut)]
    assert boxes == [[(10, 20, 16, 28)], [(11, 22, 13, 25)]]


def by_psd_boxes(path: Path) -> list[tuple[int, int, int, int]]:
    with Image.open(path) as read:
        return [box for _, _, box, _ in read.layers]


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingsError, match="could not be written: ") as caught:
        write_document(tmp_path / "file" / "a", DOCUMENT, DocumentKind.ZIP)
    assert "folder" in caught.value.hint

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(SettingsError, match="No space left"):
        write_document(tmp_path / "a", DOCUMENT, DocumentKind.ZIP)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_kinds_have_names():
    psd, ora, zip_ = DocumentKind
    assert find_kinds(["ora", "PSD", " OpenRaster", DocumentKind.ZIP, "zip of pngs"]) == (
        ora,
        psd,
        zip_,
    )
    assert find_kinds([]) == ()
    with pytest.raises(SettingsError, match=r"file called gif\. Choose one of: psd, ora, zip"):
        find_kinds(["psd", "gif"])
