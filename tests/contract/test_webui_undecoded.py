"""What was sampled is not thrown away where its transparency cannot be found."""

from __future__ import annotations

from importlib import import_module
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from started_webui import WebUI, request
from thinned import thinned
from tiny_weights import decoder_file

from lib_layerdiffuse import pipeline
from lib_layerdiffuse.cli import main
from lib_layerdiffuse.errors import DownloadError, SettingsError
from lib_layerdiffuse.methods import Arch, find_method
from lib_layerdiffuse.nets.unet1024 import UNet1024

FG, JOINT = find_method("fg_attn_sd15"), find_method("joint_sd15")


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs", views=8)


@pytest.fixture
def full(ui, monkeypatch):
    """Returns what lets the decoder run out of memory at its first calls; all without a number."""
    forward = UNet1024.forward

    def fill(times=10**9, error=None):
        calls = count()

        def run(net, *args):
            if next(calls) < times:
                raise error or import_module("backend.memory_management").OOM_EXCEPTION
            return forward(net, *args)

        monkeypatch.setattr(UNet1024, "forward", run)

    return fill


def notes(result):
    return result.extra_generation_params.get("layerdiffusion_notes", [])


def decoded(folder, image, latent):
    """Returns what `layerdiffuse decode` makes of a foreground's two files."""
    weights, out = folder / "decoder.safetensors", folder / "out.png"
    save_file(decoder_file(Arch.SD15), weights)
    options = {"--pixels": image, "--latent": latent, "--decoder": weights, "--out": out}
    assert main(["decode", *(str(x) for pair in options.items() for x in pair)]) == 0
    return np.asarray(Image.open(out))


def test_a_full_memory_is_tried_with_fewer_views_and_told(ui, full):
    full(times=1)
    result, _ = ui.generate(FG)
    assert [image.mode for image in result.images] == ["RGBA"]
    assert any("took a single view" in note for note in notes(result))


@pytest.mark.parametrize("form", ["png", "jpg"])
def test_the_latent_beside_the_image_is_all_that_decode_needs(ui, full, tmp_path, form):
    wanted = np.asarray(ui.generate(FG, do_not_save_samples=True)[0].images[0])
    full()
    ui.shared.opts.data["samples_format"] = form
    result, _ = ui.generate(FG)
    assert [image.mode for image in result.images] == ["RGB"]
    image, latent = ui.saved()
    assert (image, latent) == ("00000-100-fg.png", "00000-100-fg.safetensors")
    (note,) = (note for note in notes(result) if "decode" in note)
    assert "memory is full" in note
    assert latent in note
    assert note in result.comments
    assert [Path(x).name for x in result.extra_generation_params["layerdiffusion_files"]] == [
        latent
    ]
    full(times=0)
    found = decoded(tmp_path, ui.outputs / image, ui.outputs / latent)
    assert np.abs(found.astype(int) - wanted).max() <= 8  # Its pixels have 8 bits.


def test_the_other_layers_and_sets_are_there(ui, full):
    full()
    result, _ = ui.generate(JOINT, batch_size=2, n_iter=2)
    assert [image.mode for image in result.images] == ["RGB"] * 12
    assert sum(name.endswith("-fg.safetensors") for name in ui.saved()) == 4
    assert len([note for note in notes(result) if "stays RGB" in note]) == 1


def test_its_set_has_no_document_and_that_is_told(ui, full):
    ui.shared.opts.data["layerdiffuse_layer_files"] = ["psd", "zip"]
    full()
    result, _ = ui.generate(JOINT)
    assert not [name for name in ui.saved() if name.endswith((".psd", ".zip"))]
    said = "no layer file of set 1, whose foreground stays RGB: its latent stands in 00000-100-fg."
    assert any(said in note for note in notes(result))
    assert said in result.comments
    assert "no images are saved" not in result.comments


def test_where_no_images_are_saved_the_latent_is(ui, full):
    full()
    result, _ = ui.generate(FG, do_not_save_samples=True)
    assert ui.saved() == ["layerdiffuse-100-fg.safetensors"]
    assert any("layerdiffuse-100-fg.safetensors" in note for note in notes(result))


