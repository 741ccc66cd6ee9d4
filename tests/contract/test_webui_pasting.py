"""Infotexts of jobs and of the original, pasted into the panel by the WebUI's rules."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from started_webui import WebUI, as_base64, picture
from thinned import thinned

from lib_layerdiffuse.methods import Layer, find_method
from lib_layerdiffuse.settings.layer_settings import LayerSettings

README = Path(__file__).parents[1] / "data" / "readme_infotexts.txt"
TEXTS = README.read_text().strip().split("\n\n")
JOINT, FG_SDXL = find_method("joint_sd15"), find_method("fg_attn_sdxl")
TO_BG, TO_FG = find_method("fg_blended_to_bg_sdxl"), find_method("bg_to_fg_sd15")
FIELDS = list(LayerSettings.__dataclass_fields__)


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


def store():
    return import_module("lib_layerdiffuse.webui.job.kept_images").store()


def notices():
    return import_module("gradio").notices


def paste(ui, text):
    """Returns the panel's new values by field after pasting into a panel that was just made."""
    ui.job(JOINT)
    (script,) = ui.runner.alwayson_scripts
    by_component = dict(zip(ui.runner.inputs[1:], FIELDS, strict=True))
    utils = import_module("modules.infotext_utils")
    changed = utils.paste(script.infotext_fields, text)
    assert not utils.reports
    found = {by_component.get(component, "chosen"): value for component, value in changed.items()}
    assert found.pop("chosen", False) is ("method" in found)  # A pasted method is a chosen one.
    return found


def made_from(ui, method=TO_BG, **fields):
    """Returns the infotext of a job with an image of its own for each slot."""
    api = {Layer.FG: "fg_image", Layer.BG: "bg_image", Layer.BLENDED: "blend_image"}
    given = {
        api[layer]: as_base64(picture(value=10 * i, alpha=100 + i))
        for i, layer in enumerate(method.inputs)
    }
    result, p = ui.generate(method, given, **fields)
    return result.infotexts[0], p


class TestTheOriginals:
    @pytest.mark.parametrize("text", thinned(TEXTS, 3))
    def test_every_infotext_of_its_readme_fills_the_panel(self, ui, text):
        values = dict(part.split(": ", 1) for part in text.split("\n")[-1].split(", "))
        found = paste(ui, text)
        label = values["layerdiffusion_method"]
        assert found["enabled"] is True
        assert label in find_method(found["method"]).aliases
        assert found["method"] in ui.runner.inputs[2].options["choices"]
        assert found["strength"] == float(values["layerdiffusion_weight"])
        assert found["stop_at"] == float(values["layerdiffusion_ending_step"])
        assert found["resize_mode"] == values["layerdiffusion_resize_mode"]
        for name, key in (("fg", "fg"), ("bg", "bg"), ("blended", "blend")):
            wanted = values.get(f"layerdiffusion_{key}_additional_prompt", "")
            assert found[f"{name}_prompt"] == wanted
            assert found[f"{name}_negative_prompt"] == ""

    @pytest.mark.parametrize("text", thinned(TEXTS, 3))
    def test_pictures_that_it_does_not_carry_are_named(self, ui, text):
        found = paste(ui, text)
        inputs = find_method(found["method"]).inputs
        assert not found.keys() & {"fg_image", "bg_image", "blended_image"}
        assert len(notices()) == len(inputs)
        for layer, (kind, told) in zip(inputs, notices(), strict=True):
            assert kind == "info"
            assert f"the {layer.label} slot" in told


class TestRoundTrip:
    def test_all_settings_come_back(self, ui):
        given = {
            "weight": 0.123456789,
            "ending_step": 0.75,
            "resize_mode": "Resize and Fill",
            "fg_additional_prompt": '"quoted", with: marks',
            "bg_additional_prompt": "two\nlines",
            "blend_additional_prompt": "512x512",
            "fg_negative_prompt": '"all of it"',
            "bg_negative_prompt": "⛵ {x|y}",
            "blend_negative_prompt": "layerdiffusion_blend_negative_prompt",
            "show_matte": True,
        }
        result, _ = ui.generate(JOINT, given)
        wanted = LayerSettings.from_args([given | {"method": JOINT.id}])
        for text in result.infotexts:
            found = paste(ui, text)
            assert (found.pop("method"), found.pop("resize_mode")) == (
                JOINT.label,
                "Resize and Fill",
            )
            assert found == {name: getattr(wanted, name) for name in found}
            assert not {name for name in FIELDS if name.endswith("prompt")} - found.keys()

    def test_another_jobs_infotext_switches_off_and_changes_nothing_else(self, ui):
        text = ui.run(ui.job(JOINT, False)).infotexts[0]
        assert paste(ui, text) == {"enabled": False}
        assert not notices()

    def test_an_infotext_without_values_switches_off(self, ui):
        assert paste(ui, "a boat") == {"enabled": False}


