"""OpenRaster and ZIP files, opened again with Python's own readers."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from drawn_documents import NAMES, assert_same_layers, documents, pixels, sixteen
from hypothesis import example, given
from PIL import Image

from lib_layerdiffuse.documents.archive import zip_bytes
from lib_layerdiffuse.documents.document import Document, DocumentLayer
from lib_layerdiffuse.documents.openraster import ora_bytes


def by_zip_and_xml(data: bytes) -> tuple[dict[str, np.ndarray], ElementTree.Element, list]:
    """Returns the images by name, the XML, and the ZIP's entries."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        pictures = {}
        for name in archive.namelist():
            if name.endswith(".png"):
                with Image.open(io.BytesIO(archive.read(name))) as read:
                    assert (read.format, read.info.get("interlace", 0)) == ("PNG", 0)
                    pictures[name] = np.asarray(read)
        return pictures, ElementTree.fromstring(archive.read("stack.xml")), archive.infolist()


@given(documents())
@example(sixteen())
def test_openraster_layers_are_found_again(document):
    pictures, image, _ = by_zip_and_xml(ora_bytes(document))
    assert (image.tag, image.get("version")) == ("image", "0.0.5")
    assert (int(image.get("w")), int(image.get("h"))) == (document.width, document.height)
    (stack,) = image
    assert stack.tag == "stack"
    found = []
    for layer in reversed(stack):
        assert (layer.tag, layer.get("composite-op")) == ("layer", "svg:src-over")
        seen = {"visible": True, "hidden": False}[layer.get("visibility")]
        place, opacity = (int(layer.get("x")), int(layer.get("y"))), float(layer.get("opacity"))
        picture = pictures.pop(layer.get("src"))
        found.append(DocumentLayer(layer.get("name"), picture, *place, seen, opacity))
    assert_same_layers(found, document)
    np.testing.assert_array_equal(pictures.pop("mergedimage.png"), document.merged())
    assert list(pictures) == ["Thumbnails/thumbnail.png"]


def test_openraster_files_keep_the_rules_of_the_format():
    data = ora_bytes(sixteen())
    # The name at byte 30 and what is said at byte 38: how programs know the file.
    assert data[30:54] == b"mimetypeimage/openraster"
    *_, entries = by_zip_and_xml(data)
    assert entries[0].filename == "mimetype"
    assert entries[0].extra == b""
    assert {e.compress_type for e in entries} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    assert entries[0].compress_type == zipfile.ZIP_STORED
    assert len({e.filename for e in entries}) == len(entries) == 16 + 4
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("stack.xml").startswith(b"<?xml version='1.0' encoding='UTF-8'?>")


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((9, 7), (9, 7)), ((256, 1), (256, 1)), ((512, 300), (256, 150)), ((1, 700), (1, 256))],
)
def test_a_thumbnail_is_as_large_as_it_may_be(size, wanted):
    width, height = size
    document = Document(width, height, (DocumentLayer("a", pixels(height, width)),))
    pictures, *_ = by_zip_and_xml(ora_bytes(document))
    assert pictures["Thumbnails/thumbnail.png"].shape == (wanted[1], wanted[0], 4)


@given(documents())
@example(sixteen())
def test_a_zip_is_found_again(document):
    document = replace(document, layers=(replace(document.layers[0], infotext="a ⛵\nSteps: 2"),))
    with zipfile.ZipFile(io.BytesIO(zip_bytes(document))) as archive:
        assert archive.testzip() is None
        listed = json.loads(archive.read("layers.json"))
        pictures = {}
        for entry in listed["layers"]:
            with Image.open(io.BytesIO(archive.read(entry["file"]))) as read:
                assert read.info.get("parameters", "") == entry["infotext"]
                pictures[entry["file"]] = np.asarray(read)
        assert archive.namelist() == ["layers.json", *pictures]
    assert (listed["width"], listed["height"]) == (document.width, document.height)
    assert (listed["alpha"], listed["order"]) == ("straight", "bottom to top")
    found = [
        DocumentLayer(e["name"], pictures[e["file"]], e["left"], e["top"], e["visible"])
        for e in listed["layers"]
    ]
    assert_same_layers(
        [replace(f, opacity=e["opacity"]) for f, e in zip(found, listed["layers"], strict=True)],
        document,
    )
    for entry, layer in zip(listed["layers"], document.layers, strict=True):
        assert (entry["width"], entry["height"]) == (layer.width, layer.height)
        assert entry["has_alpha"] == (layer.image.shape[2] == 4)
        assert entry["infotext"] == layer.infotext


def test_names_in_a_zip_fit_every_file_system():
    names = [*NAMES, "../../evil", "CON", "x" * 300, "Foreground 2", "Foreground 2"]
    layers = tuple(DocumentLayer(name, pixels(2, 2)) for name in names)
    with zipfile.ZipFile(io.BytesIO(zip_bytes(Document(2, 2, layers)))) as archive:
        files = archive.namelist()[1:]
    assert len(set(files)) == len(names)
    assert not any(set(file) & set('/\\:*?"<>|') for file in files)
    assert max(len(file.encode()) for file in files) < 200
    assert files[1] == "02-Vordergrund-größer.png"
    assert files[-1] == "12-Foreground-2.png"
