"""Layers in files, opened again by readers that know nothing of the code that wrote them."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import PIL
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from lib_layerdiffuse.documents.archive import zip_bytes
from lib_layerdiffuse.documents.document import Document, DocumentLayer
from lib_layerdiffuse.documents.kinds import DocumentKind, find_kinds
from lib_layerdiffuse.documents.layer_set import document_of
from lib_layerdiffuse.documents.openraster import ora_bytes
from lib_layerdiffuse.documents.packbits import packed_rows
from lib_layerdiffuse.documents.psd import psd_bytes
from lib_layerdiffuse.documents.writing import write_document
from lib_layerdiffuse.errors import ImageSizeError, SettingsError
from lib_layerdiffuse.methods import Layer
from lib_layerdiffuse.outputs import with_given
from lib_layerdiffuse.settings.layer_settings import LayerSettings

NAMES = [
    "Background",
    "Vordergrund größer",
    "前景",
    "Ёлка",
    "⛵ boat 👩‍🚀",
    'a "b" <c> & d/e\\f',
    " ",
]


def pixels(height: int, width: int, channels: int = 4, seed: int = 0) -> np.ndarray:
    """Returns an image with flat parts, noise, and alpha 0 over all kinds of colours."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height, width, channels), np.uint8)
    picture[: height // 2] = rng.integers(0, 256, channels)
    if channels == 4:
        picture[..., 3] *= rng.integers(0, 2, (height, width), np.uint8)
    return picture


def over(layers: list[DocumentLayer], width: int, height: int) -> np.ndarray:
    """Returns what should be seen, `h w 4` in [0, 1], premultiplied: pixel by pixel, by the book.

    Source: Porter and Duff, "Compositing Digital Images", 1984.
    """
    seen = np.zeros((height, width, 4))
    for layer in (one for one in layers if one.visible):
        for y, x in np.ndindex(height, width):
            row, column = y - layer.top, x - layer.left
            if 0 <= row < layer.height and 0 <= column < layer.width:
                red, green, blue, *alpha = (int(v) / 255 for v in layer.image[row, column])
                part = (alpha[0] if alpha else 1) * layer.opacity
                source = np.array([red, green, blue, 1]) * part
                seen[y, x] = source + seen[y, x] * (1 - part)
    return seen


@st.composite
def documents(draw, inside: bool = False) -> Document:
    """Any document; `inside` for layers that lie on the canvas as a whole."""
    width, height = draw(st.integers(1, 13)), draw(st.integers(1, 13))
    layers = []
    for _ in range(draw(st.integers(1, 4))):
        wide = draw(st.integers(1, width if inside else 13))
        tall = draw(st.integers(1, height if inside else 13))
        left = draw(st.integers(0, width - wide) if inside else st.integers(-9, 13))
        top = draw(st.integers(0, height - tall) if inside else st.integers(-9, 13))
        picture = pixels(tall, wide, draw(st.sampled_from([3, 4])), draw(st.integers(0, 99)))
        if picture.shape[2] == 4 and draw(st.integers(0, 4)) == 0:
            picture[..., 3] = 0
        name, seen = draw(st.sampled_from(NAMES)), draw(st.booleans())
        opacity = draw(st.sampled_from([0.0, 0.2, 1.0]))
        layers.append(DocumentLayer(name, picture, left, top, seen, opacity))
    return Document(width, height, tuple(layers))


def sixteen() -> Document:
    layers = [
        DocumentLayer(f"{i} {NAMES[i % 7]}", pixels(5, 7, 3 + i % 2, i), i % 3, i % 2)
        for i in range(16)
    ]
    return Document(9, 7, tuple(layers))


def assert_same_layers(found: list[DocumentLayer], document: Document) -> None:
    assert len(found) == len(document.layers)
    for got, wanted in zip(found, document.layers, strict=True):
        assert (got.name, got.left, got.top) == (wanted.name, wanted.left, wanted.top)
        assert got.visible == wanted.visible
        assert got.opacity == pytest.approx(wanted.opacity, abs=0.5 / 255)
        np.testing.assert_array_equal(got.image, wanted.image)


# Documents


@given(documents())
@example(sixteen())
def test_the_merged_picture_is_what_the_book_says(document):
    merged = document.merged()
    wanted = over(list(document.layers), document.width, document.height)
    assert merged.shape == (document.height, document.width, 4)
    alpha = merged[..., 3:] / 255
    np.testing.assert_allclose(alpha, wanted[..., 3:], atol=0.5001 / 255)
    straight = np.divide(
        wanted[..., :3], wanted[..., 3:], out=np.zeros_like(wanted[..., :3]), where=alpha > 0
    )
    seen = np.where(alpha > 0, merged[..., :3], 0)
    np.testing.assert_allclose(seen / 255, straight, atol=0.51 / 255)


@given(documents())
def test_trimming_changes_nothing_that_is_seen(document):
    trimmed = document.trimmed()
    np.testing.assert_array_equal(trimmed.merged(), document.merged())
    for cut, whole in zip(trimmed.layers, document.layers, strict=True):
        if whole.has_alpha and whole.image[..., 3].any():
            alpha = cut.image[..., 3]
            assert alpha[0].any()
            assert alpha[-1].any()
            assert alpha[:, 0].any()
            assert alpha[:, -1].any()
        else:
            np.testing.assert_array_equal(cut.image, whole.image)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": ""}, SettingsError),
        ({"name": "a\nb"}, SettingsError),
        ({"name": "a\ud800"}, SettingsError),
        ({"name": "a\uffff"}, SettingsError),
        ({"opacity": 1.1}, SettingsError),
        ({"opacity": float("nan")}, SettingsError),
        ({"image": np.zeros((4, 4, 4), np.float32)}, ImageSizeError),
        ({"image": np.zeros((4, 4), np.uint8)}, ImageSizeError),
        ({"image": np.zeros((4, 0, 3), np.uint8)}, ImageSizeError),
    ],
)
def test_what_is_no_layer(changes, error):
    with pytest.raises(error, match=r"^Expected .*, got ") as caught:
        replace(DocumentLayer("a", pixels(4, 4)), **changes)
    assert caught.value.hint


