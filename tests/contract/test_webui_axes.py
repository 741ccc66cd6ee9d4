"""The axes of the X/Y/Z plot."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from started_webui import WebUI, as_base64, picture

from lib_layerdiffuse.errors import HostError, MissingLayerError, SettingsError
from lib_layerdiffuse.methods import find_method

JOINT, FG_SD15, TO_FG = (find_method(i) for i in ("joint_sd15", "fg_attn_sd15", "bg_to_fg_sd15"))
LABELS = [
    "[LayerDiffuse] Method",
    "[LayerDiffuse] Weight",
    "[LayerDiffuse] Stop at",
    "[LayerDiffuse] Resize mode",
    "[LayerDiffuse] Foreground prompt",
    "[LayerDiffuse] Background prompt",
    "[LayerDiffuse] Blended prompt",
]
METHOD, WEIGHT, STOP, RESIZE, FG_PROMPT, BG_PROMPT, _ = LABELS
SEED = ("Seed", ["100"])


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


@pytest.fixture
def xyz(ui):
    """The plot, loaded before the callback that comes before the page."""
    module = ui.plot()
    for callback in import_module("modules.script_callbacks").before_ui:
        callback()
    return module


def plot(ui, xyz, x, y=SEED, *, panel=(False,), **fields):
    """Returns the plot's script, its result and the job that it was asked with."""
    script = xyz.Script()
    p = ui.job(JOINT, *panel, after=[script], **fields)
    result = script.run(p, *x, *y)
    assert script.reports == []
    assert not ui.runner.reports
    return script, result, p


def labels(module):
    return [option.label for option in module.axis_options if "LayerDiffuse" in option.label]


class TestRegistering:
    def test_all_axes_are_there(self, xyz):
        assert labels(xyz) == LABELS
        assert all(type(option) is xyz.AxisOption for option in xyz.axis_options)

    def test_once_however_often_it_is_asked_for(self, ui, xyz):
        for _ in range(3):
            ui.entry.add_axes()
            for callback in import_module("modules.script_callbacks").before_ui:
                callback()
        assert labels(xyz) == LABELS

    def test_again_when_scripts_are_loaded_anew(self, ui, xyz, models, tmp_path):
        ui.scripts.scripts_data.clear()
        import_module("modules.script_callbacks").clear_callbacks()
        again = WebUI(models, tmp_path / "outputs")
        fresh = again.plot()
        assert labels(fresh) == []
        for callback in import_module("modules.script_callbacks").before_ui:
            callback()
        assert labels(fresh) == LABELS
        assert labels(xyz) == LABELS

    def test_at_once_where_the_plot_was_loaded_first(self, webui, models, tmp_path):
        """Without a page the host builds its scripts before it calls back."""
        import_module("modules.script_callbacks").clear_callbacks()
        first = WebUI(models, tmp_path / "outputs").plot()
        WebUI(models, tmp_path / "outputs")
        assert labels(first) == LABELS

    @pytest.mark.parametrize("path", ["scripts", "extensions-builtin/plot/scripts"])
    def test_wherever_the_plot_lies(self, ui, path):
        module = ui.plot()
        data = ui.scripts.scripts_data.pop()
        ui.scripts.scripts_data.append(data._replace(path=f"/webui/{path}/xyz_grid.py"))
        ui.entry.add_axes()
        assert labels(module) == LABELS

    def test_without_a_plot_nothing_happens(self, ui):
        data = ui.scripts.ScriptClassData(object, "/webui/scripts/xyz_grid.py")
        ui.scripts.scripts_data.append(data)
        ui.entry.add_axes()


