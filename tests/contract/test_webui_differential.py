"""Differential Diffusion in stand-ins for the WebUI's loop, with and without a layer method."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar

import numpy as np
import pytest
import torch
from img2img_webui import Img2Img, ball, near, rgba_of
from PIL import Image

from lib_layerdiffuse.errors import ImageSizeError, MissingLayerError, SettingsError
from lib_layerdiffuse.methods import find_method

FG = find_method("fg_attn_sd15")


SIZE = (128, 64)
"""Of every job here: 16 cells of the latent across."""
CELLS = torch.linspace(-0.5, 1.5, 16).clamp(0, 1)


def ramp():
    """Returns an image that is black in the left quarter, white in the right, steps between."""
    levels = np.repeat(np.linspace(-0.5, 1.5, 16).clip(0, 1), 8)
    row = (levels * 255).round().astype(np.uint8)
    return Image.fromarray(np.repeat(row[None], SIZE[1], axis=0))


class Differential(Img2Img):
    def run_map(self, choices, layers=False, images=None, **fields):
        kind = import_module("img2img_job").Img2ImgJob
        script = self.entry.DifferentialScript()
        fields = {"kind": kind, "init_images": images or [ball(SIZE)], "width": SIZE[0], **fields}
        settings = [{"method": FG.id}] if layers else [False]
        p = self.job(FG, *settings, before=[script], **fields)
        args = list(p.script_args)
        args[script.args_from] = choices
        p.script_args = tuple(args)
        self.script = script
        return self.run(p), p


@pytest.fixture
def ui(webui, models, tmp_path):
    return Differential(models, tmp_path / "outputs")


@pytest.fixture
def steps(ui):
    """What other scripts see of each step: sigma, the denoised latent, and what becomes of it."""
    return []


def watching(ui, steps):
    def after(self, p, mba, *_):
        sigma = None if mba.is_final_blend else float(mba.sigma[0])
        steps.append(
            (sigma, mba.current_latent.clone(), mba.blended_latent.clone(), mba.init_latent)
        )

    return ui.new_script(on_mask_blend=after)


@pytest.mark.parametrize("layers", [False, True])
def test_each_step_holds_what_the_map_says(ui, steps, layers):
    picture = {"source": "Picture", "picture": ramp()}
    result, p = ui.run_map(picture, layers, after=[watching(ui, steps)])
    change = p.seen_map
    sigmas = import_module("img2img_job").SIGMAS
    logs = np.log(np.asarray(sigmas) / 0.03) / np.log(14.6 / 0.03)
    thresholds = logs / logs[0]
    assert [step[0] for step in steps] == [*sigmas, None]
    freed = torch.zeros_like(change, dtype=torch.bool)
    for threshold, (_, denoised, blended, init) in zip(thresholds, steps, strict=False):
        free = (change > 0) & (change >= threshold)
        freed |= free
        assert torch.equal(blended, torch.where(free, denoised, init))
    *_, (_, samples, last, init) = steps
    assert torch.equal(last, torch.where(freed, samples, init))
    assert 0.3 < freed.float().mean() < 0.8
    assert result.images[0].mode == ("RGBA" if layers else "RGB")
    assert (init[0] == p.init_latent).all()


def test_held_latents_follow_the_noised_original(ui):
    _, p = ui.run_map({"source": "Picture", "picture": ramp()})
    (first, begun), *later = p.evaluated
    noise = (begun - p.init_latent) / first
    for sigma, x in later:
        held = p.init_latent + sigma * noise
        near(x[..., :4], held[..., :4], atol=1e-4)
        assert (x - held)[..., -2:].abs().min() > 0


def test_what_may_not_change_at_all_comes_back_bit_for_bit(ui):
    init = ball(SIZE)
    result, _ = ui.run_map({"source": "Picture", "picture": ramp()}, layers=True, images=[init])
    image = np.asarray(result.images[0])
    assert np.array_equal(image[:, :32], np.asarray(init)[:, :32])
    assert not np.array_equal(image[:, 96:], np.asarray(init)[:, 96:])


def test_the_host_covers_only_what_may_not_change(ui):
    seen = []
    other = ui.new_script(
        postprocess_maskoverlay=lambda self, p, ppmo, *_: seen.append(ppmo.overlay_image)
    )
    ui.run_map({"source": "Picture", "picture": ramp()}, after=[other])
    alpha = np.asarray(seen[0])[..., 3]
    assert (alpha[:, :32] == 255).all()
    assert (alpha[:, 40:] == 0).all()


@pytest.mark.parametrize("source", ["Visible part", "Transparent part"])
@pytest.mark.parametrize("feather", [0, 5])
def test_the_map_of_the_pictures_own_alpha(ui, source, feather):
    _, p = ui.run_map({"source": source, "feather": feather}, mask_blur_x=4, mask_blur_y=4)
    alpha = rgba_of(ball(SIZE))[..., 3]
    wanted = alpha if source == "Visible part" else 1 - alpha
    seen = import_module("lib_layerdiffuse.imaging.masks").feather(wanted, feather)
    cells = np.asarray(Image.fromarray((seen * 255).round().astype(np.uint8)).resize((16, 8))) / 255
    near(p.seen_map, torch.from_numpy(cells).float().expand(4, -1, -1), atol=0.01)


@pytest.fixture(autouse=True)
def note_the_map(ui, monkeypatch):
    ui.job(FG)
    kind = import_module("img2img_job").Img2ImgJob
    sample = kind.sample

    def noting(p):
        p.seen_map = p.nmask.clone()
        p.seen_fields = (p.mask_blur_x, p.mask_round, p.inpainting_fill, p.inpainting_mask_invert)
        return sample(p)

    monkeypatch.setattr(kind, "sample", noting)


def test_the_drawn_mask_is_soft_and_keeps_its_blur(ui):
    drawn = ramp()
    _, p = ui.run_map(
        {}, image_mask=drawn, mask_blur_x=4, inpainting_fill=3, inpainting_mask_invert=1
    )
    near(p.seen_map[0, 0], 1 - CELLS, atol=0.02)
    assert p.seen_fields == (4, False, 1, 1)
    assert (p.image_mask, p.inpainting_fill, p.mask_round) == (drawn, 3, True)


def with_properties(**found):
    """Returns the kind of job whose attributes of these names can only be read."""
    names = {name: property(read) for name, read in found.items()}
    notes = {"__annotations__": dict.fromkeys(names, ClassVar) | {"mask_blur": int}}
    kind = import_module("img2img_job").Img2ImgJob
    return dataclass(type("Job", (kind,), {**names, "mask_blur": 4, **notes}))


def test_a_webui_with_one_blur_for_both_ways(ui):
    """So it is in Forge Neo."""
    kind = with_properties(mask_blur_x=lambda p: p.mask_blur, mask_blur_y=lambda p: p.mask_blur)
    _, p = ui.run_map({"source": "Visible part"}, kind=kind)
    assert p.seen_fields[0] == 0
    assert p.mask_blur == 4


def test_a_job_that_cannot_be_changed_ends(ui):
    kind = with_properties(mask_round=lambda p: True)
    with pytest.raises(AttributeError, match="mask_round"):
        ui.run_map({"source": "Visible part"}, kind=kind)


def test_nothing_of_the_map_is_left(ui):
    _, p = ui.run_map({"source": "Visible part"}, inpaint_full_res=True)
    left = (p.image_mask, p.mask, p.nmask, p.mask_for_overlay, p.overlay_images, p.paste_to)
    assert left == (None,) * 6


def test_a_mask_by_alpha_is_read_as_the_host_reads_it(ui):
    by_alpha = Image.new("RGBA", SIZE, "white")
    by_alpha.putalpha(ramp())
    _, p = ui.run_map({"feather": 0.1}, image_mask=by_alpha)
    near(p.seen_map[0, 0], CELLS, atol=0.02)


def test_every_batch_starts_anew(ui, steps):
    _, p = ui.run_map(
        {"source": "Picture", "picture": ramp()}, n_iter=2, after=[watching(ui, steps)]
    )
    half = len(steps) // 2
    for one, other in zip(steps[:half], steps[half:], strict=True):
        held = (one[2] == one[3])[:, 0, 0]
        assert torch.equal(held, (other[2] == other[3])[:, 0, 0])
    assert p.mask_round is True


def test_the_infotext_says_it(ui):
    choices = {"source": "Picture", "picture": ramp(), "feather": 2}
    result, _ = ui.run_map(choices)
    assert (
        "Differential Diffusion: True, Change map: Picture, Change map feather: 2"
        in (result.infotexts[0])
    )
    params = dict(part.split(": ", 1) for part in result.infotexts[0].split("\n")[-1].split(", "))
    fields = ui.script.infotext_fields
    assert [fields[0][1](params), fields[1][1], fields[2][1]] == [
        True,
        "Change map",
        "Change map feather",
    ]
    kept = fields[3][1](params)["value"]
    assert np.array_equal(np.asarray(kept)[..., 0], np.asarray(ramp()))
    assert fields[0][1]({}) is False
    assert fields[3][1]({}) is None


@pytest.mark.parametrize(
    ("choices", "fields", "error"),
    [
        ({}, {}, MissingLayerError),
        ({"source": "Picture"}, {}, MissingLayerError),
        ({"source": "?"}, {}, SettingsError),
        ({"source": "Visible part"}, {"init_images": [None]}, MissingLayerError),
        (
            {"source": "Visible part"},
            {"extra_generation_params": {"Soft inpainting enabled": True}},
            SettingsError,
        ),
        (
            {"source": "Visible part"},
            {"init_images": [ball(SIZE), ball(SIZE).rotate(180)], "batch_size": 2},
            SettingsError,
        ),
        ({"source": "Picture", "picture": Image.new("L", (8, 8))}, {}, SettingsError),
        (
            {"source": "Picture", "picture": ramp()},
            {"init_images": [ball(SIZE), ball((64, 64))], "batch_size": 2},
            SettingsError,
        ),
        ({}, {"image_mask": ramp().resize((64, 32)), "inpaint_full_res": True}, ImageSizeError),
    ],
)
def test_what_cannot_work_ends_the_job(ui, choices, fields, error):
    with pytest.raises(error):
        ui.run_map(choices, **fields)
    assert ui.saved() == []


def test_off_it_changes_nothing(ui):
    _, p = ui.run_map(False, image_mask=ramp())
    assert p.seen_fields == (0, True, 1, 0)
    assert not p.extra_generation_params


def test_it_is_only_in_img2img(ui):
    script = ui.entry.DifferentialScript()
    assert script.show(False) is False
    assert script.show(True) is ui.scripts.AlwaysVisible
    assert script.title() == "Differential Diffusion"


def test_the_picture_is_shown_where_it_is_the_map(ui):
    script = ui.entry.DifferentialScript()
    _, source, _, picture = script.ui(True)
    (event,) = source.events
    assert event["outputs"] == [picture]
    assert event["fn"]("Picture") == {"visible": True}
    assert event["fn"]("Visible part") == {"visible": False}


@pytest.mark.parametrize("is_api", [False, True])
def test_the_first_error_is_the_jobs_where_both_scripts_fail(ui, is_api):
    """The layer method begins after the map, and meets a job that is to fail."""
    kind = import_module("fastapi").HTTPException if is_api else SettingsError
    with pytest.raises(kind) as caught:
        ui.run_map({"source": "Transparent part"}, True, [ball(SIZE, mode="L")], is_api=is_api)
    assert not is_api or caught.value.status_code == 422
    told = caught.value.detail["message"] if is_api else str(caught.value)
    assert "transparent part" in told
