"""The script's hooks, end to end, in stand-ins for the WebUI's loop."""

from __future__ import annotations

import base64
import copy
import gc
import io
import shutil
from importlib import import_module
from weakref import ref

import numpy as np
import pytest
import torch
from PIL import Image
from started_webui import WebUI, as_base64, picture, request
from tiny_weights import patch_file, put

from lib_layerdiffuse import pipeline
from lib_layerdiffuse.errors import (
    ArchMismatchError,
    ChecksumError,
    DownloadError,
    HostError,
    MissingCapabilityError,
    MissingLayerError,
    SettingsError,
    WeightsNotFoundError,
)
from lib_layerdiffuse.imaging.colours import follow_edit
from lib_layerdiffuse.imaging.images import ResizeMode, fit, from_u8, to_u8
from lib_layerdiffuse.methods import DECODERS, METHODS, Arch, Layer, find_method
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing
from lib_layerdiffuse.outputs import matte, preview
from lib_layerdiffuse.settings.chains import begins_chain, second_method
from lib_layerdiffuse.settings.infotext import from_infotext
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.weights.store import WeightStore

JOINT, FG_SD15, FG_SDXL = (find_method(i) for i in ("joint_sd15", "fg_attn_sd15", "fg_attn_sdxl"))
TO_FG = find_method("bg_to_fg_sd15")
FIELDS = list(LayerSettings.__dataclass_fields__)
CHAIN = LayerSettings.__dataclass_fields__["chain"].metadata["label"]


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


@pytest.fixture
def own_models(models, tmp_path):
    """A copy of the weights that a test may change."""
    return shutil.copytree(models, tmp_path / "models") / "layer_model"


def prompts(layers):
    """Returns the labels of these layers' prompts."""
    kinds = ("prompt", "negative prompt")
    return {f"{layer.label} {kind}" for layer in layers for kind in kinds}


def arrays(result):
    return [np.asarray(image) for image in result.images]


class TestEveryMethod:
    @pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
    def test_makes_one_set_with_only_the_foreground_transparent(self, ui, method):
        result, p = ui.generate(method)
        modes = ["RGBA" if layer is Layer.FG else "RGB" for layer in method.outputs]
        assert [image.mode for image in result.images] == modes
        assert len(ui.saved()) == method.frames
        assert p.sampled_with[0] is not ui.plain

    @pytest.mark.parametrize("method", [JOINT, FG_SDXL], ids=lambda m: m.id)
    def test_at_strength_0_gives_the_plain_pictures(self, ui, method):
        idle, p = ui.generate(method, {"weight": 0, "fg_additional_prompt": "x"})
        assert p.sampled_with == [ui.plain]
        plain = ui.run(ui.job(method, False, batch_size=method.frames))
        for got, wanted, layer in zip(idle.images, plain.images, method.outputs, strict=True):
            same = np.array_equal(np.asarray(got), np.asarray(wanted))
            assert same if layer is not Layer.FG else got.mode == "RGBA"

    @pytest.mark.parametrize("id", ["bg_to_fg_sd15", "bg_to_blended_sdxl"])
    def test_img2img_works_at_the_size_of_its_latent(self, ui, id):
        method = find_method(id)
        kind = import_module("img2img_job").Img2ImgJob
        job = ui.job(method, request(method), kind=kind, width=128, init_images=[picture()])
        result = ui.run(job)
        assert [image.size for image in result.images] == [(128, 64)] * method.frames
        assert job.sampled_with[0] is not ui.plain

    def test_the_families_decoders_are_not_mixed_up(self, ui):
        alone = {}
        for method in (FG_SD15, FG_SDXL):
            ui.script_module.LayerDiffuseScript.session = None  # As after a start of the WebUI.
            alone[method] = arrays(ui.generate(method)[0])[0]
        for method in (FG_SDXL, FG_SD15):
            assert np.array_equal(arrays(ui.generate(method)[0])[0], alone[method])

    @pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
    def test_gives_the_same_again_on_the_same_checkpoint(self, ui, method):
        checkpoint = ui.tiny.Checkpoint(method.arch.value)
        first, second = (arrays(ui.generate(method, checkpoint=checkpoint)[0]) for _ in range(2))
        assert all(map(np.array_equal, first, second))

    def test_other_jobs_between_leave_no_trace(self, ui):
        plain = arrays(ui.run(ui.job(JOINT, False)))
        checkpoint = ui.checkpoint
        ui.generate(JOINT, checkpoint=checkpoint)
        again = arrays(ui.run(ui.job(JOINT, False, checkpoint=checkpoint)))
        assert np.array_equal(plain[0], again[0])


