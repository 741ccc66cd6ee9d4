"""Layers as files, and sheets of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.imaging.images import from_u8, to_u8
from lib_layerdiffuse.methods import Layer, find_method
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.standalone import output
from lib_layerdiffuse.standalone.generation import LayerImage
from lib_layerdiffuse.standalone.output import OutputFolder, png_bytes, write_png
from lib_layerdiffuse.standalone.saved import number_of
from lib_layerdiffuse.standalone.sheet import SheetRow, Tile, contact_sheet, over_checkerboard

INFO = "ein Bäumchen ⛵, b\nNegative prompt: x\nSteps: 2, Sampler: Euler"


def made(layer: Layer, set_index: int = 0, seed: int = 7, height: int = 8, width: int = 16):
    channels = 4 if layer is Layer.FG else 3
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return LayerImage(layer, set_index, seed, pixels, None, INFO)


def settings(**more: object) -> LayerSettings:
    return LayerSettings.from_args([{"method": "joint_sd15"} | more])


def test_a_set_shares_a_number_and_keeps_its_order(tmp_path):
    pictures = [made(layer, s, seed=10 + s) for s in (0, 1) for layer in Layer]
    folder = OutputFolder(tmp_path / "new" / "out")
    saved = folder.save(pictures, settings())
    assert [one.path.name for one in saved] == [
        f"0000{s}-{10 + s}-{layer.value}.png" for s in (0, 1) for layer in Layer
    ]
    again = folder.save(pictures[:1], settings())
    assert again[0].path.name == "00002-10-fg.png"
    assert folder.save(pictures[:1], settings(), 12)[0].path.name == "00012-10-fg.png"
    assert {p.name for p in folder.folder.iterdir()} == {p.path.name for p in saved} | {
        "00002-10-fg.png",
        "00012-10-fg.png",
    }


@pytest.mark.parametrize("layer", Layer)
def test_files_hold_the_pixels_and_the_infotext(tmp_path, layer):
    picture = made(layer)
    (saved,) = OutputFolder(tmp_path).save([picture], settings())
    with Image.open(saved.path) as read:
        assert read.mode == ("RGBA" if layer is Layer.FG else "RGB")
        assert read.info["parameters"] == INFO
        np.testing.assert_array_equal(np.asarray(read), picture.image)


def test_what_a_program_is_told(tmp_path):
    (saved,) = OutputFolder(tmp_path).save([made(Layer.BG, 3)], settings())
    assert json.loads(json.dumps(saved.as_dict())) == {
        "path": str(saved.path),
        "layer": "bg",
        "set": 3,
        "seed": 7,
        "size": [16, 8],
        "method": "joint_sd15",
        "infotext": INFO,
    }


def test_extras_show_the_foreground_only(tmp_path):
    wanted = settings(show_preview=True, show_matte=True)
    pictures = [made(layer) for layer in Layer]
    saved = OutputFolder(tmp_path).save(pictures, wanted)
    names = [one.path.name for one in saved]
    assert names == [
        "00000-7-fg.png",
        "00000-7-fg-preview.png",
        "00000-7-fg-matte.png",
        "00000-7-bg.png",
        "00000-7-blended.png",
    ]
    assert [one.extra for one in saved] == ["", "preview", "matte", "", ""]
    assert saved[1].as_dict()["extra"] == "preview"
    matte = np.asarray(Image.open(saved[2].path))
    np.testing.assert_array_equal(matte, pictures[0].image[..., [3, 3, 3]])


def test_the_foreground_before_decoding(tmp_path):
    before = made(Layer.BG, seed=3).image
    pictures = [replace(made(Layer.FG), before_decode=before), made(Layer.BG)]
    saved = OutputFolder(tmp_path).save(pictures, settings(show_raw=True))
    assert [one.path.name for one in saved] == [
        "00000-7-fg.png",
        "00000-7-fg-raw.png",
        "00000-7-bg.png",
    ]
    np.testing.assert_array_equal(np.asarray(Image.open(saved[1].path)), before)


def test_each_set_has_its_true_composite(tmp_path):
    pictures = [made(layer, s, seed=10 + s) for s in (0, 1) for layer in Layer]
    saved = OutputFolder(tmp_path).save(pictures, settings(show_composite=True))
    names = ["fg", "bg", "blended", "composite"]
    assert [one.path.name for one in saved] == [
        f"0000{s}-{10 + s}-{name}.png" for s in (0, 1) for name in names
    ]
    fg, bg, _, composed = saved[4:]
    assert (composed.extra, composed.label, composed.image) == (
        "composite",
        "Composite",
        fg.image,
    )
    rgba, rgb = fg.image.image / 255, bg.image.image / 255
    wanted = 255 * (rgba[..., :3] * rgba[..., 3:] + rgb * (1 - rgba[..., 3:]))
    found = np.asarray(Image.open(composed.path))
    assert np.abs(found - wanted).max() <= 0.51


@pytest.mark.parametrize(
    ("method", "given", "composed"),
    [("fg_to_bg_sd15", "fg_image", True), ("bg_to_blended_sdxl", "bg_image", False)],
)
def test_a_composite_of_what_was_given(tmp_path, method, given, composed):
    clear = np.zeros((4, 4, 4), np.uint8)
    wanted = settings(method=method, show_composite=True, **{given: clear})
    outputs = find_method(method).outputs
    saved = OutputFolder(tmp_path).save([made(layer) for layer in outputs], wanted)
    assert [one.extra for one in saved] == [""] * len(outputs) + ["composite"] * composed
    if composed:
        assert saved[-1].layer is Layer.BG
        np.testing.assert_array_equal(np.asarray(Image.open(saved[-1].path)), saved[0].image.image)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SettingsError, match="is a file, no folder"):
        OutputFolder(tmp_path / "out")


def test_what_cannot_be_written_is_said(tmp_path):
    path = tmp_path / "a.png"
    path.mkdir()
    with pytest.raises(SettingsError, match="is no file"):
        write_png(path, made(Layer.BG).image)
    assert png_bytes(made(Layer.BG).image).startswith(b"\x89PNG")


def test_a_layer_over_the_checkerboard():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4] = (255, 0, 0, 255)
    shown = over_checkerboard(rgba, 32, 32)
    assert (shown[:16] == (255, 0, 0)).all()
    assert set(np.unique(shown[16:])) == set(to_u8(np.array([0.45, 0.55], np.float32)))
    half = over_checkerboard(rgba[:, :6], 10, 8)
    assert half.shape == (8, 10, 3)


def test_a_sheet_shows_every_picture():
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (5, 3), np.uint8)
    shown = [Tile(np.broadcast_to(c, (16, 16, 3)).copy(), "a caption " * 9) for c in colours]
    rows = [SheetRow("one", shown[:2]), SheetRow("two", shown[2:])]
    sheet = contact_sheet(rows, cell=64)
    found = {tuple(pixel) for pixel in sheet.reshape(-1, 3)}
    assert {tuple(colour) for colour in colours} <= found
    wide = Tile(from_u8(np.full((10, 40, 4), 255, np.uint8)))
    assert contact_sheet([SheetRow("", [wide])], cell=80).shape[1] == 80 + 24
    assert contact_sheet([]).ndim == 3


def test_paths_are_the_users(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (saved,) = OutputFolder(Path("out")).save([made(Layer.FG)], settings())
    assert saved.path == Path("out/00000-7-fg.png")


def test_two_programs_with_one_seed_never_write_over_each_other(tmp_path):
    """Both steps of two chains, each step of one after the same step of the other."""
    one, other = OutputFolder(tmp_path), OutputFolder(tmp_path)
    first = [folder.save([made(Layer.BLENDED, seed=3)], settings()) for folder in (one, other)]
    numbers = [number_of(saved[0]) for saved in first]
    assert numbers == [0, 1]
    second = [
        folder.save([made(Layer.FG, seed=3)], settings(), number)
        for folder, number in zip((one, other), numbers, strict=True)
    ]
    paths = [saved[0].path.name for saved in [*first, *second]]
    assert paths == [f"0000{n}-3-{layer}.png" for layer in ("blended", "fg") for n in (0, 1)]


def test_a_number_that_is_lost_to_another_program_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "00000-3-fg.png").write_bytes(b"theirs")
    monkeypatch.setattr(OutputFolder, "next_number", lambda self: 0)  # Looked before it was there.
    (saved,) = OutputFolder(tmp_path).save([made(Layer.FG, seed=3)], settings())
    (late,) = OutputFolder(tmp_path).save([made(Layer.FG, seed=3)], settings(), 0)
    assert (saved.path.name, late.path.name) == ("00001-3-fg.png", "00000-3-fg-2.png")
    assert (tmp_path / "00000-3-fg.png").read_bytes() == b"theirs"


def test_a_save_that_fails_leaves_no_empty_files(tmp_path, monkeypatch):
    def full(path: Path, *_: object) -> Path:
        raise SettingsError("No space left on device")

    monkeypatch.setattr(output, "write_png", full)
    with pytest.raises(SettingsError, match="No space"):
        OutputFolder(tmp_path).save([made(Layer.FG, seed=3)], settings())
    assert list(tmp_path.iterdir()) == []
