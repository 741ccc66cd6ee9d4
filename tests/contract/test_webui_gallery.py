"""The buttons below the gallery, and the layers of the composite view."""

from __future__ import annotations

import json
import re
import zipfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from documents import assert_shows, read_layers
from PIL import Image
from started_webui import SIZE, WebUI, picture
from thinned import thinned

from lib_layerdiffuse.documents.kinds import DocumentKind
from lib_layerdiffuse.imaging.images import ResizeMode, fit, from_u8, to_u8
from lib_layerdiffuse.methods import METHODS, Layer, find_method
from lib_layerdiffuse.settings.layer_settings import LayerSettings

FG, BG, BLENDED = Layer
JOINT, FG_SDXL = find_method("joint_sd15"), find_method("fg_attn_sdxl")
FROM_BG, TO_FG = find_method("bg_to_blended_sdxl"), find_method("bg_to_fg_sd15")
TO_BG = find_method("fg_to_bg_sd15")
FIELDS = list(LayerSettings.__dataclass_fields__)


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


@pytest.fixture
def gallery(ui):
    return import_module("lib_layerdiffuse.webui.page.gallery")


class Page:
    """What a tab of the WebUI's page holds after a job."""

    def __init__(self, ui, tab="txt2img"):
        self.gradio = import_module("gradio")
        ui.job(JOINT)
        script = ui.entry.LayerDiffuseScript()
        self.fields = dict(zip(FIELDS, script.ui(tab == "img2img"), strict=True))
        self.host = {
            f"{tab}_gallery": self.gradio.Gallery(),
            f"download_files_{tab}": self.gradio.Component(),
            f"generation_info_{tab}": self.gradio.Textbox(),
        }
        made = []
        init = self.gradio.Component.__init__

        def noting(component, *args, **options):
            made.append(component)
            init(component, *args, **options)

        self.gradio.Component.__init__ = noting
        try:
            for name, component in self.host.items():
                for elem_id, callback in script.after_component:
                    if elem_id == name:
                        callback(SimpleNamespace(component=component))
        finally:
            self.gradio.Component.__init__ = init
        self.made = made
        self.buttons = {c.value: c for c in made if isinstance(c, self.gradio.Button)}


def shown(result):
    """Returns a gallery's value and the page's generation info after a job."""
    images = [*result.images, *result.extra_images]
    info = {
        "extra_generation_params": result.extra_generation_params,
        "infotexts": result.infotexts,
        "index_of_first_image": result.index_of_first_image,
    }
    return [(image, None) for image in images], json.dumps(info)


def text(html):
    assert html.startswith('<div role="status">')
    return re.sub("<[^>]+>", "", html)


def said(update):
    slot, method, chosen, enabled, told = update
    assert chosen == enabled  # What comes next is chosen, too.
    return slot, method, enabled, text(told)


NOTHING = ({}, {}, {})
VIEW = "Look at the foreground over its background, a colour or any image"
NO_SLOTS = (None, None, None)