def broken_file(folder):
    put(folder, JOINT.weights, patch_file(FG_SDXL))


def missing_file(folder):
    (folder / JOINT.weights.filename).unlink()


def unvouched_file(folder):
    path = folder / DECODERS[Arch.SD15].filename
    path.write_bytes(path.read_bytes() + b" ")


REFUSED = [
    ({"method": "fg_attn_sdxl"}, {}, ArchMismatchError, "method"),
    ({"method": "bg_to_fg_sd15"}, {}, MissingLayerError, "bg_image"),
    ({"method": "fg_to_bg_sd15", "fg_image": "?"}, {}, SettingsError, "fg_image"),
    ({"method": "fg_to_bg_sd15", "fg_image": "http://a/b.png"}, {}, SettingsError, "fg_image"),
    ({"method": "joint_sd15", "wieght": 1}, {}, SettingsError, "wieght"),
    ({"method": "joint_sd15", "weight": 3}, {}, SettingsError, "strength"),
    ({"method": "joint_sd15", "strength": 3}, {}, SettingsError, "strength"),
    ({"method": "no such"}, {}, SettingsError, "method"),
    ({"method": "joint_sd15"}, {"refiner_checkpoint": "x"}, MissingCapabilityError, None),
    ({"method": "joint_sd15", "mask_source": "x"}, {}, SettingsError, "mask_source"),
    ({"method": "joint_sd15"}, {"token_merging_ratio": 0.2}, MissingCapabilityError, None),
    (
        {"method": "joint_sd15"},
        {"override_settings": {"token_merging_ratio": 0.2}},  # It is applied after our first hook.
        MissingCapabilityError,
        None,
    ),
    ({"method": "joint_sd15", "bg_prompt": "x <lora:a:1>"}, {}, SettingsError, "bg_prompt"),
]


IN_THE_API = {"strength": "weight", "bg_prompt": "bg_additional_prompt"}


