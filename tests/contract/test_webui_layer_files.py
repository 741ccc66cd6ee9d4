"""Layers in one file, beside the images that the WebUI saves."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from started_webui import WebUI
from thinned import thinned

from lib_layerdiffuse.documents.kinds import DocumentKind
from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.methods import METHODS, Layer, find_method

JOINT, TO_FG = find_method("joint_sd15"), find_method("bg_to_fg_sd15")
OPTION = "layerdiffuse_layer_files"


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


def files(ui) -> list[str]:
    return [name for name in ui.saved() if name.endswith((".psd", ".ora", ".zip"))]


def unzipped(path) -> tuple[dict, list[np.ndarray]]:
    """Returns the list, and the images from the bottom up."""
    with zipfile.ZipFile(path) as archive:
        listed = json.loads(archive.read("layers.json"))
        pictures = [
            np.asarray(Image.open(archive.open(entry["file"]))) for entry in listed["layers"]
        ]
    return listed, pictures


@pytest.mark.parametrize("chosen", [None, []])
def test_none_are_written_unless_asked_for(ui, chosen):
    if chosen is not None:
        ui.shared.opts.data[OPTION] = chosen
    result, _ = ui.generate(JOINT)
    assert files(ui) == []
    assert "layerdiffusion_files" not in result.extra_generation_params
    assert "layer" not in getattr(result, "comments", "")


def test_they_stand_beside_the_pictures_and_are_told(ui):
    ui.shared.opts.data[OPTION] = ["psd", "ora", "zip"]
    result, _ = ui.generate(JOINT)
    wanted = [f"00000-100-layers.{kind.value}" for kind in DocumentKind]
    assert sorted(files(ui)) == sorted(wanted)
    told = result.extra_generation_params["layerdiffusion_files"]
    assert [Path(path).name for path in told] == wanted
    assert not any(Path(path).is_absolute() for path in told)
    assert result.comments == f"LayerDiffuse: layers saved as {', '.join(wanted)}\n"
    assert not any("layers saved" in text for text in result.infotexts)
    with Image.open(ui.outputs / wanted[0]) as psd:
        assert [name for name, *_ in psd.layers] == ["Background", "Foreground", "Blended"]


@pytest.mark.parametrize("method", thinned(METHODS, 3), ids=lambda m: m.id)
def test_they_hold_what_was_made_and_what_was_given(ui, method):
    ui.shared.opts.data[OPTION] = ["zip"]
    result, _ = ui.generate(method)
    (name,) = files(ui)
    listed, pictures = unzipped(ui.outputs / name)
    there = {*method.inputs, *method.outputs}
    order = [layer for layer in (Layer.BG, Layer.FG, Layer.BLENDED) if layer in there]
    assert [entry["name"] for entry in listed["layers"]] == [layer.label for layer in order]
    made = dict(zip(method.outputs, zip(result.images, result.infotexts, strict=True), strict=True))
    for layer, entry, picture in zip(order, listed["layers"], pictures, strict=True):
        if layer in made:
            np.testing.assert_array_equal(picture, np.asarray(made[layer][0]))
            assert entry["infotext"] == made[layer][1]
        else:
            assert (picture == (200, 30, 90, 128)).all()
            assert entry["infotext"] == ""


def test_each_set_has_its_own_with_its_number(ui):
    ui.shared.opts.data[OPTION] = ["zip"]
    result, _ = ui.generate(JOINT, {"show_matte": True, "show_preview": True}, n_iter=2)
    first, second = files(ui)
    assert (first, second) == ("00000-100-layers.zip", "00001-103-layers.zip")
    for number, name in ((1, first), (2, second)):
        listed, pictures = unzipped(ui.outputs / name)
        labels = ("Background", "Foreground", "Blended")
        assert [entry["name"] for entry in listed["layers"]] == [f"{x} {number}" for x in labels]
        fg = np.asarray(result.images[3 * (number - 1)])
        np.testing.assert_array_equal(pictures[1], fg)


def test_the_layer_is_lossless_whatever_the_pictures_are(ui):
    ui.shared.opts.data |= {OPTION: ["zip"], "samples_format": "jpg"}
    result, _ = ui.generate(TO_FG)
    (name,) = files(ui)
    _, pictures = unzipped(ui.outputs / name)
    np.testing.assert_array_equal(pictures[2], np.asarray(result.images[1]))


def test_nothing_is_overwritten(ui):
    ui.shared.opts.data |= {OPTION: ["zip"], "save_images_add_number": False}
    ui.outputs.mkdir()
    (ui.outputs / "100-layers.zip").write_bytes(b"mine")
    ui.generate(JOINT)
    assert files(ui) == ["100-layers-2.zip", "100-layers.zip"]
    assert (ui.outputs / "100-layers.zip").read_bytes() == b"mine"


@pytest.mark.parametrize("is_api", [False, True])
def test_without_saved_pictures_there_are_none(ui, is_api):
    ui.shared.opts.data[OPTION] = ["zip"]
    result, _ = ui.generate(JOINT, do_not_save_samples=True, is_api=is_api)
    assert ui.saved() == []
    told = "no layer files, since no images are saved" in getattr(result, "comments", "")
    assert told is not is_api


def test_another_jobs_pictures_get_none(ui):
    ui.shared.opts.data[OPTION] = ["zip"]
    ui.run(ui.job(JOINT, False))
    assert files(ui) == []


def test_what_goes_wrong_is_told_and_the_pictures_stay(ui, monkeypatch):
    ui.shared.opts.data[OPTION] = ["zip"]

    def fail(*_, **__):
        raise SettingsError("Expected to write it, got: no space.", "Make room.")

    module = ui.script_module.add_layer_files.__globals__
    monkeypatch.setitem(module, "write_document", fail)
    result, _ = ui.generate(JOINT)
    assert len(result.images) == len(ui.saved()) == 3
    expected = "no space. Make room."
    assert expected in result.comments
    (note,) = result.extra_generation_params["layerdiffusion_notes"]
    assert expected in note
