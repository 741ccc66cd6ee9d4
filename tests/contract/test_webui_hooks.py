"""The script's hooks, end to end, in stand-ins for the WebUI's loop."""

from __future__ import annotations

import copy
from importlib import import_module

import numpy as np
import pytest
from started_webui import WebUI, arrays, picture, request
from thinned import thinned

from lib_layerdiffuse.methods import METHODS, Layer, find_method
from lib_layerdiffuse.pipeline import Session
from lib_layerdiffuse.settings.infotext import from_infotext

JOINT, FG_SD15, FG_SDXL = (find_method(i) for i in ("joint_sd15", "fg_attn_sd15", "fg_attn_sdxl"))


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


class TestEveryMethod:
    @pytest.mark.parametrize("method", thinned(METHODS, 4), ids=lambda m: m.id)
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
        ui.script_module.Session = Session
        alone = {}
        for method in (FG_SD15, FG_SDXL):
            ui.script_module.LayerDiffuseScript.session = None  # As after a start of the WebUI.
            alone[method] = arrays(ui.generate(method)[0])[0]
        for method in (FG_SDXL, FG_SD15):
            assert np.array_equal(arrays(ui.generate(method)[0])[0], alone[method])

    @pytest.mark.parametrize("method", thinned(METHODS, 4), ids=lambda m: m.id)
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
        told = [c for c in p.comments if f"{made} images instead of {asked}" in c]
        assert len(told) == (made != asked)

    def test_notes_are_told_in_the_result_and_not_in_infotexts(self, ui):
        p = ui.job(JOINT, True, JOINT.label)
        p.is_api = True
        result = ui.run(p)
        (note,) = result.extra_generation_params["layerdiffusion_notes"]
        assert "3 images instead of 1" in note
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

    @pytest.mark.parametrize("on", [True, False])
    def test_comments_are_what_the_host_takes_for_such(self, ui, on):
        ui.shared.opts.add_option("enable_prompt_comments", ui.shared.OptionInfo(not on))
        written = "a cat # AND <lora:x:1>\n#fog\nin rain" if on else "a #1 cat"
        texts = {"fg_additional_prompt": written, "blend_negative_prompt": "fog # or haze"}
        override = {"enable_prompt_comments": on}
        result, p = ui.generate(JOINT, texts, override_settings=override)
        prompts, negatives = p.conditioned_on[0]
        assert prompts[0] == ("a cat\nin rain, a boat" if on else "a #1 cat, a boat")
        assert negatives[2] == ("fog, blurry" if on else "fog # or haze, blurry")
        assert ("haze" in result.infotexts[0]) != on

    def test_a_host_without_comments_keeps_them(self, ui):
        assert "enable_prompt_comments" not in ui.shared.opts.data
        _, p = ui.generate(JOINT, {"fg_additional_prompt": "a #1 cat"})
        assert p.conditioned_on[0][0][0] == "a #1 cat, a boat"

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
