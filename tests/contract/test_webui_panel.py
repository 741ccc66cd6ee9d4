"""The panel on a page of the WebUI that is built around it, and what happens on that page."""

from __future__ import annotations

from html.parser import HTMLParser
from importlib import import_module
from inspect import Parameter, Signature

import numpy as np
import pytest
from safetensors.numpy import save_file
from started_webui import WebUI

from lib_layerdiffuse.methods import METHODS, Arch, Layer, find_method
from lib_layerdiffuse.settings.guide import family_first, sibling
from lib_layerdiffuse.settings.layer_settings import LayerSettings

FIELDS = list(LayerSettings.__dataclass_fields__)
CHOSEN = {"value": True}
CROSS = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
LABEL = "model.diffusion_model.label_emb.0.0.weight"
SHAPES = {
    "sd15.safetensors": {CROSS: (2, 768)},
    "sdxl.safetensors": {CROSS: (2, 2048), LABEL: (2, 2)},
    "flux.safetensors": {"double_blocks.0.img_attn.qkv.weight": (2, 2)},
}

GRADIO_3_ALL = "value elem_id elem_classes visible"
GRADIO_3 = {
    "Button": "variant size icon link interactive scale min_width",
    "Checkbox": "label info every show_label container scale min_width interactive",
    "Dropdown": "choices type multiselect allow_custom_value max_choices label info every "
    "show_label container scale min_width interactive",
    "HTML": "label every show_label",
    "Image": "shape height width image_mode invert_colors source tool type label every show_label "
    "show_download_button container scale min_width interactive streaming mirror_webcam "
    "brush_radius brush_color mask_opacity show_share_button",
    "Radio": "choices type label info every show_label container scale min_width interactive",
    "Row": "variant equal_height",
    "Slider": "minimum maximum step label info every show_label container scale min_width "
    "interactive randomize",
    "Textbox": "lines max_lines placeholder label info every show_label container scale min_width "
    "interactive autofocus type text_align rtl show_copy_button",
}
"""What the components of gradio 3.41.2, which the older WebUIs have, can be told by name."""


class Words(HTMLParser):
    """The text nodes of a piece of HTML."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_data(self, data):
        if data.strip():
            self.found.append(data)


class Page:
    """The WebUI's page, built in its order, and a browser that keeps what the components hold."""

    def __init__(self, ui, folder, *, quicksettings=True):
        self.gr, self.ui = import_module("gradio"), ui
        self.callbacks = import_module("modules.script_callbacks")
        models = import_module("modules.sd_models")
        for name, shapes in SHAPES.items():
            save_file({k: np.zeros(s, np.float16) for k, s in shapes.items()}, folder / name)
            models.checkpoints[name] = models.CheckpointInfo(str(folder / name))
        for callback in self.callbacks.before_ui:
            callback()
        self.scripts, self.counts = {}, {}
        for tab in ("txt2img", "img2img"):
            script = self.scripts[tab] = ui.entry.LayerDiffuseScript()
            size = self.make(self.gr.Slider, value=1, elem_id=f"{tab}_batch_size")
            script.panel = dict(zip(FIELDS, script.ui(tab == "img2img"), strict=True))
            count = self.make(self.gr.Slider, value=1, elem_id=f"{tab}_batch_count")
            self.counts[tab] = size, count
        self.root = self.gr.context.Context.root_block = self.gr.Blocks()
        named = {"elem_classes": ["model_selection"]}
        self.checkpoint = self.make(
            self.gr.Dropdown, value="sd15.safetensors", **(named if quicksettings else {})
        )
        self.make(self.gr.HTML, elem_id="footer")

    def make(self, kind, **options):
        component = kind(**options)
        for callback in self.callbacks.after_component:
            callback(component, **options)
        return component

    def events(self, tab, component, kind="change"):
        """Returns the events of a component whose inputs are of a tab's panel."""
        ours = {*self.scripts[tab].panel.values()}
        return [e for e in component.events if e["kind"] == kind and ours & {*e["inputs"]}]

    def fire(self, tab, component, kind="change"):
        """Runs a component's events and returns what they change, by component."""
        changes = {}
        for event in self.events(tab, component, kind):
            answer = event["fn"](*(c.value for c in event["inputs"]))
            several = isinstance(answer, (list, tuple))
            for output, change in zip(
                event["outputs"], answer if several else [answer], strict=True
            ):
                update = change if isinstance(change, dict) else {"value": change}
                changes[output] = changes.get(output, {}) | update
        for output, update in changes.items():
            output.value = update.get("value", output.value)
        return changes

    def switch(self, tab):
        told = [c for e in self.scripts[tab].panel["method"].events for c in e["outputs"]]
        (button,) = [c for c in told if type(c) is self.gr.Button]
        return button

    def chosen(self, tab):
        """Returns what notes that a tab's method was chosen."""
        (event,) = [e for e in self.scripts[tab].panel["method"].events if e["kind"] == "input"]
        (chosen,) = event["outputs"]
        return chosen

    def method(self, tab):
        return find_method(self.scripts[tab].panel["method"].value).id

    def load(self, tab, name):
        """Has another checkpoint be chosen."""
        self.checkpoint.value = name
        return self.fire(tab, self.checkpoint)

    def pick(self, tab, method):
        """Has the user choose a method."""
        (event,) = [e for e in self.scripts[tab].panel["method"].events if e["kind"] == "input"]
        self.chosen(tab).value = event["fn"]()
        return self.choose(tab, method)

    def choose(self, tab, method):
        method_box = self.scripts[tab].panel["method"]
        method_box.value = method.label
        return self.fire(tab, method_box)

    def status(self, changes):
        """Returns the words that a tab's status says, and the button's text if it is shown."""
        (html,) = [u["value"] for c, u in changes.items() if type(c) is self.gr.HTML]
        (button,) = [u for c, u in changes.items() if type(c) is self.gr.Button]
        return Words(html).found, button["value"] if button["visible"] else None


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


