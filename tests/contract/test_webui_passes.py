"""An injection's life in the stand-in WebUI: put on for one pass, and ended after it."""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module

import pytest
from started_webui import WebUI, request

from lib_layerdiffuse.errors import HostError, MissingCapabilityError
from lib_layerdiffuse.host import Capabilities
from lib_layerdiffuse.methods import find_method

JOINT, FG_SD15, FG_SDXL = (find_method(i) for i in ("joint_sd15", "fg_attn_sd15", "fg_attn_sdxl"))


@pytest.fixture(params=["forge", "neo"])
def webui_name(request):
    return request.param


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


@pytest.fixture
def told(webui, monkeypatch):
    """What is attached and detached, in turn; each attachment has a number."""
    patchers, found = import_module("lib_layerdiffuse.hosts.patchers"), []
    attach, detach = patchers.PatcherHost.attach, patchers.PatcherAttachment.detach
    numbers = []

    def noting_attach(host, injection):
        attachment = attach(host, injection)
        numbers.append(attachment)
        found.append(("attached", len(numbers)))
        return attachment

    def noting_detach(attachment):
        found.append(("detached", numbers.index(attachment) + 1))
        detach(attachment)

    monkeypatch.setattr(patchers.PatcherHost, "attach", noting_attach)
    monkeypatch.setattr(patchers.PatcherAttachment, "detach", noting_detach)
    return found


def lives(count):
    return [(what, k) for k in range(1, count + 1) for what in ("attached", "detached")]


class TestLives:
    def test_each_batchs_ends_before_the_next_begins(self, ui, told):
        ui.generate(JOINT, n_iter=2)
        assert told == lives(2)

    def test_each_pass_of_hires_fix_has_one(self, ui, told):
        kind = import_module("hires_job").HiresProcessing
        p = ui.job(FG_SDXL, request(FG_SDXL), kind=kind)
        ui.run(p)
        assert len(p.sampled_with) == 2
        assert told == lives(len(told) // 2)

    def test_it_ends_where_the_method_has_not_acted(self, ui, told, monkeypatch):
        passes = import_module("lib_layerdiffuse.webui.job.passes")
        monkeypatch.setattr(passes, "using", lambda p, attachment: nullcontext())
        with pytest.raises(HostError, match="has replaced the UNet"):
            ui.run(ui.job(JOINT, request(JOINT)))
        assert told == lives(1)

    def test_one_that_an_exception_has_left_ends_with_the_next_job(self, ui, told):
        p = ui.job(FG_SDXL, request(FG_SDXL))
        hook = ui.plain.model.diffusion_model.out.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ui.run(p)
        hook.remove()
        assert told == lives(1)[:1]
        ui.run(ui.job(FG_SDXL, {"method": FG_SDXL.id, "enabled": False}))
        assert told == lives(1)


class TestCapabilities:
    @pytest.fixture
    def can(self, webui, monkeypatch):
        host = import_module("lib_layerdiffuse.hosts.patchers").PatcherHost
        return lambda **more: monkeypatch.setattr(host, "capabilities", Capabilities(**more))

    @pytest.mark.parametrize("possible", [True, False])
    def test_a_method_that_is_to_stop_midway(self, ui, can, possible):
        can(stops_midway=possible)
        p = ui.job(FG_SD15, request(FG_SD15, stop_at=0.5))
        if possible:
            ui.run(p)
            return
        with pytest.raises(MissingCapabilityError, match="before the last step") as caught:
            ui.run(p)
        assert caught.value.field == "stop_at"
        assert p.sampled_with == []
        ui.generate(FG_SD15)

    def test_sets_under_prompts_that_and_joins(self, ui, can):
        can(composes_sets=False)
        p = ui.job(JOINT, request(JOINT), prompt="a cat AND a dog")
        with pytest.raises(MissingCapabilityError, match="AND"):
            ui.run(p)
        assert p.sampled_with == []
        ui.generate(JOINT, prompt="a cat and a dog")
        ui.generate(FG_SD15, prompt="a cat AND a dog")
