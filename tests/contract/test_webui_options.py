"""The page of the WebUI's settings: each option acts, and the command line wins."""

from __future__ import annotations

import os
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from started_webui import WebUI, as_base64, picture, request
from thinned import thinned
from tiny_weights import put_method

from lib_layerdiffuse import pipeline
from lib_layerdiffuse.errors import DownloadError, SettingsError, WeightsNotFoundError
from lib_layerdiffuse.imaging.images import composite, from_u8, to_u8
from lib_layerdiffuse.methods import METHODS, find_method

JOINT, FG_SD15, TO_BG = (find_method(i) for i in ("joint_sd15", "fg_attn_sd15", "fg_to_bg_sd15"))
KEYS = [
    "layerdiffuse_models_folders",
    "layerdiffuse_offline",
    "layerdiffuse_decoder_precision",
    "layerdiffuse_decoder_views",
    "layerdiffuse_decoder_compiled",
    "layerdiffuse_offset_strength",
    "layerdiffuse_outputs",
    "layerdiffuse_layer_files",
    "layerdiffuse_keep_pictures",
    "layerdiffuse_pictures_count",
    "layerdiffuse_pictures_mib",
]
OWNERS = [KEYS[0], *KEYS[-2:]]


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs", views=8)


def choose(ui, **values):
    ui.shared.opts.data.update({f"layerdiffuse_{name}": value for name, value in values.items()})


def decoded(monkeypatch, ui):
    """Returns where the arguments of each decoding are noted."""
    seen = []

    def spy(decoder, *args, **more):
        rgba = pipeline.decode(decoder, *args, **more)
        seen.append((more["views"], next(decoder.net.parameters()).dtype))
        return rgba

    monkeypatch.setattr(ui.script_module.results, "decode", spy)
    return seen


class TestPage:
    def test_it_has_every_option_in_one_section_before_the_host_makes_its_page(self, ui):
        labels = ui.shared.opts.data_labels
        ours = [key for key in labels if key.startswith("layerdiffuse_")]
        assert ours == KEYS
        assert {labels[key].section for key in ours} == {("layerdiffuse", "LayerDiffuse")}
        for key in ours:
            assert labels[key].label
            assert ui.shared.opts.data[key] == labels[key].default

    def test_what_can_be_chosen(self, ui):
        labels = ui.shared.opts.data_labels
        choices = {key: (labels[key].component_args or {}).get("choices") for key in KEYS}
        assert choices["layerdiffuse_decoder_precision"] == ["auto", "fp32", "fp16"]
        assert choices["layerdiffuse_decoder_views"] == [8, 4, 2, 1, "adaptive"]
        assert choices["layerdiffuse_layer_files"] == ["psd", "ora", "zip"]
        assert choices["layerdiffuse_outputs"] == [
            "Checkerboard preview",
            "Matte",
            "True composite",
            "RGB before alpha",
        ]

    def test_folders_are_hidden_where_the_host_hides_them(self, ui):
        ui.shared.hide_dirs = {"visible": False}
        import_module("lib_layerdiffuse.webui.page.options").add_page()
        args = ui.shared.opts.data_labels["layerdiffuse_models_folders"].component_args
        assert args["visible"] is False

    def test_a_chosen_value_stays_when_the_page_is_made_again(self, ui):
        choose(ui, decoder_views=2)
        import_module("lib_layerdiffuse.webui.page.options").add_page()
        assert ui.shared.opts.layerdiffuse_decoder_views == 2


