"""Each hook of ours fails once in stand-ins for the WebUI: the error is what the job ends with."""

from __future__ import annotations

import inspect
from importlib import import_module

import numpy as np
import pytest
from fault_places import HOOK_FAULTS, HOOKS
from img2img_webui import Img2Img, ball
from PIL import Image
from started_webui import request
from thinned import thinned

from lib_layerdiffuse.methods import find_method

JOINT = find_method("joint_sd15")
NO_HOOKS = {"title", "show", "ui"}


class Fault(Exception):
    """What a hook is made to raise."""


@pytest.fixture
def ui(webui, models, tmp_path):
    return Img2Img(models, tmp_path / "outputs")


def scripts_of(ui):
    """Returns our script classes by title."""
    found = [value for value in vars(ui.entry).values() if inspect.isclass(value)]
    found = [value for value in found if issubclass(value, ui.scripts.Script)]
    return {found_one.title(None): found_one for found_one in found}


def test_every_hook_is_among_the_places(ui):
    defined = {
        title: {name for name, part in vars(kind).items() if callable(part) and name[0] != "_"}
        for title, kind in scripts_of(ui).items()
    }
    assert {title: names - NO_HOOKS for title, names in defined.items()} == {
        title: set(hooks) for title, hooks in HOOKS.items()
    }


def break_hook(monkeypatch, kind, hook):
    """Makes a hook raise inside its guard."""

    def fail(*_, **__):
        raise Fault

    found = getattr(kind, hook)
    free = found.__code__.co_freevars
    if "method" in free:
        cell = found.__closure__[free.index("method")]
        monkeypatch.setattr(cell, "cell_contents", fail)
    elif hasattr(kind, "_begin"):
        monkeypatch.setattr(kind, "_begin", fail)
    else:
        monkeypatch.setattr(inspect.getmodule(kind), "_begin", fail)


def job(ui, kind, **more):
    """Returns a processing object of a kind of job with both scripts."""
    mask = Image.fromarray(np.pad(np.full((16, 16), 255, np.uint8), 24))
    fields = {
        "txt2img": {},
        "hires": {"kind": import_module("hires_job").HiresProcessing},
        "inpaint": {"kind": import_module("img2img_job").Img2ImgJob, "init_images": [ball()]},
    }
    fields["map"] = fields["inpaint"]
    if "init_images" in fields[kind]:
        more["image_mask"] = mask
    map_script = ui.entry.DifferentialScript()
    p = ui.job(JOINT, request(JOINT), before=[map_script], n_iter=2, **fields[kind], **more)
    if kind == "map":
        args = list(p.script_args)
        args[map_script.args_from] = {"source": "Inpaint mask"}
        p.script_args = tuple(args)
    return p


@pytest.mark.parametrize(("title", "hook", "kind"), thinned(HOOK_FAULTS, 3))
def test_its_error_ends_the_job(ui, monkeypatch, title, hook, kind):
    break_hook(monkeypatch, scripts_of(ui)[title], hook)
    p = job(ui, kind)
    with pytest.raises(Fault):
        list(ui.run(p).images)
    assert p.batch_size == 1


@pytest.mark.parametrize("step", ["_lay_out", "_give_prompts"])
def test_an_error_where_sets_are_laid_out_ends_the_job(ui, monkeypatch, step):
    """No hook does that, but what the host calls between them."""

    def fail(*_):
        raise Fault

    monkeypatch.setattr(import_module("lib_layerdiffuse.webui.job.sets"), step, fail)
    p = job(ui, "txt2img", override_settings_restore_afterwards=False)
    kind = type(p)
    with pytest.raises(Fault):
        ui.run(p)
    assert (type(p), p.batch_size, p.sampled_with) == (kind, 1, [])
    assert ui.shared.opts.stealth_pnginfo_option == "Alpha"


def test_an_error_where_a_file_is_named_ends_the_job(ui, monkeypatch):
    """The host would save the image without its transparency, and say nothing."""
    monkeypatch.setattr(
        import_module("lib_layerdiffuse.webui.job.job").Job, "suffix", lambda *_: 1 / 0
    )
    ui.shared.opts.data["samples_format"] = "jpg"
    with pytest.raises(ZeroDivisionError):
        ui.run(job(ui, "txt2img"))
    assert len(ui.saved()) <= 1


def test_an_error_in_a_plots_grid_ends_it(ui, monkeypatch):
    """The host would show the colours that alpha hides."""
    monkeypatch.setattr(
        import_module("lib_layerdiffuse.webui.flows.grids"), "_on_checkerboard", lambda *_: 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        import_module("modules.images").image_grid([Image.new("RGBA", (8, 8))], rows=1)


def test_an_error_where_alpha_is_looked_for_ends_the_saving(ui, monkeypatch, tmp_path):
    """The host would save a transparent image in a format that has no alpha."""
    alpha = import_module("lib_layerdiffuse.webui.job.alpha")
    monkeypatch.setattr(alpha, "is_transparent", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        import_module("modules.images").save_image(Image.new("RGBA", (8, 8)), str(tmp_path), "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", thinned(["txt2img", "hires", "inpaint", "map"], 2))
def test_without_a_fault_the_job_works(ui, kind):
    assert len(ui.run(job(ui, kind)).images) == 6