class TestErrorsBeforeSampling:
    @pytest.mark.parametrize(("settings", "fields", "error", "field"), REFUSED)
    def test_the_webui_shows_them(self, ui, settings, fields, error, field):
        p = ui.job(JOINT, settings, **fields)
        with pytest.raises(error) as caught:
            ui.run(p)
        assert type(caught.value) is error
        assert caught.value.field == field
        self.assert_nothing_was_made(ui, p)

    @pytest.mark.parametrize(("settings", "fields", "error", "field"), REFUSED)
    def test_the_api_answers_422_with_json(self, ui, settings, fields, error, field):
        detail = self.refused(ui, ui.job(JOINT, settings, **fields), status=422)
        assert detail["error"] == error.__name__
        assert detail["field"] == IN_THE_API.get(field, field)
        assert detail["message"]
        assert detail.keys() == {"error", "message", "hint", "field"}

    def refused(self, ui, p, status):
        http_exception = import_module("fastapi").HTTPException
        with pytest.raises(http_exception) as caught:
            import_module("modules.api.api").answer(p)
        assert caught.value.status_code == status
        self.assert_nothing_was_made(ui, p)
        return caught.value.detail

    @staticmethod
    def assert_nothing_was_made(ui, p):
        assert p.sampled_with == []
        assert ui.saved() == []

    @pytest.mark.parametrize(
        ("spoil", "error"),
        [
            (broken_file, ChecksumError),
            (missing_file, WeightsNotFoundError),
            (unvouched_file, ChecksumError),
        ],
    )
    def test_files_that_cannot_be_used(self, webui, own_models, tmp_path, spoil, error):
        spoil(own_models)
        ui = WebUI(own_models.parent, tmp_path / "outputs")
        p = ui.job(JOINT, request(JOINT))
        with pytest.raises(error):
            ui.run(p)
        self.assert_nothing_was_made(ui, p)
        assert p.conditioned_on == []

    def test_a_checkpoint_for_inpainting(self, ui):
        checkpoint = ui.tiny.Checkpoint("SD1.5")
        unet = checkpoint.forge_objects.unet.model.diffusion_model
        unet.input_blocks[0][0] = torch.nn.Conv2d(9, 16, 3)
        p = ui.job(JOINT, request(JOINT), checkpoint=checkpoint)
        with pytest.raises(MissingCapabilityError, match="got 9"):
            ui.run(p)
        self.assert_nothing_was_made(ui, p)

    def test_keys_that_the_unet_lacks(self, webui, own_models, tmp_path):
        put(own_models, FG_SDXL.weights, {"diffusion_model.no.weight::diff::0": torch.zeros(1)})
        ui = WebUI(own_models.parent, tmp_path / "outputs")
        p = ui.job(FG_SDXL, request(FG_SDXL))
        with pytest.raises(ChecksumError, match=r"diffusion_model\.no\.weight"):
            ui.run(p)
        self.assert_nothing_was_made(ui, p)

    def test_faults_of_our_own_are_500(self, ui, monkeypatch):
        monkeypatch.setattr(ui.script_module.passes, "inject", lambda *_: 1 / 0)
        p = ui.job(JOINT, request(JOINT))
        detail = self.refused(ui, p, status=500)
        assert (detail["error"], detail["message"]) == ("ZeroDivisionError", "division by zero")
        p = ui.job(JOINT, request(JOINT))
        with pytest.raises(ZeroDivisionError):
            ui.run(p)

    def test_a_script_that_changes_the_batch_size_later(self, ui):
        def process_batch(self, p, **_):
            p.prompts = p.prompts[:2]

        other = ui.new_script(before_process_batch=process_batch)
        p = ui.job(JOINT, request(JOINT), before=[other])
        with pytest.raises(SettingsError, match="2 prompts, which make no whole sets of 3"):
            ui.run(p)
        self.assert_nothing_was_made(ui, p)

    def test_a_failed_job_gives_the_batch_size_back(self, ui, monkeypatch):
        monkeypatch.setattr(ui.script_module.passes, "inject", lambda *_: 1 / 0)
        p = ui.job(JOINT, request(JOINT), batch_size=2)
        with pytest.raises(ZeroDivisionError):
            ui.run(p)
        assert p.batch_size == 2

    @pytest.mark.parametrize("over_the_api", [False, True])
    def test_what_fails_at_the_very_end_is_told_too(self, ui, monkeypatch, over_the_api):
        monkeypatch.setattr(ui.script_module, "add_layer_files", lambda *_: 1 / 0)
        p = ui.job(JOINT, request(JOINT))
        if over_the_api:
            http_exception = import_module("fastapi").HTTPException
            with pytest.raises(http_exception) as caught:
                import_module("modules.api.api").answer(p)
            assert caught.value.status_code == 500
            return
        processed = ui.run(p)
        for use in (
            lambda: processed.images + processed.extra_images,
            lambda: processed.images[0],
            lambda: list(processed.images),
        ):
            with pytest.raises(ZeroDivisionError):
                use()

    def test_any_next_job_undoes_what_a_failure_left_on_the_unet(self, ui, monkeypatch):
        p = ui.job(FG_SDXL, request(FG_SDXL))
        checkpoint, loader = ui.checkpoint, ui.plain.lora_loader
        weights = {k: v.clone() for k, v in ui.plain.model.named_parameters()}
        merge, merged = loader._merge, []

        def fail(key, entries):
            if merged:
                raise MemoryError
            merged.append(merge(key, entries))

        monkeypatch.setattr(loader, "_merge", fail)
        with pytest.raises(MemoryError):
            ui.run(p)
        monkeypatch.undo()
        now = dict(ui.plain.model.named_parameters())
        assert not all(torch.equal(now[k], v) for k, v in weights.items())
        ui.run(ui.job(FG_SDXL, False, checkpoint=checkpoint))
        now = dict(ui.plain.model.named_parameters())
        assert all(torch.equal(now[k], v) for k, v in weights.items())

    def test_the_next_job_works(self, ui):
        with pytest.raises(ArchMismatchError):
            ui.run(ui.job(JOINT, {"method": FG_SDXL.id}))
        assert len(ui.generate(JOINT)[0].images) == 3


