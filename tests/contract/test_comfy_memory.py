"""Where ComfyUI keeps weights: dynamic VRAM, and networks that are loaded beside the UNet."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from adapters import run
from comfy_run import SCHEDULE, model_with
from host_run import BLOCK, differs, lora, near
from thinned import thinned

from lib_layerdiffuse.errors import HostError
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.weights.patches import Diff

__all__ = ["run"]
JOINT, WIDER = find_method("joint_sd15"), find_method("fg_blended_to_bg_sdxl")
SDXL_FG = find_method("fg_attn_sdxl")
PAIR = pytest.mark.parametrize("method", [JOINT, WIDER], ids=lambda method: method.id)

pytestmark = pytest.mark.parametrize("run", ["comfy"], indirect=True)


@pytest.fixture
def dynamic(run, monkeypatch):
    """Makes ComfyUI leave weights where they are, as it does by default on NVIDIA's GPUs."""
    patcher = import_module("comfy.model_patcher")
    monkeypatch.setattr(patcher, "CoreModelPatcher", patcher.ModelPatcherDynamic)
    monkeypatch.setattr(run.tiny, "UnetPatcher", patcher.ModelPatcherDynamic)
    return run


class TestDynamicVram:
    @PAIR
    @pytest.mark.parametrize("stop_at", thinned([0.5, 1.0], 2))
    def test_it_computes_the_same_in_each_run(self, dynamic, method, stop_at):
        run, frames = dynamic, method.frames
        run.open(method)
        changes = lora(run)
        users = run.plain.clone()
        users.add_patches({key: run.dialect.write(Diff(d)) for key, d in changes.items()})
        run.host.model = users
        plain = run.sample(users, SCHEDULE, frames)
        unet = run.host.attach(run.injection(method, stop_at=stop_at)).unet
        found = [run.sample(unet, SCHEDULE, frames) for _ in range(2)]
        assert torch.equal(*found)
        assert torch.equal(run.sample(users, SCHEDULE, frames), plain)
        wanted = ordinary(run, method, changes, stop_at)
        near(found[0], wanted, 1e-4)
        differs(found[0], plain)

    def test_no_weight_is_read_by_sharing(self, dynamic):
        """What a layer computes with is not what lies in its `weight`."""
        run = dynamic
        unet = model_with(run, JOINT)
        before = run.sample(unet, SCHEDULE, 3)
        for n in (1, 2):
            layer = run.layer(f"{BLOCK}.attn{n}.to_q")
            kept = layer.weight.detach().clone()
            layer.weight.data.zero_()
            layer.weight_function.append(lambda _, kept=kept: kept)
        near(run.sample(unet, SCHEDULE, 3), before)

    def test_what_is_accepted_and_not_merged_is_an_error(self, dynamic, monkeypatch):
        run = dynamic
        unet = model_with(run, SDXL_FG)
        monkeypatch.setattr(*run.parts.MERGE, lambda patches, weight, key: weight)
        with pytest.raises(HostError, match="has not merged"):
            run.sample(unet, SCHEDULE)


def ordinary(run, method, changes, stop_at):
    """Returns what a MODEL makes whose weights are merged when it is loaded."""
    patcher = import_module("comfy.model_patcher")
    run.tiny.UnetPatcher = patcher.CoreModelPatcher = patcher.ModelPatcher
    run.open(method)
    users = run.plain.clone()
    users.add_patches({key: run.dialect.write(Diff(d)) for key, d in changes.items()})
    run.host.model = users
    name, run.name = run.name, None  # A sharing module of its own.
    unet = run.host.attach(run.injection(method, stop_at=stop_at)).unet
    run.name = name
    return run.sample(unet, SCHEDULE, method.frames)


class TestNetworksOfOurs:
    def test_a_codecs_network_is_loaded_whole(self, run):
        """Of layers that are not its own ComfyUI leaves on the CPU what does not fit."""
        net = torch.nn.Linear(2, 2)
        run.host_of("SDXL").place(net, 64)
        (loaded,) = run.parts.memory.whole
        assert loaded.weight is net.weight

    def test_one_sharing_module_serves_models_of_two_types(self, run):
        """Each attaches it in its own type, and the first is sampled after the second."""
        unet = model_with(run, JOINT)
        wanted = run.sample(unet, SCHEDULE, 3)
        sharing = run.injection(JOINT).sharing
        sharing.to(torch.float16)
        near(run.sample(unet, SCHEDULE, 3), wanted, 1e-2)
        assert next(sharing.parameters()).dtype is torch.float32