class TestThePage:
    @pytest.mark.parametrize("tab", ["txt2img", "img2img"])
    def test_each_button_acts_on_its_tabs_own_panel(self, ui, tab):
        page = Page(ui, tab)
        shown_gallery, _, info = page.host.values()
        for layer in Layer:
            (event,) = page.buttons[f"→ {layer.label}"].events
            slots = [page.fields[f"{one.value}_image"] for one in Layer]
            assert event["inputs"][:2] == [shown_gallery, info]
            assert event["inputs"][3:] == [page.fields["method"], *slots]
            names = (f"{layer.value}_image", "method", "enabled")
            slot, method, chosen, enabled, _ = event["outputs"]
            assert [slot, method, enabled] == [page.fields[name] for name in names]
            (noted,) = [e for e in method.events if e["kind"] == "input"]
            assert noted["outputs"] == [chosen]
            assert event["fn"].args == (layer,)
            assert "selected_gallery_index()" in event["_js"]
        look, show = page.buttons["Composite view"].events
        assert look["inputs"][:2] == [shown_gallery, info]
        assert show["inputs"] == look["outputs"][:1]
        assert f"layerdiffuseComposite.show('{tab}'" in show["_js"]
        for kind in DocumentKind:
            give, save = page.buttons[f"Layers as {kind.label}"].events
            assert give["inputs"] == look["inputs"]
            assert give["fn"].args[0] is kind
            assert save["inputs"] == give["outputs"][:1]
            assert "layerdiffuseComposite.save(file)" in save["_js"]

    def test_every_element_has_an_id_of_its_own(self, ui):
        ids = [
            c.options["elem_id"]
            for tab in ("txt2img", "img2img")
            for c in Page(ui, tab).made
            if "elem_id" in c.options
        ]
        assert len(ids) == len(set(ids)) == 22

    def test_at_first_there_are_no_buttons(self, ui):
        page = Page(ui)
        rows = [c for c in page.made if isinstance(c, page.gradio.Row)]
        assert [row.options["visible"] for row in rows] == [False, False]

    @pytest.mark.parametrize("tab", ["txt2img", "img2img"])
    def test_they_follow_the_gallery_without_its_images(self, ui, tab):
        page = Page(ui, tab)
        shown_gallery, _, info = page.host.values()
        offer, explain = shown_gallery.events
        assert offer["kind"] == "change"
        assert offer["inputs"][:2] == [shown_gallery, info]
        assert offer["_js"].startswith("(gallery, info) => [null, info, ")
        rows = [c for c in page.made if isinstance(c, page.gradio.Row)]
        *first, tooltip = offer["outputs"]
        assert first == [*rows, page.buttons["Composite view"]]
        assert explain["inputs"] == [tooltip]
        assert f"layerdiffuseComposite.explain('{tab}'" in explain["_js"]

    def test_they_follow_what_is_told_where_a_gallery_does_not_say_that_it_changes(
        self, ui, monkeypatch
    ):
        def absent(component):
            raise AttributeError("change")

        monkeypatch.setattr(import_module("gradio").Gallery, "change", property(absent))
        page = Page(ui)
        shown_gallery, _, info = page.host.values()
        assert shown_gallery.events == []
        offer, _ = info.events
        assert offer["kind"] == "change"
        assert offer["inputs"][:2] == [shown_gallery, info]

    def test_without_the_panel_there_are_no_buttons(self, ui):
        original = type("Original", (ui.scripts.Script,), {"title": lambda self: "LayerDiffuse"})
        data = ui.scripts.ScriptClassData(original, "extensions/sd-forge-layerdiffuse/x.py")
        ui.scripts.scripts_data.append(data)
        script = ui.entry.LayerDiffuseScript()
        (switch,) = script.ui(False)
        assert switch.value is False
        assert not hasattr(script, "after_component")


class TestOffer:
    @staticmethod
    def offer(gallery, result):
        images, info = shown(result)
        results, files, view, told = gallery.offer(None, info, len(images))
        return results["visible"], files["visible"], view["interactive"], told

    @pytest.mark.parametrize("info", ["", "{}", "no json"])
    def test_an_empty_gallery_has_none(self, gallery, info):
        results, files, *_ = gallery.offer(None, info, 0)
        assert (results, files) == ({"visible": False}, {"visible": False})

    @pytest.mark.parametrize("method", thinned(METHODS, 3), ids=lambda m: m.id)
    def test_layers_have_all_and_the_view_says_why_it_is_off(self, ui, gallery, method):
        result, _ = ui.generate(method)
        why = "This set has no foreground. Make one of the blended image, or choose another."
        can = FG in {*method.inputs, *method.outputs}
        assert self.offer(gallery, result) == (True, True, can, VIEW if can else why)
        assert bool(gallery.look(*shown(result), -1, *NO_SLOTS)[0]) is can

    def test_a_chain_has_all(self, ui, gallery):
        result, _ = ui.generate(FROM_BG, {"chain": True})
        assert self.offer(gallery, result) == (True, True, True, VIEW)

    def test_pictures_that_are_no_layers_can_only_be_put(self, ui, gallery):
        why = "There are no layers in the gallery. Make some first."
        result = ui.run(ui.job(JOINT, False))
        assert self.offer(gallery, result) == (True, False, False, why)
        made, _ = ui.generate(JOINT)
        made.images.append(picture())  # Something came in between.
        assert self.offer(gallery, made) == (True, False, False, why)


