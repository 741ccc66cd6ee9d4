"""What other extensions have put on a host's UNet: refused by name where a method cannot work."""

from __future__ import annotations

from functools import partial
from importlib import import_module

import pytest
import torch
from tiny_weights import method_file
from torch import nn

from lib_layerdiffuse.errors import MissingCapabilityError
from lib_layerdiffuse.host import Injection
from lib_layerdiffuse.methods import PatchKind, find_method
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing
from lib_layerdiffuse.weights.patches import read_patches

JOINT, BG_TO_FG, SDXL_FG = map(find_method, ("joint_sd15", "bg_to_fg_sd15", "fg_attn_sdxl"))
TWO_PICTURES = find_method("fg_blended_to_bg_sdxl")


def mine(*args):
    """Stands for a patch."""


class Tiles:
    """A wrapper as the host's own tiles are one: it cuts what is beside the latent, too."""

    def __call__(self, apply_model, args):
        x, c = args["input"], dict(args["c"])
        if c.get("c_concat") is not None:
            c["c_concat"] = c["c_concat"][..., :8]
        return apply_model(x[..., :8], args["timestep"], **c)


def part(apply_model, args):
    """A wrapper that leaves what is beside the latent whole."""
    return apply_model(args["input"][..., :8], args["timestep"], **args["c"])


@pytest.fixture
def opened(webui):
    """Returns a host with a method's checkpoint that calls this file's code "Tiles"."""

    def host(method):
        checkpoint = import_module("tiny_checkpoint").Checkpoint(method.arch.value)
        names = {__file__: "Tiles", "": "something"}
        host_of = import_module("lib_layerdiffuse.hosts.detect").webui_host()
        return host_of(checkpoint, None, names.__getitem__)

    return host


def injection(method, *, called=True):
    """Returns a method's injection; where the UNet is not called, without its weights."""
    if not called:
        control = torch.rand(1, 3, 128, 128) if method.uses_control else None
        sharing = nn.Identity() if method.patch is not PatchKind.WEIGHTS else None
        return Injection(method, 1.0, method.id, sharing=sharing, patches={}, control=control)
    tensors = method_file(method, 0)
    if method.patch is PatchKind.WEIGHTS:
        made = {"patches": read_patches(tensors, method)}
    else:
        made = {"sharing": AttentionSharing.from_state_dict(tensors, 1.0)}
    if method.concat_channels:
        made["concat"] = torch.rand(1, method.concat_channels, 16, 16)
    if method.uses_control:
        made["control"] = torch.rand(1, 3, 128, 128)
    return Injection(method, 1.0, method.id, 1.0, **made)


def put(host, given):
    """Attaches an injection and puts it into the host."""
    host.sd_model.forge_objects.unet = host.attach(given).unet


def call(host, method):
    """Returns the size of what one call of the attached UNet makes of 16×16 latents."""
    tiny, unet = import_module("tiny_checkpoint"), host.sd_model.forge_objects.unet
    tiny.load_for_sampling(unet)
    rows = [tiny.conditioning(["a"] * method.frames)]
    return tuple(tiny.call_unet(unet, torch.rand(method.frames, 4, 16, 16), 10.0, rows).shape[2:])


def transformer(**options):
    return {"transformer_options": options}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (JOINT, transformer(patches_replace={"attn1": {("middle", 0): mine}})),
        (JOINT, transformer(patches_replace={"attn2": {("input", 1, 0): Tiles()}})),
        (BG_TO_FG, transformer(patches={"input_block_patch": [mine]})),
        (BG_TO_FG, transformer(patches={"input_block_patch_after_skip": [Tiles().__call__]})),
        (BG_TO_FG, transformer(block_modifiers=[partial(mine, 1)])),
        (BG_TO_FG, {"tiled_diffusion": True, "model_function_wrapper": Tiles()}),
    ],
)
def test_what_is_known_before_sampling_is_refused_by_name(opened, method, options):
    host = opened(method)
    plain = host.sd_model.forge_objects.unet
    plain.model_options.update(options)
    with pytest.raises(MissingCapabilityError, match="does not work with Tiles, which") as caught:
        host.attach(injection(method, called=False))
    assert caught.value.hint == "Turn off Tiles."
    assert host.sd_model.forge_objects.unet is plain


def test_each_extension_is_named_once(opened):
    host = opened(JOINT)
    replaced = {"attn1": {0: mine, 1: print}, "attn2": {0: mine}}
    host.sd_model.forge_objects.unet.model_options |= transformer(patches_replace=replaced)
    with pytest.raises(MissingCapabilityError, match="with Tiles and something, which"):
        host.attach(injection(JOINT, called=False))


@pytest.mark.parametrize("method", [JOINT, SDXL_FG, TWO_PICTURES], ids=lambda m: m.id)
def test_what_changes_sizes_may_stay_where_no_layer_has_its_place(opened, method):
    host = opened(method)
    options = host.sd_model.forge_objects.unet.model_options
    options |= transformer(patches={"input_block_patch": [mine]})
    options |= {"tiled_diffusion": True, "model_function_wrapper": Tiles()}
    put(host, injection(method))
    assert call(host, method) == (16, 8)


def test_patches_that_keep_sizes_may_stay(opened):
    host = opened(BG_TO_FG)
    patches = {"output_block_patch": [mine], "middle_block_patch": [mine]}
    host.sd_model.forge_objects.unet.model_options |= transformer(patches=patches)
    put(host, injection(BG_TO_FG))
    assert call(host, BG_TO_FG) == (16, 16)


@pytest.mark.parametrize("method", [BG_TO_FG, TWO_PICTURES], ids=lambda m: m.id)
def test_an_unknown_wrapper_that_calls_for_a_part_is_refused_by_name(opened, method):
    host = opened(method)
    host.sd_model.forge_objects.unet.set_model_unet_function_wrapper(part)
    put(host, injection(method))
    with pytest.raises(MissingCapabilityError, match="Tiles, which would sample the image part"):
        call(host, method)