class TestWhatIsTheOwners:
    """Programs may not say which folders are looked in, nor when files are deleted."""

    def test_programs_cannot_set_it(self, ui):
        opts = ui.shared.opts
        assert [key for key in KEYS if opts.data_labels[key].restrict_api] == OWNERS
        before = dict(opts.data)
        for key in OWNERS:
            assert not opts.set(key, "//nas/share", is_api=True)
        assert opts.data == before

    def test_nor_where_the_host_does_not_know_them_for_programs(self, ui):
        app, opts = ui.serve(FG_SD15), ui.shared.opts
        before = dict(opts.data)
        asked = dict.fromkeys(OWNERS, "//nas/share")
        asked["layerdiffuse_decoder_views"] = 2
        assert app.request("POST", "/sdapi/v1/options", asked)[0] == 200
        assert opts.data == before | {"layerdiffuse_decoder_views": 2}

    def test_the_page_can(self, ui):
        for key in OWNERS:
            assert ui.shared.opts.set(key, "7")
            assert ui.shared.opts.data[key] == "7"

    def test_whatever_names_a_path_is(self, ui):
        labels = ui.shared.opts.data_labels
        words = ("folder", "dir", "path", "file")
        found = [
            key
            for key in KEYS
            if any(word in key.split("_", 1)[1] for word in words)
            and "choices" not in (labels[key].component_args or {})
        ]
        assert found == ["layerdiffuse_models_folders"]
        assert set(found) <= set(OWNERS)

    @pytest.mark.parametrize("key", OWNERS)
    def test_a_job_that_would_set_it_is_refused(self, ui, key):
        p = ui.job(FG_SD15, request(FG_SD15), override_settings={key: "/a"})
        with pytest.raises(SettingsError, match="cannot be set for a job") as caught:
            ui.run(p)
        assert caught.value.field == key
        assert p.sampled_with == []

    def test_it_is_not_offered_where_the_host_cannot_keep_programs_off(self, ui, monkeypatch):
        class Older(ui.shared.OptionInfo):
            def __init__(self, *args, **more):
                super().__init__(*args, **more)
                del self.restrict_api

        monkeypatch.setattr(ui.shared, "OptionInfo", Older)
        opts = ui.shared.opts
        for key in KEYS:
            del opts.data_labels[key]
        opts.data["layerdiffuse_models_folders"] = "/by/hand"
        import_module("lib_layerdiffuse.webui.page.options").add_page()
        assert [key for key in KEYS if key not in opts.data_labels] == OWNERS
        now = import_module("lib_layerdiffuse.webui.job.choices").choices()
        assert now.folders == (Path("/by/hand"),)


class TestKeptPictures:
    @pytest.fixture
    def kept(self, ui):
        """Keeps a picture in a job that begins now."""
        images = import_module("lib_layerdiffuse.webui.job.kept_images")

        def keep(value):
            ui.shared.state.time_start = time.time()
            return images.keep_image(np.full((2, 2, 4), value / 255, np.float32), pytest.fail)

        keep.folder = images.store().folder
        return keep

    def names(self, kept):
        return {path.stem for path in kept.folder.iterdir()}

    def test_the_oldest_go_and_the_running_jobs_stay(self, ui, kept):
        choose(ui, pictures_count=2)
        old = [kept(value) for value in range(4)]
        assert self.names(kept) == set(old)  # Within seconds.
        for place, name in enumerate(old):
            os.utime(kept.folder / f"{name}.png", (place, place))
        new = kept(9)
        assert self.names(kept) == {old[3], new}

    def test_by_bytes(self, ui, kept):
        path = kept.folder / f"{kept(1)}.png"
        os.truncate(path, 2**20)
        os.utime(path, (1, 1))
        choose(ui, pictures_mib=1)
        new = kept(2)
        assert self.names(kept) == {new}

    def test_a_job_keeps_all_its_own(self, ui):
        choose(ui, pictures_count=1)
        method = find_method("fg_blended_to_bg_sdxl")
        ui.shared.state.time_start = time.time()
        ui.generate(method, {"blend_image": as_base64(picture(10))})
        store = import_module("lib_layerdiffuse.webui.job.kept_images").store()
        assert store.size().images == 2