class TestPut:
    def put(self, gallery, result, layer, chosen=0, method=JOINT, slots=NO_SLOTS):
        return said(gallery.put(layer, *shown(result), chosen, method.label, *slots))

    def test_the_very_picture_goes_into_the_slot(self, ui, gallery):
        result, _ = ui.generate(JOINT)
        slot, method, enabled, told = self.put(gallery, result, FG)
        assert slot["value"] is result.images[0]
        assert slot["value"].mode == "RGBA"
        assert method["value"] == TO_BG.label
        assert enabled is True
        assert told == (
            f"This image is now in the slot: Foreground. The method is now: {TO_BG.label}."
        )

    def test_the_next_method_runs_on_it(self, ui, gallery):
        result, _ = ui.generate(JOINT)
        slot, method, *_ = self.put(gallery, result, BG, chosen=1)
        args = [True, method["value"], None, None, None, slot["value"]]
        made = ui.run(ui.job(TO_FG, *args))
        assert [image.mode for image in made.images] == ["RGBA", "RGB"]

    def test_a_saved_picture_is_served_from_its_file(self, ui, gallery):
        ui.generate(JOINT)
        path = ui.outputs / "00000-100-fg.png"
        result, _ = ui.generate(JOINT)
        with Image.open(path) as opened:
            result.images[0] = opened
            slot, *_ = self.put(gallery, result, FG)
            assert slot["value"].already_saved_as == str(path)

    @pytest.mark.parametrize("with_caption", [False, True])
    def test_gradio_3_tells_of_a_picture_by_its_file(self, ui, gallery, with_caption):
        result, _ = ui.generate(JOINT)
        path = ui.outputs / "00000-100-fg.png"
        items = []
        for image in result.images:
            name = f"{image.already_saved_as}?1795905318.6630886"
            file = {"name": name, "data": None, "is_file": True}
            items.append([file, None] if with_caption else file)
        _, info = shown(result)
        slot, *_ = gallery.put(FG, items, info, 0, JOINT.label, *NO_SLOTS)
        np.testing.assert_array_equal(slot["value"], result.images[0])
        assert slot["value"].already_saved_as == str(path)
        layers, told = gallery.look(items, info, 0, *NO_SLOTS)
        assert ([name for _, name in layers], told) == (["fg", "bg"], "")

    def test_other_slots_stay_and_count(self, ui, gallery):
        result, _ = ui.generate(FROM_BG)
        slots = (None, picture(), None)
        _, method, _, told = self.put(gallery, result, BLENDED, method=FROM_BG, slots=slots)
        assert method["value"] == find_method("bg_blended_to_fg_sdxl").label
        assert "Still missing" not in told

    def test_what_is_still_missing_is_told(self, ui, gallery):
        result, _ = ui.generate(FROM_BG)
        *_, told = self.put(gallery, result, BLENDED, method=FROM_BG)
        assert told.endswith("Still missing: Background.")

    def test_another_family_is_told(self, ui, gallery):
        result, _ = ui.generate(JOINT)
        _, method, _, told = self.put(gallery, result, BLENDED, chosen=2)
        assert method["value"].startswith("(SDXL)")
        assert "This method needs a checkpoint of the family: SDXL." in told

    def test_a_plain_picture_goes_by_the_method_that_is_chosen(self, ui, gallery):
        result = ui.run(ui.job(JOINT, False))
        for method, after in ((JOINT, TO_FG), (FG_SDXL, FROM_BG)):
            assert self.put(gallery, result, BG, method=method)[1]["value"] == after.label

    def test_an_extra_goes_by_its_jobs_method(self, ui, gallery):
        result, _ = ui.generate(JOINT, {"show_composite": True})
        slot, method, *_ = self.put(gallery, result, BG, chosen=3, method=FG_SDXL)
        assert slot["value"] is result.extra_images[0]
        assert method["value"] == TO_FG.label

    def test_the_only_picture_needs_no_choice(self, ui, gallery):
        result, _ = ui.generate(FG_SDXL)
        slot, *_ = self.put(gallery, result, FG, chosen=-1, method=FG_SDXL)
        assert slot["value"] is result.images[0]

    @pytest.mark.parametrize(
        ("chosen", "wanted"),
        [
            (-1, "There are 2 sets. Choose the foreground of one in the gallery."),
            (99, "There are 2 sets. Choose the foreground of one in the gallery."),
            (0, "There are 2 sets. Choose the foreground of one in the gallery."),
            (7, "This only shows a layer. Choose the layer itself."),
        ],
    )
    def test_what_is_no_result_by_itself_is_told(self, ui, gallery, chosen, wanted):
        ui.shared.opts.data["return_grid"] = True
        result, _ = ui.generate(JOINT, {"show_matte": True}, batch_size=2)
        assert self.put(gallery, result, FG, chosen) == (*NOTHING, wanted)

    @pytest.mark.parametrize("chosen", thinned([0, -1, 99], 3))
    @pytest.mark.parametrize("layer", Layer)
    def test_the_only_sets_layer_is_taken_where_its_grid_is_chosen(
        self, ui, gallery, layer, chosen
    ):
        ui.shared.opts.data["return_grid"] = True
        result, _ = ui.generate(JOINT)
        assert result.index_of_first_image == 1
        slot, method, enabled, told = self.put(gallery, result, layer, chosen)
        assert slot["value"] is result.images[1 + JOINT.outputs.index(layer)]
        assert layer in find_method(method["value"]).inputs
        assert enabled is True
        assert told.startswith(f"The image of the set is now in the slot: {layer.label}.")

    @pytest.mark.parametrize(
        ("method", "chosen", "wanted"),
        [
            (TO_BG, 0, "No foreground was made. Choose an image in the gallery."),
            (None, 0, "This is the grid. Choose a single image in the gallery."),
            (None, -1, "No image is chosen. Choose one in the gallery."),
        ],
    )
    def test_a_grid_without_that_layer_is_told(self, ui, gallery, method, chosen, wanted):
        ui.shared.opts.data["return_grid"] = True
        if method is None:
            result = ui.run(ui.job(JOINT, False, batch_size=2))
        else:
            result, _ = ui.generate(method)
        assert result.index_of_first_image == 1
        assert self.put(gallery, result, FG, chosen) == (*NOTHING, wanted)

    @pytest.mark.parametrize("empty", [None, []])
    def test_an_empty_gallery_is_told(self, gallery, empty):
        update = said(gallery.put(FG, empty, "", -1, JOINT.label, *NO_SLOTS))
        assert update == (*NOTHING, "There is no image yet. Generate one first.")

    @pytest.mark.parametrize("info", ["", "{}", "no json", "[1]", '{"infotexts": null}'])
    def test_a_page_that_tells_nothing_still_gives_its_picture(self, ui, gallery, info):
        result, _ = ui.generate(FG_SDXL)
        pictures, _ = shown(result)
        slot, *_ = gallery.put(FG, pictures, info, 0, JOINT.label, *NO_SLOTS)
        assert slot["value"] is result.images[0]

    def test_what_is_told_is_text(self, gallery):
        html = '<div role="status"><span>&lt;i&gt;</span>: <b>&amp;</b>.</div>'
        assert gallery._said(("<i>", "&")) == html


