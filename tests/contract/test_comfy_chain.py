"""The node for ComfyUI that goes on to the missing layer, beside the two steps one by one."""

from __future__ import annotations

import pytest
import torch
from adapters import run
from comfy_nodes import nodes, rand
from host_run import differs, near
from lent_webui import models

from lib_layerdiffuse.errors import ImageSizeError, SettingsError
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.settings.chains import SECOND_STEPS, second_method

__all__ = ["models", "nodes", "run"]
pytestmark = pytest.mark.parametrize("run", ["comfy"], indirect=True)

FIRST = pytest.mark.parametrize("first", ["fg_to_blended_sdxl", "bg_to_blended_sdxl"])
CHOICES = {"weight": 0.8, "resize_mode": "Crop and Resize"}


def first_step(run, nodes, first):
    """Returns the method's node, given a MODEL, the given image, and the first step's layers."""
    method = find_method(first)
    vae = run.open(method).host.vae
    given = {method.inputs[0].value: rand(1, 40, 64, 4), "vae": vae, **CHOICES}
    node = nodes["LayerDiffuseMethod"]
    layers = node.execute(run.plain, method=method.label, stop_at=1.0, **given).args[1]
    return node, given, layers


@FIRST
@pytest.mark.parametrize("stop_at", [-1.0, 0.3])
def test_it_is_the_second_method_by_itself(run, nodes, first, stop_at):
    node, given, layers = first_step(run, nodes, first)
    blended = rand(1, 64, 128, 3, seed=1)
    made, after, latent = (
        nodes["LayerDiffuseChain"].execute(run.plain, layers, blended, given["vae"], stop_at).args
    )
    second = second_method(layers.method)
    until = SECOND_STEPS[second.id].stop_at if stop_at < 0 else stop_at
    empty = {"samples": torch.zeros(1, 4, 8, 16)}
    single, wanted, _ = node.execute(
        run.plain, method=second.label, stop_at=until, blended=blended, latent=empty, **given
    ).args
    assert (after.method, after.strength, after.stop_at) == (second, 0.8, until)
    assert wanted.stop_at == until
    assert torch.equal(latent["samples"], empty["samples"])
    found, alone, plain = (drawn(run, one) for one in (made, single, run.plain))
    assert torch.equal(found, alone)
    differs(found, plain)
    run.assert_as_before()


def drawn(run, model):
    """Returns what a sampler makes with a MODEL, of another shape than the given image's."""
    noise = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(1))
    texts = [run.tiny.conditioning([text]) for text in ("not", "a")]
    return run.samplers.CFGGuider(model).sample(noise, [10.0, 1.0], texts)


@FIRST
def test_it_decodes_to_all_three_layers(run, nodes, first):
    _, given, layers = first_step(run, nodes, first)
    blended = rand(1, 64, 64, 3, seed=1)
    _, after, latent = (
        nodes["LayerDiffuseChain"].execute(run.plain, layers, blended, given["vae"], -1.0).args
    )
    made = nodes["LayerDiffuseDecode"].execute(latent, after, 1, images=rand(1, 64, 64, 3)).args
    assert all(one.shape[:3] == (1, 64, 64) for one in made[:3])
    near(made[2], blended, 3e-3)


def test_what_has_no_second_step_is_refused(run, nodes):
    method = find_method("fg_attn_sdxl")
    vae = run.open(method).host.vae
    node = nodes["LayerDiffuseMethod"]
    layers = node.execute(run.plain, method=method.label, stop_at=1.0, **CHOICES).args[1]
    chain = nodes["LayerDiffuseChain"]
    with pytest.raises(SettingsError, match="no layer is missing") as refused:
        chain.execute(run.plain, layers, rand(1, 64, 64, 3), vae, -1.0)
    assert find_method("fg_to_blended_sdxl").label in refused.value.hint
    *_, layers = first_step(run, nodes, "fg_to_blended_sdxl")
    with pytest.raises(ImageSizeError, match="blended is a batch of 2"):
        chain.execute(run.plain, layers, rand(2, 64, 64, 3), vae, -1.0)
