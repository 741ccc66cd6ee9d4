"""Both steps of a chain in one job, in stand-ins for the WebUI's loop."""

from __future__ import annotations

import base64
import io
import json
import shutil
import zipfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from started_webui import WebUI, as_base64, picture, request

from lib_layerdiffuse.errors import HostError, SettingsError, WeightsNotFoundError
from lib_layerdiffuse.methods import Layer, find_method
from lib_layerdiffuse.pipeline import Session
from lib_layerdiffuse.settings.chains import second_method

FROM_BG, FROM_FG = find_method("bg_to_blended_sdxl"), find_method("fg_to_blended_sdxl")
JOINT = find_method("joint_sd15")
OURS = ("layerdiffusion_layers", "layerdiffusion_notes", "layerdiffusion_files")
LEFT_OUT = "the second step was left out where the first was stopped."
FAILED = "the second step failed, so its layers are missing."


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


def chained(ui, method=FROM_BG, settings=None, **fields):
    """Returns the result and the processing object of a chain."""
    return ui.generate(method, {"chain": True} | (settings or {}), **fields)


def told(result):
    found = (result.extra_generation_params.get(name, []) for name in OURS)
    return dict(zip(("layers", "notes", "files"), found, strict=True))


def parsed(text):
    return import_module("webui_infotext").parse(text)


def arrays(images):
    return [np.asarray(image) for image in images]


class Steps:
    """Another script's eye on each processing run."""

    def __init__(self, ui):
        self.runs, self.texts = [], []

        def process(script, p, *_):
            self.runs.append(p)
            self.texts.append(ui.shared.state.textinfo)

        self.script = ui.new_script(process=process)


class TestASet:
    @pytest.mark.parametrize("method", [FROM_BG, FROM_FG], ids=lambda m: m.id)
    def test_has_the_given_layer_the_blended_and_the_made(self, ui, method):
        result, _ = chained(ui, method)
        after = second_method(method)
        (given,), (made,) = method.inputs, after.outputs
        assert told(result)["layers"] == ["blended", made.value, f"{given.value}-given"]
        assert [i.mode for i in result.images] == ["RGB", "RGBA" if made is Layer.FG else "RGB"]
        assert (np.asarray(result.extra_images[-1]) == (200, 30, 90, 128)).all()
        assert ui.saved() == sorted(f"00000-100-{name}.png" for name in ("blended", made.value))
        assert told(result)["notes"] == []

    def test_is_what_two_jobs_by_hand_make(self, ui):
        result, _ = chained(ui)
        (blended,) = ui.generate(FROM_BG)[0].images
        by_hand = request(second_method(FROM_BG), blend_image=as_base64(blended))
        (fg,) = ui.run(ui.job(FROM_BG, by_hand)).images
        for got, wanted in zip(arrays(result.images), arrays([blended, fg]), strict=True):
            np.testing.assert_array_equal(got, wanted)

    def test_gets_the_same_twice(self, ui):
        first, second = (arrays(chained(ui)[0].images) for _ in range(2))
        assert all(map(np.array_equal, first, second))

    def test_in_img2img_ends_in_a_plain_second_step(self, ui):
        start = picture(value=20)
        result, _ = chained(ui, init_images=[start], kind=import_module("img2img_job").Img2ImgJob)
        blended, fg = result.images
        assert not np.array_equal(np.asarray(blended), np.asarray(chained(ui)[0].images[0]))
        by_hand = request(second_method(FROM_BG), blend_image=as_base64(blended))
        (wanted,) = ui.run(ui.job(FROM_BG, by_hand)).images
        np.testing.assert_array_equal(np.asarray(fg), np.asarray(wanted))

    def test_has_the_extras_of_both_steps(self, ui):
        result, _ = chained(ui, settings={"show_matte": True, "show_composite": True})
        assert told(result)["layers"][2:] == ["fg-matte", "composite", "bg-given"]