class TestBatchSize:
    def test_lists_of_prompts_and_seeds_count_sets(self, ui):
        p = ui.job(JOINT, True, JOINT.label, prompt=["a", "b"], seed=[7, 7], n_iter=2)
        result = ui.run(p)
        assert [i.mode for i in result.images] == ["RGBA", "RGB", "RGB"] * 2
        assert [rows for rows, _ in p.conditioned_on] == [["a"] * 3, ["b"] * 3]
        assert result.all_seeds == [7, 8, 9, 7, 8, 9]
        assert (p.prompt, p.seed, p.batch_size) == (["a", "b"], [7, 7], 1)

    def test_token_merging_is_no_matter_to_a_single_frame(self, ui):
        result, _ = ui.generate(FG_SD15, token_merging_ratio=0.2)
        assert result.images[0].mode == "RGBA"

    def test_in_the_panel_it_counts_sets(self, ui):
        p = ui.job(JOINT, True, JOINT.label, batch_size=2, n_iter=2)
        assert [i.mode for i in ui.run(p).images] == ["RGBA", "RGB", "RGB"] * 4
        assert not p.comments

    @pytest.mark.parametrize("switch", [False, None])
    def test_a_dict_counts_behind_a_switch_that_is_off(self, ui, switch):
        result = ui.run(ui.job(JOINT, switch, request(JOINT), is_api=True, batch_size=2))
        assert len(result.images) == 6

    def test_in_a_dict_it_counts_sets(self, ui):
        p = ui.job(JOINT, request(JOINT), batch_size=2)
        p.is_api = True
        assert len(ui.run(p).images) == 6
        assert not p.comments

    @pytest.mark.parametrize(("asked", "made"), [(1, 3), (3, 3), (4, 6)])
    def test_in_an_api_list_it_counts_pictures(self, ui, asked, made):
        p = ui.job(JOINT, True, JOINT.label, batch_size=asked)
        p.is_api = True
        assert len(ui.run(p).images) == made
        told = [c for c in p.comments if f"{made} pictures instead of {asked}" in c]
        assert len(told) == (made != asked)

    def test_notes_are_told_in_the_result_and_not_in_infotexts(self, ui):
        p = ui.job(JOINT, True, JOINT.label)
        p.is_api = True
        result = ui.run(p)
        (note,) = result.extra_generation_params["layerdiffusion_notes"]
        assert "3 pictures instead of 1" in note
        assert not any("instead of" in text for text in result.infotexts)
        assert "layerdiffusion_notes" not in p.extra_generation_params

    def test_loops_on_one_object_do_not_grow(self, ui):
        p = ui.job(JOINT, request(JOINT), batch_size=2)
        for _ in range(2):
            assert len(ui.run(p).images) == 6
            assert p.batch_size == 2

    def test_every_row_has_a_seed_of_its_own(self, ui):
        result, _ = ui.generate(JOINT, batch_size=2, n_iter=2)
        assert result.all_seeds == list(range(100, 112))
        rows = arrays(result)
        assert len({row.tobytes() for row in rows}) == 12

    def test_a_set_does_not_depend_on_the_others(self, ui):
        both = arrays(ui.generate(JOINT, batch_size=2)[0])
        second = arrays(ui.generate(JOINT, seed=103)[0])
        for got, wanted in zip(both[3:], second, strict=True):
            assert np.abs(got.astype(int) - wanted).max() <= 1