class TestDecoder:
    @pytest.mark.parametrize("views", [8, 4, 2, 1, "adaptive"])
    def test_views(self, ui, monkeypatch, views):
        seen = decoded(monkeypatch, ui)
        choose(ui, decoder_views=views)
        result, _ = ui.generate(FG_SD15)
        assert [views for views, _ in seen] == [views]
        notes = result.extra_generation_params.get("layerdiffusion_notes", [])
        assert not any("stopped" in note for note in notes)

    @pytest.mark.parametrize(
        ("option", "dtype"),
        [("auto", torch.float32), ("fp32", torch.float32), ("fp16", torch.float16)],
    )
    def test_precision(self, ui, monkeypatch, option, dtype):
        seen = decoded(monkeypatch, ui)
        choose(ui, decoder_precision=option, decoder_views=1)
        ui.generate(FG_SD15)
        assert [dtype for _, dtype in seen] == [dtype]

    def test_what_cannot_be_compiled_is_told_once(self, ui, monkeypatch):
        def refuses(*_, **__):
            raise RuntimeError("Compiler: cl is not found.")

        monkeypatch.setattr(torch, "compile", refuses)
        found = []
        for compiled in (False, True, True):
            choose(ui, decoder_compiled=compiled, decoder_views=1)
            result, _ = ui.generate(FG_SD15)
            notes = result.extra_generation_params.get("layerdiffusion_notes", [])
            found.append((np.asarray(result.images[0]), [n for n in notes if "compiled" in n]))
        assert [len(notes) for _, notes in found] == [0, 1, 0]
        assert "Compiler: cl is not found" in found[1][1][0]
        assert all(np.array_equal(image, found[0][0]) for image, _ in found)

    def test_digits_lost_in_fp16_come_back_in_fp32(self, ui):
        pictures = []
        for precision in ("fp32", "fp16", "fp32"):
            choose(ui, decoder_precision=precision, decoder_views=1)
            result, _ = ui.generate(FG_SD15)
            pictures.append(np.asarray(result.images[0]))
        assert np.array_equal(pictures[0], pictures[2])

    def test_a_jobs_own_overrides_count(self, ui, monkeypatch):
        seen = decoded(monkeypatch, ui)
        for override in ({"layerdiffuse_decoder_views": 2}, {}):
            ui.generate(FG_SD15, override_settings=override)
        assert [views for views, _ in seen] == [2, 8]


@pytest.mark.parametrize(
    ("option", "value"),
    thinned(
        [
            ("decoder_views", 3),
            ("decoder_precision", "int8"),
            ("decoder_precision", ["auto"]),
            ("decoder_compiled", "always"),
            ("offline", "no"),
            ("offset_strength", "much"),
            ("offset_strength", float("nan")),
            ("offset_strength", -1),
            ("outputs", ["matte"]),
            ("outputs", "Matte"),
            ("outputs", [["Matte"]]),
            ("layer_files", ["gif"]),
            ("layer_files", "psd"),
            ("pictures_count", 0),
            ("pictures_mib", "many"),
            ("pictures_mib", float("nan")),
            ("models_folders", ["/a"]),
            ("models_folders", "~no-such-user/a"),
        ],
        4,
    ),
)
def test_other_values_end_the_job_before_sampling(ui, option, value):
    name = f"layerdiffuse_{option}"
    p = ui.job(FG_SD15, request(FG_SD15), override_settings={name: value})
    with pytest.raises(SettingsError) as caught:
        ui.run(p)
    assert caught.value.field == name
    assert "Settings, LayerDiffuse" in caught.value.hint
    assert p.sampled_with == []
    ui.run(ui.job(FG_SD15, request(FG_SD15)))


