# ruff: noqa: E402, I001 - What is imported reads what is set before.
"""Checks of the nodes in ComfyUI's own code, as its server loads and runs them.

    venv/bin/python …/tests/comfy/node_check.py COMFYUI MODELS

Args:
    COMFYUI: Folder of its checkout.
    MODELS: An empty folder, for small weights.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_, COMFYUI, MODELS = sys.argv
sys.path[:0] = [COMFYUI, *(str(ROOT / name) for name in ("tests/fakes", "tests/comfy"))]
sys.path.append(str(ROOT))  # For what the tests import; the pack itself has no need of it.

import tiny_comfy  # First: it tells ComfyUI that there is no GPU.
import folder_paths
import torch

folder_paths.models_dir = MODELS
import nodes
import old_workflow_checks
from comfy_api.latest import io
from tiny_comfy import conditioning, sample, tiny_model
from run_checks import run_checks
from tiny_codec import tiny_encoder_weights
from tiny_weights import decoder_file, put

from lib_layerdiffuse.methods import DECODERS, ENCODERS, METHODS, Arch, find_method

MOST_SECONDS = 0.3


def weights_are_there() -> None:
    folder = Path(MODELS) / "layer_model"
    folder.mkdir()
    for method in METHODS:
        put(folder, method.weights, tiny_comfy.method_file(method))
    for arch in Arch:
        put(folder, DECODERS[arch], decoder_file(arch))
        put(folder, ENCODERS[arch], tiny_encoder_weights(0))


def the_pack_costs_no_time() -> None:
    _forget_the_pack()
    spec = importlib.util.spec_from_file_location("pack", ROOT / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    pack = sys.modules["pack"] = importlib.util.module_from_spec(spec)
    gc.disable()  # It takes seconds in ComfyUI, whoever sets it off.
    start = time.process_time()
    spec.loader.exec_module(pack)
    took = time.process_time() - start
    gc.enable()
    assert took < MOST_SECONDS, took
    assert callable(pack.comfy_entrypoint)


def _forget_the_pack() -> None:
    """Makes the pack be another copy than the tests', under a name of ComfyUI's."""
    for name in [name for name in sys.modules if name.startswith("lib_layerdiffuse")]:
        del sys.modules[name]


def comfyui_loads_the_pack() -> None:
    before = set(nodes.NODE_CLASS_MAPPINGS)
    assert asyncio.run(nodes.load_custom_node(str(ROOT), module_parent="custom_nodes"))
    found = set(nodes.NODE_CLASS_MAPPINGS) - before
    old = {name for name in found if name.startswith("LayeredDiffusion")}
    assert len(old) == 8, found
    assert {f"Inference_Core_{name}" for name in old} <= found
    assert not {"gradio", "diffusers"} & set(sys.modules)


def its_descriptions_are_valid() -> None:
    for name, node in nodes.NODE_CLASS_MAPPINGS.items():
        if name.startswith(("LayeredDiffusion", "LayerDiffuse", "Inference_Core")):
            node.GET_SCHEMA()
            assert node.INPUT_TYPES()["required"], name
            assert node.RELATIVE_PYTHON_MODULE.startswith("custom_nodes")


def run_node(name: str, **given: Any) -> Any:
    """Returns what a node gives, called as ComfyUI's executor does."""
    node = nodes.NODE_CLASS_MAPPINGS[name]
    clone = node.PREPARE_CLASS_CLONE(None)
    found = getattr(clone, node.FUNCTION)(**given)
    return found.result


def each_apply_node_draws() -> None:
    cond, uncond = (conditioning(Arch.SDXL, seed=seed) for seed in (1, 2))
    latent = {"samples": torch.full((1, 4, 8, 8), 0.3)}
    image = torch.rand(1, 64, 64, 3)
    given = {
        "LayeredDiffusionApply": {"weight": 1.0},
        "LayeredDiffusionJointApply": {"fg_cond": conditioning(Arch.SD15, seed=9, tokens=154)},
        "LayeredDiffusionCondApply": {
            "cond": cond,
            "uncond": uncond,
            "latent": latent,
            "weight": 1.0,
        },
        "LayeredDiffusionCondJointApply": {"image": image},
        "LayeredDiffusionDiffApply": {
            "cond": cond,
            "uncond": uncond,
            "latent": latent,
            "blended_latent": latent,
            "weight": 1.0,
        },
    }
    models = {arch: tiny_model(arch) for arch in Arch}
    for name, more in given.items():
        configs = nodes.NODE_CLASS_MAPPINGS[name].INPUT_TYPES()["required"]["config"][1]["options"]
        for config in configs:
            arch = Arch.SD15 if config.startswith("SD15") else Arch.SDXL
            batch = {"Joint": 3, "CondJoint": 2}.get(name[16:-5], 1)
            plain = sample(models[arch], arch, batch=batch, steps=2)
            made, *passed = run_node(name, model=models[arch], config=config, **more)
            found = sample(made, arch, batch=batch, steps=2)
            assert not torch.allclose(found, plain, atol=1e-2 * plain.abs().max()), config
            assert passed in ([], [cond, uncond])
            assert torch.equal(sample(models[arch], arch, batch=batch, steps=2), plain), config