class TestPrompts:
    def test_layers_prompts_reach_only_their_rows(self, ui):
        texts = {"fg_additional_prompt": "a cat", "blend_negative_prompt": "fog"}
        _, p = ui.generate(JOINT, texts, batch_size=2)
        prompts, negatives = p.conditioned_on[0]
        assert prompts == ["a cat, a boat", "a boat", "a boat"] * 2
        assert negatives == ["blurry", "blurry", "fog, blurry"] * 2

    def test_the_infotext_keeps_the_main_prompts(self, ui):
        texts = {"fg_additional_prompt": "a cat", "blend_negative_prompt": "fog"}
        result, p = ui.generate(JOINT, texts)
        for text in result.infotexts:
            prompt, negative, params = text.split("\n")
            assert (prompt, negative) == ("a boat", "Negative prompt: blurry")
            assert "layerdiffusion_fg_additional_prompt: a cat" in params
        assert p.all_prompts == ["a boat"] * 3

    def test_a_layers_prompt_changes_its_picture(self, ui):
        plain = arrays(ui.generate(JOINT)[0])
        other = arrays(ui.generate(JOINT, {"bg_additional_prompt": "a forest"})[0])
        assert not np.array_equal(plain[1], other[1])

    def test_the_infotext_gives_the_settings_back(self, ui):
        given = {"weight": 0.5, "ending_step": 0.75, "bg_additional_prompt": "a, b"}
        _, p = ui.generate(JOINT, given)
        found = from_infotext({k: str(v) for k, v in p.extra_generation_params.items()})
        assert (found["enabled"], found["method"]) == (True, JOINT)
        assert (found["strength"], found["stop_at"]) == (0.5, 0.75)
        assert found["bg_prompt"] == "a, b"


class TestJobsInJobs:
    def test_a_job_inside_a_job_is_left_alone(self, ui):
        inner = []

        def start_another(self, p, pp, *_):
            if inner:
                return
            inner.append(None)  # The inner job calls this hook, too.
            twin = copy.copy(p)
            twin.sampled_with, twin.extra_result_images = [], []
            twin.batch_size, twin.outpath_samples = 1, p.outpath_samples + "-inner"
            inner[0] = (ui.processing.process_images(twin), twin)

        other = ui.new_script(postprocess_image=start_another)
        p = ui.job(JOINT, request(JOINT), before=[other])
        result = ui.run(p)
        made, twin = inner[0]
        assert [image.mode for image in made.images] == ["RGB"]
        assert twin.sampled_with == [ui.plain]
        assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"]
        wanted, _ = ui.generate(JOINT)
        assert all(map(np.array_equal, arrays(result), arrays(wanted)))

    def test_a_new_object_inside_a_job_is_left_alone(self, ui):
        inner = []

        def start_another(self, p, processed, *_):
            if not inner:
                inner.append(None)
                twin = ui.processing.Processing(
                    p.sd_model, p.scripts, p.script_args, outpath_samples=p.outpath_samples
                )
                inner[0] = ui.processing.process_images(twin)

        other = ui.new_script(postprocess=start_another)
        ui.run(ui.job(JOINT, request(JOINT), before=[other]))
        assert [image.mode for image in inner[0].images] == ["RGB"]

    def test_copies_have_states_of_their_own(self, ui):
        p = ui.job(JOINT, request(JOINT))
        first, second = copy.copy(p), copy.copy(p)
        second.batch_size = 2
        assert [len(ui.run(twin).images) for twin in (first, second)] == [3, 6]
        assert (p.batch_size, first.batch_size, second.batch_size) == (1, 1, 2)
        assert len(ui.run(p).images) == 3

    def test_a_copy_of_a_running_job_switched_off_stays_off(self, ui):
        p = ui.job(JOINT, request(JOINT))
        ui.runner.before_process(p)
        twin = copy.copy(p)
        twin.script_args = (None, False, *p.script_args[2:])
        twin.batch_size = 1
        result = ui.run(twin)
        assert [image.mode for image in result.images] == ["RGB"]


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

    @pytest.mark.parametrize("save", [True, False])
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
            "fg-preview.png",
            "fg-matte.png",
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