class TestCells:
    def test_each_cell_has_its_values(self, ui, xyz):
        x, y = (WEIGHT, ["0", "0.5", "1"]), (STOP, ["0.5", "1"])
        script, result, _ = plot(ui, xyz, x, y, panel=(True, JOINT.label))
        assert script.labels == [
            ["Weight: 0", "Weight: 0.5", "Weight: 1"],
            ["Stop at: 0.5", "Stop at: 1"],
        ]
        for row, stop in enumerate(("0.5", "1")):
            for column, weight in enumerate(("0", "0.5", "1")):
                settings = {"weight": float(weight), "ending_step": float(stop)}
                alone, _ = ui.generate(JOINT, settings)
                cell = result.images[3 * row + column]
                assert np.array_equal(np.asarray(cell), np.asarray(alone.images[0]))
                text = result.infotexts[3 * row + column]
                assert f"layerdiffusion_weight: {weight}" in text
                assert f"layerdiffusion_ending_step: {stop}" in text

    def test_methods_by_label_and_by_id(self, ui, xyz):
        script, _, _ = plot(ui, xyz, (METHOD, [JOINT.label, "fg_attn_sd15"]))
        assert [len(cell.images) for cell in script.cells] == [3, 1]
        assert script.labels[0] == [JOINT.label, FG_SD15.label]

    def test_an_axis_switches_the_panel_on_and_leaves_nothing(self, ui, xyz):
        _, result, p = plot(ui, xyz, (METHOD, ["joint_sd15"]))
        assert result.images[0].mode == "RGBA"
        assert (p.batch_size, p.extra_generation_params) == (1, {})
        assert [image.mode for image in ui.run(p).images] == ["RGB"]

    def test_a_prompt_of_one_cell_is_not_in_the_next(self, ui, xyz):
        _, result, p = plot(ui, xyz, (BG_PROMPT, ["a forest", ""]), panel=(True, JOINT.label))
        key = "layerdiffusion_bg_additional_prompt"
        assert [key in text for text in result.infotexts] == [True, False]
        assert p.conditioned_on[0][0] == ["a boat", "a forest, a boat", "a boat"]
        assert p.conditioned_on[1][0] == ["a boat"] * 3

    def test_an_axis_wins_over_the_panel_and_a_dict(self, ui, xyz):
        for panel in ((True, JOINT.label, 1.0), ({"method": "joint_sd15", "weight": 1},)):
            _, result, _ = plot(ui, xyz, (WEIGHT, ["0.25"]), panel=panel)
            assert "layerdiffusion_weight: 0.25" in result.infotexts[0]

    def test_a_resize_mode_acts(self, ui, xyz):
        given = as_base64(picture(alpha=128).resize((96, 64)))
        panel = ({"method": TO_FG.id, "bg_image": given},)
        modes = ["Just Resize", "Crop and Resize", "Resize and Fill"]
        script, result, _ = plot(ui, xyz, (RESIZE, modes), panel=panel)
        assert script.labels[0][0] == "Resize mode: Just Resize"
        for mode, text in zip(modes, result.infotexts, strict=True):
            assert f"layerdiffusion_resize_mode: {mode}" in text

    def test_a_copy_of_a_cell_is_a_job_of_its_own(self, ui, xyz):
        axes = import_module("lib_layerdiffuse.webui.flows.axes")
        p = ui.job(JOINT)
        weight = next(o for o in xyz.axis_options if o.label == WEIGHT)
        weight.apply(p, 0.5, [0.5])
        copied = import_module("copy").copy(p)
        assert axes.axis_values(p) == {"strength": 0.5}
        assert axes.axis_values(copied) == {}


class TestConfirming:
    @pytest.mark.parametrize(
        ("axis", "value", "field"),
        [
            (METHOD, "joint", "method"),
            (WEIGHT, "3", "strength"),
            (STOP, "-0.1", "stop_at"),
            (RESIZE, "Cut", "resize_mode"),
            (FG_PROMPT, "x <lora:a:1>", "fg_prompt"),
        ],
    )
    def test_a_value_that_there_is_not(self, ui, xyz, axis, value, field):
        script = xyz.Script()
        p = ui.job(JOINT, True, JOINT.label, after=[script])
        with pytest.raises(SettingsError) as caught:
            script.run(p, axis, [value], *SEED)
        assert caught.value.field == field
        assert p.sampled_with == []

    def test_a_method_whose_picture_is_missing(self, ui, xyz):
        script = xyz.Script()
        p = ui.job(JOINT, after=[script])
        with pytest.raises(MissingLayerError):
            script.run(p, METHOD, [JOINT.id, TO_FG.id], *SEED)
        given = ui.job(JOINT, {"enabled": False, "bg_image": as_base64(picture())}, after=[script])
        script.run(given, METHOD, [TO_FG.id], *SEED)
        assert script.reports == []

    def test_other_axes_do_not_ask_for_the_panels_pictures(self, ui, xyz):
        panel = (True, TO_FG.label)
        plot(ui, xyz, (WEIGHT, ["0.5"]), (METHOD, [JOINT.id]), panel=panel)

    def test_where_our_script_is_off(self, ui, xyz):
        original = type("Original", (ui.scripts.Script,), {"title": lambda self: "LayerDiffuse"})
        ui.scripts.scripts_data.append(ui.scripts.ScriptClassData(original, "x.py"))
        script = xyz.Script()
        p = ui.job(JOINT, after=[script])
        with pytest.raises(HostError):
            script.run(p, WEIGHT, ["0.5"], *SEED)

    def test_the_api_answers_422(self, ui, xyz):
        app = ui.serve(JOINT, xyz.Script())
        job = {"script_name": "x/y/z plot", "script_args": [METHOD, ["joint"], *SEED]}
        status, answer = app.request("POST", "/sdapi/v1/txt2img", job)
        assert (status, answer["detail"]["field"]) == (422, "method")