class TestPictures:
    def test_they_come_back(self, ui):
        text, _ = made_from(ui)
        found = paste(ui, text)
        assert "bg_image" not in found
        for i, name in enumerate(("fg_image", "blended_image")):
            assert isinstance(found[name], Image.Image)
            wanted = picture(value=10 * i, alpha=100 + i)
            assert np.array_equal(np.asarray(found[name]), np.asarray(wanted))
        assert not notices()

    def test_pasting_and_running_again_gives_the_same(self, ui):
        text, _ = made_from(ui)
        panel = paste(ui, text)
        ui.job(TO_BG)
        values = dict(zip(FIELDS, [c.value for c in ui.runner.inputs[1:]], strict=True)) | panel
        again = ui.run(ui.job(TO_BG, *values.values()))
        assert again.infotexts[0] == text
        assert store().size().images == 2

    def test_each_is_kept_once(self, ui):
        for _ in range(2):
            made_from(ui, n_iter=2)
        assert store().size().images == 2
        assert store().folder.parent == Path(ui.outputs.parent / "webui")

    def test_a_missing_one_is_named_and_its_slot_emptied(self, ui):
        text, _ = made_from(ui)
        (name,) = [n for n in text.split(", ") if n.startswith("layerdiffusion_blend_image_hash")]
        name = name.rpartition(" ")[2]
        (store().folder / f"{name}.png").unlink()
        found = paste(ui, text)
        assert found["blended_image"] is None
        assert found["fg_image"] is not None
        ((kind, told),) = notices()
        assert kind == "warning"
        assert "the Blended slot" in told
        assert name[:12] in told

    @pytest.mark.parametrize("trick", ["../../secret", "<b>x</b>", "ab" * 31])
    def test_a_name_that_is_none_is_not_repeated(self, ui, trick):
        text, _ = made_from(ui, TO_FG)
        kept = text.split("layerdiffusion_bg_image_hash: ")[1].split(",")[0]
        assert paste(ui, text.replace(kept, trick))["bg_image"] is None
        ((_, told),) = notices()
        assert trick not in told

    def test_the_option_keeps_nothing(self, ui):
        ui.shared.opts.data["layerdiffuse_keep_pictures"] = False
        text, _ = made_from(ui)
        assert "_hash" not in text
        assert not store().folder.exists()
        assert "fg_image" not in paste(ui, text)
        assert [kind for kind, _ in notices()] == ["info", "info"]

    def test_the_settings_page_shows_the_size(self, ui):
        made_from(ui)
        import_module("lib_layerdiffuse.webui.page.options").add_page()
        info = ui.shared.opts.data_labels["layerdiffuse_keep_pictures"]
        assert info.default is True
        assert "2 of them took 0.0 MiB" in info.comment_after

    def test_a_full_disk_is_told_and_does_not_end_the_job(self, ui, monkeypatch):
        Path(ui.outputs.parent / "webui").write_text("in the way")
        text, p = made_from(ui)
        assert "_hash" not in text
        assert [c for c in p.comments if "pasting will not bring the images back" in c]

    def test_a_page_without_notices_still_restores(self, ui, monkeypatch):
        monkeypatch.delattr(import_module("gradio"), "Info")
        monkeypatch.delattr(import_module("gradio"), "Warning")
        text, _ = made_from(ui)
        for kept in store().folder.iterdir():
            kept.unlink()
        assert paste(ui, text)["fg_image"] is None


class TestNoTransparency:
    @staticmethod
    def decoded(ui, monkeypatch, alpha):
        rgba_u8 = np.full((64, 64, 4), alpha, np.uint8)
        monkeypatch.setattr(ui.script_module.results, "decode", lambda *_, **__: rgba_u8)

    @pytest.mark.parametrize(("alpha", "verdict"), [(255, "opaque"), (0, "empty")])
    def test_it_is_told_once_with_the_result(self, ui, monkeypatch, alpha, verdict):
        self.decoded(ui, monkeypatch, alpha)
        result, p = ui.generate(FG_SDXL, batch_size=3)
        (note,) = result.extra_generation_params["layerdiffusion_notes"]
        assert note.startswith(f"a foreground came out {verdict}")
        assert [c for c in p.comments if note in c]
        assert not any("came out" in text for text in result.infotexts)

    def test_a_transparent_result_is_not_told(self, ui, monkeypatch):
        self.decoded(ui, monkeypatch, 100)
        result, p = ui.generate(FG_SDXL)
        assert not p.comments
        assert "layerdiffusion_notes" not in result.extra_generation_params

    def test_a_stopped_one_is_not_told(self, ui, monkeypatch):
        self.decoded(ui, monkeypatch, 255)

        def stop(self, p, *_, **__):
            ui.shared.state.interrupted = True

        other = ui.new_script(post_sample=stop)
        _, p = ui.generate(FG_SDXL, after=[other])
        assert not [c for c in p.comments if "came out" in c]

    def test_backgrounds_are_never_measured(self, ui, monkeypatch):
        monkeypatch.setattr(ui.script_module.results, "measure", lambda *_: 1 / 0)
        result, _ = ui.generate(TO_BG)
        assert [image.mode for image in result.images] == ["RGB"]
