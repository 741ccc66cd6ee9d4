"""The pictures that jobs take and hand out: forms, edits, saving and answers."""

from __future__ import annotations

import base64
import io
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image
from started_webui import WebUI, arrays, as_base64, picture, request
from thinned import thinned
from tiny_weights import put

from lib_layerdiffuse import pipeline
from lib_layerdiffuse.errors import ChecksumError
from lib_layerdiffuse.imaging.colours import follow_edit
from lib_layerdiffuse.imaging.images import ResizeMode, fit, from_u8, to_u8
from lib_layerdiffuse.methods import DECODERS, Arch, find_method
from lib_layerdiffuse.outputs import matte, preview

JOINT, FG_SD15, TO_FG = (find_method(i) for i in ("joint_sd15", "fg_attn_sd15", "bg_to_fg_sd15"))


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


class TestPictures:
    def test_transparency_comes_last(self, ui):
        modes = {"before": [], "after": []}
        before = ui.new_script(
            postprocess_image=lambda self, p, pp, *_: modes["before"].append(pp.image.mode)
        )
        after = ui.new_script(
            postprocess_image_after_composite=lambda self, p, pp, *_: modes["after"].append(
                pp.image.mode
            )
        )
        ui.generate(TO_FG, before=[before], after=[after])
        assert modes == {"before": ["RGB", "RGB"], "after": ["RGBA", "RGB"]}

    def edited(self, ui, edit):
        """Returns a job's image as it is, as edited, and what the edit did to its RGB."""
        seen = []

        def change(self, p, pp, *_):
            before = pp.image
            pp.image = edit(pp.image)
            seen.append((from_u8(np.asarray(before)), from_u8(np.asarray(pp.image))))

        plain = arrays(ui.generate(FG_SD15)[0])[0]
        result, _ = ui.generate(FG_SD15, before=[ui.new_script(postprocess_image=change)])
        return plain, arrays(result)[0], *seen[0]

    def test_colours_follow_an_edit_and_alpha_stays(self, ui):
        def edit(image):
            image = image.copy()
            image.paste((10, 200, 30), (0, 0, 32, 32))
            return image

        plain, rgba, before, after = self.edited(ui, edit)
        assert np.array_equal(rgba[..., 3], plain[..., 3])
        wanted = to_u8(follow_edit(from_u8(plain), before, after))
        assert np.array_equal(rgba, wanted)
        assert np.array_equal(rgba[32:], plain[32:])
        assert not np.array_equal(rgba[:32, :32], plain[:32, :32])

    def test_an_edit_may_change_the_size(self, ui):
        plain, rgba, _, _ = self.edited(ui, lambda image: image.resize((96, 96)))
        assert rgba.shape == (96, 96, 4)
        grown = to_u8(fit(from_u8(plain), 96, 96, ResizeMode.STRETCH))
        assert np.array_equal(rgba[..., 3], grown[..., 3])

    @pytest.mark.slow
    def test_an_edit_in_place_of_the_batch_counts_too(self, ui):
        def darken(self, p, *_, images, **__):
            images *= 0.5

        plain = arrays(ui.generate(FG_SD15)[0])[0]
        other = ui.new_script(postprocess_batch=darken)
        rgba = arrays(ui.generate(FG_SD15, after=[other])[0])[0]
        assert np.array_equal(rgba[..., 3], plain[..., 3])
        assert not np.array_equal(rgba, plain)

    def test_the_decoder_sees_the_floats_that_the_vae_made(self, ui, monkeypatch):
        seen, floats = [], []

        def spy(decoder, host, pixels, latent, **more):
            seen.append(pixels)
            return pipeline.decode(decoder, host, pixels, latent, **more)

        def keep(self, p, *_, images, **__):
            floats.append(images.clone())

        monkeypatch.setattr(ui.script_module.results, "decode", spy)
        edit = ui.new_script(
            postprocess_batch=keep,
            postprocess_image=lambda self, p, pp, *_: setattr(pp, "image", pp.image.rotate(90)),
        )
        ui.generate(FG_SD15, before=[edit])
        assert torch.equal(seen[0], floats[0][0])

    def test_each_row_is_decoded_with_its_latent(self, ui, monkeypatch):
        seen, samples = [], []

        def spy(decoder, host, pixels, latent, **more):
            seen.append(latent)
            return pipeline.decode(decoder, host, pixels, latent, **more)

        monkeypatch.setattr(ui.script_module.results, "decode", spy)
        keep = ui.new_script(post_sample=lambda self, p, ps, *_: samples.extend(ps.samples))
        ui.generate(JOINT, batch_size=2, n_iter=2, after=[keep])
        assert len(seen) == 4
        scale = ui.checkpoint.forge_objects.vae.first_stage_model.scaling_factor
        assert all(torch.equal(a, b / scale) for a, b in zip(seen, samples[::3], strict=True))

    @pytest.mark.parametrize("save", thinned([True, False], 2))
    @pytest.mark.parametrize("pnginfo", [True, False])
    def test_no_picture_passes_where_decoding_fails(self, ui, monkeypatch, save, pnginfo):
        monkeypatch.setattr(ui.script_module.results, "decode", lambda *_, **__: 1 / 0)
        ui.shared.opts.data["enable_pnginfo"] = pnginfo
        p = ui.job(TO_FG, request(TO_FG), do_not_save_samples=not save)
        with pytest.raises(ZeroDivisionError):
            ui.run(p)
        assert ui.saved() == []
        assert p.sampled_with

    def test_a_decoder_that_cannot_be_read(self, webui, own_models, tmp_path):
        put(own_models, DECODERS[Arch.SD15], {"a": torch.zeros(1)})
        ui = WebUI(own_models.parent, tmp_path / "outputs")
        with pytest.raises(ChecksumError):
            ui.generate(FG_SD15)
        assert ui.saved() == []

    def test_preview_and_matte_are_added(self, ui):
        result, _ = ui.generate(TO_FG, {"show_preview": True, "show_matte": True})
        rgba = np.asarray(result.images[0])
        shown, grey = (np.asarray(extra) for extra in result.extra_images)
        assert np.array_equal(grey, matte(rgba))
        assert np.array_equal(shown, preview(rgba))
        assert len(result.images) == 2
        assert [name.split("-", 2)[2] for name in ui.saved()] == [
            "fg-matte.png",
            "fg-preview.png",
            "fg.png",
            "blended.png",
        ]

    def test_extras_keep_the_infotext_and_are_saved_only_with_the_rest(self, ui):
        result, _ = ui.generate(JOINT, {"show_matte": True}, batch_size=2, do_not_save_samples=True)
        infotexts = [extra.info["parameters"] for extra in result.extra_images]
        assert infotexts == [result.infotexts[0], result.infotexts[3]]
        assert ui.saved() == []

    def test_an_opaque_foreground_is_told(self, ui):
        method = find_method("fg_to_bg_sd15")
        for alpha, told in ((128, 0), (255, 1)):
            given = {"fg_image": as_base64(picture(alpha=alpha))}
            _, p = ui.generate(method, given)
            assert len([c for c in p.comments if "no transparency" in c]) == told

    @pytest.mark.parametrize(
        "value",
        [
            picture(alpha=128),
            np.asarray(picture(alpha=128)),
            {"image": picture(alpha=128), "mask": None},
            "data:image/png;base64," + as_base64(picture(alpha=128)),
        ],
        ids=["pil", "array", "dict", "uri"],
    )
    def test_pictures_come_in_many_forms(self, ui, value):
        method = find_method("fg_to_bg_sd15")
        wanted = arrays(ui.generate(method)[0])
        args = [True, method.label, 1.0, 1.0, value]
        assert np.array_equal(arrays(ui.run(ui.job(method, *args)))[0], wanted[0])