@pytest.fixture
def page(ui, tmp_path):
    return Page(ui, tmp_path)


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
class TestStatus:
    @pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
    def test_a_mismatch_is_said_with_the_sibling_if_there_is_one(self, page, tab, method):
        words, button = page.status(page.choose(tab, method))
        needs = "This method needs SDXL; the loaded checkpoint is SD1.5."
        alone = "SD1.5 has no such method."
        other = sibling(method)
        wrong = method.arch is Arch.SDXL
        assert (needs in words) is wrong
        assert (alone in words) is (wrong and other is None)
        assert button == ("Switch to the SD1.5 method" if wrong and other else None)

    def test_the_button_chooses_the_sibling(self, page, tab):
        page.choose(tab, find_method("fg_to_blended_sdxl"))
        changes = page.fire(tab, page.switch(tab), "click")
        label = find_method("fg_to_bg_sd15").label
        method = {"value": label}
        assert changes == {page.scripts[tab].panel["method"]: method, page.chosen(tab): CHOSEN}

    def test_it_counts_sets_of_its_own_tab(self, page, tab):
        size, count = page.counts[tab]
        page.choose(tab, find_method("joint_sd15"))
        size.value, count.value = 2, 3
        for slider in (size, count):
            words, _ = page.status(page.fire(tab, slider))
            assert words[:8] == ["6", "sets", "×", "3", "layers", "=", "18", "images"]
            other = "img2img" if tab == "txt2img" else "txt2img"
            assert not page.events(other, slider)

    def test_it_counts_extras_that_the_method_can_give(self, page, ui, tab):
        panel = page.scripts[tab].panel
        panel["show_matte"].value = panel["show_composite"].value = True
        words, _ = page.status(page.choose(tab, find_method("fg_attn_sd15")))
        assert words[8:11] == ["+", "1", "extra"]
        words, _ = page.status(page.choose(tab, find_method("fg_to_bg_sd15")))
        assert words[8:11] == ["+", "1", "extra"]  # the composite
        ui.shared.opts.data["layerdiffuse_outputs"] = ["Matte", "RGB before alpha"]
        words, _ = page.status(page.choose(tab, find_method("joint_sd15")))
        assert words[8:11] == ["+", "3", "extras"]
        words, _ = page.status(page.choose(tab, find_method("bg_to_blended_sdxl")))
        assert "+" not in words

    def test_a_field_that_is_empty_stands_for_what_the_webui_draws_with(self, page, ui, tab):
        ui.shared.opts.data["sd_model_checkpoint"] = "sdxl.safetensors"
        page.checkpoint.value = None
        words, button = page.status(page.choose(tab, find_method("fg_attn_sd15")))
        assert "This method needs SD1.5; the loaded checkpoint is SDXL." in words
        assert button == "Switch to the SDXL method"

    def test_nothing_is_said_of_a_checkpoint_that_is_unknown(self, page, tab):
        for name in ("flux.safetensors", "gone.safetensors", None):
            page.checkpoint.value = name
            words, button = page.status(page.choose(tab, METHODS[0]))
            assert not any("checkpoint" in word for word in words)
            assert button is None


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
class TestFamilies:
    @pytest.mark.parametrize(
        ("name", "arch"),
        [
            ("sd15.safetensors", Arch.SD15),
            ("sdxl.safetensors", Arch.SDXL),
            ("flux.safetensors", None),
        ],
    )
    def test_the_loaded_family_comes_first(self, page, tab, name, arch):
        page.checkpoint.value = name
        method = page.scripts[tab].panel["method"]
        for component, kind in ((page.checkpoint, "change"), (page.root, "load")):
            changes = page.fire(tab, component, kind)
            assert changes[method]["choices"] == [m.label for m in family_first(arch)]

    def test_another_checkpoint_is_spoken_of_at_once(self, page, tab):
        page.pick(tab, find_method("fg_attn_sd15"))
        words, button = page.status(page.load(tab, "sdxl.safetensors"))
        assert "This method needs SD1.5; the loaded checkpoint is SDXL." in words
        assert button == "Switch to the SDXL method"

    def test_a_page_that_is_opened_says_it_too(self, page, tab):
        page.choose(tab, find_method("joint_sd15"))  # The user's own default.
        page.checkpoint.value = "sdxl.safetensors"
        words, button = page.status(page.fire(tab, page.root, "load"))
        assert words[0] == "1"
        assert "SDXL has no such method." in words
        assert button is None
        assert page.method(tab) == "joint_sd15"


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
class TestTheFirstMethod:
    def test_a_page_that_is_opened_warns_of_nothing(self, page, tab):
        words, button = page.status(page.fire(tab, page.root, "load"))
        assert page.method(tab) == "fg_attn_sd15"
        assert not any("checkpoint" in word for word in words)
        assert button is None

    def test_it_follows_the_checkpoint(self, page, tab):
        for name, id in (
            ("sdxl.safetensors", "fg_attn_sdxl"),
            ("sd15.safetensors", "fg_attn_sd15"),
            ("flux.safetensors", "fg_attn_sd15"),
            ("gone.safetensors", "fg_attn_sd15"),
            ("sdxl.safetensors", "fg_attn_sdxl"),
        ):
            words, button = page.status(page.load(tab, name))
            assert page.method(tab) == id
            assert not any("checkpoint" in word for word in words)
            assert button is None

    @pytest.mark.parametrize("id", ["fg_attn_sd15", "fg_attn_sdxl", "joint_sd15", "fg_conv_sdxl"])
    def test_it_stays_once_the_user_has_chosen(self, page, tab, id):
        page.load(tab, "sd15.safetensors")
        page.pick(tab, find_method(id))
        for name in ("sdxl.safetensors", "sd15.safetensors"):
            page.load(tab, name)
            assert page.method(tab) == id

    def test_the_switch_is_a_choice(self, page, tab):
        page.load(tab, "sd15.safetensors")
        page.pick(tab, find_method("fg_conv_sdxl"))
        page.chosen(tab).value = False
        page.fire(tab, page.switch(tab), "click")
        page.load(tab, "sdxl.safetensors")
        assert page.method(tab) == "fg_attn_sd15"

    def test_a_pasted_one_is_a_choice_and_another_infotext_is_none(self, page, tab):
        page.load(tab, "sdxl.safetensors")
        script = page.scripts[tab]
        paste = import_module("modules.infotext_utils").paste
        label = find_method("fg_attn_sdxl").label
        for text, stays in (
            ("a boat\nSteps: 1, Seed: 1, Size: 64x64", False),
            (f"a boat\nSteps: 1, layerdiffusion_method: {label}, Size: 64x64", True),
        ):
            for component, value in paste(script.infotext_fields, text).items():
                component.value = value
            page.load(tab, "sd15.safetensors")
            assert (page.method(tab) == "fg_attn_sdxl") is stays
            page.load(tab, "sdxl.safetensors")