class TestTheSecondStep:
    @pytest.mark.parametrize(
        ("method", "sampler", "stop_at"), [(FROM_BG, "Euler a", 1.0), (FROM_FG, "UniPC", 0.5)]
    )
    def test_has_the_authors_sampler_and_stop_at(self, ui, method, sampler, stop_at):
        result, _ = chained(ui, method, {"ending_step": 0.75, "weight": 0.5})
        first, second = map(parsed, result.infotexts)
        assert (first["Sampler"], first["Schedule type"]) == ("DPM++ 2M SDE", "Karras")
        assert (second["Sampler"], second["Schedule type"]) == (sampler, "Automatic")
        stops = [text["layerdiffusion_ending_step"] for text in (first, second)]
        assert stops == ["0.75", f"{stop_at:g}"]
        assert second["layerdiffusion_weight"] == "0.5"

    def test_runs_by_itself_when_its_infotext_is_pasted(self, ui):
        own = {"blend_additional_prompt": "dog in a room", "fg_additional_prompt": "dog"}
        own |= {"fg_negative_prompt": "cat"}
        result, p = chained(ui, settings=own, styles=["in oil"])
        first, second = map(parsed, result.infotexts)
        assert p.conditioned_on == [(["dog in a room, a boat, in oil"], ["blurry"])]
        assert first["Prompt"] == "a boat, in oil"
        assert first["layerdiffusion_chain"] == "True"
        assert first["layerdiffusion_fg_additional_prompt"] == "dog"
        assert (second["Prompt"], second["Negative prompt"]) == (
            "dog, a boat, in oil",
            "cat, blurry",
        )
        assert "layerdiffusion_chain" not in second
        assert not any("additional_prompt" in key for key in second)
        assert second["layerdiffusion_method"] == second_method(FROM_BG).label
        assert second["layerdiffusion_blend_image_hash"]
        assert second["layerdiffusion_bg_image_hash"] == first["layerdiffusion_bg_image_hash"]

    def test_lets_other_scripts_act_as_in_the_first(self, ui):
        steps = Steps(ui)
        _, p = chained(ui, before=[steps.script], seed=7, user="me")
        first, second = steps.runs
        assert first is p
        assert second is not p
        assert (second.scripts, second.user, second.closed) == (p.scripts, "me", True)
        assert second.script_args[1:] == p.script_args[1:]
        assert second.scripts_setup_complete
        assert (p.batch_size, p.seed, p.override_settings) == (1, 7, {})

    def test_says_what_it_does(self, ui):
        steps = Steps(ui)
        ui.shared.state.job_count = -1
        chained(ui, before=[steps.script], n_iter=2)
        assert steps.texts == [
            None,
            "LayerDiffuse: step 2 of 2, set 1 of 2",
            "LayerDiffuse: step 2 of 2, set 2 of 2",
        ]
        assert ui.shared.state.textinfo is None
        assert ui.shared.state.job_count == 4

    def test_adds_to_a_count_that_is_known_already(self, ui):
        ui.shared.state.job_count = 5
        chained(ui, n_iter=2, batch_size=2)
        assert ui.shared.state.job_count == 9

    def test_is_not_what_the_webui_remembers_as_the_last_job(self, ui, tmp_path, monkeypatch):
        last = tmp_path / "params.txt"

        def process(script, p, *_):
            last.write_text(p.sampler_name)

        monkeypatch.setattr(
            import_module("lib_layerdiffuse.webui.flows.second_step"), "data_path", tmp_path
        )
        chained(ui, before=[ui.new_script(process=process)])
        assert last.read_text() == "DPM++ 2M SDE"