def the_decoders_find_alpha() -> None:
    images, latent = torch.rand(3, 72, 40, 3), {"samples": torch.randn(3, 4, 9, 5)}
    more = {"samples": latent, "images": images, "sd_version": "SD15", "sub_batch_size": 16}
    (rgba,) = run_node("LayeredDiffusionDecodeRGBA", **more)
    image, mask = run_node("LayeredDiffusionDecode", **more)
    assert torch.equal(torch.cat([image, mask.unsqueeze(-1)], -1), rgba)
    first, second, third = run_node("LayeredDiffusionDecodeSplit", **more, frames=3)
    assert torch.equal(first, rgba[:1])
    assert torch.equal(second, images[1:2])
    assert torch.equal(third, images[2:])


def a_change_map_frees_parts_one_by_one() -> None:
    model = tiny_model(Arch.SDXL)
    (made,) = run_node("LayerDiffuseDifferential", model=model)
    latent = torch.randn(1, 4, 8, 8)
    change = torch.linspace(0, 1, 8).repeat(1, 8, 1)
    more = {"latent": latent, "noise_mask": change, "steps": 4}
    found = sample(made, Arch.SDXL, **more)
    apart = (found - latent).abs().amax((0, 1, 2))
    assert apart[0] < 1e-4
    assert (apart[3:] > 1e-2).all()
    assert not torch.allclose(found, sample(model, Arch.SDXL, **more))


def each_method_makes_its_layers() -> None:
    vae = tiny_comfy.tiny_vae()
    models = {arch: tiny_model(arch) for arch in Arch}
    for method in METHODS:
        images = {layer.value: torch.rand(1, 64, 64, 4) for layer in method.inputs}
        (latent,) = run_node(
            "LayerDiffuseEmptyLatent", width=64, height=64, sets=2, method=method.label
        )
        made, layers, frames = run_node(
            "LayerDiffuseMethod",
            model=models[method.arch],
            method=method.label,
            weight=1.0,
            stop_at=0.8,
            resize_mode="Crop and Resize",
            vae=vae,
            latent=latent,
            **images,
        )
        assert frames == method.frames
        batch = len(latent["samples"])
        samples = {"samples": sample(made, method.arch, batch=batch, steps=2)}
        found = run_node("LayerDiffuseDecode", samples=samples, layers=layers, views=1, vae=vae)
        assert len(found) == (6 if hasattr(io, "Layers") else 5)
        there = [one for one in found[:3] if torch.is_tensor(one)]
        assert len(there) == len({*method.inputs, *method.outputs}), method.id
        assert all(one.shape[:3] == (2, 64, 64) for one in there), method.id


def a_chain_is_its_two_steps() -> None:
    """From a foreground and from a background; with the author's stop-at and with another."""
    vae, model = tiny_comfy.tiny_vae(), tiny_model(Arch.SDXL)
    more = {"model": model, "vae": vae, "weight": 0.9, "resize_mode": "Crop and Resize"}
    for first, second, given, stop_at in (
        ("fg_to_blended_sdxl", "fg_blended_to_bg_sdxl", "fg", 0.5),
        ("bg_to_blended_sdxl", "bg_blended_to_fg_sdxl", "bg", 1.0),
    ):
        image = {given: torch.rand(1, 64, 64, 4)}
        label = find_method(first).label
        made, layers, _ = run_node("LayerDiffuseMethod", method=label, stop_at=1.0, **more, **image)
        _, _, blended, *_ = decoded(made, layers, vae)
        label = find_method(second).label
        for chosen, wanted in ((-1.0, stop_at), (0.25, 0.25)):
            single, wanted_layers, _ = run_node(
                "LayerDiffuseMethod",
                method=label,
                stop_at=wanted,
                blended=blended,
                **more,
                **image,
            )
            chain, chain_layers, latent = run_node(
                "LayerDiffuseChain",
                model=model,
                layers=layers,
                blended=blended,
                vae=vae,
                stop_at=chosen,
            )
            assert latent["samples"].shape == (1, 4, 8, 8)
            one, two = decoded(single, wanted_layers, vae), decoded(chain, chain_layers, vae)
            assert len(one) == len(two)
            for a, b in zip(one[:4], two[:4], strict=True):
                assert torch.equal(a, b), second


def decoded(model: Any, layers: Any, vae: Any) -> Any:
    """Returns what the decoder gives of two steps with an SDXL MODEL."""
    samples = {"samples": sample(model, Arch.SDXL, steps=2)}
    return run_node("LayerDiffuseDecode", samples=samples, layers=layers, views=1, vae=vae)


def pictures_go_in_and_out() -> None:
    image = torch.rand(1, 64, 64, 4)
    (latent,) = run_node(
        "LayerDiffuseEncode", image=image, vae=tiny_comfy.tiny_vae(), family="SDXL", strength=300.0
    )
    assert latent["samples"].shape == (1, 4, 8, 8)
    (flat,) = run_node("LayerDiffuseFlatten", image=image, grey=0.5)
    (over,) = run_node(
        "LayerDiffuseComposite", foreground=image, background=flat, x=0, y=0, scale=1.0
    )
    assert over.shape == flat.shape == (1, 64, 64, 3)
    (mask,) = run_node("LayerDiffuseMask", image=image, part="visible", feather=2.0)
    assert mask.shape == (1, 64, 64)
    folder_paths.set_output_directory(MODELS)
    for kind in ("PSD", "OpenRaster", "ZIP of PNGs"):
        (files,) = run_node(
            "LayerDiffuseSave", kind=kind, filename_prefix="set", trim=True, fg=image, bg=flat
        )
        assert Path(files).exists()


if __name__ == "__main__":
    run_checks(sys.modules[__name__], old_workflow_checks)