class TestMemory:
    def sharing(self):
        loaded = import_module("backend.memory_management").current_loaded_models
        return [entry for entry in loaded if isinstance(entry.model.model, AttentionSharing)]

    @pytest.fixture(autouse=True)
    def _without_a_collector(self, ui):
        """The collector may come many jobs later: nothing large may wait for it."""
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    @pytest.mark.parametrize("dropped", [False, True], ids=["kept", "dropped by the host"])
    def test_the_host_keeps_no_sharing_module_that_is_used_no_more(self, ui, dropped):
        ui.generate(JOINT)
        [entry] = self.sharing()
        net = ref(entry.model.model)
        memory = import_module("backend.memory_management")
        if dropped:  # As it does for another checkpoint.
            memory.current_loaded_models.clear()
        ui.generate(find_method("fg_attn_sd15"), checkpoint=ui.checkpoint)
        assert dropped or entry.model.unloaded
        assert entry not in self.sharing()
        del entry
        memory.loaded.clear()
        assert net() is None, "something still holds it"

    def test_nothing_holds_a_methods_weights_that_are_used_no_more(self, ui):
        result, p = ui.generate(find_method("fg_attn_sdxl"))
        unet = p.sd_model.forge_objects.unet
        [patches] = unet.lora_patches.values()
        tensor = ref(next(iter(patches.values()))[0][1][1][0])
        del patches, unet, p, result
        ui.generate(find_method("fg_conv_sdxl"), checkpoint=ui.checkpoint)
        import_module("backend.memory_management").loaded.clear()
        assert tensor() is None, "something still holds it"

    def test_the_other_family_needs_none(self, ui):
        ui.generate(JOINT)
        ui.generate(find_method("fg_attn_sdxl"))
        assert self.sharing() == []

    def test_the_module_in_use_stays(self, ui):
        ui.generate(JOINT)
        [before] = self.sharing()
        ui.generate(JOINT)
        [after] = self.sharing()
        assert after.model is before.model
        assert not hasattr(after.model, "unloaded")


class TestReplacedUNet:
    @staticmethod
    def replace(_script, p, *_, **__):
        unet = p.sd_model.forge_objects.unet.clone()
        unet.set_model_unet_function_wrapper(
            lambda apply_model, args: apply_model(args["input"], args["timestep"], **args["c"])
        )
        p.sd_model.forge_objects.unet = unet

    def test_it_ends_the_job(self, ui):
        other = ui.new_script(process_before_every_sampling=self.replace)
        p = ui.job(JOINT, request(JOINT), after=[other])
        with pytest.raises(HostError, match="another extension has replaced the UNet"):
            ui.run(p)
        assert ui.saved() == []

    def test_one_that_came_before_is_chained(self, ui):
        other = ui.new_script(process_before_every_sampling=self.replace)
        wanted = arrays(ui.generate(JOINT)[0])
        got = arrays(ui.generate(JOINT, before=[other])[0])
        assert all(map(np.array_equal, got, wanted))

    def test_a_stop_before_the_first_step_is_no_error(self, ui):
        def stop(self, p, *_, **__):
            ui.shared.state.interrupted = True

        other = ui.new_script(process_before_every_sampling=stop)
        result, _ = ui.generate(JOINT, after=[other])
        assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"]


class TestSaving:
    def test_names_carry_the_layer(self, ui):
        ui.generate(JOINT, batch_size=2)
        layers = ["fg", "bg", "blended"] * 2
        wanted = [f"{i:05}-{100 + i}-{layer}.png" for i, layer in enumerate(layers)]
        assert ui.saved() == wanted

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
        assert ui.saved() == ["00000-100-fg.png", f"00001-101-blended.{kind}"]
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
        assert ui.shared.opts.stealth_pnginfo_option == "Alpha"

    def test_hidden_infotext_comes_back_where_the_host_keeps_overrides(self, ui):
        _, p = ui.generate(FG_SD15, override_settings_restore_afterwards=False)
        assert ui.shared.opts.stealth_pnginfo_option == "Alpha"
        assert p.override_settings == {}

    def test_a_webui_without_hidden_infotext_gets_no_such_option(self, ui):
        del ui.shared.opts.data_labels["stealth_pnginfo_option"]
        p = ui.job(FG_SD15, request(FG_SD15), do_not_save_samples=True)
        ui.run(p)
        assert p.override_settings == {}
        assert "stealth_pnginfo_option" not in ui.shared.opts.data

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