class TestManySets:
    def test_each_has_the_second_step_of_its_own_blended_picture(self, ui):
        result, _ = chained(ui, batch_size=2, n_iter=2)
        assert told(result)["layers"] == [*["blended", "fg"] * 4, "bg-given"]
        assert result.all_seeds == [100, 100, 101, 101, 102, 102, 103, 103]
        assert len(result.all_prompts) == len(result.all_subseeds) == len(result.infotexts) == 8
        for row in range(4):
            blended, fg = result.images[2 * row : 2 * row + 2]
            by_hand = request(second_method(FROM_BG), blend_image=as_base64(blended))
            (wanted,) = ui.run(ui.job(FROM_BG, by_hand, seed=100 + row)).images
            np.testing.assert_array_equal(np.asarray(fg), np.asarray(wanted))
        seeds = [parsed(text)["Seed"] for text in result.infotexts]
        assert seeds == [str(seed) for seed in result.all_seeds]

    def test_a_grid_stays_before_them(self, ui):
        ui.shared.opts.data["return_grid"] = True
        result, _ = chained(ui, batch_size=2)
        names = [None, "blended", "fg", "blended", "fg", "bg-given"]
        assert told(result)["layers"] == names
        assert len(result.infotexts) == 5
        assert result.all_seeds == [100, 100, 101, 101]


class TestLayerFiles:
    def entries(self, ui, path):
        with zipfile.ZipFile(ui.outputs / Path(path).name) as archive:
            return [e["name"] for e in json.loads(archive.read("layers.json"))["layers"]]

    def test_hold_all_three(self, ui):
        ui.shared.opts.data["layerdiffuse_layer_files"] = ["zip"]
        result, _ = chained(ui, batch_size=2)
        files = told(result)["files"]
        assert len(files) == 2
        for path in files:
            assert self.entries(ui, path) == ["Background", "Foreground", "Blended"]
        assert result.comments.count("layers saved as") == 2

    def test_hold_what_there_is_without_a_second_step(self, ui, monkeypatch):
        ui.shared.opts.data["layerdiffuse_layer_files"] = ["zip"]
        break_second(ui, monkeypatch, at=2)
        result, _ = chained(ui, batch_size=2)
        whole, half = told(result)["files"]
        assert self.entries(ui, whole) == ["Background", "Foreground", "Blended"]
        assert self.entries(ui, half) == ["Background", "Blended"]


def break_second(ui, monkeypatch, at=1):
    """Makes the second step of a set fail, counted from 1."""
    passes = import_module("lib_layerdiffuse.webui.job.passes")
    inject, calls = passes.inject, []

    def spy(settings, *rest):
        calls.append(settings)
        if sum(one.method.id == "bg_blended_to_fg_sdxl" for one in calls) == at:
            raise HostError("Expected room, got none.", "Choose a smaller size.")
        return inject(settings, *rest)

    monkeypatch.setattr(passes, "inject", spy)


class TestFaults:
    @pytest.mark.parametrize("is_api", [False, True])
    def test_the_first_step_stays_and_the_error_is_told(self, ui, monkeypatch, is_api):
        break_second(ui, monkeypatch)
        result, _ = chained(ui, n_iter=2, is_api=is_api)
        note = f"{FAILED} Expected room, got none. Choose a smaller size."
        assert told(result) == {
            "layers": ["blended", "blended", "bg-given"],
            "notes": [note],
            "files": [],
        }
        assert result.comments == f"LayerDiffuse: {note}\n"
        plain = ui.run(ui.job(FROM_BG, False, checkpoint=ui.checkpoint))
        assert [image.mode for image in plain.images] == ["RGB"]

    def test_later_sets_lose_no_made_layer(self, ui, monkeypatch):
        break_second(ui, monkeypatch, at=2)
        result, _ = chained(ui, n_iter=3)
        assert told(result)["layers"] == ["blended", "fg", "blended", "blended", "bg-given"]

    def test_a_method_that_begins_none_is_refused(self, ui):
        p = ui.job(JOINT, request(JOINT, chain=True))
        with pytest.raises(SettingsError, match="has no other layer to extract") as caught:
            ui.run(p)
        assert caught.value.field == "method"
        assert p.sampled_with == []

    def test_a_missing_file_of_the_second_step_is_met_before_the_first(
        self, webui, models, tmp_path
    ):
        own = shutil.copytree(models, tmp_path / "models")
        (own / "layer_model" / second_method(FROM_BG).weights.filename).unlink()
        ui = WebUI(own, tmp_path / "outputs")
        p = ui.job(FROM_BG, request(FROM_BG, chain=True))
        with pytest.raises(WeightsNotFoundError):
            ui.run(p)
        assert p.sampled_with == []

    def test_only_one_methods_weights_are_in_memory(self, ui, monkeypatch):
        loaded = []
        weights = Session.weights
        monkeypatch.setattr(
            Session, "weights", lambda s, x: loaded.append(x.method.id) or weights(s, x)
        )
        chained(ui, batch_size=2)
        turns = [a for a, b in zip(loaded, [None, *loaded], strict=False) if a != b]
        assert turns == [FROM_BG.id, second_method(FROM_BG).id]