class TestOutputs:
    def test_what_is_always_given(self, ui):
        choose(ui, outputs=["Matte", "RGB before alpha"])
        result, _ = ui.generate(JOINT, {"show_preview": True})
        names = result.extra_generation_params["layerdiffusion_layers"][3:]
        assert names == ["fg-preview", "fg-matte", "fg-raw"]

    def test_an_output_chosen_by_its_old_name_is_still_given(self, ui):
        choose(ui, outputs=["Before decoding"])
        result, _ = ui.generate(FG_SD15)
        assert result.extra_generation_params["layerdiffusion_layers"] == ["fg", "fg-raw"]
        override = {"layerdiffuse_outputs": ["Before decoding", "Matte"]}
        result, _ = ui.generate(FG_SD15, override_settings=override)
        assert result.extra_generation_params["layerdiffusion_layers"][1:] == ["fg-matte", "fg-raw"]

    def test_the_page_shows_an_output_chosen_by_its_old_name(self, ui):
        choose(ui, outputs=["Matte", "Before decoding"])
        import_module("lib_layerdiffuse.webui.page.options").add_page()
        assert ui.shared.opts.layerdiffuse_outputs == ["Matte", "RGB before alpha"]
        choose(ui, outputs=[["Matte"]])
        import_module("lib_layerdiffuse.webui.page.options").add_page()
        assert ui.shared.opts.layerdiffuse_outputs == [["Matte"]]

    def test_rgb_before_alpha_is_the_hosts_picture(self, ui):
        raw = []
        keep = ui.new_script(postprocess_image=lambda self, p, pp, *_: raw.append(pp.image.copy()))
        result, _ = ui.generate(FG_SD15, {"show_raw": True}, before=[keep])
        assert np.array_equal(np.asarray(result.extra_images[0]), np.asarray(raw[0]))

    def test_the_composite_is_the_foreground_over_the_background(self, ui):
        result, _ = ui.generate(JOINT, {"show_composite": True}, batch_size=2)
        for k in range(2):
            fg, bg = (from_u8(np.asarray(image)) for image in result.images[3 * k : 3 * k + 2])
            wanted = to_u8(composite(fg, bg))
            assert np.array_equal(np.asarray(result.extra_images[k]), wanted)
        assert [name.split("-", 2)[2] for name in ui.saved()].count("composite.png") == 2

    def test_a_given_foreground_is_laid_over_the_background(self, ui):
        given = picture(alpha=128)
        more = {"fg_image": as_base64(given), "show_composite": True}
        result, _ = ui.generate(TO_BG, more)
        fg, bg = (from_u8(np.asarray(image)) for image in (given, result.images[0]))
        got = np.asarray(result.extra_images[0]).astype(int)
        assert np.abs(got - to_u8(composite(fg, bg))).max() <= 1

    def test_there_is_none_without_a_background(self, ui):
        result, _ = ui.generate(FG_SD15, {"show_composite": True})
        assert result.extra_images == []


class TestFolders:
    @pytest.fixture
    def elsewhere(self, tmp_path):
        """Two folders, each with the weights of one method."""
        folders = [tmp_path / "one", tmp_path / "two"]
        for folder, method in zip(folders, (FG_SD15, JOINT), strict=True):
            folder.mkdir()
            put_method(folder, method)
        return folders

    def test_each_line_is_a_folder(self, webui, tmp_path, elsewhere):
        ui = WebUI(tmp_path / "empty", tmp_path / "outputs")
        choose(ui, models_folders="\n".join(f"  {folder} " for folder in elsewhere) + "\n\n")
        for method in (FG_SD15, JOINT):
            assert ui.generate(method)[0].images[0].mode == "RGBA"

    def test_a_change_counts_for_the_next_job(self, webui, tmp_path, elsewhere):
        ui = WebUI(tmp_path / "empty", tmp_path / "outputs")
        with pytest.raises(WeightsNotFoundError):
            ui.generate(FG_SD15)
        choose(ui, models_folders=str(elsewhere[0]))
        assert ui.generate(FG_SD15)[0].images[0].mode == "RGBA"

    def test_the_command_lines_folder_comes_first(self, ui, elsewhere):
        ui.shared.cmd_opts.layerdiffuse_models_dir = str(elsewhere[1])
        choose(ui, models_folders=f"{elsewhere[0]}\n{elsewhere[1]}")
        now = import_module("lib_layerdiffuse.webui.job.choices").choices()
        assert now.folders == (elsewhere[1], elsewhere[0])
        assert now.store().extra_folders == now.folders

    @pytest.mark.parametrize(
        ("flag", "option", "offline"),
        [(True, False, True), (False, True, True), (False, False, False)],
    )
    def test_offline(self, ui, flag, option, offline):
        ui.shared.cmd_opts.layerdiffuse_offline = flag
        choose(ui, offline=option)
        store = import_module("lib_layerdiffuse.webui.job.choices").choices().store()
        assert store.offline is offline

    def test_offline_acts_on_the_next_job(self, webui, tmp_path, monkeypatch):
        ui = WebUI(tmp_path / "empty", tmp_path / "outputs")
        ui.shared.cmd_opts.layerdiffuse_offline = False
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
        monkeypatch.setattr("lib_layerdiffuse.weights.hub.RETRY_WAIT", 0.01)
        for offline, error in ((False, DownloadError), (True, WeightsNotFoundError)):
            choose(ui, offline=offline)
            with pytest.raises(error):
                ui.generate(METHODS[0])

    def test_a_home_folder(self, ui):
        choose(ui, models_folders="~/weights")
        (folder,) = import_module("lib_layerdiffuse.webui.job.choices").choices().folders
        assert folder == Path.home() / "weights"