class TestLook:
    def look(self, gallery, result, chosen=-1, slots=NO_SLOTS):
        layers, told = gallery.look(*shown(result), chosen, *slots)
        return {name: image for image, name in layers}, told and text(told)

    @staticmethod
    def given(result, mode=ResizeMode.CROP):
        return to_u8(fit(from_u8(np.asarray(picture(alpha=128))), *result.images[0].size, mode))

    def test_made_layers_are_shown_as_they_are(self, ui, gallery):
        result, _ = ui.generate(JOINT)
        layers, told = self.look(gallery, result)
        assert layers == {"fg": result.images[0], "bg": result.images[1]}
        assert told == ""

    def test_the_set_is_the_chosen_pictures_or_else_the_last(self, ui, gallery):
        result, _ = ui.generate(JOINT, {"show_matte": True}, batch_size=2)
        first, last = result.images[:2], result.images[3:5]
        for chosen, wanted in ((0, first), (2, first), (4, last), (-1, last), (7, last)):
            layers, _ = self.look(gallery, result, chosen)
            assert list(layers.values()) == wanted

    @pytest.mark.parametrize("method", [TO_FG, TO_BG], ids=lambda m: m.id)
    def test_a_given_layer_comes_from_those_that_are_kept(self, ui, gallery, method):
        result, _ = ui.generate(method, width=2 * SIZE)
        layers, _ = self.look(gallery, result, slots=(picture(1),) * 3)
        (given,) = method.inputs
        np.testing.assert_array_equal(np.asarray(layers[given.value]), self.given(result))
        assert sorted(layers) == ["bg", "fg"]

    def test_a_given_layer_that_is_not_kept_comes_from_its_slot(self, ui, gallery):
        ui.shared.opts.data["layerdiffuse_keep_pictures"] = False
        result, _ = ui.generate(TO_FG, {"resize_mode": "Just Resize"}, width=2 * SIZE)
        slots = (None, picture(alpha=128), None)
        layers, _ = self.look(gallery, result, slots=slots)
        wanted = self.given(result, ResizeMode.STRETCH)
        np.testing.assert_array_equal(np.asarray(layers["bg"]), wanted)
        layers, told = self.look(gallery, result)
        assert (list(layers), told) == (["fg"], "")

    def test_a_chain_has_all_that_it_needs(self, ui, gallery):
        ui.shared.opts.data["layerdiffuse_keep_pictures"] = False
        result, _ = ui.generate(FROM_BG, {"chain": True}, batch_size=2)
        layers, _ = self.look(gallery, result, 0)
        assert layers == {"fg": result.images[1], "bg": result.extra_images[0]}
        layers, _ = self.look(gallery, result)
        assert layers == {"fg": result.images[3], "bg": result.extra_images[0]}

    def test_a_foreground_alone_is_enough(self, ui, gallery):
        result, _ = ui.generate(FG_SDXL)
        assert self.look(gallery, result)[0] == {"fg": result.images[0]}

    def test_a_set_without_foreground_is_told(self, ui, gallery):
        result, _ = ui.generate(FROM_BG)
        layers, told = self.look(gallery, result)
        assert layers == {}
        assert told.startswith("This set has no foreground.")

    def test_pictures_that_are_no_layers_are_told(self, ui, gallery):
        result = ui.run(ui.job(JOINT, False))
        none = ({}, "There are no layers in the gallery. Make some first.")
        assert self.look(gallery, result) == none
        made, _ = ui.generate(JOINT)
        made.images.append(picture())  # Something came in between.
        assert self.look(gallery, made) == none

    @pytest.mark.parametrize("method", thinned(METHODS, 3), ids=lambda m: m.id)
    def test_every_method_with_a_foreground_can_be_looked_at(self, ui, gallery, method):
        result, _ = ui.generate(method)
        layers, _ = self.look(gallery, result)
        there = {*method.inputs, *method.outputs}
        wanted = {layer.value for layer in there & {FG, BG}} if FG in there else set()
        assert set(layers) == wanted