class TestSaving:
    def test_names_carry_the_layer(self, ui):
        ui.generate(JOINT, batch_size=2)
        layers = ["fg", "bg", "blended"] * 2
        wanted = [f"{i // 3:05}-{100 + i}-{layer}.png" for i, layer in enumerate(layers)]
        assert ui.saved() == wanted

    def test_a_set_has_one_number_with_what_is_beside_it(self, ui):
        ui.shared.opts.data["layerdiffuse_outputs"] = ["Matte"]
        ui.generate(JOINT, batch_size=2, n_iter=2)
        numbers: dict[str, set[str]] = {}
        for name in ui.saved():
            number, seed, *_ = name.split("-")
            numbers.setdefault(number, set()).add(seed)
        assert len(ui.saved()) == 16
        assert numbers == {
            f"0000{n}": {str(100 + 3 * n + frame) for frame in range(3)} for n in range(4)
        }

    def test_a_second_job_goes_on_counting(self, ui):
        p = ui.job(TO_FG, request(TO_FG))
        for _ in range(2):
            ui.run(p)
        assert [name.split("-")[0] for name in ui.saved()] == ["00000"] * 2 + ["00001"] * 2

    def test_what_others_save_meanwhile_is_not_of_the_set(self, ui):
        save_image = import_module("modules.images").save_image

        def save(self, p, pp, *_):
            save_image(pp.image, str(ui.outputs), "", 7, "", "png", p=p)

        ui.generate(TO_FG, before=[ui.new_script(postprocess_image=save)])
        assert ui.saved() == [
            "00000-7.png",
            "00001-100-fg.png",
            "00001-101-blended.png",
            "00002-7.png",
        ]

    def test_names_without_numbers_stay(self, ui):
        ui.shared.opts.data["save_images_add_number"] = False
        ui.generate(JOINT)
        assert ui.saved() == ["100-fg.png", "101-bg.png", "102-blended.png"]

    @pytest.mark.parametrize(
        ("method_id", "settings", "names"),
        [
            ("joint_sd15", {"show_matte": True}, "100-fg 100-fg-matte 101-bg 102-blended"),
            ("joint_sd15", {}, "102-blended 100-fg 101-bg"),
            ("bg_to_blended_sdxl", {"chain": True}, "100-blended 100-fg"),
        ],
        ids=["extras", "last", "chain"],
    )
    def test_a_set_has_one_suffix_where_the_host_adds_them(self, ui, method_id, settings, names):
        action = {"save_images_replace_action": "Add number suffix"}
        ui.shared.opts.data.update(action, save_images_add_number=False)
        ui.outputs.mkdir(parents=True)
        (ui.outputs / f"{names.split()[0]}.png").write_bytes(b"mine")
        for number in ("-1", "-2"):
            before = {*ui.saved()}
            ui.generate(find_method(method_id), settings)
            assert {*ui.saved()} - before == {f"{name}{number}.png" for name in names.split()}

    def test_layers_keep_their_names_where_the_host_cuts_long_paths(self, ui):
        ui.shared.opts.data["samples_filename_pattern"] = "[seed]-[prompt]"
        ui.generate(JOINT, {"show_matte": True}, prompt="x" * 300)
        names = [name.removesuffix(".png").split("-", 3) for name in ui.saved()]
        assert {(number, seed, layer) for number, seed, _, layer in names} == {
            ("00000", "100", "fg"),
            ("00000", "100", "fg-matte"),
            ("00000", "101", "bg"),
            ("00000", "102", "blended"),
        }

    def test_a_number_that_would_overwrite_a_file_is_left(self, ui):
        def put_there(self, p, pp, *_):
            if p.batch_index == 1:
                (ui.outputs / "00000-101-bg.png").write_bytes(b"mine")

        ui.generate(JOINT, before=[ui.new_script(postprocess_image=put_there)])
        assert ui.saved()[1:3] == ["00000-101-bg.png", "00000-102-blended.png"]
        assert "00001-101-bg.png" in ui.saved()
        assert (ui.outputs / "00000-101-bg.png").read_bytes() == b"mine"

    def test_equal_pictures_have_names_of_their_own(self, ui):
        def edit(self, p, pp, *_):
            pp.image = Image.new("RGB", pp.image.size)

        ui.shared.opts.data["enable_pnginfo"] = False  # Not even a text tells them apart.
        ui.generate(JOINT, before=[ui.new_script(postprocess_image=edit)])
        assert [name.split("-")[2] for name in ui.saved()] == ["fg.png", "bg.png", "blended.png"]

    @pytest.mark.parametrize("kind", ["jpg", "webp"])
    def test_transparency_is_saved_as_png(self, ui, kind):
        ui.shared.opts.data["samples_format"] = kind
        result, p = ui.generate(TO_FG)
        assert ui.saved() == ["00000-100-fg.png", f"00000-101-blended.{kind}"]
        with Image.open(ui.outputs / "00000-100-fg.png") as saved:
            assert np.array_equal(np.asarray(saved), np.asarray(result.images[0]))
        assert any("saved as PNG" in c for c in p.comments)

    def test_hidden_infotext_does_not_erase_alpha(self, ui):
        result, _ = ui.generate(FG_SD15)
        (name,) = ui.saved()
        with Image.open(ui.outputs / name) as saved:
            alpha = np.asarray(saved)[..., 3]
        assert alpha.min() < 255
        assert np.array_equal(alpha, np.asarray(result.images[0])[..., 3])

    def test_other_jobs_pictures_keep_their_names(self, ui):
        ui.run(ui.job(JOINT, False))
        assert ui.saved() == ["00000-100.png"]

    @pytest.mark.parametrize("fault", [None, "passes", "results"])
    def test_a_job_that_has_ended_names_no_files(self, ui, monkeypatch, fault):
        p = ui.job(JOINT, request(JOINT), do_not_save_samples=True)
        if fault:
            monkeypatch.setattr(ui.script_module, fault, None)
            with pytest.raises((TypeError, AttributeError)):
                ui.run(p)
        else:
            ui.run(p)
        save_image = import_module("modules.images").save_image
        save_image(picture(), p.outpath_samples, "", 1, "", "webp", p=p)
        assert ui.saved() == ["00000-1.webp"]

    def test_pictures_without_a_job_are_left_alone(self, ui):
        image = picture()
        import_module("modules.images").save_image(image, str(ui.outputs), "", 1, "", "webp")
        assert ui.saved() == ["00000-1.webp"]


