"""A small checkpoint in AUTOMATIC1111's WebUI, and ways to use it."""

from __future__ import annotations

import copy
from importlib import import_module
from types import SimpleNamespace

import psutil
import sharing as reference
import torch
from host_run import BLOCK, HostRun, averages, deltas_of, merge_into


class Run(HostRun):
    """As in `HostRun`; `unet` is the checkpoint's own."""

    kinds = (
        *(f"diffusion_model.input_blocks.1.0.in_layers.0.{name}" for name in ("weight", "bias")),
        *(f"diffusion_model.input_blocks.1.0.in_layers.2.{name}" for name in ("weight", "bias")),
        *(f"{BLOCK}.norm1.{name}" for name in ("weight", "bias")),
        f"{BLOCK}.attn2.to_k.weight",
        *(f"{BLOCK}.attn2.to_out.0.{name}" for name in ("weight", "bias")),
        *(f"diffusion_model.out.{name}" for name in ("weight", "bias")),
    )

    def __init__(self):
        self.adapter = import_module("lib_layerdiffuse.hosts.a1111")
        self.ldm = import_module("tiny_ldm")

    def host_module(self, name):
        return import_module(f"modules.{name}")

    def host_of(self, family, *, channels=4, **more):
        checkpoint = self.ldm.Checkpoint(family, in_channels=channels)
        return self.adapter.A1111Host(checkpoint, **more)

    def open(self, method, lora=None, **more):
        self.host = self.host_of(method.arch.value, **more)
        self.checkpoint = self.host.sd_model
        self.unet = self.checkpoint.model.diffusion_model
        self.before = self.snapshot()
        self.put_lora(lora)
        return self

    def put_lora(self, lora):
        """Names the LoRA; the host merges it, or takes it out, whenever a layer is next called."""
        named = {
            f"model.{key.removesuffix('.weight')}": delta for key, delta in (lora or {}).items()
        }
        self.ldm.loaded_networks[:] = [named] if named else []

    def load(self, given):
        self.attachment = self.host.attach(given)
        return self

    def end(self):
        self.attachment.detach()

    @property
    def net(self):
        return self.checkpoint.model

    def layer(self, name):
        return self.net.get_submodule(name)

    def last_layer(self):
        return self.unet.out

    def snapshot(self):
        modules = dict(self.checkpoint.named_modules())
        parameters = self.checkpoint.named_parameters()
        return {
            "parameters": {name: (id(p), p.clone()) for name, p in parameters},
            "forwards": {n: vars(m)["forward"] for n, m in modules.items() if "forward" in vars(m)},
            "hooks": {
                n: (list(m._forward_hooks), list(m._forward_pre_hooks)) for n, m in modules.items()
            },
            "callbacks": list(self.host_module("script_callbacks").cfg_denoiser),
        }

    def assert_as_before(self, before=None):
        now, before = self.snapshot(), before or self.before
        for key in ("forwards", "hooks", "callbacks"):
            assert now[key] == before[key], key
        assert list(now["parameters"]) == list(before["parameters"])
        for name, (identity, value) in before["parameters"].items():
            assert now["parameters"][name][0] == identity, name
            assert torch.equal(now["parameters"][name][1], value), name

    def defined(self, given, file, lora):
        run = copy.copy(self)
        twin = run.checkpoint = self.ldm.Checkpoint(given.method.arch.value)
        merge_into(twin.model, deltas_of(given, lora), given.concat)
        for module in twin.modules():
            module.network_layer_name = None  # The host merges none into it.
        if given.sharing is not None:
            net, frames = twin.model.diffusion_model, given.method.frames
            reference.use_reference(net, file, frames, given.strength, given.control)
        return run

    def denoise(self, x, done, prompts, negatives):
        """Returns the rows in the order that this host has, too.

        Args:
            x: As in `HostRun`, likewise `done` and `negatives`.
            prompts: Of each row one, or a list of those that AND joins.
        """
        prompts = [[one] if isinstance(one, str) else one for one in prompts]
        return self.ldm.denoise(self.checkpoint, x, 999 * (1 - done), prompts, negatives or None)

    def break_attaching(self, patch, error):
        def fail(*_, **__):
            raise error

        patch.setattr(type(self.unet), "register_forward_hook", fail)

    def break_merging(self, patch, error):
        """Breaks a layer's third product with a method's weights: nothing is merged."""
        layers = import_module("lib_layerdiffuse.hosts.a1111.patched_layers")
        done, product = [], layers.PatchedLayer._product

        def fail(*parts):
            if len(done) == 2:
                raise error
            done.append(parts)
            return product(*parts)

        patch.setattr(layers.PatchedLayer, "_product", fail)

    def load_without(self, given, patch, key):
        """Another extension then puts its forward before the method's, and does not call that."""
        self.load(given)
        ours = import_module("lib_layerdiffuse.hosts.a1111.patched_layers").PatchedLayer
        for name, layer in self.net.named_modules():
            if isinstance(vars(layer).get("forward"), ours) and key in (None, f"{name}.weight"):
                patch.setattr(layer, "forward", type(layer).forward.__get__(layer))

    def vae_makes(self, image):
        return averages(image)

    def free(self, patch, size):
        found = SimpleNamespace(available=size)
        patch.setattr(psutil, "virtual_memory", lambda: found)

    def break_vae(self, patch, error):
        def fail(*_):
            raise error

        patch.setattr(self.checkpoint.first_stage_model.encoder, "forward", fail)
