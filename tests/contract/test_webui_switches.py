"""The switch, the panel and the command line's flags, as jobs see them."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest
from started_webui import WebUI, picture, prompts
from thinned import thinned

from lib_layerdiffuse.errors import MissingCapabilityError
from lib_layerdiffuse.methods import METHODS, find_method
from lib_layerdiffuse.settings.chains import begins_chain, second_method
from lib_layerdiffuse.settings.layer_settings import LayerSettings

JOINT, FG_SD15 = find_method("joint_sd15"), find_method("fg_attn_sd15")


FIELDS = list(LayerSettings.__dataclass_fields__)
CHAIN = LayerSettings.__dataclass_fields__["chain"].metadata["label"]


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


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
        p = ui.job(JOINT)
        assert [image.mode for image in ui.run(p).images] == ["RGB"]
        (script,) = ui.runner.alwayson_scripts
        assert "sd-forge-layerdiffuse" in script._problem()

    @pytest.mark.parametrize("asked", [True, {"method": JOINT.id}])
    def test_a_job_that_asks_for_it_all_the_same_is_refused(self, ui, asked):
        original = type("Original", (ui.scripts.Script,), {"title": lambda self: "LayerDiffuse"})
        ui.scripts.scripts_data.append(ui.scripts.ScriptClassData(original, "x.py"))
        p = ui.job(JOINT, asked)
        assert len(ui.runner.inputs) == 2, "the host drops arguments beyond these"
        with pytest.raises(MissingCapabilityError, match="off: The original extension"):
            ui.run(p)
        assert not p.sampled_with
        assert [image.mode for image in ui.run(ui.job(JOINT, {"enabled": False})).images] == ["RGB"]

    @pytest.mark.parametrize(
        ("module", "told"),
        [
            ("backend", "no model back end that LayerDiffuse knows"),
            ("backend.patcher.vae", "no model back end that LayerDiffuse knows"),
            (None, "is not one that LayerDiffuse knows: it lacks UnetPatcher.clone"),
        ],
        ids=["none", "a part of one", "a changed one"],
    )
    def test_it_stays_off_in_a_webui_that_it_does_not_know(self, ui, monkeypatch, module, told):
        ui.job(JOINT)
        if module is None:
            for part in import_module("backend.patcher.unet").UnetPatcher.__mro__:
                if "clone" in vars(part):
                    monkeypatch.delattr(part, "clone")
        else:
            monkeypatch.setitem(sys.modules, module, None)
            monkeypatch.delitem(sys.modules, "lib_layerdiffuse.hosts.patchers.backend_dialect")
        import_module("lib_layerdiffuse.webui.job.backend")._host.cache_clear()
        assert told in ui.runner.alwayson_scripts[0]._problem()
        monkeypatch.undo()
        assert ui.runner.alwayson_scripts[0]._problem() is None

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
            None: True,  # The method is chosen, so that it no longer follows the checkpoint.
        }

    def test_another_jobs_infotext_switches_it_off(self, ui):
        ui.job(JOINT)
        (script,) = ui.runner.alwayson_scripts
        pasted = {c.label: read({"Steps": "20"}) for c, read in script.infotext_fields}
        assert {k: v for k, v in pasted.items() if v is not None} == {"LayerDiffuse": False}

    @pytest.mark.parametrize("method", thinned(METHODS, 3), ids=lambda m: m.id)
    def test_a_method_shows_what_it_needs(self, ui, method):
        ui.job(method)
        wanted = {layer.label for layer in method.inputs} | prompts(method.layer_prompts)
        wanted |= {"Resize mode"} if method.inputs else set()
        wanted |= {CHAIN} if begins_chain(method) else set()
        assert self.shown(ui, method, chain=False) == wanted

    @pytest.mark.parametrize("method", thinned(METHODS, 3), ids=lambda m: m.id)
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
        event, other = (one for cause in causes for one in cause.events if one["inputs"] == causes)
        assert event["outputs"] == other["outputs"]
        updates = event["fn"](method.label, chain)
        return {c.label: change for c, change in zip(event["outputs"], updates, strict=True)}


def test_flags_choose_the_folders(webui, models, own_models, tmp_path):
    ui = WebUI(tmp_path / "empty", tmp_path / "outputs")
    ui.shared.cmd_opts.layerdiffuse_models_dir = str(own_models)
    assert [image.mode for image in ui.generate(FG_SD15)[0].images] == ["RGBA"]