class TestWiring:
    def test_a_page_is_wired_once_and_the_next_one_anew(self, ui, tmp_path):
        first = Page(ui, tmp_path)
        wired = len(first.checkpoint.events)
        assert wired
        first.make(first.gr.Slider, elem_id="later")
        ui.entry.LayerDiffuseScript().ui(False)  # as the API does, for the defaults
        first.make(first.gr.Slider, elem_id="later still")
        assert len(first.checkpoint.events) == wired
        second = Page(ui, tmp_path)
        assert len(second.checkpoint.events) == wired
        assert len(first.checkpoint.events) == wired

    def test_other_hosts_name_their_checkpoint_otherwise(self, ui, tmp_path):
        page = Page(ui, tmp_path, quicksettings=False)
        assert not page.checkpoint.events
        box = page.make(page.gr.Dropdown, value="x", elem_id="setting_sd_model_checkpoint")
        page.make(page.gr.HTML)
        assert box.events

    def test_without_a_checkpoint_the_inputs_still_follow_the_method(self, ui, tmp_path):
        page = Page(ui, tmp_path, quicksettings=False)
        changes = page.choose("txt2img", find_method("fg_to_bg_sd15"))
        assert changes[page.scripts["txt2img"].panel["fg_image"]] == {"visible": True}

    def test_what_is_only_shown_is_no_argument(self, page):
        for script in page.scripts.values():
            kinds = {type(component) for component in script.panel.values()}
            assert not kinds & {page.gr.HTML, page.gr.Button}