class TestSwitchedOff:
    @pytest.mark.parametrize("switch", [False, None, "False", "false", 0])
    def test_garbage_arguments_do_not_matter(self, ui, switch):
        p = ui.job(JOINT, switch, "no such", "heavy", {}, "?", image_mask=picture())
        result = ui.run(p)
        assert [image.mode for image in result.images] == ["RGB"]
        assert p.sampled_with == [ui.plain]
        assert not p.extra_generation_params
        assert not p.override_settings

    def test_a_dict_can_switch_off(self, ui):
        _, p = ui.generate(JOINT, {"enabled": False})
        assert p.sampled_with == [ui.plain]

    def test_it_stays_off_beside_the_original(self, ui):
        original = type("Original", (ui.scripts.Script,), {"title": lambda self: "LayerDiffuse"})
        data = ui.scripts.ScriptClassData(original, "extensions/sd-forge-layerdiffuse/x.py")
        ui.scripts.scripts_data.append(data)
        p = ui.job(JOINT, True, JOINT.label)
        assert ui.runner.inputs == [None]
        assert [image.mode for image in ui.run(p).images] == ["RGB"]
        (script,) = ui.runner.alwayson_scripts
        assert "sd-forge-layerdiffuse" in script._problem()

    def test_our_own_entry_and_odd_scripts_do_not_count_as_the_original(self, ui):
        odd = type("Odd", (), {"title": lambda self: self.no_such})
        for other in (ui.entry.LayerDiffuseScript, odd):
            ui.scripts.scripts_data.append(ui.scripts.ScriptClassData(other, "x.py"))
        ui.job(JOINT)
        assert len(ui.runner.inputs) == 1 + len(FIELDS)


class TestPanel:
    def test_its_defaults_are_off_and_valid(self, ui):
        ui.job(JOINT)
        values = [c.value for c in ui.runner.inputs[1:]]
        settings = LayerSettings.from_args(values)
        default = LayerSettings()
        assert not settings.enabled
        for name in LayerSettings.__dataclass_fields__:
            assert getattr(settings, name) == getattr(default, name), name

    def test_a_pasted_infotext_fills_it(self, ui):
        ui.job(JOINT)
        (script,) = ui.runner.alwayson_scripts
        params = {
            "layerdiffusion_enabled": "True",
            "layerdiffusion_method": "(SD1.5) Generate Everything Together (need batch size 3)",
            "layerdiffusion_weight": "0.5",
            "layerdiffusion_resize_mode": "Resize and Fill",
            "layerdiffusion_bg_additional_prompt": "a, b",
        }
        pasted = {c.label: read(params) for c, read in script.infotext_fields}
        found = {label: value for label, value in pasted.items() if value}
        assert found == {
            "Stop at": 1.0,
            "LayerDiffuse": True,
            "Method": JOINT.label,
            "Weight": 0.5,
            "Resize mode": "Resize and Fill",
            "Background prompt": "a, b",
            "Redraw": "Inpaint area: from the tab",
        }

    def test_another_jobs_infotext_switches_it_off(self, ui):
        ui.job(JOINT)
        (script,) = ui.runner.alwayson_scripts
        pasted = {c.label: read({"Steps": "20"}) for c, read in script.infotext_fields}
        assert {k: v for k, v in pasted.items() if v is not None} == {"LayerDiffuse": False}

    @pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
    def test_a_method_shows_what_it_needs(self, ui, method):
        ui.job(method)
        wanted = {layer.label for layer in method.inputs} | prompts(method.layer_prompts)
        wanted |= {"Resize mode"} if method.inputs else set()
        wanted |= {CHAIN} if begins_chain(method) else set()
        assert self.shown(ui, method, chain=False) == wanted

    @pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
    def test_a_chain_shows_the_prompts_of_what_it_makes(self, ui, method):
        alone, chained = (self.shown(ui, method, chain) for chain in (False, True))
        made = {*method.outputs, *(second_method(method).outputs if CHAIN in alone else ())}
        assert chained - alone == (prompts(made) if CHAIN in alone else set())
        assert alone <= chained

    def test_a_tick_that_is_hidden_is_taken_away(self, ui):
        for method in METHODS:
            updates = self.updates(ui, method, chain=True)
            assert (updates[CHAIN].get("value") is False) == (not updates[CHAIN]["visible"])

    def shown(self, ui, method, chain):
        updates = self.updates(ui, method, chain)
        return {label for label, change in updates.items() if change.get("visible")}

    @staticmethod
    def updates(ui, method, chain):
        ui.job(method)
        causes = [ui.runner.inputs[1 + FIELDS.index(name)] for name in ("method", "chain")]
        ((event,), (other,)) = (cause.events for cause in causes)
        assert event["inputs"] == other["inputs"] == causes
        assert event["outputs"] == other["outputs"]
        updates = event["fn"](method.label, chain)
        return {c.label: change for c, change in zip(event["outputs"], updates, strict=True)}


