"""What is refused before sampling, and how the WebUI and its API are told."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from started_webui import WebUI, request
from tiny_weights import patch_file, put

from lib_layerdiffuse.errors import (
    ArchMismatchError,
    ChecksumError,
    MissingCapabilityError,
    MissingLayerError,
    SettingsError,
    WeightsNotFoundError,
)
from lib_layerdiffuse.methods import DECODERS, Arch, find_method

JOINT, FG_SDXL = find_method("joint_sd15"), find_method("fg_attn_sdxl")


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


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
        with pytest.raises(MissingCapabilityError, match="takes 9 channels"):
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