class TestApiPictures:
    def answer(self, ui, kind):
        ui.shared.opts.data["samples_format"] = kind
        p = ui.job(TO_FG, request(TO_FG, show_matte=True))
        texts, processed = import_module("modules.api.api").answer(p)
        opened = [Image.open(io.BytesIO(base64.b64decode(text))) for text in texts]
        return opened, processed

    @pytest.mark.parametrize(("kind", "name"), [("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
    def test_transparency_is_answered_as_png(self, ui, kind, name):
        (fg, blended, matte), processed = self.answer(ui, kind)
        assert [(i.format, i.mode) for i in (fg, blended)] == [("PNG", "RGBA"), (name, "RGB")]
        assert matte.format == name
        assert len(processed.images) == 2
        alpha = np.asarray(fg)[..., 3].astype(int)
        assert np.abs(np.asarray(matte.convert("L")).astype(int) - alpha).mean() < 4

    def test_a_selectable_script_gets_pictures(self, ui):
        ui.shared.opts.data["samples_format"] = "jpg"
        p = ui.job(FG_SD15, request(FG_SD15), is_api=True)
        p.script_args = (1, *p.script_args[1:])
        assert [image.mode for image in ui.run(p).images] == ["RGBA"]

    def test_it_keeps_its_infotext(self, ui):
        (fg, *_), processed = self.answer(ui, "jpg")
        assert fg.info["parameters"] == processed.infotexts[0]