class TestInputs:
    @pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
    def test_outputs_that_cannot_act_are_switched_off_in_place(self, page, method):
        panel = page.scripts["txt2img"].panel
        changes = page.choose("txt2img", method)
        able = {name: changes[panel[name]] for name in FIELDS if name.startswith("show_")}
        why = "" if method.decodes else "This method makes no foreground."
        decodes = {"interactive": method.decodes, "info": why}
        there = {*method.inputs, *method.outputs}
        why = "" if Layer.BG in there else "This method has no background."
        why = why if Layer.FG in there else "This method has no foreground."
        assert able == {
            "show_preview": decodes,
            "show_matte": decodes,
            "show_composite": {"interactive": method.composes, "info": why},
            "show_raw": decodes,
        }

    def test_a_chain_gives_reasons_back(self, page):
        panel = page.scripts["txt2img"].panel
        page.choose("txt2img", find_method("bg_to_blended_sdxl"))
        panel["chain"].value = True
        changes = page.fire("txt2img", panel["chain"])
        for name in ("show_matte", "show_composite"):
            assert changes[panel[name]] == {"interactive": True, "info": ""}

    @pytest.mark.parametrize("layer", Layer)
    def test_layer_prompts_say_what_they_do(self, page, layer):
        panel = page.scripts["txt2img"].panel
        whose = {"fg": "foreground", "bg": "background", "blended": "blend"}[layer.value]
        for kind, main in (("prompt", "main"), ("negative_prompt", "negative")):
            told = panel[f"{layer.value}_{kind}"].options["info"]
            assert told == f"Added before the {main} prompt, for the {whose} only"

    def test_at_first_it_shows_what_its_first_method_needs(self, page):
        panel = page.scripts["txt2img"].panel
        changes = page.choose("txt2img", LayerSettings().method)
        for component in panel.values():
            for key, value in changes.get(component, {}).items():
                if key in ("visible", "interactive", "info"):
                    assert component.options.get(key, True) == value
        assert panel["show_composite"].options["info"] == "This method has no background."

    def test_a_page_with_the_users_own_default_shows_what_that_needs(self, page):
        panel = page.scripts["img2img"].panel
        panel["method"].value = find_method("fg_to_bg_sd15").label
        changes = page.fire("img2img", page.root, "load")
        assert changes[panel["fg_image"]] == {"visible": True}
        assert changes[panel["show_matte"]]["interactive"] is False

    def test_slots_keep_what_is_put_into_them(self, page):
        slot = page.scripts["txt2img"].panel["fg_image"].options
        assert slot["image_mode"] == "RGBA"
        assert slot["format"] == "png"
        assert slot["sources"] == ["upload", "clipboard"]

    def test_gradio_3_knows_every_word_of_the_panel(self, ui, monkeypatch):
        gr = import_module("gradio")
        made = []

        def only(kind, taken):
            def __init__(self, value=None, **options):
                assert {*options} <= taken, kind
                made.append(kind)
                gr.Component.__init__(self, value, **options)

            # The signature is what the panel asks for.
            names = [Parameter(name, Parameter.KEYWORD_ONLY) for name in sorted(taken)]
            __init__.__signature__ = Signature(names)
            return type(kind, (gr.Component,), {"__init__": __init__})

        for kind, words in GRADIO_3.items():
            monkeypatch.setattr(gr, kind, only(kind, {*words.split(), *GRADIO_3_ALL.split()}))
        built = ui.entry.LayerDiffuseScript().ui(False)
        assert {*made} == {*GRADIO_3}
        slots = [c.options for c in built if type(c).__name__ == "Image"]
        assert [slot["source"] for slot in slots] == ["upload"] * 3
        assert {slot["image_mode"] for slot in slots} == {"RGBA"}