def test_an_edited_foreground_is_given_as_the_decoder_needs_it_too(ui, full):
    edit = ui.new_script(
        postprocess_image=lambda self, p, pp, *_: setattr(pp, "image", pp.image.rotate(90))
    )
    full()
    ui.generate(FG, before=[edit])
    assert ui.saved() == [
        "00000-100-fg-raw.png",
        "00000-100-fg.png",
        "00000-100-fg.safetensors",
    ]


def test_a_decoder_that_is_gone_costs_only_the_transparency(ui, monkeypatch):
    decoder, calls = pipeline.Session.decoder, count()

    def gone(session, arch):
        if next(calls):
            raise DownloadError("The download ended early.", "Try again.")
        return decoder(session, arch)

    monkeypatch.setattr(pipeline.Session, "decoder", gone)
    result, _ = ui.generate(FG)
    assert [image.mode for image in result.images] == ["RGB"]
    assert any("download ended early" in note for note in notes(result))


def test_numbers_that_overflow_cost_only_the_transparency(ui, monkeypatch):
    forward = UNet1024.forward
    monkeypatch.setattr(UNet1024, "forward", lambda *args: forward(*args) * float("nan"))
    result, _ = ui.generate(FG)
    assert [image.mode for image in result.images] == ["RGB"]
    assert any("overflows" in note for note in notes(result))


def test_memory_for_what_follows_the_decoder_counts_too(ui, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(ui.script_module.results, "with_edits", no_memory)
    result, _ = ui.generate(FG)
    assert [image.mode for image in result.images] == ["RGB"]
    assert len(ui.saved()) == 2


def test_a_disk_that_is_full_for_the_latent_is_told(ui, full, monkeypatch):
    def refuse(*_):
        raise SettingsError("There is no space.", "Make some.")

    full()
    module = import_module("lib_layerdiffuse.webui.job.undecoded")
    monkeypatch.setattr(module, "write_latent", refuse)
    result, _ = ui.generate(FG)
    assert [image.mode for image in result.images] == ["RGB"]
    assert any("latent is lost, too: There is no space." in note for note in notes(result))


def test_a_composite_of_an_opaque_foreground_is_not_made(ui, full):
    full()
    result, _ = ui.generate(JOINT, {"show_composite": True})
    assert len(result.images) == 3
    assert result.extra_images == []


@pytest.mark.parametrize(
    "error", thinned([MemoryError(), OSError(28, "No space left on device")], 2)
)
@pytest.mark.parametrize("name", ["true_composite", "foreground_extras"])
def test_an_image_beside_the_layers_may_be_missing(ui, monkeypatch, name, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(ui.script_module.results, name, fail)
    result, _ = ui.generate(JOINT, {"show_composite": True, "show_matte": True})
    assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"]
    assert len(result.extra_images) == 1
    assert len([note for note in notes(result) if "beside the layers is missing" in note]) == 1


@pytest.mark.parametrize("after", [0, 2])
def test_images_that_do_not_fit_on_the_disk_are_given_all_the_same(ui, monkeypatch, after):
    save, calls = Image.Image.save, count()

    def full(image, *args, **options):
        if next(calls) >= after:
            raise OSError(28, "No space left on device", str(ui.outputs))
        save(image, *args, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    result, _ = ui.generate(JOINT, {"show_matte": True}, n_iter=2)
    assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"] * 2
    assert len(result.extra_images) == 2
    assert len(ui.saved()) == after
    (note,) = (note for note in notes(result) if "could not be saved" in note)
    assert "No space left on device" in note
    assert str(ui.outputs) not in note
    assert note in result.comments


def test_a_plain_jobs_full_disk_is_the_hosts_matter(ui, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        ui.run(ui.job(FG, False))


def test_the_next_job_is_as_ever(ui, full):
    with pytest.MonkeyPatch.context() as once:
        once.setattr(UNet1024, "forward", lambda *_: (_ for _ in ()).throw(MemoryError()))
        ui.generate(FG)
    result, _ = ui.generate(FG)
    assert [image.mode for image in result.images] == ["RGBA"]
    assert notes(result) == []


def test_a_fault_of_ours_still_ends_the_job(ui, full):
    full(error=ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        ui.run(ui.job(FG, request(FG)))