class TestGive:
    def give(self, gallery, result, folder, chosen=-1, kind=DocumentKind.ZIP, slots=NO_SLOTS):
        path, told = gallery.give(kind, folder, *shown(result), chosen, *slots)
        return path and Path(path), told and text(told)

    @pytest.mark.parametrize("kind", DocumentKind)
    def test_all_layers_of_the_chosen_set(self, ui, gallery, tmp_path, kind):
        result, _ = ui.generate(JOINT, batch_size=2)
        for chosen, first in ((2, 0), (4, 3), (-1, 3)):
            path, told = self.give(gallery, result, tmp_path, chosen, kind)
            assert (path.suffix, told) == (f".{kind.value}", "")
            fg, bg, blended = map(np.asarray, result.images[first : first + 3])
            layers = read_layers(path)
            assert [name for name, _ in layers] == ["Background", "Foreground", "Blended"]
            for (_, found), wanted in zip(layers, (bg, fg, blended), strict=True):
                assert_shows(found, wanted)

    def test_what_was_given_is_a_layer_too(self, ui, gallery, tmp_path):
        result, _ = ui.generate(TO_FG)
        path, _ = self.give(gallery, result, tmp_path)
        assert [name for name, _ in read_layers(path)] == ["Background", "Foreground", "Blended"]

    def test_a_set_without_foreground_has_a_file(self, ui, gallery, tmp_path):
        result, _ = ui.generate(FROM_BG)
        path, _ = self.give(gallery, result, tmp_path)
        assert [name for name, _ in read_layers(path)] == ["Background", "Blended"]

    def test_it_has_the_pictures_name_and_settings(self, ui, gallery, tmp_path):
        ui.generate(JOINT)
        result, _ = ui.generate(JOINT)
        with Image.open(ui.outputs / "00000-100-fg.png") as opened:
            opened.info["parameters"] = "a boat"
            result.images[0] = opened
            path, _ = self.give(gallery, result, tmp_path)
            again, _ = self.give(gallery, result, tmp_path)
            assert path.name == again.name == "00000-100-layers.zip"
            assert path != again
            with zipfile.ZipFile(path) as archive:
                listed = json.loads(archive.read("layers.json"))["layers"]
            assert listed[1]["infotext"] == "a boat"

    def test_no_layers_are_told(self, ui, gallery, tmp_path):
        result = ui.run(ui.job(JOINT, False))
        told = "There are no layers in the gallery. Make some first."
        assert self.give(gallery, result, tmp_path) == (None, told)
