"""PSD files, opened again by readers that know nothing of the code that wrote them."""

from __future__ import annotations

import io

import numpy as np
import PIL
import pytest
from drawn_documents import assert_same_layers, documents, over, pixels, sixteen
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from lib_layerdiffuse.documents.document import Document, DocumentLayer
from lib_layerdiffuse.documents.packbits import packed_rows
from lib_layerdiffuse.documents.psd import psd_bytes
from lib_layerdiffuse.errors import ImageSizeError


def unpacked(data: bytes) -> bytes:
    """Source: Apple Technical Note TN1023."""
    values, at = bytearray(), 0
    while at < len(data):
        head = data[at]
        assert head != 128
        count = head + 1 if head < 128 else 257 - head
        values += data[at + 1 : at + 1 + count] if head < 128 else data[at + 1 : at + 2] * count
        at += 1 + (count if head < 128 else 1)
    return bytes(values)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 300)), min_size=1, max_size=6))
@example([(7, 129), (8, 1), (7, 257)])
def test_packed_rows_are_the_values_again(runs):
    row = bytes(value for value, count in runs for _ in range(count))
    (packed,) = packed_rows(np.frombuffer(row, np.uint8)[None])
    assert unpacked(packed) == row
    assert len(packed) <= len(row) + -(-len(row) // 128)


def test_flat_rows_become_small():
    assert [len(row) for row in packed_rows(np.zeros((2, 1024), np.uint8))] == [16, 16]


PILLOW = int(PIL.__version__.partition(".")[0])


def layers_by_pillow(data: bytes) -> list[tuple[str, tuple[int, ...], np.ndarray]]:
    """Returns each layer's name, box and image."""
    with Image.open(io.BytesIO(data)) as read:
        assert read.format == "PSD"
        count = len(read.layers)
    return [layer_by_pillow(data, number) for number in range(1, count + 1)]


def layer_by_pillow(data: bytes, number: int) -> tuple[str, tuple[int, ...], np.ndarray]:
    # Opened for each layer, since Pillow 12 keeps the mode of the one before.
    with Image.open(io.BytesIO(data)) as read:
        name, mode, box, _ = read.layers[number - 1]
        read.frame = 0  # Pillow believes that it stands on layer 1 and shows the merged image.
        read.seek(number)
        assert read.mode == mode
        if PILLOW < 13:
            read.tile = moved(read.tile, layers_start(data))
        return name, box, np.asarray(read.crop(box))


def moved(tiles: list, by: int) -> list:
    """Returns tiles at their true places: before 13, Pillow counts from the layers' section."""
    make = getattr(ImageFile, "_Tile", lambda *parts: parts)
    return [make(kind, box, offset + by, args) for kind, box, offset, args in tiles]


def layers_start(data: bytes) -> int:
    """Returns where the layers' section begins, behind header, palette and resources."""
    at = 26
    for _ in range(2):
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return at + 8


@given(documents(inside=True))
@example(sixteen())
def test_pillow_finds_every_layer_of_a_psd(document):
    found = layers_by_pillow(psd_bytes(document))
    boxes = [
        (layer.left, layer.top, layer.left + layer.width, layer.top + layer.height)
        for layer in document.layers
    ]
    assert [box for _, box, _ in found] == boxes
    for (name, _, picture), layer in zip(found, document.layers, strict=True):
        assert name.encode("latin-1") == layer.name.encode("mac_roman", "replace")
        np.testing.assert_array_equal(picture, layer.image)


@pytest.mark.skipif(PILLOW < 10, reason="Pillow 9.5 knows no layers left of the canvas")
@given(documents())
def test_pillow_finds_the_merged_picture_of_a_psd_on_white(document):
    merged = np.asarray(Image.open(io.BytesIO(psd_bytes(document))))
    seen = over(list(document.layers), document.width, document.height)
    white = seen[..., :3] + 1 - seen[..., 3:]
    np.testing.assert_allclose(merged[..., :3] / 255, white, atol=1.01 / 255)
    alpha = document.merged()[..., 3]
    if (alpha == 255).all():
        assert merged.shape[2] == 3
    else:
        np.testing.assert_array_equal(merged[..., 3], alpha)


def test_a_psd_has_its_limit():
    wide = DocumentLayer("a", np.zeros((1, 30_001, 3), np.uint8))
    for document in (Document(30_001, 1, (wide,)), Document(1, 1, (wide,))):
        with pytest.raises(ImageSizeError, match=r"at most 30000 .* are 30001"):
            psd_bytes(document)


def test_a_psd_may_be_as_large_as_its_limit():
    most = DocumentLayer("a", pixels(1, 30_000, 3))
    [(*_, picture)] = layers_by_pillow(psd_bytes(Document(30_000, 1, (most,))))
    np.testing.assert_array_equal(picture, most.image)


def by_psd_tools(data: bytes):
    psd_tools = pytest.importorskip("psd_tools")
    return psd_tools.PSDImage.open(io.BytesIO(data))


@given(documents())
@example(sixteen())
def test_psd_tools_finds_every_layer_of_a_psd(document):
    read = by_psd_tools(psd_bytes(document))
    assert read.size == (document.width, document.height)
    assert read.color_mode.name == "RGB"
    assert read.has_preview()
    found = [
        DocumentLayer(
            layer.name,
            np.asarray(layer.topil()),
            layer.left,
            layer.top,
            layer.visible,
            layer.opacity / 255,
        )
        for layer in read
    ]
    assert_same_layers(found, document)
    assert {layer.kind for layer in read} == {"pixel"}
    assert {layer.blend_mode.name for layer in read} == {"NORMAL"}


def test_each_layer_of_a_psd_has_a_number_of_its_own():
    layers = tuple(DocumentLayer("same name", pixels(2, 3, 4, seed)) for seed in range(3))
    data = psd_bytes(Document(4, 4, layers))
    assert data.count(b"8BIMlyid\0\0\0\4") == 3
    assert [layer.layer_id for layer in by_psd_tools(data)] == [1, 2, 3]


@given(documents())
def test_psd_tools_takes_the_white_off_the_merged_picture(document):
    merged = document.merged()
    read = np.asarray(by_psd_tools(psd_bytes(document)).topil().convert("RGBA"))
    np.testing.assert_array_equal(read[..., 3], merged[..., 3])
    # What is nearly transparent keeps few of its colour's steps on white.
    alpha = np.maximum(merged[..., 3:].astype(int), 1)
    error = np.abs(read[..., :3].astype(int) - merged[..., :3])
    assert (np.where(merged[..., 3:] > 0, error, 0) <= 255 / alpha + 1).all()


def test_psd_tools_composites_the_layers_to_the_merged_picture():
    layers = [
        DocumentLayer("a", pixels(9, 13, 4, 1), 2, 1),
        DocumentLayer("b", pixels(11, 7, 4, 2), -2, 3, opacity=0.4),
        DocumentLayer("c", pixels(20, 20, 3, 3), visible=False),
    ]
    document = Document(17, 12, tuple(layers))
    read = by_psd_tools(psd_bytes(document)).composite(force=True, ignore_preview=True)
    got, wanted = np.asarray(read.convert("RGBA")), document.merged()
    visible = wanted[..., 3:] > 0
    np.testing.assert_allclose(got[..., 3], wanted[..., 3], atol=1)
    assert np.abs(np.where(visible, got[..., :3].astype(int) - wanted[..., :3], 0)).max() <= 1