def test_what_is_no_document():
    with pytest.raises(SettingsError, match="at least one layer"):
        Document(4, 4, ())
    with pytest.raises(ImageSizeError, match="0 x 4"):
        Document(0, 4, (DocumentLayer("a", pixels(4, 4)),))


# Sets


def made_set(*layers: Layer) -> dict[Layer, np.ndarray]:
    return {layer: pixels(8, 6, 4 if layer is Layer.FG else 3, i) for i, layer in enumerate(layers)}


def test_a_set_lies_as_it_is_seen():
    document = document_of(made_set(Layer.FG, Layer.BLENDED, Layer.BG), infotexts={Layer.FG: "f"})
    assert (document.width, document.height) == (6, 8)
    assert [(layer.name, layer.visible, layer.infotext) for layer in document.layers] == [
        ("Background", True, ""),
        ("Foreground", True, "f"),
        ("Blended", False, ""),
    ]
    numbered = document_of(made_set(Layer.FG), number=3)
    assert [layer.name for layer in numbered.layers] == ["Foreground 3"]


@pytest.mark.parametrize("others", [(), (Layer.FG,), (Layer.BG,)])
def test_the_blended_picture_is_hidden_only_where_the_others_make_it(others):
    document = document_of(made_set(Layer.BLENDED, *others))
    assert document.layers[-1].name == "Blended"
    assert document.layers[-1].visible


def test_what_is_no_set():
    with pytest.raises(SettingsError, match="at least one layer"):
        document_of({})
    with pytest.raises(ImageSizeError, match="fg 6 x 8, bg 5 x 8"):
        document_of({Layer.FG: pixels(8, 6), Layer.BG: pixels(8, 5)})


def test_given_pictures_join_the_set():
    blue = np.full((16, 12, 4), (0, 0, 255, 255), np.uint8)
    given = {"bg_image": blue, "fg_image": blue, "blend_image": blue}
    chosen = LayerSettings.from_args([{"method": "bg_blended_to_fg_sdxl"} | given])
    made = made_set(Layer.FG, Layer.BLENDED)
    whole = with_given(made, chosen)
    assert set(whole) == set(Layer)
    assert all(whole[layer] is made[layer] for layer in made)
    np.testing.assert_array_equal(whole[Layer.BG], blue[:8, :6, :3])
    glass = blue.copy()
    glass[..., 3] = 128
    chosen = LayerSettings.from_args([{"method": "fg_to_bg_sd15", "fg_image": glass}])
    whole = with_given(made_set(Layer.BG), chosen)
    np.testing.assert_array_equal(whole[Layer.FG], glass[:8, :6])
    alone = LayerSettings.from_args([{"method": "joint_sd15"} | given])
    assert set(with_given(made_set(Layer.BG), alone)) == {Layer.BG}


# PackBits


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


# PSD by Pillow

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


# PSD by psd-tools


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


# OpenRaster


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


# ZIP


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


# Files


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