class TestStops:
    def stop(self, ui, name, at, hook="process_batch"):
        """Returns a script that sets a flag of the host's in a processing run, counted from 1."""
        runs = []

        def act(script, p, *_, **__):
            runs.append(p)
            if len(runs) == at:
                setattr(ui.shared.state, name, True)

        return ui.new_script(**{hook: act})

    @pytest.mark.parametrize("name", ["interrupted", "stopping_generation"])
    def test_an_interrupted_first_step_has_no_second(self, ui, name):
        result, _ = chained(ui, n_iter=2, before=[self.stop(ui, name, at=1)])
        assert told(result)["layers"] == ["blended", "bg-given"]
        assert told(result)["notes"] == [LEFT_OUT]

    def test_an_interrupted_second_step_ends_the_job(self, ui):
        result, _ = chained(ui, n_iter=2, before=[self.stop(ui, "interrupted", at=3)])
        assert told(result)["layers"] == ["blended", "fg", "blended", "bg-given"]
        assert LEFT_OUT in told(result)["notes"]

    def test_a_skipped_first_step_is_left_alone(self, ui):
        result, _ = chained(ui, n_iter=2, before=[self.stop(ui, "skipped", at=2)])
        assert told(result)["layers"] == ["blended", "fg", "blended", "bg-given"]

    def test_a_skipped_second_step_does_not_stop_the_next(self, ui):
        result, _ = chained(ui, n_iter=2, before=[self.stop(ui, "skipped", at=3)])
        assert told(result)["layers"] == ["blended", "fg", "blended", "fg", "bg-given"]


def test_the_api_gives_all_layers_by_name(ui):
    path = "/sdapi/v1/txt2img"
    args = {"LayerDiffuse": {"args": [request(FROM_BG, chain=True)]}}
    body = {"prompt": "x", "width": 64, "height": 64, "alwayson_scripts": args}
    status, answer = ui.serve(FROM_BG).request("POST", path, body)
    assert status == 200
    info = json.loads(answer["info"])
    assert info["extra_generation_params"]["layerdiffusion_layers"] == ["blended", "fg", "bg-given"]
    assert len(answer["images"]) == 3


def test_a_lossy_answer_keeps_alpha(ui):
    ui.shared.opts.data["samples_format"] = "jpg"
    p = ui.job(FROM_BG, request(FROM_BG, chain=True))
    texts, _ = import_module("modules.api.api").answer(p)
    kinds = [Image.open(io.BytesIO(base64.b64decode(text))) for text in texts]
    assert [(one.format, one.mode) for one in kinds[:2]] == [("JPEG", "RGB"), ("PNG", "RGBA")]


@pytest.mark.parametrize(("method", "steps"), [(FROM_FG, 2), (FROM_FG, 3), (FROM_BG, 1)])
def test_too_few_steps_for_the_second_sampler_are_told_before_the_first(ui, method, steps):
    p = ui.job(method, request(method, chain=True), steps=steps)
    if method is FROM_BG or steps == 3:
        assert told(ui.run(p))["notes"] == []
        return
    with pytest.raises(SettingsError, match="at least 3 sampling steps, but there are"):
        ui.run(p)
    assert p.sampled_with == []