class TestStops:
    def test_a_stop_while_decoding_keeps_the_views_seen(self, ui, monkeypatch):
        ui.shared.opts.data["layerdiffuse_decoder_views"] = 8
        views, told = [], []

        def spy(*args, on_view, **more):
            def stop_after_two(done, total):
                views.append(done)
                told.append(ui.shared.state.textinfo)
                ui.shared.state.interrupted = done == 2
                return on_view(done, total)

            return pipeline.decode(*args, on_view=stop_after_two, **more)

        monkeypatch.setattr(ui.script_module.results, "decode", spy)
        result, _ = ui.generate(FG_SD15)
        assert views == [1, 2]
        assert told == [f"LayerDiffuse: transparency, view {n} of 8" for n in (1, 2)]
        assert result.images[0].mode == "RGBA"
        assert ui.shared.state.textinfo is None
        (note,) = result.extra_generation_params["layerdiffusion_notes"]
        assert "stopped after 2 of 8 views" in note

    def test_nothing_is_told_of_a_decoding_that_was_not_stopped(self, ui):
        result, _ = ui.generate(FG_SD15)
        notes = result.extra_generation_params.get("layerdiffusion_notes", [])
        assert not any("stopped" in note for note in notes)

    def test_what_is_slow_is_told_and_taken_away(self, ui, monkeypatch):
        told = []

        def spy(session, settings):
            told.append(ui.shared.state.textinfo)
            return weights(session, settings)

        weights = pipeline.Session.weights
        monkeypatch.setattr(pipeline.Session, "weights", spy)
        ui.generate(JOINT)
        assert told[0] == "LayerDiffuse: loading the weights"
        assert ui.shared.state.textinfo is None

    @pytest.mark.parametrize("stop", ["interrupted", "skipped", "stopping_generation"])
    def test_a_stopped_download_ends_the_job_before_sampling(self, ui, monkeypatch, stop):
        def ensure(store, file):
            setattr(ui.shared.state, stop, True)
            store.on_progress(file.filename, 1 << 20, 4 << 20)

        monkeypatch.setattr(WeightStore, "ensure", ensure)
        p = ui.job(JOINT, request(JOINT))
        with pytest.raises(DownloadError, match="stopped at 25%"):
            ui.run(p)
        assert p.sampled_with == []
        assert ui.shared.state.textinfo is None

    def test_progress_of_a_download_is_shown_and_it_can_be_stopped(self, ui):
        show = import_module("lib_layerdiffuse.webui.job.progress").show_download
        show("a.safetensors", 1 << 20, 4 << 20)
        assert ui.shared.state.textinfo == "LayerDiffuse: downloading a.safetensors, 25%"
        show("a.safetensors", 3 << 20, None)
        assert ui.shared.state.textinfo.endswith("3 MiB")
        ui.shared.state.interrupted = True
        with pytest.raises(WeightsNotFoundError.__base__, match="stopped at 50%"):
            show("a.safetensors", 1, 2)


def test_flags_choose_the_folders(webui, models, own_models, tmp_path):
    ui = WebUI(tmp_path / "empty", tmp_path / "outputs")
    ui.shared.cmd_opts.layerdiffuse_models_dir = str(own_models)
    assert [image.mode for image in ui.generate(FG_SD15)[0].images] == ["RGBA"]
